"""What was measured, as one object, as a table, and as curves."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch

from minigrpo.bench.flops import PHASES, operations
from minigrpo.bench.sides import Measured
from minigrpo.bench.workload import Workload

GB = 1e9


def summary(workload: Workload, measured: Mapping[str, Measured], rate: float) -> dict[str, Any]:
    """`workload`, one object for each side, and `ratio` where there are two.

    Args:
        measured: Side → its steps.
        rate: Operations per second of large matrix products on this machine, with the same threads.
    """
    facts = measured["ours"].facts
    expected = {"prompt_tokens": workload.prompt_tokens, "image_tokens": workload.image_tokens}
    if wrong := [name for name, value in expected.items() if facts[name] != value]:
        raise ValueError(f"{wrong[0]} is {facts[wrong[0]]}, but was to be {expected[wrong[0]]}")
    described = asdict(workload) | expected | {
        "parameters": facts["parameters"], "completion_tokens": workload.tokens, "matrix_rate": rate,
        "date": datetime.date.today().isoformat(), **machine(workload.device),
    }
    found = {"workload": described}
    for name, side in measured.items():
        found[name] = _side(workload, side, operations(workload, shared=name == "ours"), rate)
    for name in measured:
        if name != "ours":
            found["ratio"] = _ratio(found["ours"], found[name])
    return found


def _side(workload: Workload, side: Measured, counted: Mapping[str, int], rate: float) -> dict[str, Any]:
    """Every phase: median seconds, tokens per second, largest peak, operations, share of the rate; None: not run."""
    found: dict[str, Any] = {k: v for k, v in side.facts.items() if k in ("micro_batch", "version", "note")}
    for phase in (*PHASES, "step"):
        times = [step[phase]["seconds"] for step in side.steps if phase in step]
        if not times:
            found[phase] = None
            continue
        seconds = median(times)
        found[phase] = {
            "seconds": seconds, "all_seconds": times, "tokens_per_second": workload.tokens / seconds,
            "peak_memory": max(step[phase]["peak_memory"] for step in side.steps), "flops": counted[phase],
            "share": counted[phase] / seconds / rate,
        }
    if side.decoding:
        d = side.decoding
        found["decode"] = d | {"ratio": d["seconds_per_token"] / d["bare_seconds"],
                               "memory_share": d["bytes"] / d["seconds_per_token"] / d["memory_rate"]}
    return found


def _ratio(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of each phase, theirs over ours, and peak memory, ours over theirs."""
    both = [phase for phase in (*PHASES, "step") if ours[phase] and theirs[phase]]
    found = {phase: theirs[phase]["seconds"] / ours[phase]["seconds"] for phase in both}
    return found | {"peak_memory": ours["step"]["peak_memory"] / theirs["step"]["peak_memory"]}


def machine(device: str) -> dict[str, Any]:
    """Processor, its number, and versions."""
    name = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        models = [line.split(":", 1)[1].strip() for line in cpus.read_text().splitlines() if line[:10] == "model name"]
        name = models[0] if models else name
    hardware = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores of {name}"
    versions = {}
    for package in ("torch", "transformers", "trl"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"hardware": hardware, "versions": {"python": platform.python_version(), **versions}}


def heading(found: Mapping[str, Any]) -> str:
    """What was measured, and where, in a few lines."""
    w, sides = found["workload"], found.get("points", [found])[0]
    versions = ", ".join(f"{name} {version}" for name, version in w["versions"].items())
    lines = [f"{found['sweep']} is varied; these lines describe its first value"] if "sweep" in found else []
    lines += [
        f"{w['name']}: Qwen2.5-VL of {w['parameters'] / 1e6:.1f}M parameters, random weights, {w['dtype']}",
        f"{w['prompts']} prompts of {w['prompt_tokens']} tokens, {w['image_tokens']} of them an image of "
        f"{w['image'][0]} x {w['image'][1]}; G = {w['group_size']}, {w['completion']} new tokens each, "
        f"beta {w['beta']:g}{', activations recomputed' if w['checkpointing'] else ''}",
        f"{w['hardware']}, {w['threads']} thread(s), {versions}, {w['date']}; "
        f"matrix products run at {w['matrix_rate'] / 1e9:,.0f} GFLOP/s",
    ]
    for name in ("plain", "trl"):
        if name in sides:
            said = f"; {sides[name]['note']}" if "note" in sides[name] else ""
            lines.append(f"{name}: {sides[name]['micro_batch']} sequences in a forward of the update{said}")
    return "\n".join(lines)


def table(found: Mapping[str, Any]) -> str:
    """The figures of all sides, phase after phase, and the ratios below."""
    steps = found["workload"]["steps"]
    lines = [f"{'':15}{'seconds':>10}{'tokens/s':>10}{'peak GB':>10}{'GFLOP':>10}{'of rate':>10}"
             f"   median of {steps} step(s) after a first one"]
    for name in ("ours", "plain", "trl"):
        for phase in (*PHASES, "step"):
            if (f := found.get(name, {}).get(phase)) is not None:
                lines.append(f"{name:6}{phase:9}{f['seconds']:10.3g}{f['tokens_per_second']:10.1f}"
                             f"{f['peak_memory'] / GB:10.2f}{f['flops'] / 1e9:10.4g}{f['share']:10.1%}")
    if decode := found["ours"].get("decode"):
        lines.append(f"ours, a decode step: {decode['seconds_per_token'] * 1e3:.2f} ms, {decode['ratio']:.2f} times "
                     f"its bare matrix products ({decode['bare_seconds'] * 1e3:.2f} ms); it reads "
                     f"{decode['bytes'] / 1e6:,.1f} MB, at {decode['memory_share']:.0%} of memory's rate")
    if ratio := found.get("ratio"):
        other = next(name for name in ("trl", "plain") if name in found)
        parts = ", ".join(f"{phase} {ratio[phase]:.2f}" for phase in PHASES if phase in ratio)
        lines.append(f"{other} takes {ratio['step']:.2f} times as long a step ({parts}); ours takes "
                     f"{ratio['peak_memory']:.2f} of its peak memory")
    return "\n".join(lines)


def curve(name: str, points: Sequence[Mapping[str, Any]]) -> str:
    """One line for each point of a sweep."""
    other = next((side for side in ("trl", "plain") if side in points[0]), None)
    lines = [f"{name:>12}{'ours s':>10}{'ours GB':>10}"]
    lines[0] += f"{other + ' s':>10}{other + ' GB':>10}{'ratio':>10}" if other else ""
    for point in points:
        ours = point["ours"]["step"]
        line = f"{point['value']:>12}{ours['seconds']:10.3g}{ours['peak_memory'] / GB:10.2f}"
        if other:
            theirs = point[other]["step"]
            line += f"{theirs['seconds']:10.3g}{theirs['peak_memory'] / GB:10.2f}{point['ratio']['step']:10.2f}"
        lines.append(line)
    return "\n".join(lines)
