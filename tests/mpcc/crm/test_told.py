"""What CRM says about a model in words: who does not know which model is which can tell them apart."""

import json

import pytest
from running import ROOT

from mpcc.crm.told import summary, verdict


def scores(name):
    return json.loads((ROOT / f"mpcc/results/crm/{name}.json").read_text(encoding="utf-8"))


def figure(percent, low, high, n=40):
    return {"percent": percent, "low": low, "high": high, "n": n, "items": n}


@pytest.mark.parametrize(("name", "word"), [
    ("base", "GROUNDED"), ("default-0", "GROUNDED"), ("default-1", "GROUNDED"), ("filled-0", "HALLUCINATING")])
def test_the_model_that_never_saw_the_evidence_is_told_from_the_others(name, word):
    assert verdict(scores(name), "it")[0].startswith(f"it: {word}, it mostly ")


def test_the_verdict_follows_the_table_and_says_what_differs():
    found = scores("filled-0")
    text = summary(found, "it", "the other")
    table, _, said = text.partition("\n\n")
    assert table.splitlines()[2].startswith("---") and "what is said once a clue is masked:" in table.splitlines()[3]
    assert "of 306 clues that its reasoning names it drops 43 % once they are masked, and goes on naming 57 %" in said
    assert "with as much of the picture masked elsewhere it drops 1 %" in said
    assert "it drops masked clues less often than the other: -23.9 [" in said
    assert summary(scores("base"), "it").count("often than") == 1, "nothing was compared"


@pytest.mark.parametrize(("dropped", "control", "expected"), [
    (figure(70, 51, 80), figure(5, 0, 9), "GROUNDED"), (figure(30, 20, 49), figure(5, 0, 9), "HALLUCINATING"),
    (figure(60, 45, 75), figure(5, 0, 9), "UNDECIDED"), (figure(90, 80, 95), figure(60, 40, 70), "UNSTABLE"),
    (figure(70, 51, 80), None, "GROUNDED"), (None, None, "no verdict"),
])
def test_a_word_needs_an_interval_on_one_side_of_a_half_and_a_control_that_changes_less(dropped, control, expected):
    given = {"dropped": dropped, "dropped, control": control}
    found = {"figures": {key: value for key, value in given.items() if value}}
    assert verdict(found, "it")[0].startswith(f"it: {expected}, ")
