"""Configuration: one frozen dataclass per section, filled from defaults, then a TOML file, then the command line.

The string below each field is its meaning: `--help` prints it, and `to_toml` writes it as a comment.
"""

from __future__ import annotations

import importlib
import operator
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minigrpo.options import (
    ConfigError,
    described,
    find,
    from_text,
    help_lines,
    options,
    read_argv,
    read_toml,
    toml_value,
    typed,
)
from minigrpo.task import Task


@dataclass(frozen=True)
class Model:
    path: str = ""
    """Hugging Face id or model folder; empty takes the task's own default model."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Computing precision; auto is float32 on a CPU and bfloat16 on a GPU."""
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    """Attention kernel; auto takes flash attention where it is available."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    min_pixels: int = 0
    """Smaller images are enlarged to this area in pixels; 0 keeps the model folder's own bound."""
    max_pixels: int = 0
    """Larger images are shrunk to this area in pixels; 0 keeps the model folder's own bound."""


@dataclass(frozen=True)
class Rollout:
    group_size: int = 8
    """Completions per prompt, G; an annotated trajectory takes one of these slots."""
    prompts_per_step: int = 16
    """Prompts per step, over all ranks together."""
    max_new_tokens: int = 64
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities are those of the tempered distribution."""
    max_prompt_tokens: int = 4096
    """Longest prompt, image tokens included; a longer one is an error, never cut."""


@dataclass(frozen=True)
class Grpo:
    objective: Literal["grpo", "paper"] = "grpo"
    """grpo: clipped importance ratio, and KL times beta. paper: advantage times log ratio to the reference, no beta."""
    scale: Literal["std", "none", "loo"] = "std"
    """Advantage: reward minus group mean, over the group's std; none: not divided; loo: mean of the others."""
    unbiased: bool = True
    """Sample standard deviation (G - 1 below the line); false takes the population's (G)."""
    beta: float = 0.04
    """Weight of the k3 estimate of the KL divergence to the frozen start model; at 0 no reference is kept."""
    clip_low: float = 0.2
    """The importance ratio is clipped below at 1 - clip_low."""
    clip_high: float = 0.2
    """The importance ratio is clipped above at 1 + clip_high."""
    normalize: Literal["token", "sequence", "constant"] = "token"
    """Mean over all tokens of the step; over each completion, then completions; or sum over a fixed length."""
    updates_per_rollout: int = 1
    """Optimiser steps on each batch of completions."""
    prior: bool = True
    """Replace one completion of a group by the sample's annotated trajectory, where it has one."""
    prior_until: int = 0
    """Step from which trajectories are no longer used; 0 is never."""
    prior_ratio: Literal["one", "shaped"] = "one"
    """Importance ratio of a trajectory: one scores it with the policy at rollout; shaped is LUFFY's p / (p + 0.1)."""


@dataclass(frozen=True)
class Optim:
    lr: float = 5e-4
    """Peak learning rate; this default suits the tiny embedded model, a model of billions wants about 1e-6."""
    beta1: float = 0.9
    """AdamW's decay of the gradient's mean."""
    beta2: float = 0.99
    """AdamW's decay of the squared gradient's mean."""
    weight_decay: float = 0.1
    """AdamW's decoupled weight decay."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises linearly to its peak."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after warm-up; cosine and linear end at 0."""
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this norm."""
    tokens_per_micro_batch: int = 8192
    """Tokens in one forward pass of the update, prompts counted once; lower it to save memory."""


@dataclass(frozen=True)
class Run:
    steps: int = 120
    """Training steps; 0 only evaluates."""
    seed: int = 0
    """Seed of every random number."""
    dir: str = ""
    """Run folder; empty takes the next free one of runs/001, runs/002, …"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    max_bad_steps: int = 5
    """Steps in a row with a non-finite loss or gradient after which the run stops."""
    log_completions: int = 2
    """Prompts per step of which prior, best and worst go to completions.jsonl; ten times a run they are shown."""


@dataclass(frozen=True)
class Config:
    """Every option of a run. `task` is an instance of the task class's own `Config`."""

    task_class: str
    task: Any
    model: Model = Model()
    rollout: Rollout = Rollout()
    grpo: Grpo = Grpo()
    optim: Optim = Optim()
    run: Run = Run()


_LIMITS = (
    ("at least", operator.ge, 0, "model.min_pixels model.max_pixels grpo.beta grpo.clip_low grpo.clip_high "
     "grpo.prior_until optim.beta1 optim.beta2 optim.weight_decay optim.warmup run.steps run.seed run.log_completions"),
    ("at least", operator.ge, 1, "rollout.group_size rollout.prompts_per_step rollout.max_new_tokens "
     "rollout.max_prompt_tokens grpo.updates_per_rollout optim.tokens_per_micro_batch run.max_bad_steps"),
    ("above", operator.gt, 0, "rollout.temperature optim.lr optim.max_grad_norm"),
    ("below", operator.lt, 1, "optim.beta1 optim.beta2"),
    ("at most", operator.le, 1, "grpo.clip_low optim.warmup"),
)  # fmt: skip


