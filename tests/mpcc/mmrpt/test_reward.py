"""What a reconstruction earns, and what earns nothing: parrots, lists of guesses, wrong formats."""

import math

import pytest
import torch

from minigrpo import Completion
from mpcc.mmrpt.captions import Caption
from mpcc.mmrpt.guess import TextGuess
from mpcc.mmrpt.masks import Masked, masked_by_choice
from mpcc.mmrpt.reward import answer_place, f1, gain, semantic_terms, visual
from mpcc.prompts import completion

REST = "At the back left is ___. At the back right is a cat."
SENTENCE = "At the back left is a dog."


def test_an_exact_reconstruction_earns_the_maximum():
    terms = semantic_terms([completion("I see it.", "A dog"), completion("Hm.", "dog.")], "a dog", REST)
    assert terms == {"format": [1.0, 1.0], "exact": [1.0, 1.0], "f1": [1.0, 1.0]}
    assert semantic_terms(["no tags"], "a dog", REST) == {"format": [0.0], "exact": [0.0], "f1": [0.0]}


@pytest.mark.parametrize(("answer", "score"), [
    ("white dog", 2 / 3), ("dog dog dog", 0.5), ("dog bird cow", 0.5), ("bird", 0.0), ("", 0.0),
    (REST, 0.0), (f"{REST} dog", 2 / 12),
])
def test_length_is_normalised_and_repeats_lists_and_parrots_are_not_paid(answer, score):
    assert f1(answer, "a dog", REST) == pytest.approx(score)


def test_a_sentence_of_the_same_pattern_earns_nothing_for_the_pattern():
    rest = "___ At the back right is a cat."
    assert f1(SENTENCE, SENTENCE, rest) == 1.0
    assert f1("At the back right is a cat.", SENTENCE, rest) == 0.0
    assert f1("At the back left is a bird.", SENTENCE, rest) == pytest.approx(0.5)  # "left" is new, and right
    assert f1("a cat", "a cat", rest) == 1.0, "all that is missing stands there already"


@pytest.mark.parametrize("count", range(2, 6))
def test_a_list_of_equally_likely_guesses_earns_less_than_one_of_them(count):
    names = ["dog", "bird", "cow", "kite", "boat"]
    one = sum(sum(v[0] for v in list(semantic_terms([completion("", "dog")], t, REST).values())[1:]) for t in names)
    listed = completion("", " ".join(names[:count]))
    many = sum(sum(v[0] for v in list(semantic_terms([listed], t, REST).values())[1:]) for t in names)
    assert many < one


def test_the_answer_is_found_where_it_is_first_said():
    text = "<think> I see a  Dog there, a dog. </think><answer>the dog.</answer>"
    assert text[slice(*answer_place(text))] == "Dog"
    assert answer_place("<think> dogs </think><answer>dog</answer>") == (29, 32), "a whole word"
    assert answer_place("<think> dog </think>") is None and answer_place("<answer> </answer>") is None


def test_the_gain_is_the_mean_over_the_answers_first_tokens_by_hand():
    text = "I see a dog<answer>dog</answer>"
    spans = ((0, 5), (5, 7), (7, 11), (11, 19), (19, 22), (22, 31), (31, 31))
    seen, blind = torch.tensor([0.0, 0, -0.5, 0, -9, 0, 0]), torch.tensor([-7.0, 0, -2.5, 0, 0, 0, 0])
    found = gain(Completion(text, 7, spans=spans), seen, blind)
    assert found == pytest.approx(2.0) and visual(found) == pytest.approx(1 / (1 + math.exp(-2)))
    two = ((0, 9), (9, 11), *spans[3:])  # the word in two tokens, the first of which holds more than it
    assert gain(Completion(text, 6, spans=two), seen, blind) == pytest.approx((7.0 + 0.0) / 2)
    assert gain(Completion("no answer", 1, spans=((0, 9),)), seen, blind) is None
    assert (visual(None), visual(0.0), visual(-1e9), visual(1e9)) == (0.0, 0.5, pytest.approx(0), 1.0)


def test_a_guess_is_the_most_frequent_of_the_context_that_is_not_said_already():
    def caption(n, left, right):
        text = f"At the back left is a {left}. At the back right is a {right}."
        facts = tuple((text.index(f" {name}.") + 1, text.index(f" {name}.") + 1 + len(name)) for name in (left, right))
        return Caption(f"c{n}", "park", text, facts, "")

    known = [("dog", "bird")] * 4 + [("cow", "bird")] * 3 + [("bird", "kite")] * 2
    guess = TextGuess(masked_by_choice([caption(n, *names) for n, names in enumerate(known)], "true", "span", 0.5))
    asked = masked_by_choice([caption(99, "horse", "bird")], "true", "span", 0.5)
    assert [guess(masked) for masked in asked] == ["dog", "bird"]
    assert [guess(m) for m in masked_by_choice([caption(98, "dog", "bird")], "true", "span", 0.5)] == ["dog", "bird"]
    assert [guess(m) for m in masked_by_choice([caption(97, "bird", "cow")], "true", "span", 0.5)] == ["dog", "kite"]
    assert guess(Masked(Caption("x", "sea", "A boat.", None, ""), (2, 6))) == ""
