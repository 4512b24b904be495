"""Configuration: one frozen dataclass per section, filled from defaults, then a TOML file, then the command line.

The string below each field is its meaning: `--help` prints it, and `to_toml` writes it as a comment.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
from minigrpo.sections import (
    STRATEGIES,
    Config,
    GrpoConfig,
    ModelConfig,
    OptimConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    check,
)
from minigrpo.task import Task


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
    usage = "[--config FILE.toml] [--task package.module:Class] [--strategy NAME] [--section.field VALUE ...]"
    lines = textwrap.wrap(f"usage: {Path(sys.argv[0]).name} {usage}", width, break_on_hyphens=False)
    lines += textwrap.wrap("The command line overrides the file, and the file the defaults listed here.", width)
    meant = "; ".join(f"{name}: {', '.join(map(' '.join, found.items()))}" for name, found in STRATEGIES.items())
    lines += textwrap.wrap(f"A strategy stands for options: {meant}.", width)
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
    own = {"rollout": RolloutConfig, "grpo": GrpoConfig, "sft": SftConfig, "optim": OptimConfig, "run": RunConfig}
    return {"model": ModelConfig, "task": task_config, **own}


def _sources(argv: Sequence[str], default_task: str) -> tuple[dict[str, str], dict[str, dict[str, Any]], str]:
    """Options given on the command line, tables of the file, and the task's name, which is taken out of both."""
    given = _with_strategy(read_argv(argv))
    tables = read_toml(given["config"]) if "config" in given else {}
    from_file = tables.get("task", {}).pop("class", default_task)
    if not isinstance(from_file, str):
        raise ConfigError(f"{given['config']}: task.class takes text, not {from_file!r}")
    return given, tables, given.pop("task", from_file)


def _with_strategy(given: dict[str, str]) -> dict[str, str]:
    """`--strategy` replaced by the options it stands for."""
    name = given.pop("strategy", None)
    if name is None:
        return given
    if name not in STRATEGIES:
        raise ConfigError(f"--strategy takes one of {', '.join(STRATEGIES)}, not {name!r}")
    if twice := STRATEGIES[name].keys() & given.keys():
        raise ConfigError(f"--strategy {name} sets {min(twice)}: give one of the two")
    return given | STRATEGIES[name]


def _build(task_name: str, sections: Mapping[str, type], values: Mapping[str, dict[str, Any]]) -> Config:
    """The configuration of checked types; its values are checked here, the task's own by its `Config`."""
    try:
        task = sections["task"](**values["task"])
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    made = {section: cls(**values[section]) for section, cls in sections.items() if section != "task"}
    config = Config(task_name, task, **made)
    check(config)
    return config
