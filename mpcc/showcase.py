"""One picture of what a run did: masked scenes, the answers before and after training, and the reward curve.

    python -m mpcc.showcase runs/001 [--out FILE.png] [--pairs N]

The model that a finished run began with and the one it made answer the held-out pairs, greedily. A rule says which are
shown, in held-out order: the first whose answer became right, the first that stayed wrong, the first that became wrong,
the first that stayed right, then the next of each.
"""

from __future__ import annotations

import json
import textwrap
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import transformers

from minigrpo import Completion, Sample, Sampling, load_model
from minigrpo.config import parse_config
from minigrpo.curves import draw, dress
from minigrpo.files import replacing
from minigrpo.ranks import join
from minigrpo.replica import compute_dtype
from minigrpo.reward import weigh
from minigrpo.rollout import answer
from mpcc import DEFAULT_TASK
from mpcc.task import MaskedPrediction

KINDS = {(False, True): "became right", (False, False): "stayed wrong", (True, False): "became wrong",
         (True, True): "stayed right"}
"""Whether a pair's answer was right before and after → what is said of it."""
COLOURS = {"before": "#a05a00", "after": "#1f4e79", "caption": "#5f5f5f"}
COLUMNS, LINES = 56, 5
"""Characters of a line of a completion, which is monospaced, and most lines of it."""


class Answered(NamedTuple):
    """A held-out pair; for the answers before and after: text, whether it is right, what it earned and for what."""

    sample: Sample
    texts: list[str]
    right: tuple[bool, bool]
    earned: list[str]


def answered(run: Path) -> tuple[list[Answered], list[dict[str, Any]]]:
    """Every held-out pair of a finished run, and its steps that have a reward. Raises ValueError or OSError."""
    config, task_class = parse_config(["--config", str(run / "config.toml")], DEFAULT_TASK)
    task, ranks, said, found = task_class(config.task), join(config.run.device), [], []
    metrics = run / "metrics.jsonl"
    try:
        history = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ValueError(f"{metrics} is not whole JSON lines ({error})") from error
    history = [record for record in history if record.get("reward") is not None]
    if not isinstance(task, MaskedPrediction) or not task.held_out() or not history:
        raise ValueError(f"{run} has no held-out pairs or no reward: show a run of masked prediction that has both")
    for path in (config.model.path or task.default_model, str(run / "model")):
        vlm = load_model(path, dtype=compute_dtype(config.model.dtype, ranks.device), device=ranks.device,
                         min_pixels=config.model.min_pixels, max_pixels=config.model.max_pixels)
        greedy = Sampling(config.rollout.max_new_tokens, temperature=0.0)
        said.append(answer(vlm, task.held_out(), greedy, ranks, config.rollout.max_prompt_tokens))
    for sample, *texts in zip(task.held_out(), *said, strict=True):
        completions = [Completion(text) for text in texts]
        rewards, terms = weigh(task, sample, completions, task.reward(sample, completions))
        earned = [f"{reward:.2f} = " + " + ".join(f"{name} {round(task.reward_weights.get(name, 1) * values[i], 2):g}"
                                                  for name, values in terms.items())
                  for i, reward in enumerate(rewards.tolist())]
        found.append(Answered(sample, texts, tuple(value > 0 for value in terms["exact"]), earned))
    return found, history


