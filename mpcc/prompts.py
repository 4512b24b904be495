"""What the model is asked: the system prompt of MPCC Table 1 and the three kinds of question.

The questions are worded by us, to the effect of the authors' scripts: the black rectangle, the contextual clues, the
most likely hidden object, and where the reasoning and the answer go. They name what the mask looks like: an outline is
no rectangle, and a mask in the picture's mean colour is not black.
"""

from __future__ import annotations

import string
from collections.abc import Sequence

from mpcc.masks import Fill, Kind

SYSTEM_PROMPT = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it with think and "
    "answer. The assistant first thinks about the reasoning process in the mind and then provides the user with the "
    "answer. The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
    "respectively, i.e., <think> reasoning process here </think><answer> answer here </answer>"
)
"""MPCC Table 1, word for word; only its broken tags are restated as whole ones."""


def free_question(mask: Kind = "box", fill: Fill = "black") -> str:
    """The free-form question, which training asks; mask and fill as in `mpcc.masks`, here and below."""
    them = "them" if mask == "instances" else "it"
    return (
        f"{_hides(mask, fill)} From the clues around {them}, which object is most likely hidden? "
        "Reason in <think> </think>, then name the object in <answer> </answer>."
    )


def choice_question(options: Sequence[str], mask: Kind = "box", fill: Fill = "black") -> str:
    """Single-choice question over `options`, lettered A, B, C, … in their order.

    Raises:
        ValueError: fewer than 2 or more than 26 options.
    """
    if not 2 <= len(options) <= 26:
        raise ValueError(f"a choice question takes 2 to 26 options, not {len(options)}")
    listed = " ".join(f"{letter}.{option}" for letter, option in zip(string.ascii_uppercase, options, strict=False))
    return (
        f"{_hides(mask, fill)} Which object is most likely hidden? "
        f"{listed} Give the letter of your choice in <answer> </answer>."
    )


def true_false_question(name: str, mask: Kind = "box", fill: Fill = "black") -> str:
    """Asks whether the hidden object is `name`, to be answered yes or no."""
    return (
        f"{_hides(mask, fill)} Is the hidden object a {name}? "
        "Give yes or no in <answer> </answer>."
    )


def completion(trace: str, answer: str) -> str:
    """The text of a well-formed completion, as the authors write a prior: reasoning, then answer."""
    return f"<think> {trace.strip()} </think><answer>{answer}</answer>"


def _hides(mask: Kind, fill: Fill) -> str:
    """What the mask looks like, as a sentence."""
    colour = "black" if fill == "black" else "plain"
    if mask == "instances":
        return f"One or more {colour} areas hide every object of one kind in this image."
    return f"A {colour} {'shape' if mask == 'polygon' else 'rectangle'} hides one object in this image."


QUESTION = free_question()
"""The free-form question for the default mask."""
