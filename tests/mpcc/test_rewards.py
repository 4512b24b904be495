"""MPCC Eq. 3 with its gaps resolved, and the variant of the authors' scripts."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcc import rewards
from mpcc.rewards import (
    distance_similarity,
    format_reward,
    indel_ratio,
    levenshtein_distance,
    normalise,
    parse_answer,
    reward_terms,
)

COMPLETIONS = [
    # well formed
    ("<think>a</think><answer>dog</answer>", 1, "dog"),
    ("<think> a </think> <answer> dog </answer>", 1, " dog "),
    ("<think>a</think>\n\n\t<answer>dog</answer>", 1, "dog"),
    ("<think>two\nlines</think><answer>dog</answer>", 1, "dog"),
    ("<think></think><answer>dog</answer>", 1, "dog"),
    ("<think>a</think><answer></answer>", 1, ""),
    ("<think>a < b > c & d</think><answer>dog</answer>", 1, "dog"),
    ("<think>a</think><answer>stop\nsign</answer>", 1, "stop\nsign"),
    ("<think>Ünïcode 犬</think><answer>犬</answer>", 1, "犬"),
    ("<think><b>a</b></think><answer>dog</answer>", 1, "dog"),
    # something around it
    ("Sure. <think>a</think><answer>dog</answer>", 0, "dog"),
    (" <think>a</think><answer>dog</answer>", 0, "dog"),
    ("<think>a</think><answer>dog</answer>\n", 0, "dog"),
    ("<think>a</think><answer>dog</answer> Done.", 0, "dog"),
    ("<think>a</think> so <answer>dog</answer>", 0, "dog"),
    # tags missing
    ("", 0, None),
    ("dog", 0, None),
    ("<answer>dog</answer>", 0, "dog"),
    ("<think>a</think>", 0, None),
    ("<think>a</think>dog", 0, None),
    ("<think>a</think><answer>dog", 0, None),
    ("<think>a</think>dog</answer>", 0, None),
    ("<think>a<answer>dog</answer>", 0, "dog"),
    ("a</think><answer>dog</answer>", 0, "dog"),
    # tags repeated
    ("<think>a</think><think>b</think><answer>dog</answer>", 0, "dog"),
    ("<think>a</think><answer>cat</answer><answer>dog</answer>", 0, "dog"),
    ("<think>a <answer>cat</answer></think><answer>dog</answer>", 0, "dog"),
    ("<think>in <answer> </answer> tags</think><answer>dog</answer>", 0, "dog"),
    ("<think>a</think><answer>cat<answer>dog</answer>", 0, "dog"),
    ("<think>a</think><answer>dog</answer></answer>", 0, "dog"),
    ("<think><think>a</think></think><answer>dog</answer>", 0, "dog"),
    ("<think>a</think><answer>dog</answer><answer>cat", 0, "dog"),
    # out of order, nested, misspelt
    ("<answer>dog</answer><think>a</think>", 0, "dog"),
    ("<think>a<answer>dog</answer></think>", 0, "dog"),
    ("<answer><think>a</think>dog</answer>", 0, "<think>a</think>dog"),
    ("</think>a<think><answer>dog</answer>", 0, "dog"),
    ("<think>a</think></answer>dog<answer>", 0, None),
    ("<Think>a</Think><Answer>dog</Answer>", 0, None),
    ("<think>a</think><ANSWER>dog</ANSWER>", 0, None),
    ("< think>a</ think>< answer>dog</ answer>", 0, None),
    ("<think>a<\\think><answer>dog<\\answer>", 0, None),
    ("<thinking>a</thinking><answer>dog</answer>", 0, "dog"),
]


@pytest.mark.parametrize(("completion", "well_formed", "answer"), COMPLETIONS)
def test_format_and_answer(completion, well_formed, answer):
    assert format_reward(completion) == well_formed
    assert parse_answer(completion) == answer


def test_the_table_is_large_enough():
    assert len(COMPLETIONS) >= 30
    assert {well_formed for _, well_formed, _ in COMPLETIONS} == {0, 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Dog", "dog"),
        ("  stop \n sign ", "stop sign"),
        ("dog.", "dog"),
        ("dog .", "dog"),
        ("dog..", "dog."),
        ("A dog", "dog"),
        ("an Apple.", "apple"),
        ("The stop sign", "stop sign"),
        ("the a dog", "a dog"),
        ("theatre", "theatre"),
        ("a", "a"),
        ("answer", "answer"),
        ("dog!", "dog!"),
        ("U.S. mail", "u.s. mail"),
        ("", ""),
        (".", ""),
    ],
)
def test_normalisation(text, expected):
    assert normalise(text) == expected


@pytest.mark.parametrize(
    ("a", "b", "distance", "indel"),
    [
        ("bus", "stop sign", 1 / 9, 2 / 12),
        ("hydrant", "fire hydrant", 7 / 12, 14 / 19),
        ("dog", "dog", 1.0, 1.0),
        ("", "dog", 0.0, 0.0),
        ("dog", "", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("dog", "cat", 0.0, 0.0),
        ("abc", "acb", 1 / 3, 4 / 6),
    ],
)
def test_similarities(a, b, distance, indel):
    assert distance_similarity(a, b) == pytest.approx(distance, abs=1e-12)
    assert indel_ratio(a, b) == pytest.approx(indel, abs=1e-12)


def test_similarities_of_a1_as_printed():
    assert [round(f("bus", "stop sign"), 4) for f in (distance_similarity, indel_ratio)] == [0.1111, 0.1667]
    assert [round(f("hydrant", "fire hydrant"), 4) for f in (distance_similarity, indel_ratio)] == [0.5833, 0.7368]


def by_recursion(a, b, substitution):
    """The definition, read literally: the cheapest of the three ways to treat the first characters."""

    @cache
    def cost(i, j):
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        replaced = cost(i + 1, j + 1) + (substitution if a[i] != b[j] else 0)
        return min(replaced, cost(i + 1, j) + 1, cost(i, j + 1) + 1)

    return cost(0, 0)


words = st.text(alphabet="abcé ", max_size=9)


@settings(max_examples=150, deadline=None)
@given(words, words, st.sampled_from([1, 2]))
def test_distance_against_the_definition(a, b, substitution):
    assert levenshtein_distance(a, b, substitution) == by_recursion(a, b, substitution)


@settings(max_examples=150, deadline=None)
@given(words, words)
def test_similarities_are_symmetric_bounded_and_1_only_for_equals(a, b):
    for similarity in (distance_similarity, indel_ratio):
        assert similarity(a, b) == similarity(b, a)
        assert 0.0 <= similarity(a, b) <= 1.0
        assert (similarity(a, b) == 1.0) == (a == b)


def total(completion, answer, variant="eq3", levenshtein="distance"):
    terms = reward_terms([completion], answer, variant, levenshtein)
    return sum(rewards.REWARD_WEIGHTS[variant][name] * values[0] for name, values in terms.items())


def test_correct_and_well_formed_earns_3():
    assert total("<think>a</think><answer>A Stop  sign.</answer>", "stop sign") == 3.0


def test_an_empty_well_formed_answer_earns_its_format_only():
    assert reward_terms(["<think>a</think><answer> </answer>"], "dog") == {
        "format": [1.0],
        "exact": [0.0],
        "levenshtein": [0.0],
    }


def test_no_answer_earns_nothing():
    assert reward_terms(["dog", ""], "dog") == {"format": [0.0, 0.0], "exact": [0.0, 0.0], "levenshtein": [0.0, 0.0]}


def test_a_bad_format_keeps_the_answer_terms():
    assert reward_terms(["so <answer>dog</answer>"], "dog") == {"format": [0.0], "exact": [1.0], "levenshtein": [1.0]}


def test_naming_many_answers_earns_no_more_than_the_last():
    hedged = "<think>a</think><answer>dog</answer><answer>cat</answer>"
    assert reward_terms([hedged], "dog") == {"format": [0.0], "exact": [0.0], "levenshtein": [0.0]}


def test_similarity_option():
    completion = "<think>a</think><answer>hydrant</answer>"
    assert total(completion, "fire hydrant") == pytest.approx(1 + 7 / 12, abs=1e-12)
    assert total(completion, "fire hydrant", levenshtein="indel") == pytest.approx(1 + 14 / 19, abs=1e-12)


def test_scripted_variant():
    completion = "<think>a</think><answer>hydrant</answer>"
    assert total(completion, "fire hydrant", "scripted") == pytest.approx(0.6 + 14 / 19, abs=1e-12)
    right = "<think>a</think><answer>dog</answer>"
    assert reward_terms([right], "dog", "scripted")["exact"] == [1.0]
    assert total(right, "dog", "scripted") == pytest.approx(1.6, abs=1e-12)


def test_one_value_per_completion_in_order():
    terms = reward_terms(["<answer>cat</answer>", "<think>a</think><answer>dog</answer>", "x"], "dog")
    assert terms == {"format": [0.0, 1.0, 0.0], "exact": [0.0, 1.0, 0.0], "levenshtein": [0.0, 1.0, 0.0]}


def test_an_empty_truth_is_refused():
    with pytest.raises(ValueError, match="true answer ' . ' is empty"):
        reward_terms(["<answer></answer>"], " . ")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "dog", " ", "\n"]), max_size=8))
def test_format_reward_on_any_order_of_tags(parts):
    completion = "".join(parts)
    tags = [part for part in parts if part.startswith("<")]
    ordered = tags == ["<think>", "</think>", "<answer>", "</answer>"]
    if ordered:
        gap = parts[parts.index("</think>") + 1 : parts.index("<answer>")]
        ordered = parts[0] == "<think>" and parts[-1] == "</answer>" and "dog" not in gap
    assert format_reward(completion) == float(ordered)
