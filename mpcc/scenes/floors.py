"""What is right without looking: `python -m mpcc.scenes.floors` fits the shortcuts and scores them on the benchmark.

Each row knows a part of a pair and learns from the 2,400 training pairs what is hidden; none sees a pixel. What a model
scores counts only above them. The last row knows all the evidence, in words: what is hidden does follow from it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from minigrpo import Sample, load_model
from minigrpo.loading import read_config
from mpcc.formats import write_json
from mpcc.prompts import QUESTION, SYSTEM_PROMPT
from mpcc.rewards import normalise, parse_answer
from mpcc.scenes.benchmark import SPLIT
from mpcc.scenes.canvas import HEIGHT, WIDTH
from mpcc.scenes.evaluation import answers
from mpcc.scenes.folder import VERSION, ensure_scenes
from mpcc.task import MaskedPrediction

Pair = Mapping[str, Any]
"""A pair as the files keep it: `bbox`, `scene`, `evidence`, `category_name`, …"""

RESULT = Path(__file__).parent / "floors.json"
"""What the command found, kept in the repository for the tables that show it."""

MOST_FREQUENT, SCENE, BOX, BOTH = "most frequent", "kind of scene", "box", "box and scene"
EVIDENCE = "evidence in words"
LEVELS = ("easy", "moderate", "hard")
BOUNDS = {BOX: 0.15, SCENE: 0.20, BOTH: 0.30}
"""What a shortcut may reach at most."""
CEILING = 0.95
"""What all the evidence must reach at least."""


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table, and keeps it in `RESULT` if asked to."""
    parser = argparse.ArgumentParser(prog="python -m mpcc.scenes.floors", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MaskedPrediction.default_model,
                        help="model folder, asked with all pictures black (default: the shipped base)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    args = parser.parse_args(argv)
    try:  # at once, not after minutes of forests
        read_config(args.model)
        if args.json and not args.json.parent.is_dir():
            raise FileNotFoundError(f"--json: folder {args.json.parent} does not exist")
    except (ValueError, OSError) as error:
        raise SystemExit(f"floors: error: {' '.join(str(error).split())}") from error
    train, asked = read_pairs()
    found = {"world": VERSION, "pairs": len(asked), "chance": 1 / len({pair["category_name"] for pair in asked}),
             "forest": floors(train, asked, forest), "network": floors(train, asked, network),
             "text only": text_only(args.model, asked)}
    print(render(found), end="")
    if args.json:
        write_json(args.json, found)


def read_pairs() -> tuple[list[Pair], list[Pair]]:
    """The training pairs of the scenes, and those of their benchmark."""
    folder = ensure_scenes()
    train = json.loads((folder / "pairs_train2017.json").read_text(encoding="utf-8"))
    return train, json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))["pairs"]


Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(training features [N, F], training labels [N], features asked [M, F]) → labels [M]."""


def floors(train: Sequence[Pair], asked: Sequence[Pair], fit: Fit) -> dict[str, float]:
    """Share of `asked` that is right by each shortcut, learned from `train` by `fit`; of `BOTH` by difficulty too."""
    labels = np.array([pair["category_name"] for pair in train])
    truth, levels = (np.array([pair[field] for pair in asked]) for field in ("category_name", "difficulty"))
    common = Counter(labels.tolist()).most_common(1)[0][0]
    result = {MOST_FREQUENT: float((truth == common).mean())}
    for name, features in {
        SCENE: lambda pair: {pair["scene"]: 1.0},
        BOX: _box,
        BOTH: lambda pair: {pair["scene"]: 1.0} | _box(pair),
        EVIDENCE: lambda pair: {pair["scene"]: 1.0} | _words(pair),
    }.items():
        known, new = _table([features(pair) for pair in train], [features(pair) for pair in asked])
        right = fit(known, labels, new) == truth
        result[name] = float(right.mean())
        if name == BOTH:
            result |= {f"– {level}": float(right[levels == level].mean()) for level in LEVELS}
    return result


def _box(pair: Pair) -> dict[str, float]:
    """Five numbers, of about the size of 1."""
    x, y, w, h = pair["bbox"]
    return {"x": x / 100, "y": y / 100, "w": w / 30, "h": h / 30, "aspect": w / h}


def _words(pair: Pair) -> dict[str, float]:
    """The sentences of the evidence, and their words, each with the first word of its sentence."""
    found = {}
    for clue in pair["evidence"]:
        words = re.findall(r"\w+", clue["text"].lower())
        found |= {clue["text"]: 1.0} | {f"{words[0]} … {word}": 1.0 for word in words}
    return found


def _table(known: list[dict[str, float]], new: list[dict[str, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Features by name as float32 tables [N, F] and [M, F]; a name that `known` lacks has no column."""
    column = {name: i for i, name in enumerate(sorted({name for row in known for name in row}))}
    tables = []
    for rows in (known, new):
        table = np.zeros((len(rows), len(column)), np.float32)
        for i, row in enumerate(rows):
            for name, value in row.items():
                if name in column:
                    table[i, column[name]] = value
        tables.append(table)
    return tables[0], tables[1]


