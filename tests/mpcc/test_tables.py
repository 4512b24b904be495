"""The tables on 1,114 items: chance is chance, an oracle scores 600, and a parrot shows."""

import pytest
from small_benchmark import SIZES, oracle, run, uniform

from mpcc.render import render, render_differences
from mpcc.statistics import differences, wilson
from mpcc.tables import tables

CHANCE = {"cho_e": 100 / 4, "cho_h": 100 / 7}


def test_a_uniform_answerer_lands_within_the_interval_of_chance():
    figures = tables(run(uniform(1)))
    assert figures["items"] == SIZES | {"pooled": 1114}
    for kind, chance in CHANCE.items():
        assert figures[kind]["pooled"]["low"] < chance < figures[kind]["pooled"]["high"]
        assert figures[kind]["pooled"]["n"] == 1114
    for row, count in (("truth", 1), ("confusing", 4), ("irrelevant", 2), ("all", 5)):
        assert figures["true_false"][row]["pooled"]["low"] < 50 < figures["true_false"][row]["pooled"]["high"]
        assert figures["true_false"][row]["pooled"]["n"] == count * 1114
    assert figures["score"] == pytest.approx(600 / 4 / 2 + 600 / 7 / 2, abs=25)


def test_the_intervals_hold_chance_about_95_times_in_100():
    held = []
    for seed in range(30):
        figures = tables(run(uniform(seed), kinds=("cho_e", "cho_h")))
        for kind, chance in CHANCE.items():
            for column in (*SIZES, "pooled"):
                held.append(figures[kind][column]["low"] < chance < figures[kind][column]["high"])
    assert 0.92 < sum(held) / len(held) < 0.98


def test_an_oracle_scores_600():
    figures = tables(run(oracle))
    assert figures["score"] == 600
    assert all(figures["true_false"][row]["macro"] == 100 for row in ("truth", "confusing", "irrelevant", "all"))
    assert figures["true_false"]["yes"]["pooled"]["percent"] == pytest.approx(100 / 7)
    assert figures["free"]["macro"] == figures["free"]["similarity"]["pooled"] == 100
    assert figures["cho_h"]["letters"] == figures["cho_h"]["truths"]


def test_a_parrot_shows():
    figures = tables(run(lambda q: "A" if q.kind.startswith("cho") else "yes"))
    for kind, chance in CHANCE.items():
        assert figures[kind]["letters"]["A"] == 100 and figures[kind]["letters"]["B"] == 0
        assert figures[kind]["truths"]["A"] == pytest.approx(chance, abs=4)
    found = figures["true_false"]
    assert found["yes"]["pooled"]["percent"] == 100 and found["yes_truths"] == pytest.approx(100 / 7)
    assert (found["truth"]["macro"], found["confusing"]["macro"], found["all"]["macro"]) == (100, 0, pytest.approx(20))
    text = render(figures, "parrot")
    assert row(text, "Cho.E said") == ["100.00", "0.00", "0.00", "0.00", "0.00", "0.00"]
    assert row(text, "said yes")[0] == "100.00"


def test_unparsed_answers_are_counted_and_wrong():
    figures = tables(run(lambda q: "none" if q.item.difficulty == "hard" else q.truth))
    share = 100 * SIZES["hard"] / 1114
    for kind in ("cho_e", "cho_h", "true_false"):
        assert figures[kind]["unparsed"] == pytest.approx(share)
    assert figures["cho_e"]["hard"]["percent"] == 0 and figures["cho_e"]["easy"]["percent"] == 100
    assert sum(figures["cho_e"]["letters"].values()) == pytest.approx(100 - share)
    assert figures["free"]["unparsed"] == 0, "a free answer may be any text"


def test_macro_and_pooled_differ_as_they_should():
    figures = tables(run(lambda q: q.truth if q.item.difficulty == "easy" else "Z", ("cho_e", "cho_h")))
    assert figures["cho_e"]["macro"] == pytest.approx(100 / 3)
    assert figures["cho_e"]["pooled"]["percent"] == pytest.approx(100 * 451 / 1114)
    assert figures["score"] == 200


def test_a_missing_subset_leaves_no_macro_and_no_score():
    figures = tables(run(oracle, sizes={"hard": 3, "easy": 2}))
    assert figures["score"] is None and figures["cho_e"]["macro"] is None and "moderate" not in figures["cho_e"]
    assert figures["cho_e"]["pooled"]["n"] == 5
    assert row(render(figures, "few"), "few  ") == ["100.00", "100.00", "-", "-", "100.00", "100.00", "-", "-", "-"]


def test_kinds_that_were_not_asked_are_left_out():
    figures = tables(run(oracle, kinds=("true_false",)))
    assert set(figures) == {"items", "true_false"}
    assert "Single choice" not in render(figures) and "True/false" in render(figures)
    assert set(tables([])) == {"items"}


