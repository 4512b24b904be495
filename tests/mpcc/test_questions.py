"""The questions about a pair, and the record of an answer."""

from collections import Counter
from dataclasses import replace

import pytest
from small_benchmark import items

from mpcc import prompts
from mpcc.questions import KINDS, ask, record

ITEM = items({"hard": 1})[0]


def by_kind(item=ITEM, seed=0):
    questions = ask(item, KINDS, seed)
    return {kind: [q for q in questions if q.kind == kind] for kind in KINDS}


def test_the_options_of_each_kind():
    asked = by_kind()
    (easy,), (hard,), statements, (free,) = asked.values()
    drawn = set(hard.options) & set(ITEM.irrelevant)
    assert len(easy.options) == 4 and set(easy.options) - set(ITEM.irrelevant) == {"dog", "fox", "wolf"}
    assert set(easy.options) & set(ITEM.irrelevant) < drawn and len(drawn) == 2
    assert len(hard.options) == 7 and set(hard.options) - drawn == {"dog", *ITEM.confusing}
    assert [q.role for q in statements] == ["truth"] + ["confusing"] * 4 + ["irrelevant"] * 2
    assert [q.options for q in statements[:5]] == [("dog",), *((name,) for name in ITEM.confusing)]
    assert {q.options[0] for q in statements[5:]} == drawn
    assert [q.truth for q in statements] == ["yes"] + ["no"] * 6
    assert {q.options[0] for q in statements if q.in_all} == {"dog", "lynx", "puma", *drawn}
    assert (free.options, free.truth, free.text) == ((), "dog", prompts.QUESTION)
    for question in (easy, hard):
        assert question.options["ABCDEFG".index(question.truth)] == "dog"
        assert question.text == prompts.choice_question(question.options)
        assert question.role is None and not question.in_all


def test_all_kinds_say_what_the_mask_looks_like_and_ask_the_same():
    plain, outlined = ask(ITEM), ask(ITEM, mask="polygon", fill="mean")
    assert all(question.text.startswith("A plain shape hides one object in this image. ") for question in outlined)
    assert [replace(q, text="") for q in outlined] == [replace(q, text="") for q in plain]


def test_the_seed_alone_decides():
    assert ask(ITEM, KINDS, 3) == ask(ITEM, KINDS, 3)
    assert ask(ITEM, ("cho_h",), 3) == by_kind(seed=3)["cho_h"], "whatever else is asked"
    assert len({ask(ITEM, ("cho_h",), seed)[0].options for seed in range(20)}) > 15
    assert ask(ITEM, ("cho_h",))[0].options != ask(replace(ITEM, id="other"), ("cho_h",))[0].options


@pytest.mark.parametrize(("kind", "letters"), [("cho_e", "ABCD"), ("cho_h", "ABCDEFG")])
def test_the_truth_stands_everywhere_alike(kind, letters):
    truths = Counter(ask(item, (kind,))[0].truth for item in items())
    assert set(truths) == set(letters)
    assert all(abs(n - 1114 / len(letters)) < 4 * (1114 / len(letters)) ** 0.5 for n in truths.values())


def test_each_irrelevant_name_of_a_pool_is_drawn_about_equally_often():
    drawn = Counter(name for item in items() for name in ask(item, ("cho_e",))[0].options if name in item.irrelevant)
    assert set(drawn) == set(ITEM.irrelevant) and all(abs(n - 1114 / 3) < 70 for n in drawn.values())


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind = 'cho' is unknown: choose from cho_e, cho_h, true_false, free"):
        ask(ITEM, ("cho",))


def test_a_record_holds_all_there_is_to_know():
    question = by_kind()["cho_e"][0]
    completion = f"<think> so </think><answer>{question.truth}</answer>"
    assert record(question, completion, "reasoning") == {
        "id": "item 0", "kind": "cho_e", "role": None, "in_all": False, "difficulty": "hard", "answer": "dog",
        "supercategory": "group 0", "file_name": "0.jpg", "bbox": [1.0, 2.0, 30.0, 40.0],
        "options": list(question.options), "prompt": question.text, "system": True, "truth": question.truth,
        "completion": completion, "cut_off": False, "parsed": question.truth, "right": True,
    }


def test_answers_are_judged_by_their_kind():
    asked = by_kind()
    choice, statement, free = asked["cho_e"][0], asked["true_false"][1], asked["free"][0]
    wrong = next(letter for letter in "ABCD" if letter != choice.truth)
    for question, text, parsed, right in (
        (choice, "<answer>a dog</answer>", choice.truth, True),
        (choice, f"<answer>{wrong}</answer>", wrong, False),
        (choice, "<answer>none</answer>", None, False),
        (statement, "<answer>No.</answer>", "no", True),
        (statement, "<answer>Yes</answer>", "yes", False),
        (statement, "well", None, False),
        (free, "<answer>A Dog.</answer>", "A Dog.", True),
        (free, "<answer>dot</answer>", "dot", False),
        (free, "dog", None, False),
    ):
        found = record(question, text, "base")
        assert (found["parsed"], found["right"], found["system"]) == (parsed, right, False), text
        assert ("similarity" in found) == (question is free)
    assert record(free, "<answer>dot</answer>", "base")["similarity"] == pytest.approx(2 / 3)
    assert record(free, "dog", "base")["similarity"] == 0