def forest(known: np.ndarray, labels: np.ndarray, new: np.ndarray) -> np.ndarray:
    """A random forest of 300 trees.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    from sklearn.ensemble import RandomForestClassifier

    trees = RandomForestClassifier(300, min_samples_leaf=2, random_state=0)
    return trees.fit(known, labels).predict(new)


def network(known: np.ndarray, labels: np.ndarray, new: np.ndarray, steps: int = 400) -> np.ndarray:
    """A network of one hidden layer, 128 wide, beside a direct path; AdamW on all pairs at once."""
    names, targets = np.unique(labels, return_inverse=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        hidden, out = torch.nn.Linear(known.shape[1], 128), torch.nn.Linear(128, len(names))
        direct = torch.nn.Linear(known.shape[1], len(names), bias=False)

    def scores(table: np.ndarray) -> torch.Tensor:
        features = torch.from_numpy(table)
        return out(torch.relu(hidden(features))) + direct(features)

    parameters = [p for layer in (hidden, out, direct) for p in layer.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(scores(known), torch.from_numpy(targets), label_smoothing=0.05).backward()
        optimizer.step()
    with torch.no_grad():
        return names[scores(new).argmax(1).numpy()]


def text_only(model: str, asked: Sequence[Pair]) -> float:
    """Share of `asked` that a model names with all pictures black: what the question alone tells it."""
    black = Image.new("RGB", (WIDTH, HEIGHT))
    vlm = load_model(model, dtype=torch.float32)
    said = answers(vlm, [Sample(f"{SPLIT}/black", QUESTION, (black,), system=SYSTEM_PROMPT)])[0]  # the same for all
    return sum(normalise(parse_answer(said) or "") == pair["category_name"] for pair in asked) / len(asked)


def render(found: Mapping[str, Any]) -> str:
    """The figures as a table."""
    lines = [f"Right without looking, in percent of {found['pairs']} pairs (chance {100 * found['chance']:.1f})",
             f"{'':<20}{'forest':>9}{'network':>9}{'bound':>14}"]
    for name in found["network"]:
        bound = f"at most {100 * BOUNDS[name]:.0f}" if name in BOUNDS else ""
        bound = f"at least {100 * CEILING:.0f}" if name == EVIDENCE else bound
        figures = "".join(f"{100 * found[kind][name]:>9.1f}" for kind in ("forest", "network"))
        lines.append(f"{name:<20}{figures}{bound:>14}")
    lines.append(f"{'question alone':<20}{'':>9}{100 * found['text only']:>9.1f}   (the model, pictures black)")
    return "\n".join(lines) + "\n"


def told() -> str:
    """The kept figures on a line, to stand beside a model's. Empty where they are of another world than this one."""
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    if found["world"] != VERSION:
        return ""
    best = {name: max(found["forest"][name], found["network"][name]) for name in (MOST_FREQUENT, SCENE, BOX, BOTH)}
    listed = ", ".join(f"{name} {100 * share:.1f}" for name, share in best.items())
    return (f"floors of free-form answers, in percent: chance {100 * found['chance']:.1f}, {listed}, question alone "
            f"{100 * found['text only']:.1f}")


if __name__ == "__main__":
    main()
