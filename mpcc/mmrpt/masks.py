"""Which parts of a caption are masked: those that depend on the picture most; to compare, any, or the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np

from mpcc.coco import ImageEntry
from mpcc.mmrpt.captions import Caption
from mpcc.mmrpt.spans import Granularity, Span, hidden, parts_of
from mpcc.reading import read_json, shown

Choice = Literal["true", "random"]
"""Parts that need no scores."""

FORMAT, VERSION = "mmrpt-dependency", 1


class Masked(NamedTuple):
    """A caption and the part of it, in characters, that a gap takes the place of."""

    caption: Caption
    part: Span

    @property
    def id(self) -> str:
        """Unique, as one caption may have several gaps."""
        return f"{self.caption.id}/{self.part[0]}-{self.part[1]}"

    @property
    def image(self) -> ImageEntry | str:
        """Its picture."""
        return self.caption.picture

    @property
    def missing(self) -> str:
        """The words of the part."""
        return self.caption.text[slice(*self.part)]

    @property
    def rest(self) -> str:
        """The caption with the gap."""
        return hidden(self.caption.text, self.part)


def above(scores: Sequence[float], quantile: float) -> list[int]:
    """The places of the scores at or above a quantile of them: one at least, and not all; in order.

    Args:
        scores: 2 or more. Of equal ones the first come first, where not all may be taken.
    """
    threshold = float(np.quantile(scores, quantile))
    count = min(max(1, sum(score >= threshold for score in scores)), len(scores) - 1)
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:count])


def masked_by_scores(captions: Sequence[Caption], path: str | Path, quantile: float) -> list[Masked]:
    """The parts whose dependency is above the quantile of their own caption, by a file of `mpcc.mmrpt.dependency`.

    Captions that the file lacks, and those of a single part, are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, a damaged record, or one of another caption; names file, place and caption.
    """
    path = Path(path)
    content = read_json(path, "python -m mpcc.mmrpt.dependency writes it")
    if not isinstance(content, dict) or content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ValueError(f"{path} is no file of python -m mpcc.mmrpt.dependency, version {VERSION}: write it anew")
    if not isinstance(records := content.get("captions"), list):
        raise ValueError(f"{path} has no list named 'captions': write it anew")
    known, found = {(caption.id, caption.text): caption for caption in captions}, []
    for place, record in enumerate(records):
        where = f"{path}: captions[{place}]"
        named = isinstance(record, dict) and isinstance(record.get("id"), str) and isinstance(record.get("text"), str)
        if not named or (caption := known.get((record["id"], record["text"]))) is None:
            raise ValueError(f"{where}: {shown(record)} is of no caption of these: score them anew")
        parts = _parts(record, where)
        if len(parts) > 1:
            found += [Masked(caption, parts[i]) for i in above(record["scores"], quantile)]
    return found


def masked_by_choice(captions: Sequence[Caption], choice: Choice, granularity: Granularity, quantile: float
                     ) -> list[Masked]:
    """`random`: as many parts of each caption as the quantile leaves, any; `true`: those with a fact of the picture.

    Raises:
        ValueError: nobody knows the facts of a caption.
    """
    found = []
    for caption in captions:
        parts = parts_of(caption.text, granularity)
        if choice == "random" and len(parts) > 1:
            draw = Random(f"random parts/{caption.id}")
            found += [Masked(caption, parts[i]) for i in above([draw.random() for _ in parts], quantile)]
        elif choice == "true":
            found += [Masked(caption, part) for part in parts if tells(caption, part)]
    return found


def tells(caption: Caption, part: Span) -> bool:
    """Whether a part of a caption tells what only the picture can. Raises ValueError where nobody knows."""
    if caption.facts is None:
        raise ValueError(f"caption {caption.id}: what only its picture can tell is not known; score the captions with "
                         "python -m mpcc.mmrpt.dependency")
    return any(max(start, part[0]) < min(end, part[1]) for start, end in caption.facts)


def _parts(record: dict[str, Any], where: str) -> list[Span]:
    """The parts of a record, each with its score."""
    parts, scores, length = record.get("parts"), record.get("scores"), len(record["text"])
    if not isinstance(parts, list) or not isinstance(scores, list) or len(parts) != len(scores):
        raise ValueError(f"{where}: parts and scores are not two lists of one length; write the file anew")
    for part, score in zip(parts, scores, strict=True):
        whole = isinstance(part, list) and len(part) == 2 and all(type(place) is int for place in part)
        if not whole or not 0 <= part[0] < part[1] <= length or not isinstance(score, float) or not 0 <= score <= 1:
            raise ValueError(f"{where}: part {shown(part)} with score {shown(score)} is none; write the file anew")
    return [(start, end) for start, end in parts]
