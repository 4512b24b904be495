"""Every bad input of `bad_cases`, at every entry point: one line that says what and where, and an exit code."""

import pytest
from bad_cases import CASES
from bad_inputs import DOCUMENT, render, tell_all


@pytest.fixture(scope="module")
def told():
    return tell_all(CASES)


def test_at_least_220_bad_inputs_are_refused_in_one_line_each(told):
    assert len(CASES) >= 220
    assert [f"{case.entry} {case.argv}: {end.wrong}" for case, end in zip(CASES, told, strict=True) if end.wrong] == []


def test_the_document_says_what_is_said(told):
    assert DOCUMENT.read_text(encoding="utf-8") == render(CASES, told), "python tests/bad_inputs.py --write"