def test_halves_go_by_the_hidden_category():
    figures = tables(run(lambda q: q.truth if q.item.answer in ("dog", "cat") else "Z"), id_names={"dog", "cat"})
    known, unknown = figures["halves"]["id"], figures["halves"]["ood"]
    for kind in ("cho_e", "cho_h", "free"):
        assert (known[kind]["pooled"]["percent"], known[kind]["macro"]) == (100, 100)
        assert (unknown[kind]["pooled"]["percent"], unknown[kind]["macro"]) == (0, 0)
        assert known[kind]["n"] + unknown[kind]["n"] == 1114
    text = render(figures)
    assert row(text, "macro  ") == ["100.00", "100.00", "0.00", "0.00"]
    assert row(text, "paper, COCO: rft+prior") == ["72.59", "51.50", "74.20", "56.23"]


def row(text, start):
    """The cells of the first line that starts so."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return line[len(start) :].replace("[", "").replace("]", "").replace(",", "").split()


def test_the_page_can_be_quoted():
    name = "a model with a name that is far too long to be put into a table"
    text = render(tables(run(oracle), id_names={"dog"}), name)
    assert max(map(len, text.splitlines())) <= 120
    assert all(line == line.rstrip() for line in text.splitlines())
    assert row(text, "chance") == ["25.00", "14.29"] * 4 + ["117.86"]
    assert row(text, "paper, COCO: GPT-4o")[-1] == "389.00"
    assert "'paper, COCO' are as printed in arXiv 2510.21807" in text and "no comparison" in text
    for line in ("paper, COCO: Human", "ground truth", "All", "said yes", "free-form, exact", "Cho.H right"):
        assert row(text, line), line


@pytest.mark.parametrize(("hits", "n", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
    (20, 20, 0.8389, 1.0),
])
def test_wilson_as_published(hits, n, low, high):
    """The examples of Newcombe, Statistics in Medicine 17 (1998), method 3, and one mirrored."""
    assert wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_no_share_of_nothing():
    for hits, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="make no share"):
            wilson(hits, n)


def better(share, seed=0):
    """A uniform answerer that knows the truth of some of the items."""
    guess = uniform(seed)

    def answer(question):
        guessed = guess(question)  # also where it is not needed: the others' guesses stay the same
        return question.truth if int(question.item.id.split()[1]) % 100 < share else guessed

    return answer


def test_a_real_difference_is_found_and_none_is_not():
    low, high = run(better(0, 1)), run(better(20, 2))
    found = differences(high, low)
    assert set(found) == {"cho_e", "cho_h", "true_false", "free", "score"}
    for kind in ("cho_e", "cho_h", "true_false", "free"):
        pooled = [tables(r)[kind] for r in (high, low)]
        if kind != "true_false":
            gap = pooled[0]["pooled"]["percent"] - pooled[1]["pooled"]["percent"]
            assert found[kind]["difference"] == pytest.approx(gap)
        assert 0 < found[kind]["low"] < found[kind]["difference"] < found[kind]["high"]
    assert found["score"]["difference"] == pytest.approx(tables(high)["score"] - tables(low)["score"])
    same = differences(low, list(reversed(low)))
    assert all(gap == {"difference": 0, "low": 0, "high": 0} for gap in same.values())
    text = render_differences(found, "one", "other")
    assert row(text, "Score")[0] == f"{found['score']['difference']:+.2f}"


def test_the_bootstrap_is_seeded_and_paired():
    one, two = run(better(5, 1), ("cho_e",)), run(better(0, 1), ("cho_e",))
    assert differences(one, two, seed=4) == differences(one, two, seed=4) != differences(one, two, seed=5)
    gap = differences(one, two)["cho_e"]
    # only 5 % of the items differ: unpaired, the interval would be about 7 points wide
    assert gap["high"] - gap["low"] < 3.5


def test_items_count_once_however_many_statements_they_have():
    """All 7 statements of an item rise and fall together: as questions they would seem 7 times as sure."""
    few = {"hard": 60, "moderate": 60, "easy": 60}

    def half(seed):
        return lambda q: q.truth if (int(q.item.id.split()[1]) * 7 + seed) % 5 < 2 else "maybe"

    gap = differences(run(half(0), ("true_false",), few), run(half(2), ("true_false",), few))["true_false"]
    single = differences(run(half(0), ("free",), few), run(half(2), ("free",), few))["free"]
    assert gap == single and gap["high"] - gap["low"] > 10


def test_runs_that_were_asked_something_else_are_refused():
    whole = run(oracle, ("cho_e",), {"hard": 4})
    with pytest.raises(ValueError, match="not asked the same: only one has cho_e of item item 3"):
        differences(whole, whole[:3])
    with pytest.raises(ValueError, match="not asked the same: cho_e of item item 0 has other options"):
        differences(whole, run(oracle, ("cho_e",), {"hard": 4}, seed=9))
