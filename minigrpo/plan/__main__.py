"""Says before a run whether it fits and how long a step takes, part by part, and proposes token budgets.

    python -m minigrpo.plan --model Qwen/Qwen2.5-VL-3B-Instruct --gpus 2 --memory 80
    python -m minigrpo.plan --gpus 2 --config mpcc/configs/qwen2.5-vl-3b-rft.toml --image 640x480
    python -m minigrpo.plan --machine here --model mpcc/scenes/model --image 240x160

Every other option is one of train.py, whose configuration is read as train.py reads it. Only config.json and
preprocessor_config.json of the model are needed. Memory is counted from what the engine keeps. Seconds come
from the machine's data sheet, or with `--machine here` from measured rates, and from an assumed share of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import torch
import transformers
from PIL import Image

from minigrpo.bench.meter import fastest, free_memory, matrix_rate
from minigrpo.bench.shape import Shape, shape_of
from minigrpo.config import Config, ConfigError, parse_config
from minigrpo.loading import load_image_processor
from minigrpo.plan.estimate import RESERVE, Load, Machine, fits, largest_budget, memory, seconds
from minigrpo.replica import compute_dtype

GB = 1e9
# memory, bfloat16 products and bandwidth are the vendor's figures; what a step reaches of them is an assumption
GPUS = {
    "a100": Machine("A100", "cuda", 80 * GB, 312e12, 2.04e12, 300e9, 25e9, 0.4, 0.6),
    "h100": Machine("H100", "cuda", 80 * GB, 989e12, 3.35e12, 450e9, 50e9, 0.4, 0.6),
    "h200": Machine("H200", "cuda", 141 * GB, 989e12, 4.8e12, 450e9, 50e9, 0.4, 0.6),
}
TASK = "minigrpo.task:Task"
"""Stands in for the run's task, whose samples a plan does not need."""


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the plan; 0 if the run fits, 1 if not, 2 for bad options."""
    parser = _parser()
    own, rest = parser.parse_known_args(argv)
    transformers.logging.set_verbosity_error()
    try:
        config, _ = parse_config([*rest, *(["--model.path", own.model] if own.model else [])], TASK)
        if not config.model.path:
            raise ValueError("which model? name one with --model, or a --config that does")
        if config.rollout.prompts_per_step < own.gpus:
            raise ValueError(f"rollout.prompts_per_step = {config.rollout.prompts_per_step} leaves one of {own.gpus} "
                             "ranks idle")
        if config.model.offload and own.gpus == 1:
            raise ValueError("model.offload needs several ranks; give --gpus 2, or leave it out")
        machine = _machine(own.machine, config)
        machine = replace(machine, memory=own.memory * GB) if own.memory else machine
        try:
            shape = shape_of(config.model.path)
        except (ArithmeticError, AttributeError, TypeError, RuntimeError) as error:
            raise ValueError(f"{config.model.path}: its config.json makes no model: {error}") from error
        load = _load(config, machine, own, shape)
    except (ConfigError, ValueError, OSError) as error:
        print(f"{parser.prog}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(_heading(config, load, machine, shape))
    return _show(shape, config, load, machine)


def _show(shape: Shape, config: Config, load: Load, machine: Machine) -> int:
    parts = memory(shape, config, load, machine)
    ok = fits(parts, machine)
    print(f"\nmemory of a {'rank' if machine.kind == 'cpu' else 'GPU'}, GB")
    print("\n".join(f"  {name:<18}{n / GB:8.2f}" for name, n in parts.items() if name not in ("peak", "host")))
    verdict = f"{'fits' if ok else 'does not fit'} into {machine.memory / GB:.0f}, of which {RESERVE:.0%} stay free"
    print(f"  {'peak':<18}{parts['peak'] / GB:8.2f}   {verdict}")
    if "host" in parts:
        print(f"  {'in host memory':<18}{parts['host'] / GB:8.2f}   weights, gradients and Adam's averages of a rank")
    print("\nseconds of a step, every completion of full length")
    print("\n".join(f"  {name:<18}{n:8.2f}" for name, n in seconds(shape, config, load, machine).items()))
    print(f"  ({machine.rate_share:.0%} of {machine.rate / 1e12:.3g} TFLOP/s, {machine.bandwidth_share:.0%} of "
          f"{machine.bandwidth / GB:.0f} GB/s)")
    print("\nlargest optim.tokens_per_micro_batch that fits")
    for checkpointing in (False, True):
        tried = replace(config, model=replace(config.model, gradient_checkpointing=checkpointing))
        budget = largest_budget(shape, tried, load, machine)
        way = "with" if checkpointing else "without"
        print(f"  {way + ' gradient checkpointing':<32}{f'{budget:,}' if budget else 'none':>7}")
    return int(not ok)


def _heading(config: Config, load: Load, machine: Machine, shape: Shape) -> str:
    precision = {2: "bfloat16", 4: "float32", 8: "float64"}[load.compute]
    return (f"{config.model.path}: {shape.parameters / 1e6:,.1f}M parameters, {precision}, {load.ranks} × "
            f"{machine.name}\n{config.rollout.prompts_per_step} prompts a step of {load.image} image and {load.text} "
            f"text tokens, {config.rollout.group_size} completions of {config.rollout.max_new_tokens} tokens each, "
            f"{config.optim.tokens_per_micro_batch:,} tokens in a micro-batch")


def _load(config: Config, machine: Machine, own: argparse.Namespace, shape: Shape) -> Load:
    """What a rank has to do, the image as the model's own processor cuts it; a text-only model gets none."""
    rows = columns = 0
    if own.image and shape.vision:
        processor = load_image_processor(config.model.path, config.model.min_pixels, config.model.max_pixels)
        seen = processor(images=[Image.new("RGB", own.image)], return_tensors="pt")
        _, rows, columns = seen["image_grid_thw"][0].tolist()
    compute = compute_dtype(config.model.dtype, torch.device(machine.kind)).itemsize
    prompts = -(-config.rollout.prompts_per_step // own.gpus)
    return Load(own.gpus, compute, prompts, own.text, rows * columns // shape.merge**2, (rows, columns))


def _machine(name: str, config: Config) -> Machine:
    """A GPU of the table, or this machine, measured."""
    if name != "here":
        return GPUS[name]
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = str(compute_dtype(config.model.dtype, torch.device(kind))).removeprefix("torch.")
    source = torch.ones(2**26 if kind == "cuda" else 2**24, device=kind)
    target = torch.empty_like(source)
    bandwidth = 2 * source.nbytes / fastest(lambda: target.copy_(source), kind, 0.5)
    share = 0.4 if kind == "cuda" else 0.7  # on CPUs larger products reach more of the rate
    return Machine("this machine", kind, free_memory(kind), matrix_rate(kind, dtype), *3 * [bandwidth], share, 0.6)


def _size(text: str) -> tuple[int, int] | None:
    """Width and height of "640x480"; None for "none"."""
    if text == "none":
        return None
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT in pixels, nor none")
    return int(width), int(height)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m minigrpo.plan", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="model folder or hub id; the same as --model.path")
    parser.add_argument("--gpus", type=_positive, default=1, help="ranks of the run (default 1)")
    parser.add_argument("--memory", type=_positive, help="GB of each (default: the machine's)")
    parser.add_argument("--machine", choices=[*GPUS, "here"], default="a100", help="default a100")
    parser.add_argument("--image", type=_size, default=(640, 480), help="pixels of a prompt's image, or none "
                        "(default 640x480)")
    parser.add_argument("--text", type=_positive, default=110, help="text tokens of a prompt (default 110)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
