"""Which code, base model, world and libraries made a cell: figures of two must not meet in one table."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
import transformers

from mpcc.scenes.folder import VERSION

CLONE = Path(__file__).resolve().parents[2]
PACKAGES = ("minigrpo", "mpcc")
APART = ("minigrpo/bench", "minigrpo/plan", "mpcc/experiments", "mpcc/build", "mpcc/showcase.py",
         "mpcc/scenes/floors.py")
"""What neither trains nor scores."""
DECIDING = ("code", "base", "world", "torch", "transformers")
"""Of these none may differ."""


@cache
def origin(base: str) -> dict[str, str]:
    """What makes cells here and now.

    Args:
        base: Folder of the model that is trained from; a hub id stands for itself.

    Returns:
        `commit`, with "+changes" where files differ from it, "unknown" outside of a clone; `code`, a digest of all
        modules that train or score; `base`, one of the model's weights; `world`; versions of `torch`, `transformers`
        and `python`.
    """
    weights = sorted(Path(base).glob("*.safetensors"))
    return {
        "commit": _commit(), "code": _digest(_sources()), "base": _digest(weights) if weights else base,
        "world": VERSION, "torch": torch.__version__, "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def difference(found: Mapping[str, str], here: Mapping[str, str]) -> str:
    """In which of `DECIDING` a cell's origin differs from this one, in words; empty where in none."""
    return ", ".join(f"{name} {found.get(name, 'not recorded')}, not {here[name]}" for name in DECIDING
                     if found.get(name) != here[name])


def _sources() -> list[Path]:
    apart = [CLONE / name for name in APART]
    modules = [path for package in PACKAGES for path in (CLONE / package).rglob("*.py")]
    return sorted(path for path in modules if not any(path == one or one in path.parents for one in apart))


def _digest(files: list[Path]) -> str:
    """16 hexadecimal digits of the SHA-256 of some files."""
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()[:16]


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(CLONE), *words], check=True, capture_output=True, text=True).stdout

    try:
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
