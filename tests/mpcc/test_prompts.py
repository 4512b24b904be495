"""Prompts: whole tags, lettered options, and traces that earn the full reward."""

import pytest

from mpcc import prompts
from mpcc.rewards import TAGS, reward_terms


def test_system_prompt_shows_the_format_with_whole_tags():
    form = "<think> reasoning process here </think><answer> answer here </answer>"
    assert prompts.SYSTEM_PROMPT.endswith(form)
    assert reward_terms([form], "answer here") == {"format": [1.0], "exact": [1.0], "levenshtein": [1.0]}


def test_system_prompt_is_that_of_the_papers_table_1():
    printed = (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it with think "
        "and answer. The assistant first thinks about the reasoning process in the mind and then provides the user "
        "with the answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
        "tags, respectively, i.e., "
    )
    assert prompts.SYSTEM_PROMPT.partition("<think> reasoning")[0] == printed


def test_the_question_names_mask_clues_and_every_tag():
    assert "black rectangle" in prompts.QUESTION
    assert "clues" in prompts.QUESTION
    assert all(prompts.QUESTION.count(tag) == 1 for tag in TAGS)


def all_three(*mask):
    return (prompts.free_question(*mask), prompts.choice_question(["dog", "cat"], *mask),
            prompts.true_false_question("dog", *mask))


def test_the_default_mask_is_asked_about_in_the_words_that_the_shipped_model_knows():
    assert all_three() == (
        "A black rectangle hides one object in this image. From the clues around it, which object is most likely "
        "hidden? Reason in <think> </think>, then name the object in <answer> </answer>.",
        "A black rectangle hides one object in this image. Which object is most likely hidden? A.dog B.cat Give the "
        "letter of your choice in <answer> </answer>.",
        "A black rectangle hides one object in this image. Is the hidden object a dog? Give yes or no in <answer> "
        "</answer>.",
    )
    assert all_three()[0] == prompts.QUESTION
    assert all_three() == all_three("box", "black") == all_three("box_hard") == all_three("random_box")


@pytest.mark.parametrize(("mask", "begins"), [
    (("box", "mean"), "A plain rectangle hides one object in this image."),
    (("random_box", "mean"), "A plain rectangle hides one object in this image."),
    (("polygon",), "A black shape hides one object in this image."),
    (("polygon", "mean"), "A plain shape hides one object in this image."),
    (("instances",), "One or more black areas hide every object of one kind in this image."),
    (("instances", "mean"), "One or more plain areas hide every object of one kind in this image."),
])
def test_the_questions_say_what_the_mask_looks_like(mask, begins):
    for question, default in zip(all_three(*mask), all_three(), strict=True):
        rest = default.removeprefix("A black rectangle hides one object in this image.")
        assert question == begins + (rest.replace("around it", "around them") if "instances" in mask else rest)


def test_choice_question_letters_its_options_in_order():
    assert "? A.dog B.stop sign C.cat D.bus Give" in prompts.choice_question(["dog", "stop sign", "cat", "bus"])
    assert " Z.o25 Give" in prompts.choice_question([f"o{i}" for i in range(26)])


@pytest.mark.parametrize("count", [0, 1, 27])
def test_choice_question_refuses_other_counts(count):
    with pytest.raises(ValueError, match=f"2 to 26 options, not {count}"):
        prompts.choice_question(["x"] * count)


def test_true_false_question_names_the_candidate():
    question = prompts.true_false_question("stop sign")
    assert "stop sign?" in question
    assert "yes or no" in question


def test_a_written_completion_earns_the_full_reward():
    text = prompts.completion("  A beach.\nIt is flat. ", "surfboard")
    assert text == "<think> A beach.\nIt is flat. </think><answer>surfboard</answer>"
    assert reward_terms([text], "surfboard") == {"format": [1.0], "exact": [1.0], "levenshtein": [1.0]}
