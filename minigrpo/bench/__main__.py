"""Measures a GRPO step: sampling, scoring, update; seconds, tokens per second, memory, arithmetic.

    python -m minigrpo.bench                                   minigrpo on the reference workload for CPUs
    python -m minigrpo.bench --against trl                     against TRL's GRPOTrainer (pip install trl), in turn
    python -m minigrpo.bench --against plain                   against generate and whole sequences in transformers
    python -m minigrpo.bench --against plain --sweep group_size 2,4,8,16,32
    python -m minigrpo.bench --workload gpu --graphs --against trl             Qwen2.5-VL-3B's shape on a GPU

Model and data are random, so nothing is downloaded; every completion has the full length. Tokens per second are
completion tokens of a step over the seconds of a phase. "of rate" is the share of the speed that large matrix products
reach here, measured in the same run; minigrpo/bench/flops.py says how arithmetic is counted. Nothing is written but a
sweep's plot, into the current folder unless --plot says where.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers

from minigrpo.bench import report
from minigrpo.bench.meter import matrix_rate
from minigrpo.bench.plot import draw_sweep
from minigrpo.bench.sides import SideError, measure
from minigrpo.bench.workload import WORKLOADS, Workload, build_folder, with_image_tokens

SWEEPS: dict[str, Callable[[Workload, int], Workload]] = {
    "group_size": lambda workload, value: replace(workload, group_size=value),
    "prompt": with_image_tokens,
    "completion": lambda workload, value: replace(workload, completion=value),
}
"""What can be varied, and how."""
LOWEST = {"group_size": 2, "prompt": 4, "completion": 2}


class Parser(argparse.ArgumentParser):
    """Bad options are one line."""

    def error(self, message: str) -> None:
        self.exit(2, f"{self.prog}: error: {message}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints and draws; 1 where a side did not finish, 2 for bad options."""
    parser = _parser()
    options = parser.parse_args(argv)
    workload, values = _workload(parser, options), []
    if options.sweep:
        values = _values(parser, *options.sweep)
    for one in [SWEEPS[options.sweep[0]](workload, value) for value in values] or [workload]:
        if one.micro_batch < 0 or (one.micro_batch and one.sequences % one.micro_batch):
            parser.error(f"--micro-batch {one.micro_batch} does not divide the {one.sequences} completions of a step")
    names = ["ours", *([options.against] if options.against else [])]
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(workload.threads)
    with tempfile.TemporaryDirectory(prefix="minigrpo-bench-") as folder:
        _say("building the model")
        build_folder(workload, Path(folder))
        rate = matrix_rate(workload.device, workload.dtype)

        def measured(one: Workload) -> dict:
            return report.summary(one, measure(one, names, Path(folder), _say), rate)

        try:
            found = _sweep(workload, options.sweep[0], values, measured) if values else measured(workload)
        except SideError as error:
            print(f"{parser.prog}: error: {error}", file=sys.stderr)
            return 1
    print(report.heading(found))
    if values:
        print(report.curve(options.sweep[0], found["points"]))
        path = options.plot or Path(f"bench_{options.sweep[0]}.png")
        draw_sweep(path, options.sweep[0], found["points"])
        print(f"plot: {path}")
    else:
        print(report.table(found))
    if options.json:
        print(json.dumps(found))
    return int("stopped" in found)


def _sweep(workload: Workload, name: str, values: Sequence[int], measured: Callable[[Workload], dict]) -> dict:
    """`workload`, `sweep`, one object for each of its `points`; a side that fails ends it, and `stopped` says why.

    Raises:
        SideError: the first point failed.
    """
    points, stopped = [], {}
    for value in values:
        _say(f"{name} {value}")
        try:
            points.append({"value": value, **measured(SWEEPS[name](workload, value))})
        except SideError as error:
            if not points:
                raise
            _say(f"the sweep ends before {name} {value}: {error}")
            stopped = {"stopped": f"{name} {value}: {error}"}
            break
    return {"workload": points[0]["workload"], "sweep": name, "points": points, **stopped}


def _workload(parser: Parser, options: argparse.Namespace) -> Workload:
    """The reference workload with what the options change."""
    workload = WORKLOADS[options.workload]
    for name, change in SWEEPS.items():
        if (value := getattr(options, name)) is not None:
            if value < LOWEST[name]:
                parser.error(f"--{name.replace('_', '-')} must be at least {LOWEST[name]}, not {value}")
            workload = change(workload, value)
    for name in ("steps", "threads"):
        if (value := getattr(options, name)) is not None:
            if value < 1:
                parser.error(f"--{name} must be at least 1, not {value}")
            workload = replace(workload, **{name: value})
    if not (math.isfinite(options.beta) and options.beta >= 0):
        parser.error(f"--beta must be 0 or positive, not {options.beta}")
    if options.plot and (not options.sweep or not options.plot.parent.is_dir()):
        parser.error("--plot needs a --sweep to draw" if not options.sweep else
                     f"--plot: folder {options.plot.parent} does not exist")
    if workload.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"--workload {workload.name} needs a GPU, and torch sees none")
    if options.graphs and workload.device != "cuda":
        parser.error(f"--graphs are CUDA graphs, and --workload {workload.name} runs on a CPU")
    if options.against == "trl" and (missing := [p for p in ("trl", "datasets", "accelerate") if not find_spec(p)]):
        parser.error(f"--against trl needs {missing[0]}, which is not installed: pip install trl")
    return replace(workload, beta=options.beta, micro_batch=options.micro_batch, checkpointing=options.checkpointing,
                   graphs=options.graphs)


def _values(parser: Parser, name: str, text: str) -> list[int]:
    """The values of a sweep."""
    if name not in SWEEPS:
        parser.error(f"--sweep varies {', '.join(SWEEPS)}, not {name!r}")
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= LOWEST[name] for part in parts):
        parser.error(f"--sweep {name} takes whole numbers of at least {LOWEST[name]}, such as 4,8,16, not {text!r}")
    return [int(part) for part in parts]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> Parser:
    parser = Parser("python -m minigrpo.bench", description=__doc__,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--workload", choices=tuple(WORKLOADS), default="cpu", help="reference workload (default cpu); toy: to try it")
    add("--against", choices=("plain", "trl"), help="what to compare with")
    add("--beta", type=float, default=0.04, help="weight of the KL to the reference (default 0.04); 0: no reference")
    add("--group-size", type=int, help="completions of a prompt, G")
    add("--prompt", type=int, help="image tokens of a prompt")
    add("--completion", type=int, help="tokens of a completion")
    add("--steps", type=int, help="measured steps (default 3)")
    add("--threads", type=int, help="threads of each side (default 2)")
    add("--micro-batch", type=int, default=0,
        help="sequences in a forward of the other side's update (default: as many as fit in memory)")
    add("--checkpointing", action="store_true", help="recompute activations in the backward pass, on both sides")
    add("--graphs", action="store_true", help="minigrpo replays its decode steps from CUDA graphs")
    add("--sweep", nargs=2, metavar=("NAME", "VALUES"), help="vary group_size, prompt or completion: group_size 4,8,16")
    add("--plot", type=Path, help="PNG file of a sweep's curves (default ./bench_NAME.png)")
    add("--json", action="store_true", help="print one JSON object as the last line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
