"""What a user supplies as text: JSON files read with one-line errors, and wrong records skipped, counted and listed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
import warnings
from pathlib import Path
from typing import Any

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""How the file begins that Git LFS leaves in place of one that was not fetched."""
MAX_BAD = 0.01
"""Share of records that may be wrong where nothing else is said."""

_SPECIAL = re.compile(r"<\|[\w.-]{1,64}\|>|</?(?:think|answer)>")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHOWN = 80


def read_json(path: Path, hint: str) -> Any:
    """Parsed JSON in UTF-8, with or without a byte order mark.

    Raises:
        FileNotFoundError: no such file; says `hint`.
        ValueError: no regular file, a pointer of Git LFS, a key that occurs twice in an object, a number or a nesting
            beyond all measure, half a surrogate pair, or no whole JSON.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path} is missing: {hint}")
    try:
        check_regular(path)
        raw = path.read_bytes()
        content = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique)
        if _SURROGATE.search(raw):
            json.dumps(content, ensure_ascii=False).encode()
        return content
    except UnicodeEncodeError as error:
        raise ValueError(f"{path} holds {error.object[error.start]!r}, half a character; correct it") from None
    except _Repeated as error:
        raise ValueError(f"{path}: an object holds the key {shown(error.args[0])} twice; remove one") from None
    except RecursionError:
        raise ValueError(f"{path} nests its lists or objects too deeply to be read; write it flat") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not whole JSON ({error}): copy or download it again") from error
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise
        raise ValueError(f"{path} holds a whole number of more than 4,300 digits; correct it") from None


def check_regular(path: str | Path) -> None:
    """Raises ValueError for a folder, a pipe or a device, which are not opened, and for a pointer of Git LFS."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path} is no regular file; name the file itself")
    with open(path, "rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ValueError(f"{path} is a pointer of Git LFS, not the file itself; fetch it with 'git lfs pull'")


def shown(value: Any) -> str:
    """A value as an error message shows it: not longer than 80 characters."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def unfit(text: str) -> str | None:
    """What makes a text unfit for a prompt, or None: a special token or tag, or a control character."""
    if found := _SPECIAL.search(text):
        return f"holds the special token or tag {found[0]!r}"
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\r\t":
            return f"holds the control character {character!r}"
    return None


def check_file_name(name: str, where: str) -> None:
    """Raises ValueError for a name with a line break or another control character."""
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise ValueError(f"{where}: file_name {shown(name)} holds a control character; rename the file")


def cache_folder() -> Path:
    """Where what can be made again is kept: `$XDG_CACHE_HOME/minigrpo`, else `~/.cache/minigrpo`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minigrpo"


class Rejected:
    """Records of one file that are wrong, each with its reason. They are skipped up to a share of all.

    Args:
        source: The file that holds them.
        kind: What they are: "annotations".
        limit: Share of the records that may be wrong.
    """

    def __init__(self, source: str | Path, kind: str, limit: float) -> None:
        self.source, self.kind, self.limit = source, kind, limit
        self.reasons: list[str] = []

    def add(self, reason: ValueError | OSError | str) -> None:
        """Counts a record; the reason names it."""
        self.reasons.append(" ".join(str(reason).split()))

    def settle(self, total: int) -> None:
        """Lists what was rejected of `total` records in a file and warns of it, or refuses all where it is too much.

        The list lies in the folder `rejected` of the cache, if it holds more than the error says. Where that folder
        cannot be written, the first reason has to do.

        Raises:
            ValueError: more than the limit is wrong; begins with the first reason.
        """
        if not self.reasons:
            return
        counted = f"{len(self.reasons)} of {total} {self.kind} of {self.source}"
        refused = len(self.reasons) > self.limit * total
        listed = "" if refused and len(self.reasons) == 1 else self._list()
        if refused:
            more = f"; {counted} are wrong{listed}, more than task.max_bad = {self.limit:g}: correct them, or "
            more += "raise it to leave them out"
            raise ValueError(self.reasons[0] + more)
        warnings.warn(f"{counted} are wrong and left out{listed}; the first: {self.reasons[0]}", stacklevel=3)

    def _list(self) -> str:
        name = hashlib.sha256(f"{os.path.abspath(self.source)} {self.kind}".encode()).hexdigest()[:8]
        path = cache_folder() / "rejected" / f"{Path(self.source).stem}-{self.kind.replace(' ', '-')}-{name}.txt"
        if os.environ.get("RANK", "0") != "0":
            return f", listed in {path}"
        part = path.with_suffix(f".{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text("".join(f"{reason}\n" for reason in self.reasons), encoding="utf-8", errors="replace")
            os.replace(part, path)
        except OSError:
            return ""
        return f", listed in {path}"


class _Repeated(ValueError):
    """A key that an object holds twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Repeated(next(key for key in keys if keys.count(key) > 1))
    return found
