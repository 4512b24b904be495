"""Configuration: one frozen dataclass per section, filled from defaults, then a TOML file, then the command line.

The string below each field is its meaning: `--help` prints it, and `to_toml` writes it as a comment. argparse reads the
command line. Not tyro (tried: 1.0.17), whose errors are boxes of many lines that no public function changes, which
refuses `false`, and which does not check the types of defaults, as values from a file are to it.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import importlib
import inspect
import itertools
import json
import os
import re
import sys
import textwrap
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from minigrpo.sections import STRATEGIES, Config
from minigrpo.task import Task

_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}
LONGEST_LINE = 20_000
_LARGEST = {int: 10**18 - 1, float: sys.float_info.max}


class ConfigError(ValueError):
    """A configuration that cannot be used. The message is one line that says what, where, and what to do."""


@dataclass(frozen=True)
class Option:
    """One field as the user sees it: `name` is "section.field", `kind` its type, `meaning` the string below it."""

    name: str
    kind: Any
    default: bool | int | float | str
    meaning: str

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a Literal; empty for every other kind."""
        return typing.get_args(self.kind)

    @property
    def described(self) -> str:
        """The meaning, and the choices where there are some."""
        named = ", ".join(choice or '""' for choice in self.choices)
        return self.meaning + (f" One of: {named}." if named else "")

    def from_text(self, text: str) -> Any:
        """The value that a word of the command line stands for; the word itself where it stands for none."""
        read = {bool: lambda word: {"true": True, "false": False}[word.lower()], int: int, float: float}
        try:
            return read.get(self.kind, str)(text)
        except (KeyError, ValueError):
            return text

    def typed(self, value: Any, where: str) -> Any:
        """`value`, if it is of this kind; a whole number becomes a float where one is due. Raises ConfigError."""
        wanted = _KINDS.get(self.kind) or f"one of {', '.join(self.choices)}"
        fits = value in self.choices or type(value) in ((int, float) if self.kind is float else (self.kind,))
        if fits and self.kind in _LARGEST and not abs(value) <= _LARGEST[self.kind]:
            fits, wanted = False, wanted + (" of at most 18 digits" if self.kind is int else "")
        if not fits:
            try:
                shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
            except (ValueError, RecursionError):
                shown = "one of thousands of digits or brackets"
            raise ConfigError(f"{where}{self.name} takes {wanted}, not {shown}")
        return float(value) if self.kind is float else value


