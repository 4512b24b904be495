"""Pretrains the tiny model from scratch on the endless stream of scenes: `python -m mpcc.scenes.pretrain`.

About half an hour on two cores. It writes a whole model folder, with the figures it reached in `pretraining.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from minigrpo import VLM, Group, Packed, Policy, load_model, pack, sft_loss
from mpcc.scenes.curriculum import lesson
from mpcc.scenes.evaluation import measure
from mpcc.scenes.tiny import write_untrained
from mpcc.scenes.tokenizer import train_tokenizer

SHIPPED = Path(__file__).parent / "model"

BATCH = 32
WARM_UP = 100


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mpcc.scenes.pretrain", description=__doc__)
    parser.add_argument("--steps", type=int, default=2600, help="training steps of 32 images (default 2600)")
    parser.add_argument("--minutes", type=float, default=28, help="end by then, the schedule adapted (default 28)")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="model folder to write (default: the shipped one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and scenes (default 0)")
    args = parser.parse_args()
    if args.steps < 1 or args.minutes <= 0:
        parser.error("--steps and --minutes must be positive")
    began = time.monotonic()
    write_untrained(args.out, train_tokenizer(), args.seed)
    vlm = load_model(args.out, dtype=torch.float32)
    steps = train(vlm, args.steps, args.minutes * 60, args.seed)
    minutes = (time.monotonic() - began) / 60
    vlm.net.to(torch.bfloat16)
    vlm.save(args.out)
    figures = measure(load_model(args.out, dtype=torch.float32))
    record = {
        "command": f"python -m mpcc.scenes.pretrain --steps {args.steps} --minutes {args.minutes:g} --seed {args.seed}",
        "steps": steps,
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in vlm.net.parameters()),
        "figures": figures,
    }
    (args.out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


def train(vlm: VLM, steps: int, seconds: float, seed: int) -> int:
    """Trains `vlm` in place; returns the steps made, fewer than `steps` if `seconds` ran out."""
    policy = Policy(vlm).train()
    optimizer = torch.optim.AdamW(vlm.net.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    began, shown = time.monotonic(), deque(maxlen=50)
    painter = ThreadPoolExecutor(1)  # draws the next scenes while the model learns from these
    coming = painter.submit(_batch, vlm, seed, 0, 0.0)
    for step in range(steps):
        spent = time.monotonic() - began
        progress = max(step / steps, spent / seconds)
        if progress >= 1:
            return step
        for group in optimizer.param_groups:
            group["lr"] = _rate(step, progress)
        packed, coming = coming.result(), painter.submit(_batch, vlm, seed, step + 1, progress)
        with torch.autocast("cpu", torch.bfloat16):
            logps = policy(packed).logps
        # a long description must not drown a name: a completion of n tokens weighs √n
        weights = packed.lengths[packed.owner] ** -0.5
        loss = sft_loss(logps, weights / weights.sum())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vlm.net.parameters(), 1.0)
        optimizer.step()
        shown.append(loss.item())
        if step % 50 == 0:
            print(f"step {step} of {steps}  loss {sum(shown) / len(shown):.4f}  {spent / 60:.1f} min", flush=True)
    return steps


def _rate(step: int, progress: float) -> float:
    """Learning rate: linear warm-up, then a cosine down to a fiftieth."""
    peak = 1.5e-3
    return peak * min((step + 1) / WARM_UP, 1) * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2)


def _batch(vlm: VLM, seed: int, step: int, progress: float) -> Packed:
    groups = []
    for index in range(step * BATCH, (step + 1) * BATCH):
        taught = lesson(seed, index, progress)
        completions = [vlm.encode_completion(text) for text in taught.completions]
        groups.append(Group(vlm.encode(taught.sample), completions))
    return pack(groups)


if __name__ == "__main__":
    main()
