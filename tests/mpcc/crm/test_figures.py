"""Figures from records made by hand: each counts what its name says."""

import pytest
from crm_records import record, trace

from mpcc.crm.figures import COLLAPSED, HALLUCINATED, Thresholds, compared, figures, gap, share, tallies
from mpcc.statistics import wilson


def percent(name, *records):
    return figures(records)[name]["percent"]


def test_a_planted_dependency_is_hit_every_time_and_a_reversed_one_never():
    found = figures([record(str(i)) for i in range(5)])
    assert [found[f"{kind}, {by}"]["percent"] for kind in ("hit@1", "auroc") for by in ("step", "name")] == [100] * 4
    assert found["chance"]["percent"] == 50 and found["hit@1, step"]["n"] == 10 and found["hit@1, step"]["items"] == 5
    reversed_ = [record(str(i), delta=((1.0, 2.0), (1.0, 0.0))) for i in range(5)]
    assert percent("hit@1, step", *reversed_) == percent("auroc, step", *reversed_) == 0


def test_regions_that_are_worth_the_same_count_by_chance():
    assert percent("hit@1, step", record(delta=((1.0, 1.0), (0.0, 0.0)))) == 50
    assert percent("auroc, step", record(delta=((1.0, 1.0), (0.0, 0.0)))) == 50


def test_a_step_that_names_all_regions_or_none_says_nothing():
    both = [("A cup and a saddle.", [0, 1]), ("A dog.", []), ("It is.", [])]
    found = tallies([record(own=trace(both))])
    assert not any(name.startswith(("hit", "auroc", "chance")) for name in found)


def test_a_region_is_compared_with_its_control_where_it_has_one():
    found = tallies([record(), record("b", control=((3.0, None), (0.0, None)))])
    assert found["over control"] == {"a": (1, 1), "b": (0, 1)}
    assert found["answer over control"] == {"a": (1, 1), "b": (1, 1)}
    assert "hit@1, controls" not in found, "not all regions have one"
    assert tallies([record(control=((0.0, 1.0), (0.0, 1.0)))])["hit@1, controls"] == {"a": (1, 2)}


def test_robustness_counts_right_answers_only():
    found = tallies([record(), record("b", own=trace([("A cup.", [0])], "cat", right=False))])
    assert found["stays right"] == {"a": (1, 1)} and found["answer changes"] == {"a": (1, 2)}
    assert found["right"] == {"a": (1, 1), "b": (0, 1)}
    unknown = record()
    for region in unknown["regions"]:
        region["relevant"] = None
    unknown["own"]["steps"][0]["names"] = []
    assert tallies([unknown])["answer changes"] == {"a": (0, 1)}, "only what the reasoning names counts"


def test_a_masked_region_that_is_still_named_in_its_place_is_hallucinated():
    assert tallies([record()])[HALLUCINATED] == {"a": (1, 2)}
    made = record()
    made["masked"][1]["aligned"] = 0.7
    assert tallies([made])[HALLUCINATED] == {"a": (0, 2)}
    assert tallies([made], Thresholds(kept=0.7))[HALLUCINATED] == {"a": (1, 2)}
    made["masked"][1] |= {"aligned": 1.0, "pairs": [[0, 0], [2, 2]]}
    assert tallies([made])[HALLUCINATED] == {"a": (0, 2)}, "the step that names it has no partner"


def test_a_clue_is_dropped_where_no_step_names_it_any_more():
    made = record()
    assert tallies([made])["dropped"] == {"a": (1, 2)} and tallies([made])["dropped, control"] == {"a": (0, 1)}
    for masked in made["masked"]:
        masked["steps"] = [{"text": "It.", "names": []}] * 2 + [{"text": "A saddle.", "names": [1]}]
    assert tallies([made])["dropped"] == {"a": (1, 2)}, "any step counts, in its place or not"
    made["controls"][0]["steps"] = []
    assert tallies([made])["dropped, control"] == {"a": (1, 1)}
    made["own"]["steps"][0]["names"] = []
    assert tallies([made])["dropped"] == {"a": (0, 1)}, "what was not named cannot be dropped"


def test_a_trace_that_falls_apart_or_loses_its_format_has_collapsed():
    made = record()
    made["masked"][0]["aligned"] = 0.4
    assert tallies([made])[COLLAPSED] == {"a": (1, 2)}
    assert tallies([made], Thresholds(collapsed=0.4))[COLLAPSED] == {"a": (0, 2)}
    made["masked"][1]["well_formed"] = False
    assert tallies([made])[COLLAPSED] == {"a": (2, 2)}
    made["own"]["well_formed"] = False
    assert tallies([made])[COLLAPSED] == {"a": (1, 2)}, "what was never there cannot be lost"
    assert tallies([made])["unaligned"]["a"] == (pytest.approx(0.6), 2)


def test_sampled_traces_are_counted_beside_those_with_nothing_masked():
    made = record()
    made["samples"] = [[{"aligned": 1.0}, {"aligned": 0.5}], [{"aligned": 0.0}] * 2, [{"aligned": 0.5}] * 2]
    found = figures([made])
    assert found["unaligned, sampled"]["percent"] == 75 and found["unaligned, sampled unmasked"]["percent"] == 25
    assert not any(name.startswith("unaligned, sampled") for name in tallies([record()]))


def test_both_ways_to_fail_are_swept_over_their_thresholds():
    made = record()
    made["masked"][0]["aligned"] = made["masked"][1]["aligned"] = 0.62
    sweep = figures([made])["sweep"]
    assert [sweep[COLLAPSED][t]["percent"] for t in ("0.6", "0.65")] == [0, 100]
    assert [sweep[HALLUCINATED][t]["percent"] for t in ("0.6", "0.65")] == [50, 0]


def test_an_interval_is_over_items_and_not_over_their_cases():
    few = {"a": (10, 10), "b": (0, 10)}
    many = {str(i): (float(i % 2), 1.0) for i in range(20)}
    assert (share(few)["low"], share(few)["high"]) == (0, 100) and share(few)["percent"] == 50
    assert share(many)["low"] > 20 and share(many)["n"] == share(few)["n"] == 20


def test_items_that_are_all_alike_are_no_certainty():
    """A bootstrap of four items that are all right has no width."""
    found = share({str(i): (2.0, 2.0) for i in range(4)})
    low, high = wilson(4, 4)
    assert (found["percent"], found["low"], found["high"]) == (100, 100 * low, 100 * high) and found["low"] < 55
    between = gap({"a": (1, 1), "b": (1, 1)}, {"a": (0, 1), "b": (0, 1)})
    assert between["difference"] == 100 and between["low"] < 20 and between["high"] <= 100 + 1e-9
    same = gap({"a": (1, 1)}, {"a": (1, 1)})
    assert same["low"] < -50 and same["high"] > 50


def test_two_models_are_compared_on_the_items_that_both_have():
    ours = {"a": (1, 1), "b": (1, 1), "c": (0, 1)}
    found = gap(ours, {"a": (0, 1), "b": (0, 2), "z": (1, 1)})
    assert (found["difference"], found["items"]) == (100, 2)
    assert gap(ours, ours)["difference"] == 0
    found = compared([record("a")], [record("a", delta=((1.0, 2.0), (0.0, 1.0)))])
    assert found["hit@1, step"]["difference"] == 50 and found["stays right"]["difference"] == 0
    assert compared([record("a")], [record("b")]) == {}
