"""What a model's reasoning is made of: its most frequent words, strategy against strategy (MPCC Fig. 4b)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigrpo.files import replacing

TOP = 15
"""Words that the paper's figure shows."""

_STOP = """
a about after again against all also am among an and another any are aren't as at away be because been before being
besides both but by can can't cannot could couldn't did didn't do does doesn't doing don't down during each either
else every few for from further get gets give go goes had has hasn't have haven't having he her here hers
herself him himself his how however i i'd i'll i'm i've if in instead into is isn't it it'll its itself just least less
let like made make makes many may maybe me might mine more most much must my myself neither no nor not now of off
often on once one only or other others otherwise our ours out over own per perhaps quite rather really same shall she
should shouldn't since so some something still such than that that'll the their theirs them themselves then there
therefore these they they're they've this those though through thus to too until up upon us use used uses using very
was wasn't we we'll we're we've well were weren't what when where whether which while who whom whose why will with
within without won't would wouldn't yes yet you you're you've your yours yourself
"""

STOP_WORDS = frozenset(_STOP.split())
"""English words without a content of their own. Words of place ("behind", "under") are kept: they speak of context. So
are those that the paper's figure shows as signs of reasoning, such as "given", "expect" and "reasonable"."""

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
_ANSWER = re.compile(r"<answer>.*?(?:</answer>|$)", re.DOTALL)
_COMMON, _OWN = "#9aa5b5", "#1f4e79"


def reasoning(completion: str) -> str:
    """The text between `<think>` and `</think>`; where a tag is missing, up to the answer or the text's end.

    A completion without tags is all reasoning.
    """
    return _ANSWER.sub(" ", completion.partition("</think>")[0].split("<think>", 1)[-1]).strip()


def words(text: str) -> list[str]:
    """The words of a text in order, in lower case; figures and punctuation left out, the possessive 's too."""
    found = _WORD.findall(text.lower().replace("’", "'"))
    return [word.removesuffix("'s") for word in found]


def top_words(texts: Iterable[str], count: int = TOP) -> list[tuple[str, int]]:
    """The `count` most frequent words without stop words and single letters, with their counts; ties by alphabet."""
    counts = Counter(word for text in texts for word in words(text) if len(word) > 1 and word not in STOP_WORDS)
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:count]


def draw_words(path: str | Path, strategies: Mapping[str, Sequence[tuple[str, int]]]) -> None:
    """Draws the `top_words` of one or more strategies side by side into a PNG file, which appears whole or not at all.

    Words among the top of one strategy alone stand out in colour.

    Args:
        strategies: Name → its words with their counts; drawn in this order.

    Raises:
        ValueError: there is no strategy, or one without a word.
    """
    if not strategies:
        raise ValueError(f"no words to draw in {path}")
    for name, counted in strategies.items():
        if not counted:
            raise ValueError(f"no words to draw in {path}: {name} has none; did it reason at all?")
    with replacing(path) as part:
        make_figure(strategies).savefig(part, format="png")


def draw_reasoning(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """The words of each run's reasoning (MPCC Fig. 4b), run beside run and mode beside mode; none, no plot."""
    counted = {}
    for name, records in runs.items():
        for system in sorted({r["system"] for r in records}):
            thoughts = [reasoning(r["completion"]) for r in records
                        if r["system"] is system and "<think>" in r["completion"]]
            counted[f"{name}, {'reasoning' if system else 'base'}"] = top_words(thoughts)
    if counted := {name: found for name, found in counted.items() if found}:
        draw_words(path, counted)


def make_figure(strategies: Mapping[str, Sequence[tuple[str, int]]]) -> Any:
    """The matplotlib Figure of `draw_words`: one panel per strategy."""
    # imported here: it takes a second. Figure, not pyplot: no global state
    from matplotlib.figure import Figure

    rows = max(len(counted) for counted in strategies.values())
    figure = Figure(figsize=(3.6 * len(strategies) + 0.4, 0.27 * rows + 1.0), dpi=110, layout="constrained")
    shared = Counter(word for counted in strategies.values() for word, _ in counted)
    panels = figure.subplots(1, len(strategies), squeeze=False)[0]
    for axes, (name, counted) in zip(panels, strategies.items(), strict=True):
        own = [len(strategies) == 1 or shared[word] == 1 for word, _ in counted]
        bars = axes.barh(range(len(counted)), [n for _, n in counted], color=[_OWN if o else _COMMON for o in own])
        axes.bar_label(bars, padding=3, fontsize=8, color="#667085")
        axes.set_yticks(range(len(counted)), [word for word, _ in counted], fontsize=10)
        for label, alone in zip(axes.get_yticklabels(), own, strict=True):
            label.set_color(_OWN if alone else "#444444")
        axes.set_ylim(rows - 0.4, -0.6)
        axes.margins(x=0.15)
        axes.set_xticks([])
        axes.tick_params(length=0)
        axes.spines[["top", "right", "bottom", "left"]].set_visible(False)
        axes.set_title(name, loc="left", fontsize=11, fontweight="bold")
    if len(strategies) > 1:
        figure.supxlabel("blue: among the top words of this one alone", x=0.01, ha="left", fontsize=9, color=_OWN)
    return figure
