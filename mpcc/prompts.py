"""What the model is asked: the system prompt of MPCC Table 1 and the three kinds of question.

The questions are worded by us, to the effect of the authors' scripts: the black rectangle, the contextual clues, the
most likely hidden object, and where the reasoning and the answer go.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

SYSTEM_PROMPT = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it with think and "
    "answer. The assistant first thinks about the reasoning process in the mind and then provides the user with the "
    "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
    "respectively, i.e., <think> reasoning process here </think><answer> answer here </answer>"
)
"""MPCC Table 1, word for word; only its broken tags are restated as whole ones."""

QUESTION = (
    "A black rectangle hides one object in this image. From the clues around it, which object is most likely hidden? "
    "Reason in <think> </think>, then name the object in <answer> </answer>."
)
"""The free-form question that training asks."""


def choice_question(options: Sequence[str]) -> str:
    """Single-choice question over `options`, lettered A, B, C, … in their order.

    Raises:
        ValueError: fewer than 2 or more than 26 options.
    """
    if not 2 <= len(options) <= 26:
        raise ValueError(f"a choice question takes 2 to 26 options, not {len(options)}")
    listed = " ".join(f"{letter}.{option}" for letter, option in zip(string.ascii_uppercase, options, strict=False))
    return (
        "A black rectangle hides one object in this image. Which object is most likely hidden? "
        f"{listed} Give the letter of your choice in <answer> </answer>."
    )


def true_false_question(name: str) -> str:
    """Asks whether the hidden object is `name`, to be answered yes or no."""
    return (
        f"A black rectangle hides one object in this image. Is the hidden object a {name}? "
        "Give yes or no in <answer> </answer>."
    )


def completion(trace: str, answer: str) -> str:
    """The text of a well-formed completion, as the authors write a prior: reasoning, then answer."""
    return f"<think> {trace.strip()} </think><answer>{answer}</answer>"