def make_figure(pairs: Sequence[Answered], history: Sequence[Mapping[str, Any]], count: int) -> Any:
    """The matplotlib Figure: a row for each pair shown; beside them the reward, and how many answers were right."""
    from matplotlib.figure import Figure  # not pyplot: no global state
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("monospace"))
    kinds = {kind: [pair for pair in pairs if pair.right == right] for right, kind in KINDS.items()}
    shown = [pair for pair in chain.from_iterable(zip_longest(*kinds.values())) if pair][:count]
    steps, height = np.array([record["step"] for record in history]), 1.0 + 2.3 * len(shown)
    figure = Figure(figsize=(10, height), dpi=130)

    def put(x: float, y: float, text: str, **style: Any) -> None:  # at inches from the left and the top
        style = {"va": "top", "fontsize": 8.5, "linespacing": 1.3, "parse_math": False} | style
        figure.text(x / 10, 1 - y / height, text, **style)

    def place(x: float, y: float, wide: float, high: float) -> Any:
        return figure.add_axes((x / 10, 1 - (y + high) / height, wide / 10, high / height))

    put(0.15, 0.12, f"What does the masked box hide? A model's answers before and after {steps[-1]} steps of training",
        fontsize=12, fontweight="bold")
    for row, pair in enumerate(shown):
        top, kind = 0.52 + 2.3 * row, KINDS[pair.right]
        rank = "first" if pair is kinds[kind][0] else "next"
        put(0.15, top, f"hidden: {pair.sample.data['answer'][:22]}", fontsize=10, fontweight="bold")
        put(3.05, top + 0.02, f"the {rank} of {len(pairs)} that {kind}", color=COLOURS["caption"])
        picture = place(0.15, top + 0.25, 2.7, 1.8)
        picture.imshow(pair.sample.images[0], interpolation="bicubic")
        picture.set_anchor("NW")
        picture.axis("off")
        for i, (name, y) in enumerate((("before", top + 0.25), ("after", top + 1.22))):
            put(3.05, y, name, color=COLOURS[name], fontweight="bold")
            put(3.57, y, f"{'✓' if pair.right[i] else '✗'} earned {pair.earned[i]}", color=COLOURS[name], fontsize=8)
            text = (" " if c.isspace() else c if font.get_char_index(ord(c)) else "\ufffd" for c in pair.texts[i])
            lines = textwrap.wrap("".join(text), COLUMNS) or ["(nothing)"]
            lines = lines if len(lines) <= LINES else [*lines[: LINES - 2], "…", lines[-1]]
            put(3.05, y + 0.18, "\n".join(lines), family="monospace", fontsize=7.5)
    curve, bars = place(7.3, 0.78, 2.5, height - 3.0), place(7.3, height - 1.2, 2.5, 0.5)
    dress(curve, "reward while training", steps)
    draw(curve, steps, np.array([record["reward"] for record in history]), COLOURS["after"], "", -np.inf, np.inf)
    curve.set_ylim(min(0, curve.get_ylim()[0]))
    for i, name in enumerate(("before", "after")):
        share = 100 * np.mean([pair.right[i] for pair in pairs])
        bars.bar_label(bars.barh(i, share, color=COLOURS[name]), [f"{name} {share:.1f} %"], padding=4, fontsize=9)
    bars.set_title("right answers, held out", loc="left", fontsize=11, fontweight="bold")
    bars.set(xlim=(0, 160), ylim=(1.5, -0.5))
    bars.axis("off")
    counts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items())
    put(0.15, height - 0.42, f"Of {len(pairs)} pictures that training never showed, {counts}. Answers are greedy.\n"
        "Reward: format, the tags are as asked; exact, the name is right; levenshtein, how alike the names are spelt. "
        "The curve: each step, and smoothed.", fontsize=8, color=COLOURS["caption"])
    return figure


def main() -> None:
    """Reads the options, draws. Bad input is one line and exit code 1."""
    parser = ArgumentParser(prog="python -m mpcc.showcase", description="Draws what a run did as one picture.")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="by default before_after.png in that folder")
    parser.add_argument("--pairs", type=int, default=2, metavar="N", help="held-out pairs shown (default 2)")
    options = parser.parse_args()
    transformers.logging.disable_progress_bar()
    try:
        if options.pairs < 1:
            raise ValueError(f"--pairs {options.pairs} must be at least 1")
        figure = make_figure(*answered(options.run), options.pairs)
        with replacing(options.out or options.run / "before_after.png") as part:
            figure.savefig(part, format="png")
    except (ValueError, OSError) as error:
        raise SystemExit(f"showcase: error: {' '.join(str(error).split())}") from error


if __name__ == "__main__":
    main()
