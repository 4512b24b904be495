"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path`; the file or folder written to it takes the place of what is at `path` at the end.

    It is on the disk before it moves. Where writing fails, what was there stays as it was.
    """
    path = Path(path)
    part, old = path.with_name(f".{path.name}.part"), path.with_name(f"{path.name}.old")
    _remove(part)
    try:
        yield part
        for file in [part] if part.is_file() else filter(Path.is_file, part.rglob("*")):
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        if path.is_dir():  # nothing moves onto a folder: it goes aside, so that at every moment a whole one is there
            _remove(old)
            os.replace(path, old)
        os.replace(part, path)
        _remove(old)
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    """Removes a file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