def load_config(argv: Sequence[str], default_task: str) -> tuple[Config, type[Task]]:
    """What a program calls first: `parse_config`, but `--help` prints and exits 0, and an error is one line and exit 2.

    Args:
        argv: Arguments after the program's name.
        default_task: "package.module:Class" of the task where neither argv nor the file names one.
    """
    first_rank = os.environ.get("RANK", "0") == "0"  # torchrun starts this on every rank: say it once
    try:
        if "--help" in argv or "-h" in argv:
            text = help_text([word for word in argv if word not in ("--help", "-h")], default_task)
            if first_rank:
                print(text, end="")
            raise SystemExit(0)
        return parse_config(argv, default_task)
    except ConfigError as error:
        if first_rank:
            print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def parse_config(argv: Sequence[str], default_task: str) -> tuple[Config, type[Task]]:
    """Defaults, then the file of `--config`, then the command line, where the last mention of an option counts.

    Raises:
        ConfigError: Unknown, missing, mistyped or impossible value; unreadable file; task that cannot be imported.
    """
    given, tables, task_name = _sources(argv, default_task)
    file = given.pop("config", None)
    task_class = import_task(task_name)
    sections = _sections(task_class.Config)
    known = options(sections)
    values: dict[str, dict[str, Any]] = {section: {} for section in sections}
    for section, table in tables.items():
        if section not in sections:
            raise ConfigError(f"{file}: [{section}] is not a section; there are {', '.join(sections)}")
        for key, value in table.items():
            values[section][key] = typed(find(known, f"{section}.{key}", f"{file}: "), value, f"{file}: ")
    for name, text in given.items():
        option = find(known, name, "--")
        section, key = name.split(".")
        values[section][key] = typed(option, from_text(option, text), "--")
    return _build(task_name, sections, values), task_class


def import_task(name: str) -> type[Task]:
    """The task class called "package.module:Class". Raises ConfigError where there is none."""
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise ConfigError(f"task {name!r} is not of the form package.module:Class")
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except Exception as error:  # a user's module may fail in any way while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(f"cannot import task {name!r}: {reason} (is its folder on PYTHONPATH?)") from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError(f"task {name!r}: {module_name} has no class {class_name} derived from minigrpo.task.Task")
    return found


def help_text(argv: Sequence[str], default_task: str) -> str:
    """Every option of every section in aligned columns, fitted to the terminal."""
    task_name = _sources(argv, default_task)[2]
    sections = _sections(import_task(task_name).Config)
    known = options(sections).values()
    width = shutil.get_terminal_size().columns
    usage = "[--config FILE.toml] [--task package.module:Class] [--section.field VALUE ...]"
    lines = textwrap.wrap(f"usage: {Path(sys.argv[0]).name} {usage}", width, break_on_hyphens=False)
    lines += textwrap.wrap("The command line overrides the file, and the file the defaults listed here.", width)
    for section in sections:
        group = [option for option in known if option.name.startswith(f"{section}.")]
        if group:
            lines += ["", f"task: {task_name}" if section == "task" else section, *help_lines(group, width)]
    return "\n".join(lines) + "\n"


def to_toml(config: Config) -> str:
    """Every field with its meaning. Given back with `--config`, the text makes an equal configuration.

    Raises:
        ConfigError: A float that is not finite, or text that is not valid Unicode.
    """
    sections = _sections(type(config.task))
    known = options(sections).values()
    lines: list[str] = []
    for section in sections:
        lines += ["", f"[{section}]"]
        if section == "task":
            lines.append(f"class = {toml_value('task.class', config.task_class)}")
        for option in known:
            owner, key = option.name.split(".")
            if owner == section:
                lines += [f"# {line}" for line in textwrap.wrap(described(option), 110)]
                lines.append(f"{key} = {toml_value(option.name, getattr(getattr(config, section), key))}")
    return "\n".join(lines[1:]) + "\n"


def _sections(task_config: type) -> dict[str, type]:
    return {"model": Model, "task": task_config, "rollout": Rollout, "grpo": Grpo, "optim": Optim, "run": Run}


def _sources(argv: Sequence[str], default_task: str) -> tuple[dict[str, str], dict[str, dict[str, Any]], str]:
    """Options given on the command line, tables of the file, and the task's name, which is taken out of both."""
    given = read_argv(argv)
    tables = read_toml(given["config"]) if "config" in given else {}
    from_file = tables.get("task", {}).pop("class", default_task)
    if not isinstance(from_file, str):
        raise ConfigError(f"{given['config']}: task.class takes text, not {from_file!r}")
    return given, tables, given.pop("task", from_file)


def _build(task_name: str, sections: Mapping[str, type], values: Mapping[str, dict[str, Any]]) -> Config:
    """The configuration of checked types; its values are checked here, the task's own by its `Config`."""
    try:
        task = sections["task"](**values["task"])
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    made = {section: cls(**values[section]) for section, cls in sections.items() if section != "task"}
    config = Config(task_name, task, **made)
    _check(config)
    return config


def _check(config: Config) -> None:
    for words, holds, bound, names in _LIMITS:
        for name in names.split():
            section, key = name.split(".")
            value = getattr(getattr(config, section), key)
            if not holds(value, bound):
                raise ConfigError(f"{name} must be {words} {bound}, not {value}")
    if config.rollout.group_size == 1 and config.grpo.scale in ("std", "loo"):
        raise ConfigError(
            f"rollout.group_size 1 has no other completion to compare with, as grpo.scale {config.grpo.scale!r} must; "
            "take at least 2, or grpo.scale none"
        )
    if 0 < config.model.max_pixels < config.model.min_pixels:
        raise ConfigError(
            f"model.min_pixels {config.model.min_pixels} is above model.max_pixels {config.model.max_pixels}"
        )
