"""What MMRPT asks: a caption with a gap, in which the model writes what stands there after looking at the picture."""

from __future__ import annotations

from mpcc.mmrpt.masks import Masked


def gap_question(masked: Masked) -> str:
    """The question about a caption with a gap."""
    return (
        f"A caption of this {masked.caption.subject}, with a gap: {masked.rest} What stands in the gap? "
        "Look at the picture and reason in <think> </think>, then give the missing words in <answer> </answer>."
    )
