"""What MMRPT asks: a caption with a gap, in which the model writes what stands there after looking at the picture."""

from __future__ import annotations

from mpcc.mmrpt.captions import Caption
from mpcc.mmrpt.spans import Span, hidden


def gap_question(caption: Caption, part: Span) -> str:
    """The question about a caption with one part, in characters, replaced by a gap."""
    return (
        f"A caption of this {caption.subject}, with a gap: {hidden(caption.text, part)} What stands in the gap? "
        "Look at the picture and reason in <think> </think>, then give the missing words in <answer> </answer>."
    )


def missing(caption: Caption, part: Span) -> str:
    """The words that a gap in place of the part hides."""
    return caption.text[slice(*part)]