def load_config(argv: Sequence[str], default_task: str) -> tuple[Config, type[Task]]:
    """What a program calls first: `parse_config`, but an error is one line, said by the first rank, and exit code 2."""
    try:
        return parse_config(argv, default_task)
    except ConfigError as error:
        if _first_rank():
            print(f"{Path(sys.argv[0]).name}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def _first_rank() -> bool:
    """torchrun starts a program on every rank: one of them speaks."""
    return os.environ.get("RANK", "0") == "0"


def parse_config(argv: Sequence[str], default_task: str) -> tuple[Config, type[Task]]:
    """Defaults, then the file of `--config`, then the command line, where the last mention of an option counts.

    Args:
        argv: Arguments after the program's name. `--help` among them prints every option and exits.
        default_task: "package.module:Class" of the task where neither argv nor the file names one.

    Raises:
        ConfigError: Unknown, missing, mistyped or impossible value; unreadable file; task that cannot be imported.
    """
    parser = _parser()
    chosen, _ = parser.parse_known_args(argv)
    file = chosen.config or config_of_run(getattr(chosen, "run.resume", ""))
    where = f"{file}: "
    tables = _read_toml(file) if file else {}
    if not chosen.config:  # a run may have been moved
        tables.get("run", {}).pop("dir", None)
    of_file = tables.get("task", {}).pop("class", None)
    if not isinstance(of_file, str | None):
        raise ConfigError(f"{where}task.class takes text, not {of_file!r}")
    task_name = (of_file or default_task) if chosen.task is None else chosen.task
    task_class = import_task(task_name)
    sections = sections_of(task_class.Config)
    known = options(sections)
    _add_options(parser, known, task_name)
    if chosen.help:
        if _first_rank():
            parser.print_help()
        raise SystemExit(0)
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        raise ConfigError(_not_an_option(unknown[0], known, "--"))
    given = {name: text for name, text in vars(found).items() if name in known}
    strategy = STRATEGIES.get(chosen.strategy, {})
    if twice := strategy.keys() & given.keys():
        raise ConfigError(f"--strategy {chosen.strategy} sets {min(twice)}: give one of the two")
    given |= strategy
    if wrong := tables.keys() - sections.keys():
        raise ConfigError(f"{where}[{min(wrong)}] is not a section; there are {', '.join(sections)}")
    values: dict[str, dict[str, Any]] = {section: {} for section in sections}
    filed = [(f"{section}.{key}", value, where) for section, table in tables.items() for key, value in table.items()]
    if of_file not in (None, task_name):  # of the options of another task those count that this one has too
        filed = [entry for entry in filed if not entry[0].startswith("task.") or entry[0] in known]
    for name, value, source in filed + [(name, known[name].from_text(text), "--") for name, text in given.items()]:
        if name not in known:
            raise ConfigError(_not_an_option(name, known, source))
        section, key = name.split(".")
        values[section][key] = known[name].typed(value, source)
    try:
        made = {section: cls(**values[section]) for section, cls in sections.items()}
        return Config(task_name, **made), task_class
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error


def config_of_run(folder: str) -> str:
    """The file of options that a run, or a checkpoint of one, has in its folder; empty where there is none."""
    file = Path(folder) / "config.toml"
    return str(file) if folder and file.is_file() else ""


def import_task(name: str) -> type[Task]:
    """The task class called "package.module:Class", also of the current folder. Raises ConfigError where there is none.

    The current folder comes last on `sys.path`, so that nothing in it hides what is installed.
    """
    module_name, _, class_name = name.partition(":")
    if not module_name or not class_name:
        raise ConfigError(f"task {name!r} is not of the form package.module:Class")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module may fail in any way while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        looked = f" (looked in {os.getcwd()} and on PYTHONPATH)" if isinstance(error, ModuleNotFoundError) else ""
        raise ConfigError(f"cannot import task {name!r}: {reason}{looked}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Task)):
        file = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
        raise ConfigError(f"task {name!r}: {module_name}{file} has no class {class_name} derived from minigrpo.Task")
    return found


def options(sections: Mapping[str, type]) -> dict[str, Option]:
    """Every option of sections (name → dataclass) by its name. Raises ConfigError for a field that cannot be one."""
    found = {}
    for section, cls in sections.items():
        if not is_dataclass(cls):
            raise ConfigError(f"{section}: {cls.__qualname__} must be a dataclass, as its fields are the options")
        hints, meanings = typing.get_type_hints(cls), _meanings(cls)
        for field in fields(cls):
            name, kind = f"{section}.{field.name}", hints[field.name]
            if kind not in _KINDS and typing.get_origin(kind) is not Literal:
                raise ConfigError(f"{name}: a field is a bool, int, float, str or Literal of strings, not {kind}")
            if not isinstance(field.default, (bool, int, float, str)):
                raise ConfigError(f"{name}: a field needs a default of its own type")
            found[name] = Option(name, kind, field.default, meanings.get(field.name, ""))
    return found


def to_toml(config: Config) -> str:
    """Every field with its meaning. Given back with `--config`, the text makes an equal configuration.

    Raises:
        ConfigError: A float that is not finite, or text that is not valid Unicode.
    """
    lines, current = ["[task]", f"class = {_toml_value('task.class', config.task_class)}"], "task"
    for name, option in options(sections_of(type(config.task))).items():
        section, key = name.split(".")
        if section != current:
            lines, current = [*lines, "", f"[{section}]"], section
        lines += [f"# {line}" for line in textwrap.wrap(option.described, 110)]
        lines.append(f"{key} = {_toml_value(name, getattr(getattr(config, section), key))}")
    return "\n".join(lines) + "\n"


def _toml_value(name: str, value: bool | int | float | str) -> str:
    """As JSON writes it, but TOML wants the delete character escaped, too."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False).replace("\x7f", "\\u007F")
        text.encode()
    except ValueError:
        raise ConfigError(f"{name}: {value!r} is not a finite number, nor valid Unicode") from None
    return text


def sections_of(task_config: type) -> dict[str, type]:
    """Every section's dataclass by its name."""
    own = {field.name: type(field.default) for field in fields(Config) if field.name not in ("task_class", "task")}
    return {"task": task_config, **own}


@functools.cache
def _meanings(cls: type) -> dict[str, str]:
    """The string literal below each field. Python does not keep them, so they are read from the source."""
    found = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
            for item, below in itertools.pairwise(body):
                if isinstance(item, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found[item.target.id] = " ".join(ast.literal_eval(below.value).split())
    return found


def _read_toml(path: str) -> dict[str, dict[str, Any]]:
    """The tables of a TOML file, section → field → value. Raises ConfigError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        # a dotted key of that length would fill the memory
        if (longest := max(map(len, text.splitlines()), default=0)) > LONGEST_LINE:
            raise ConfigError(f"{path} has a line of {longest:,} characters, which is no option")
        tables = tomllib.loads(text)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # also a whole number of thousands of digits
        raise ConfigError(f"{path} is not valid TOML: {' '.join(str(error).split())}") from error
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {key!r} stands outside a section, such as [run]")
    return tables


class _Parser(argparse.ArgumentParser):
    def __init__(self, **more: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS, **more,
                         conflict_handler="resolve",
                         formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=40))

    def error(self, message: str) -> typing.NoReturn:
        message = message.removeprefix("argument ")
        raise ConfigError(re.sub(r"^(\S+): expected one argument", r"\1 needs a value: \1=VALUE", message))


def _parser() -> _Parser:
    """Reads what decides which other options there are."""
    parser = _Parser(usage="%(prog)s [--config FILE.toml] [--section.field VALUE ...]")
    meant = "; ".join(f"{name}: {', '.join(map(' '.join, found.items()))}" for name, found in STRATEGIES.items())
    add = parser.add_argument
    add("--config", metavar="FILE.toml", default=None, help="a file of options; the command line overrides it")
    add("--task", metavar="module:Class", default=None, help="the task to train on; it may lie in the current folder")
    add("--strategy", choices=STRATEGIES, metavar="name", default=None, help=f"stands for options; {meant}")
    add("--run.resume", default="", help=argparse.SUPPRESS)  # the run's own file of options is read first
    add("-h", "--help", action="store_true", default=False, help="show this, and end")
    return parser


def _add_options(parser: _Parser, known: Mapping[str, Option], task_name: str) -> None:
    """Every option is read as text: `Option.from_text` and `typed` make a value of it."""
    for section, group in itertools.groupby(known.values(), lambda option: option.name.split(".")[0]):
        add = parser.add_argument_group(f"task {task_name}" if section == "task" else section).add_argument
        for option in group:
            meant = f"{option.described} (default {json.dumps(option.default)})".replace("%", "%%")
            add(f"--{option.name}", metavar="choice" if option.choices else option.kind.__name__, help=meant)


def _not_an_option(word: str, known: Mapping[str, Option], where: str) -> str:
    """What to say of `word`; `where` ("--", or "FILE: ") opens what is said."""
    name = word.lstrip("-").partition("=")[0]
    last = name.lower().replace("-", "_").split(".")[-1]
    bare = {full.split(".")[1]: full for full in reversed(known)}  # of two fields of one name the first section's
    close = [bare[last]] if last in bare else [full for full in known if full.startswith(f"{last}.")]
    close = close or difflib.get_close_matches(name, known, 1, 0.7)
    close = close or [bare[key] for key in difflib.get_close_matches(last, bare, 1, 0.7)]
    close = close or [full for full, option in known.items() if last.replace("_", " ") in option.meaning.lower()]
    dashes = "--" if where == "--" else ""
    hint = f"did you mean {dashes}{close[0]}?" if close else "--help lists all options"
    if dashes and not word.startswith("-"):
        return f"unexpected argument {word!r}, as options look like --section.field VALUE; {hint}"
    return f"{where}{name} is not an option; {hint}"
