"""Files and folders that appear whole or not at all, and folders that one process holds at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a path beside `path`; the file or folder written to it takes the place of what is at `path` at the end.

    It is on the disk before it moves. Where writing fails, what was there stays as it was.

    Raises:
        OSError: writing failed, or a file was to take the place of a folder; names the path.
    """
    path = Path(path)
    part, old = path.with_name(f".{path.name}.part"), path.with_name(f"{path.name}.old")
    try:
        with naming(path):
            _remove(part)
            yield part
            for file in [part] if part.is_file() else filter(Path.is_file, part.rglob("*")):
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
            if part.is_file() and path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder, and stays one: name a file", str(path))
            if path.is_dir():  # nothing moves onto a folder: it goes aside, so that a whole one is always there
                _remove(old)
                os.replace(path, old)
            os.replace(part, path)
            _remove(old)
    finally:
        _remove(part)


def append(path: str | Path, text: str) -> None:
    """Adds text to the end of a file. Raises OSError, which names the path."""
    with naming(path), open(path, "a", encoding="utf-8", newline="\n") as file:
        file.write(text)


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An OSError inside names `path` where it names none: a full disk is said of no file."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def held(folder: str | Path, user: str) -> Iterator[None]:
    """Makes the folder, and keeps every other process from holding it; ends with the process, however that ends.

    Args:
        user: Who holds it, as another process will be told: "train.py".

    Raises:
        ValueError: another process holds the folder; says which, and since when.
        OSError: the folder cannot be made or written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    _HELD.add(lock)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise OSError(error.errno, f"cannot lock ({error.strerror})", str(path)) from error
            holder = os.pread(lock, 500, 0).decode(errors="replace").strip() or "another process"
            raise ValueError(f"{folder} is in use by {holder}: wait until it ends, or name another folder") from None
        with naming(path):
            os.ftruncate(lock, 0)
            who = f"{user}, process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%F %T')}"
            os.pwrite(lock, who.encode(), 0)
        yield
    finally:
        if lock in _HELD:  # else this is a forked process, which has closed it
            _HELD.discard(lock)
            os.close(lock)


_HELD: set[int] = set()
"""Descriptors of what this process holds. A forked process, which may outlive this one, lets go of all of them."""


def _let_go() -> None:
    for descriptor in _HELD:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _HELD.clear()


os.register_at_fork(after_in_child=_let_go)


def _remove(path: Path) -> None:
    """Removes a file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
