"""A file of JSON lines that is only ever added to, so that a killed command goes on where it stopped."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minigrpo.files import naming

Fields = Mapping[str, type]
"""What every object must hold: field → type."""
_TYPES = {str: "a text", bool: "true or false", list: "a list"}


class Journal:
    """JSON objects in a file, one a line; what `add` was given is on disk when it returns. Any thread may call it.

    A last line without its end was torn by a kill: it is taken off.

    Attributes:
        entries: The objects that the file held when it was opened.

    Raises:
        ValueError: any other line that is no JSON object with these fields; names file and line.
        OSError: the file cannot be read or written; names it.
    """

    def __init__(self, path: Path, fields: Fields | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._lock = path, threading.Lock()
        self.entries, size = _read(path, fields or {})
        with naming(path):
            self._file = path.open("ab")
            self._file.truncate(size)

    def add(self, *entries: Mapping[str, Any]) -> None:
        """Adds objects, a line each."""
        # answers may hold lone surrogates, which no file can
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
        with self._lock, naming(self.path):
            self._file.write(lines.encode(errors="replace"))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        with naming(self.path):
            self._file.close()


def read_journal(path: Path, fields: Fields | None = None) -> list[dict[str, Any]]:
    """The objects of a journal, without opening it for writing; ValueError as for `Journal`."""
    return _read(path, fields or {})[0]


def _read(path: Path, fields: Fields) -> tuple[list[dict[str, Any]], int]:
    """The objects, and the bytes that hold whole lines."""
    content = path.read_bytes() if path.is_file() else b""
    whole = content[: content.rfind(b"\n") + 1]
    entries = []
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        where, remedy = f"{path}: line {number}", "remove it, or the file"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not a JSON object: {remedy}") from error
        if not isinstance(entry, dict):
            raise ValueError(f"{where} is not a JSON object: {remedy}")
        for field, kind in fields.items():
            if not isinstance(entry.get(field), kind):
                raise ValueError(f"{where}: {field} is not {_TYPES[kind]}: {remedy}")
        entries.append(entry)
    return entries, len(whole)
