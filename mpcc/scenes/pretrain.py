"""Pretrains the tiny model from scratch on the endless stream of scenes: `python -m mpcc.scenes.pretrain`.

About 30 minutes on two cores. It writes a whole model folder, with the figures it reached in `pretraining.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

from minigrpo import VLM, Group, Packed, Policy, load_model, pack, sft_loss
from minigrpo.cpu import keep_freed_memory
from minigrpo.step import accumulate
from mpcc.progress import progress_bar
from mpcc.scenes.curriculum import lesson, letters
from mpcc.scenes.evaluation import measure
from mpcc.scenes.folder import VERSION
from mpcc.scenes.tiny import write_untrained
from mpcc.scenes.tokenizer import train_tokenizer

STEPS = 1300
PICTURES, LISTS = 32, 8
"""Pictures, and lists of lettered names, of a step."""
FIRST, FIRST_LISTS = 250, 30
"""The first steps, and their lists, without a picture: among pictures, looking up a letter is hardly learned."""
AHEAD = 4
"""Steps whose lessons are drawn before they are learned."""
WARM_UP = 50
PEAK = 0.8
"""Share of the optimisers' own rates that pictures are learned at, and 0.5 for the first lists: at 1 they are not."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mpcc.scenes.pretrain", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"training steps (default {STEPS})")
    parser.add_argument("--plain", action="store_true",
                        help="a base that has never seen a trace nor the answer format, to test priors with")
    parser.add_argument("--out", type=Path, default=Path("runs/scenes-model"),
                        help="model folder to write (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and scenes (default 0)")
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps {args.steps} must be at least 1")
    keep_freed_memory()
    began = time.monotonic()
    write_untrained(args.out, train_tokenizer(), args.seed)
    vlm = load_model(args.out, dtype=torch.float32)
    train(vlm, args.out, args.steps, args.seed, args.plain)
    minutes = (time.monotonic() - began) / 60
    vlm.net.to(torch.bfloat16)
    vlm.save(args.out)
    figures = measure(load_model(args.out, dtype=torch.float32))
    plain = " --plain" if args.plain else ""
    record = {
        "command": f"python -m mpcc.scenes.pretrain --steps {args.steps} --seed {args.seed}{plain}",
        "world": VERSION,
        "torch": torch.__version__,
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in vlm.net.parameters()),
        "figures": figures,
    }
    (args.out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


def train(vlm: VLM, folder: Path, steps: int, seed: int, plain: bool) -> None:
    """Trains `vlm`, which came from `folder`, in place. The same steps on the same machine give the same weights."""
    policy = Policy(vlm, autocast=torch.bfloat16).train()
    optimizers = _optimizers(vlm.net)
    shown = deque(maxlen=50)
    # a process of its own draws the next scenes while the model learns from these
    painter = ProcessPoolExecutor(1, get_context("spawn"), _open_painter, (folder, seed, plain))
    coming = deque(painter.submit(_paint, step, step / steps) for step in range(AHEAD))
    bar = progress_bar("pretraining", steps, unit="steps")
    for step in range(steps):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * _schedule(step, step / steps)
        coming.append(painter.submit(_paint, step + AHEAD, (step + AHEAD) / steps))
        packed, weights = coming.popleft().result()
        vlm.net.zero_grad()
        loss = accumulate(policy, [packed], lambda _, batch, out, weights=weights: sft_loss(out.logps, weights))
        torch.nn.utils.clip_grad_norm_(vlm.net.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        shown.append(loss)
        bar.set_postfix(loss=f"{sum(shown) / len(shown):.4f}", refresh=False)
        bar.update()
    bar.close()
    painter.shutdown(cancel_futures=True)


def _optimizers(net: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon (Jordan 2024) for the matrices within the towers, AdamW for embeddings, norms and biases.

    After 200 steps of two trials the loss was 0.59 this way, and 0.69 with AdamW alone at 1.5e-3, its rate not tuned.
    """
    inner = {name for name, p in net.named_parameters() if p.ndim == 2 and "embed" not in name}
    matrices = [p for name, p in net.named_parameters() if name in inner]
    others = [p for name, p in net.named_parameters() if name not in inner]
    muon = torch.optim.Muon(matrices, lr=3e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05)
    for group in (*muon.param_groups, *adamw.param_groups):
        group["initial_lr"] = group["lr"]
    return [muon, adamw]


def _schedule(step: int, progress: float) -> float:
    """Share of the peak learning rate: linear warm-up to half of it for the lists, then a cosine down to a fiftieth."""
    peak = 0.5 if step < FIRST else min(0.5 + (step - FIRST) / WARM_UP, PEAK)
    return min((step + 1) / WARM_UP, 1) * peak * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


_painter: tuple[VLM, int, bool]


def _open_painter(folder: Path, seed: int, plain: bool) -> None:
    """Once in the painter's process: it needs the model for its tokenizer and its positions only."""
    global _painter
    torch.set_num_threads(1)
    _painter = load_model(folder), seed, plain


def _paint(step: int, progress: float) -> tuple[Packed, Tensor]:
    """The lessons of a step, packed, its rows those that are learned, and the weight of each [N]."""
    (vlm, seed, plain), groups, weights = _painter, [], []
    pictures, lists = (0, FIRST_LISTS) if step < FIRST else (PICTURES, LISTS)
    taught_now = [lesson(seed, index, progress, plain) for index in range(step * pictures, (step + 1) * pictures)]
    taught_now += [letters(seed, index, plain) for index in range(step * lists, (step + 1) * lists)]
    for taught in taught_now:
        prompt, questions = vlm.encode_together(taught.samples)
        answers = [vlm.encode_completion(text) for text in taught.completions]
        groups.append(Group(prompt, [torch.cat(pair) for pair in zip(questions, answers, strict=True)]))
        for question, answer in zip(questions, answers, strict=True):
            weights += [torch.zeros(len(question)), _weights(vlm, answer, with_image=bool(taught.samples[0].images))]
    weight, packed = torch.cat(weights), pack(groups)
    learned = weight > 0  # what is asked is not
    packed = replace(packed, rows=packed.rows[learned], targets=packed.targets[learned])
    return packed, weight[learned] / weight.sum()


def _weights(vlm: VLM, answer: Tensor, with_image: bool) -> Tensor:
    """What the tokens of a completion [T] weigh: together √T, that a long description may not drown a name.

    A token between the answer's tags weighs 1, and in a list the others next to nothing.
    """
    weight = torch.full((len(answer),), len(answer) ** -0.5 if with_image else 0.02)
    tags = vlm.tokenizer.convert_tokens_to_ids(["<answer>", "</answer>"])
    opened, closed = ((answer == tag).nonzero() for tag in tags)
    if len(opened) and len(closed):
        weight[int(opened[0]) + 1 : int(closed[0])] = 1.0
    return weight


if __name__ == "__main__":
    main()
