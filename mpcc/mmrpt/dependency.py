"""Visual dependency: how much of a caption's attention lies on the picture, token by token, part by part.

    D(s) = 1 / (|s| |L|) Σ_{l ∈ L} Σ_{t ∈ s} Σ_{v ∈ V} Attn_l(t, v) / Σ_x Attn_l(t, x)

for a part s of the caption, the image's tokens V and the third of the layers above the middle, L; the mean over the
heads. In [0, 1]. After MMRPT (arXiv 2512.07203), whose authors score sentences.

    python -m mpcc.mmrpt.dependency --model FOLDER --coco /data/coco --split train2017 --out masks.json

writes every caption with its parts and their scores, for `--task.masks masks.json`; without --coco those of the scenes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from minigrpo import VLM, Group, Sample, load_model, micro_batches
from minigrpo.progress import progress_bar
from minigrpo.shares import attention_shares, upper_middle
from mpcc.crm.steps import tokens_of
from mpcc.digests import model_digest
from mpcc.formats import write_text
from mpcc.mmrpt.captions import Caption, Captions, read_captions
from mpcc.mmrpt.masks import FORMAT, VERSION
from mpcc.mmrpt.spans import Granularity, Span, parts_of
from mpcc.reading import MAX_BAD

Row = Literal["before", "own"]
"""Whose attention counts for a token: that of the token before it, which predicts it, or its own, as in the formula.

On 60 captions of the scenes the shipped base tells words that need the picture from others with an area under the curve
of 0.91 by the row before, and of 0.51 by the word's own, whose attention serves the next one (`mpcc.mmrpt.words`)."""

TOKENS_AT_ONCE = 8192
"""Tokens, the images' included, of one forward."""
CAPTIONS_AT_ONCE = 64
"""Captions whose pictures are open together."""


def token_dependency(vlm: VLM, captions: Captions, chosen: Sequence[Caption], row: Row = "before"
                     ) -> Iterator[tuple[list[Span], Tensor]]:
    """Of each chosen caption the characters that each of its n tokens adds, and D of each, float [n].

    The caption stands as the model's own answer to "Describe the image.".

    Raises:
        FileNotFoundError, ValueError: a picture that is missing or unreadable, or a caption that no answer can hold.
    """
    shift = 1 if row == "own" else 0
    for start in range(0, len(chosen), CAPTIONS_AT_ONCE):
        groups = []
        for caption in chosen[start : start + CAPTIONS_AT_ONCE]:
            prompt = vlm.encode(Sample(caption.id, caption.question, (captions.shown(caption),)))
            groups.append(Group(prompt, [vlm.encode_completion(caption.text, f"caption {caption.id}")]))
        shares: list[Tensor] = []
        for packed in micro_batches(groups, TOKENS_AT_ONCE):
            found = attention_shares(vlm, packed.to(vlm.device)).cpu()
            shares += found[packed.rows].split(packed.lengths.tolist())  # each row predicts a token, the last the end
        for group, found in zip(groups, shares, strict=True):
            spans = vlm.token_spans(group.completions[0])[:-1]
            yield spans, found[shift : shift + len(spans)]


def over_parts(parts: Sequence[Span], spans: Sequence[Span], dependency: Tensor) -> list[float]:
    """D of each part, in characters: the mean over the tokens [n] that hold one of its characters."""
    return [float(dependency[slice(*tokens_of(part, spans))].double().mean()) for part in parts]


def score_captions(vlm: VLM, captions: Captions, chosen: Sequence[Caption], granularity: Granularity, row: Row
                   ) -> Iterator[dict[str, Any]]:
    """A record for each caption: `id`, `text`, `parts` [[begin, end], …] in characters, and their `scores`."""
    for caption, (spans, dependency) in zip(chosen, token_dependency(vlm, captions, chosen, row), strict=True):
        parts = parts_of(caption.text, granularity)
        scores = [round(score, 6) for score in over_parts(parts, spans, dependency)]
        yield {"id": caption.id, "text": caption.text, "parts": [list(part) for part in parts], "scores": scores}


def main(argv: Sequence[str] | None = None) -> int:
    """Scores the captions of a split and writes the file; 1 after an error of one line."""
    parser = argparse.ArgumentParser("python -m mpcc.mmrpt.dependency", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder, hub id or checkpoint whose attention is measured")
    parser.add_argument("--coco", default="", help="COCO folder with annotations/captions_{split}.json")
    parser.add_argument("--split", default="train2017", help="default %(default)s")
    parser.add_argument("--granularity", choices=get_args(Granularity), default="auto",
                        help="auto (default): sentences, or spans in a caption of one sentence")
    parser.add_argument("--row", choices=get_args(Row), default="before",
                        help="whose attention counts for a token: that of the one before it (default), or its own")
    parser.add_argument("--limit", type=int, default=0, help="only the first captions; 0 (default): all")
    parser.add_argument("--max-bad", type=float, default=MAX_BAD, help="share of wrong records (default %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    options = parser.parse_args(argv)
    try:
        content = measured(options)
        write_text(options.out, json.dumps(content, ensure_ascii=False) + "\n")
    except (OSError, ValueError) as error:
        print(f"mpcc.mmrpt.dependency: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(f"wrote {options.out}: {len(content['captions'])} captions")
    return 0


def measured(options: argparse.Namespace) -> dict[str, Any]:
    """What the file holds. Raises OSError, ValueError for unusable captions, pictures or models."""
    if options.limit < 0:
        raise ValueError(f"--limit {options.limit} must be 0 or more captions")
    captions = read_captions(options.coco, options.split, options.max_bad)
    chosen = captions[: options.limit or len(captions)]
    vlm = load_model(options.model, device="cuda" if torch.cuda.is_available() else "cpu")
    records = []
    with progress_bar("dependency", len(chosen), unit="captions") as bar:
        for record in score_captions(vlm, captions, chosen, options.granularity, options.row):
            records.append(record)
            bar.update()
    return {
        "format": FORMAT, "version": VERSION, "captions_of": captions.source, "split": options.split,
        "model": model_digest(options.model), "layers": list(upper_middle(vlm.text_config.num_hidden_layers)),
        "granularity": options.granularity, "row": options.row, "captions": records,
    }


if __name__ == "__main__":
    sys.exit(main())
