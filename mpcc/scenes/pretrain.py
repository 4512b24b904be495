"""Pretrains the tiny model from scratch on the endless stream of scenes: `python -m mpcc.scenes.pretrain`.

The decoder learns to look up letters, the vision tower to see (`mpcc.scenes.sight`), then both to answer. The
shipped one took 31 minutes on two cores, with GOMP_SPINCOUNT=0 in the environment, as the process that draws needs a
core too. It writes a whole model folder, with the figures it reached in `pretraining.json`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from minigrpo import VLM, Group, Packed, Policy, load_model, pack, sft_loss
from minigrpo.cpu import keep_freed_memory
from minigrpo.progress import progress_bar
from minigrpo.step import accumulate
from mpcc.mmrpt.lessons import caption_lesson, caption_texts, gaps_filled
from mpcc.scenes.curriculum import Lesson, lesson, letters
from mpcc.scenes.evaluation import measure
from mpcc.scenes.folder import VERSION
from mpcc.scenes.sight import STEPS as SIGHT_STEPS
from mpcc.scenes.sight import cosine, drawn_ahead, learn_to_see, make_optimizers, set_rates
from mpcc.scenes.tiny import write_untrained
from mpcc.scenes.tokenizer import train_tokenizer

STEPS, PICTURES, LISTS = 750, 24, 8
"""Steps of the last stage; its pictures, and lists of lettered names, of a step."""
FIRST_STEPS, FIRST_LISTS = 250, 20
"""Those of the first stage, without a picture: among pictures, looking up a letter is hardly learned."""
EARLY = 0.5
"""Share of the last stage's steps after which a base for captions is kept as it is."""
WARM_UP = 50
PEAK, FIRST_PEAK = 0.5, 0.6
"""Share of the optimisers' own rates that the last and the first stage begin at."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m mpcc.scenes.pretrain", description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of the last stage (default {STEPS})")
    parser.add_argument("--sight-steps", type=int, default=SIGHT_STEPS,
                        help=f"steps of learning to see (default {SIGHT_STEPS})")
    parser.add_argument("--plain", action="store_true",
                        help="a base that has never seen a trace nor the answer format, to test priors with")
    parser.add_argument("--captions", action="store_true",
                        help="a base for mpcc.mmrpt, which is taught captions too; OUT/early keeps it as it is after "
                             f"{EARLY:.0%} of the last stage")
    parser.add_argument("--out", type=Path, default=Path("runs/scenes-model"),
                        help="model folder to write (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and scenes (default 0)")
    args = parser.parse_args()
    for name in ("steps", "sight_steps"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)} must be at least 1")
    if args.plain and args.captions:
        parser.error("--plain and --captions are two different bases: take one")
    keep_freed_memory()
    began = time.monotonic()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: {error.filename} {error.strerror}")
    write_untrained(args.out, train_tokenizer(caption_texts() if args.captions else ()), args.seed)
    vlm = load_model(args.out, dtype=torch.float32)
    lists = drawn_ahead(_draw_lists, FIRST_STEPS, args.out, args.seed, args.plain)
    learn_to_answer("looking up letters", vlm, lists, FIRST_STEPS, FIRST_PEAK)
    seen = learn_to_see(vlm, args.out, args.sight_steps, args.seed)
    vlm.net.model.visual.requires_grad_(False)  # what it sees stays what the words mean
    lessons = drawn_ahead(_draw_lessons, args.steps, args.out, args.steps, args.seed, args.plain, args.captions)
    early = args.out / "early" if args.captions else None
    learn_to_answer("learning to answer", vlm, lessons, args.steps, PEAK, early)
    minutes = (time.monotonic() - began) / 60
    vlm.net.to(torch.bfloat16)
    vlm.save(args.out)
    figures = measure(load_model(args.out, dtype=torch.float32))
    if early:
        figures["gaps"] = gaps_filled(load_model(args.out, dtype=torch.float32))
        figures["gaps_early"] = gaps_filled(load_model(early, dtype=torch.float32))
    options = f"--sight-steps {args.sight_steps} --steps {args.steps} --seed {args.seed}"
    record = {
        "command": f"python -m mpcc.scenes.pretrain {options}{' --plain' if args.plain else ''}"
                   f"{' --captions' if args.captions else ''}",
        "world": VERSION,
        "torch": torch.__version__,
        "minutes": round(minutes, 1),
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in vlm.net.parameters()),
        "figures": {"seen": round(seen, 4)} | figures,
    }
    (args.out / "pretraining.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


def learn_to_answer(title: str, vlm: VLM, lessons: Iterator[tuple[Packed, Tensor]], steps: int, peak: float,
                    early: Path | None = None) -> None:
    """Trains `vlm` in place on `steps` lessons. The same steps on the same machine give the same weights.

    Args:
        lessons: Of each step a batch, and the weight of each of its learned tokens [N].
        peak: Greatest learning rate, as a share of the optimisers' own.
        early: Folder for the model as it is after `EARLY` of the steps.
    """
    policy = Policy(vlm, autocast=torch.bfloat16).train()
    optimizers, shown = make_optimizers(vlm.net), deque(maxlen=50)
    bar = progress_bar(title, steps, unit="steps")
    for step, (packed, weights) in enumerate(lessons):
        set_rates(optimizers, min((step + 1) / WARM_UP, 1) * peak * cosine(step / steps, 0.02))
        vlm.net.zero_grad()
        loss = accumulate(policy, [packed], lambda _, batch, out, weights=weights: sft_loss(out.logps, weights))
        nn.utils.clip_grad_norm_(vlm.net.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        shown.append(loss)
        bar.set_postfix(loss=f"{sum(shown) / len(shown):.4f}", refresh=False)
        bar.update()
        if early and step + 1 == max(1, round(EARLY * steps)):
            vlm.save(early)
            load_model(early, dtype=torch.bfloat16).save(early)  # the one that learns stays in float32
    bar.close()


def _draw_lists(vlm: VLM, step: int, seed: int, plain: bool) -> tuple[Packed, Tensor]:
    return _pack(vlm, [letters(seed, index, plain) for index in range(step * FIRST_LISTS, (step + 1) * FIRST_LISTS)])


def _draw_lessons(vlm: VLM, step: int, steps: int, seed: int, plain: bool, captions: bool) -> tuple[Packed, Tensor]:
    pictures = range(step * PICTURES, (step + 1) * PICTURES)
    taught = [caption_lesson(seed, i, step / steps) if captions and i % 2 else lesson(seed, i, step / steps, plain)
              for i in pictures]
    others = range(step * LISTS, (step + 1) * LISTS)  # not the lists of the first stage
    lists = [letters(seed, -1 - i, plain, traced=True) for i in others]
    return _pack(vlm, taught + lists)


def _pack(vlm: VLM, lessons: list[Lesson]) -> tuple[Packed, Tensor]:
    """The lessons of a step, packed, its rows those that are learned, and the weight of each [N]."""
    groups, weights = [], []
    for taught in lessons:
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
    weight = torch.full((len(answer),), len(answer) ** -0.5 if with_image else 0.05)
    tags = vlm.tokenizer.convert_tokens_to_ids(["<answer>", "</answer>"])
    opened, closed = ((answer == tag).nonzero() for tag in tags)
    if len(opened) and len(closed):
        weight[int(opened[0]) + 1 : int(closed[0])] = 1.0
    return weight


if __name__ == "__main__":
    main()
