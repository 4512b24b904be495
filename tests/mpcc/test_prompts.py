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
