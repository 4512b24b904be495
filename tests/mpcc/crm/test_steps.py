"""Steps: where a completion's sentences begin and end, in characters and in tokens."""

import pytest
import tiny
import torch

from mpcc.crm.steps import answer_span, read_steps, split_steps, tokens_of


def texts(completion):
    return [completion[start:end] for start, end in split_steps(completion)]


def test_steps_are_the_sentences_outside_the_tags_and_the_answer_is_none():
    completion = "<think> A saddle is left. Is hay below? Yes!\nSo a horse </think><answer>a horse. Yes.</answer> Done."
    assert texts(completion) == ["A saddle is left.", "Is hay below?", "Yes!", "So a horse", "Done."]
    start, end = answer_span(completion)
    assert completion[start:end] == "a horse. Yes."
    assert answer_span("no tags at all") is None
    assert texts("No tags. Two steps") == ["No tags.", "Two steps"]


def test_an_answer_that_was_cut_off_is_still_no_step():
    assert texts("<think>One.</think><answer>a ho") == ["One."]
    assert answer_span("<answer> a ho") == (9, 13)


@pytest.mark.parametrize("sentence", [
    "Things, e.g. a saddle, i.e. a seat, are here.", "Mr. Brown and Dr. J. Smith stand there.", "It is 3.5 m long.",
    "Cups, plates etc. are on it.", 'He says "stop!", and goes.',
])
def test_an_abbreviation_or_a_number_ends_no_step(sentence):
    assert texts(f"{sentence} Next one.") == [sentence, "Next one."]


def test_an_abbreviation_before_a_capital_letter_may_end_a_step():
    assert texts("Cups, plates etc. They are on it.") == ["Cups, plates etc.", "They are on it."]


def test_a_step_without_a_word_joins_the_former_or_where_there_is_none_the_next():
    assert texts("<think>Look. ... ! So it is.</think>") == ["Look. ... !", "So it is."]
    assert texts("1. A cup.") == ["1. A cup."]
    assert texts("<think> ... </think>") == []


def test_the_tokens_of_all_steps_hold_their_text_and_no_character_twice():
    vlm = tiny.vlm()
    completion = vlm.encode_completion("<think>Ein Löffel 🥄 liegt da. Two.</think><answer>x</answer>")
    spans, text = vlm.token_spans(completion), vlm.decode(completion)
    assert spans[0][0] == 0 and spans[-1] == (len(text), len(text)), "the end token adds nothing"
    assert all(one[1] == two[0] for one, two in zip(spans, spans[1:], strict=False))
    first, second = read_steps(vlm, completion)
    assert (first.text, second.text) == ("Ein Löffel 🥄 liegt da.", "Two.")
    for step in (first, second):
        assert vlm.decode(completion[slice(*step.tokens)]).strip() == step.text
    assert first.tokens[1] <= second.tokens[0]


def test_a_token_that_begins_in_the_blank_before_a_step_is_the_steps():
    assert tokens_of((3, 6), [(0, 2), (2, 4), (4, 6), (6, 7), (7, 7)]) == (1, 3)
    assert tokens_of((2, 2), [(0, 2), (2, 4)]) == (0, 0)


def test_an_empty_completion_has_no_step():
    vlm = tiny.vlm()
    assert read_steps(vlm, torch.tensor([vlm.end_ids[0]])) == []
