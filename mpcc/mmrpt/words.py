"""Does visual dependency find the words that need the picture? The scenes' captions know them.

    python -m mpcc.mmrpt.words --model FOLDER --out words.json

prints, and writes, the area under the curve of D (`mpcc.mmrpt.dependency`), words that name what the picture shows
against all others: the chance that a word of the first kind has the higher D. Beside it stand the same model with
random weights, and word frequency (the rarer a word in the training captions, the more visual). As the scenes' other
words are few and frequent, there is also the area of D among words of like frequency. The intervals are bootstraps over
captions.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from minigrpo import VLM, load_model
from mpcc.digests import model_digest
from mpcc.formats import write_json
from mpcc.mmrpt.captions import Caption, SceneCaptions
from mpcc.mmrpt.dependency import Row, over_parts, token_dependency
from mpcc.mmrpt.masks import tells
from mpcc.mmrpt.spans import word_spans

DRAWS = 1000


class Words(NamedTuple):
    """Words of some captions, each a row.

    Attributes:
        scores: float [n].
        visual: bool [n], whether the word tells what only the picture can.
        owner: int [n], the caption it is of.
    """

    scores: np.ndarray
    visual: np.ndarray
    owner: np.ndarray


def words_of(captions: Sequence[Caption], scores: Sequence[Sequence[float]]) -> Words:
    """The words of captions, given a score for each word of each."""
    spans = [word_spans(caption.text) for caption in captions]
    visual = [tells(caption, span) for caption, own in zip(captions, spans, strict=True) for span in own]
    owner = np.repeat(np.arange(len(captions)), [len(own) for own in spans])
    return Words(np.array([s for own in scores for s in own], dtype=float), np.array(visual, dtype=bool), owner)


def by_dependency(vlm: VLM, captions: SceneCaptions, chosen: Sequence[Caption], row: Row) -> Words:
    """The words of the chosen captions with their D."""
    found = token_dependency(vlm, captions, chosen, row)
    return words_of(chosen, [over_parts(word_spans(caption.text), *spans_and_scores)
                             for caption, spans_and_scores in zip(chosen, found, strict=True)])


def by_frequency(chosen: Sequence[Caption], training: Sequence[Caption]) -> Words:
    """The words of the chosen captions with minus the logarithm of their number in the training captions, plus one."""
    def words(caption: Caption) -> list[str]:
        return [caption.text[start:end].lower() for start, end in word_spans(caption.text)]

    counts = Counter(word for caption in training for word in words(caption))
    return words_of(chosen, [[-math.log(1 + counts[word]) for word in words(caption)] for caption in chosen])


def area(words: Words, weights: np.ndarray | None = None) -> float:
    """The chance that a visual word has a higher score than another, ties counting half (Mann and Whitney).

    Args:
        weights: How often each caption counts; once by default.

    Returns:
        In [0, 1]; NaN where words of one kind are missing.
    """
    weight = np.ones(len(words.scores)) if weights is None else weights[words.owner].astype(float)
    _, level = np.unique(words.scores, return_inverse=True)
    visual = np.bincount(level, weight * words.visual)
    others = np.bincount(level, weight * ~words.visual)
    below = np.cumsum(others) - others / 2
    total = visual.sum() * others.sum()
    return float((visual * below).sum() / total) if total else math.nan


def area_among_like(words: Words, frequency: np.ndarray, weights: np.ndarray | None = None) -> float:
    """`area` among words of like frequency: the mean over its doublings, each weighing as many pairs as it has.

    Args:
        frequency: float [n], minus the logarithm of the words' frequency.
    """
    doubling = np.floor(frequency / math.log(2))
    found, pairs = [], []
    for level in np.unique(doubling):
        inside = doubling == level
        part = Words(*(values[inside] for values in words))
        weight = np.ones(len(part.owner)) if weights is None else weights[part.owner]
        if (count := weight[part.visual].sum() * weight[~part.visual].sum()) > 0:
            found.append(area(part, weights))
            pairs.append(count)
    return float(np.average(found, weights=pairs)) if found else math.nan


def with_interval(measure: Callable[[np.ndarray | None], float], captions: int, seed: int = 0) -> dict[str, float]:
    """A figure, and its 95 % interval, `low` to `high`: a bootstrap over captions, whose words rise and fall together.

    Args:
        measure: Gives the figure, given how often each caption counts.
    """
    rng = np.random.default_rng(seed)
    drawn = [measure(rng.multinomial(captions, np.full(captions, 1 / captions))) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return {"area": measure(None), "low": float(low), "high": float(high)}


def untrained(vlm: VLM, seed: int = 0) -> VLM:
    """The same architecture with random weights."""
    torch.manual_seed(seed)
    config = type(vlm.net.config).from_dict(vlm.net.config.to_dict())  # without minigrpo's attention
    net = type(vlm.net)(config).to(vlm.device, vlm.net.dtype).eval()
    return VLM(net, vlm.tokenizer, vlm.image_processor)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the areas, and writes them; 1 after an error of one line."""
    parser = argparse.ArgumentParser("python -m mpcc.mmrpt.words", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder, hub id or checkpoint whose attention is measured")
    parser.add_argument("--limit", type=int, default=0, help="only the first held-out captions; 0 (default): all 200")
    parser.add_argument("--out", type=Path, help="file to write the figures to as JSON")
    options = parser.parse_args(argv)
    try:
        found = measured(options.model, options.limit)
        if options.out:
            write_json(options.out, found)
    except (OSError, ValueError) as error:
        print(f"mpcc.mmrpt.words: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1))
    return 0


def measured(model: str, limit: int) -> dict[str, Any]:
    """All areas on the held-out captions of the scenes. Raises OSError, ValueError for an unusable model or limit."""
    if limit < 0:
        raise ValueError(f"--limit {limit} must be 0 or more captions")
    captions = SceneCaptions("val2017")
    chosen = captions[: limit or len(captions)]
    vlm = load_model(model, device="cuda" if torch.cuda.is_available() else "cpu")
    random_vlm = untrained(vlm)
    frequency = by_frequency(chosen, SceneCaptions("train2017"))
    areas = {"word frequency": with_interval(partial(area, frequency), len(chosen))}
    for row in get_args(Row):
        for name, asked in (("model", vlm), ("untrained", random_vlm)):
            words = by_dependency(asked, captions, chosen, row)
            areas[f"{name}, row {row}"] = with_interval(partial(area, words), len(chosen)) | {
                "like frequency": with_interval(partial(area_among_like, words, frequency.scores), len(chosen))}
    return {"model": model_digest(model), "captions": len(chosen), "words": len(frequency.scores),
            "visual_words": int(frequency.visual.sum()), "areas": areas}


if __name__ == "__main__":
    sys.exit(main())
