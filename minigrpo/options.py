"""Dataclass fields as options: found with their meanings, read from TOML and from the command line, written, listed.

Knows no option by name: `config.py` says which sections there are and what their values may be.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import itertools
import json
import math
import textwrap
import tomllib
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

_KINDS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}


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


def options(sections: Mapping[str, type]) -> dict[str, Option]:
    """Every option by its name, in the order of the sections (name → dataclass) and their fields.

    Raises:
        ConfigError: A field is not a bool, int, float, str or Literal of strings, or has no plain default.
    """
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


def read_argv(argv: Sequence[str]) -> dict[str, str]:
    """`--name value` and `--name=value` as name → text; the last mention of a name counts. Raises ConfigError."""
    given = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise ConfigError(f"unexpected argument {word!r}: options look like --section.field value")
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(f"--{name} needs a value: --{name} VALUE")
            value = words.pop(0)
        given[name] = value
    return given


def read_toml(path: str) -> dict[str, dict[str, Any]]:
    """The tables of a TOML file, section → field → value. Raises ConfigError."""
    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {' '.join(str(error).split())}") from error
    for key, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {key!r} stands outside a section, such as [run]")
    return tables


def find(known: Mapping[str, Option], name: str, where: str) -> Option:
    """The option called `name`; `where` ("--", or "FILE: ") opens the message of the ConfigError where none is."""
    if name in known:
        return known[name]
    fields_only = {full.split(".")[1]: full for full in known}
    close = difflib.get_close_matches(name, known, 1, 0.7)
    close = close or [fields_only[key] for key in difflib.get_close_matches(name.split(".")[-1], fields_only, 1, 0.7)]
    dashes = where if where == "--" else ""
    hint = f"did you mean {dashes}{close[0]}?" if close else "--help lists all options"
    raise ConfigError(f"{where}{name} is not an option; {hint}")


def from_text(option: Option, text: str) -> Any:
    """The value that a word of the command line stands for; the word itself where it stands for none."""
    if option.kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if option.kind in (int, float):
        try:
            return option.kind(text)
        except ValueError:
            return text
    return text


def typed(option: Option, value: Any, where: str) -> Any:
    """`value`, if it is of the option's kind; a whole number becomes a float where one is due. Raises ConfigError."""
    if option.choices:
        fits, wanted = value in option.choices, f"one of {', '.join(option.choices)}"
    else:
        accepted = (int, float) if option.kind is float else option.kind
        fits, wanted = isinstance(value, accepted), _KINDS[option.kind]
        fits = fits and (option.kind is bool or not isinstance(value, bool))
    try:
        value = float(value) if fits and option.kind is float else value
        fits = fits and (option.kind is not float or math.isfinite(value))
    except OverflowError:
        fits = False
    if not fits:
        raise ConfigError(f"{where}{option.name} takes {wanted}, not {value!r}")
    return value


def toml_value(name: str, value: bool | int | float | str) -> str:
    """`value` as TOML writes it. Raises ConfigError for a float that is not finite and text that is not Unicode."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ConfigError(f"{name}: {value!r} is not valid Unicode") from None
        # JSON's escapes are TOML's, but TOML wants the delete character escaped, too
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if not math.isfinite(value):
        raise ConfigError(f"{name}: {value} is not a finite number")
    return repr(value)


def described(option: Option) -> str:
    """The option's meaning, and its choices where it has some."""
    return " ".join(filter(None, [option.meaning, option.choices and f"One of: {', '.join(option.choices)}."]))


def help_lines(group: Iterable[Option], width: int) -> list[str]:
    """Option, type, default and meaning in aligned columns, none wider than `width` where that leaves room."""
    rows = [
        (f"--{option.name}", "choice" if option.choices else option.kind.__name__, _shown(option), option)
        for option in group
    ]
    name, kind, default = (max(len(row[i]) for row in rows) for i in range(3))
    indent = " " * (name + kind + default + 8)
    lines = []
    for row in rows:
        head = f"  {row[0]:{name}}  {row[1]:{kind}}  {row[2]:{default}}  "
        lines += textwrap.wrap(
            head + described(row[3]), max(width, len(indent) + 24), subsequent_indent=indent,
            break_on_hyphens=False,
        )
    return lines


def _shown(option: Option) -> str:
    bare = isinstance(option.default, str) and option.default  # an empty text keeps its quotes, to be seen
    return bare or toml_value(option.name, option.default)
