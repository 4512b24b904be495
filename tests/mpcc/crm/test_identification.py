"""VisArgs' negative set: questions of three choices are read, asked, scored by letter, and two models compared."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
from running import evaluate, lines
from small_visargs import NEGATIVES, RECORDS, write_visargs

from mpcc.crm.identification import CHANCE, compared, figures, is_negatives, read_cases, summary
from mpcc.eval_options import read_options
from mpcc.statistics import wilson


def read(folder, *words):
    options, config, _ = read_options(["--crm", str(folder / "negatives.json"), *words])
    return read_cases(options, config)[1]


def answered(kind, *right, id="a"):
    return [{"id": id, "kind": kind, "prompt": str(place), "right": one, "parsed": "A" if one else None,
             "cut_off": False} for place, one in enumerate(right)]


def test_every_kind_of_wrong_options_is_a_question_of_its_own(tmp_path):
    write_visargs(tmp_path)
    items = read(tmp_path)
    assert [(item.subtask, item.truth) for item in items] == [
        ("easy", "B"), ("hard_semantic", "A"), ("easy", "C"), ("hard_semantic", "B"), ("easy", "A"),
        ("hard_semantic", "C"), ("easy", "B"), ("easy", "A")]
    assert len({item.id for item in items}) == 8 and items[4].images[0].name == "clock.png"
    assert "argues: Plastic in the sea kills turtles. Which" in items[0].prompt
    assert "A. A clock melts. B. A turtle swims in the sea. C. A child sits there." in items[0].prompt
    assert len(read(tmp_path, "--limit", "2")) == 6, "of the first two pictures"


def test_they_are_asked_and_scored_and_compared(tmp_path, monkeypatch, capsys, one_thread):
    write_visargs(tmp_path)
    said = iter(["<answer>A</answer>", "B", "hm", "<answer>b</answer>", "(A)", "A", "<answer>B.</answer>", "C"])
    monkeypatch.setattr("mpcc.crm.identification.answer_samples", lambda *_: [(next(said), False) for _ in range(8)])
    few = ("--crm", "negatives.json", "--rollout.max_new_tokens", "4")
    out, error = evaluate(monkeypatch, capsys, tmp_path, *few, "--out", "one")
    assert not error and "8 questions of three choices about 4 pictures of negatives.json" in out
    records = lines(tmp_path / "one", "answers")
    assert [(record["parsed"], record["right"]) for record in records] == [
        ("A", False), ("B", False), (None, False), ("B", True), ("A", True), ("A", False), ("B", True), ("C", False)]
    found = json.loads((tmp_path / "one/scores.json").read_text())["figures"]
    low, high = wilson(2, 5)
    assert found["easy"] == pytest.approx({"n": 5, "percent": 40, "low": 100 * low, "high": 100 * high,
                                           "chance": 100 / 3, "unparsed": 20, "cut_off": 0})
    assert (tmp_path / "one/page.html").is_file() and (tmp_path / "one/tables.txt").read_text() in out
    said = iter("AACBACBA")
    out, error = evaluate(monkeypatch, capsys, tmp_path, *few, "--out", "two", "--compare", "one")
    assert not error and "minus one" in out
    gaps = json.loads((tmp_path / "two/scores.json").read_text())["compared"]
    assert gaps["easy"]["difference"] == pytest.approx(40) and gaps["easy"]["items"] == 4
    assert gaps["hard_semantic"]["difference"] == pytest.approx(200 / 3) and gaps["hard_semantic"]["items"] == 2


def test_a_model_answers_them_and_what_was_answered_is_kept(tmp_path, monkeypatch, capsys, one_thread):
    write_visargs(tmp_path)
    words = ("--crm", "negatives.json", "--rollout.max_new_tokens", "4", "--out", "out", "--limit", "1")
    assert "4 questions" in evaluate(monkeypatch, capsys, tmp_path, *words)[0]
    before = lines(tmp_path / "out", "answers")
    monkeypatch.setattr("mpcc.evaluation.generate", lambda *_, **__: pytest.fail("it was asked again"))
    assert not evaluate(monkeypatch, capsys, tmp_path, *words)[1]
    assert lines(tmp_path / "out", "answers") == before


def test_each_kind_stands_beside_chance():
    records = answered("easy", *[True] * 20) + answered("hard", True, False, False) + answered("odd", *[False] * 20)
    rows = [line.split() for line in summary({"figures": figures(records)}, "it", "asked").splitlines()[3:]]
    assert [(row[0], " ".join(row[4:-3])) for row in rows] == [
        ("easy", f"{CHANCE:.1f} above"), ("hard", f"{CHANCE:.1f} no different"), ("odd", f"{CHANCE:.1f} below")]


def test_two_models_are_compared_on_the_questions_that_both_have():
    ours = answered("easy", True, True) + answered("easy", False, id="b") + answered("hard", True)
    theirs = answered("easy", False) + answered("easy", False, False, id="b")
    gaps = compared(ours, theirs, "x")
    assert gaps.keys() == {"easy"} and gaps["easy"]["difference"] == 50 and gaps["easy"]["items"] == 2
    with pytest.raises(ValueError, match="--compare x: it was asked none of these questions"):
        compared(ours, answered("easy", True, id="c"), "x")


@pytest.mark.parametrize(("change", "expected"), [
    ({"easy_answer": 3}, "easy_answer = 3 is no place of an option, 0 to 2"),
    ({"easy_answer": True}, "easy_answer = True is no place"), ({"easy_answer": "B"}, "easy_answer = 'B' is no place"),
    ({"easy_vp_options": ["a", "b"]}, r"easy_vp_options = .* must hold 3 different texts"),
    ({"easy_vp_options": ["a", "b", "a"]}, "must hold 3 different texts"),
    ({"easy_vp_options": "a"}, "easy_vp_options = 'a' is not a list"),
    ({"description": " "}, "lacks description"), ({"description": "a <answer>"}, "holds the special token or tag"),
    ({"easy_vp_options": ..., "hard_semantic_vp_options": ...}, "lacks options, such as easy_vp_options"),
])
def test_a_wrong_question_is_left_out_with_its_record_and_listed(tmp_path, cache, change, expected):
    records = deepcopy(NEGATIVES)
    question = records[0]["negativeset"][0] | change
    records[0]["negativeset"][0] = {key: value for key, value in question.items() if value is not ...}
    write_visargs(tmp_path, negatives=records)
    with pytest.warns(UserWarning, match=rf"1 of 5 records of .* left out.*\[0\]: negativeset\[0\].*{expected}"):
        assert len(read(tmp_path)) == 4


def test_what_has_no_picture_or_no_question_is_said(tmp_path, cache):
    write_visargs(tmp_path, negatives=[3, NEGATIVES[1], {"url": "https://example.org/gone.png", "negativeset": [{}]}])
    with pytest.warns(UserWarning, match=r"2 of 3 records of .* left out.*\[0\] is not an object") as warned:
        assert len(read(tmp_path)) == 2
    listed = str(warned[0].message).partition("listed in ")[2].partition("; the first")[0]
    assert "gone.png is missing" in Path(listed).read_text(encoding="utf-8")
    (tmp_path / "negatives.json").write_text(json.dumps(NEGATIVES[2:3]))
    with pytest.raises(ValueError, match=r"negatives.json holds no question"):
        read(tmp_path)


@pytest.mark.parametrize("words", [("--crm-fill", "blur"), ("--crm-samples", "2"), ("--task.mask", "box_hard")])
def test_options_that_concern_masking_are_refused(tmp_path, words):
    write_visargs(tmp_path)
    with pytest.raises(ValueError, match=f"{words[0]} concerns masked regions, and .* is a negative set"):
        read(tmp_path, *words)


def test_records_with_regions_are_no_negative_set():
    assert is_negatives(NEGATIVES) and not is_negatives(RECORDS) and not is_negatives([]) and not is_negatives({})
