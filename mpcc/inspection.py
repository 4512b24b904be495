"""What pairs need, looked at before the first step: every picture is opened once, in parallel, and remembered."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from minigrpo.progress import progress_bar
from mpcc import pictures
from mpcc.coco import Coco, ImageEntry, ImageFile
from mpcc.outlines import decode_mask, iou
from mpcc.pairs import Pair
from mpcc.reading import Rejected, cache_folder

REMEMBERED = 100
"""Pictures from which on a bar is shown and what was found is remembered: fewer are looked at in no time."""

_THREADS = min(16, os.cpu_count() or 1)


def without_bad_pictures(coco: ImageFile, pairs: Sequence[Pair], max_bad: float) -> list[Pair]:
    """The pairs whose picture can be opened and has the stated size; the other pictures are counted and listed.

    Good pictures are remembered in the cache by name, size, date and stated size. Of several processes on a machine
    one looks, and the others wait for it and then find it remembered; all come to the same result.

    Raises:
        ValueError: more than the share `max_bad` of the pictures is wrong.
    """
    entries = list({pair.image.id: pair.image for pair in pairs}.values())
    rejected = Rejected(coco.folder / coco.split, "pictures", max_bad)
    bad = {}
    with _memory(coco, len(entries)) as known:
        new = [entry for entry in entries if known.get(entry.file_name) != _mark(coco, entry)]
        shown = len(entries) >= REMEMBERED
        with (ThreadPoolExecutor(_THREADS) as pool,
              progress_bar("pictures", len(new), unit="pictures", shown=shown) as bar):
            for entry, error in zip(new, pool.map(lambda entry: _fault(coco, entry), new), strict=True):
                if error:
                    bad[entry.id] = error
                else:
                    known[entry.file_name] = _mark(coco, entry)
                bar.update()
    for error in bad.values():
        rejected.add(error)
    rejected.settle(len(entries))
    return [pair for pair in pairs if pair.image.id not in bad]


def without_pairs(pairs: Sequence[Pair], fault: Callable[[Pair], str | None], source: str | Path, kind: str,
                  max_bad: float) -> list[Pair]:
    """The pairs in which `fault` finds none; the others are counted and listed, as the `kind` that they are.

    Raises:
        ValueError: it finds one in more than the share `max_bad` of them.
    """
    rejected = Rejected(source, kind, max_bad)
    faults = [fault(pair) for pair in pairs]
    for found in filter(None, faults):
        rejected.add(found)
    rejected.settle(len(pairs))
    return [pair for pair, found in zip(pairs, faults, strict=True) if not found]


def trained_on(train: Coco, pairs: Sequence[Pair]) -> Callable[[Coco, Pair], str | None]:
    """Tells of a held-out pair whether it is one of the training pairs: the same picture, the same place hidden.

    Pictures are the same where their files' content is, whatever they are called. Targets are the same where their
    boxes overlap by half (IoU).
    """
    by_picture: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_picture.setdefault(str(train.image_path(pair.image)), []).append(pair)
    by_size: dict[int, list[str]] = {}
    for picture in by_picture:
        by_size.setdefault(os.path.getsize(picture), []).append(picture)
    digests: dict[str, str] = {}

    def digest(path: str) -> str:
        if path not in digests:
            digests[path] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return digests[path]

    def fault(held_out: Coco, pair: Pair) -> str | None:
        path = held_out.image_path(pair.image)
        for other in by_size.get(path.stat().st_size, ()):
            for trained in by_picture[other]:
                if iou(trained.target.box, pair.target.box) >= 0.5 and digest(other) == digest(str(path)):
                    return f"held-out pair {pair.id} is the training pair {trained.id} ({other}); take it out of one"
        return None

    return fault


def outline_fault(pair: Pair) -> str | None:
    """Why a pair cannot be hidden under its outline, or None."""
    if not pair.target.segmentation:
        return f"{pair.id} has no outline: mask = 'polygon' needs a segmentation; take mask = 'box'"
    if not decode_mask(pair.target, pair.image.height, pair.image.width).any():
        return f"{pair.id} has an outline without a pixel, which would hide nothing; take mask = 'box'"
    return None


def _fault(coco: ImageFile, entry: ImageEntry) -> Exception | None:
    try:
        coco.open(entry)
    except (ValueError, OSError) as error:
        return error
    return None


def _mark(coco: ImageFile, entry: ImageEntry) -> list[int]:
    """What tells a file from another that takes its place; empty where there is none."""
    try:
        status = os.stat(coco.folder / coco.split / entry.file_name)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, entry.width, entry.height]


@contextlib.contextmanager
def _memory(coco: ImageFile, count: int) -> Iterator[dict[str, Any]]:
    """File name → mark of the pictures found good; held by one process at a time. Empty for a few pictures."""
    rules = Path(pictures.__file__).read_bytes()  # other rules, another memory
    name = hashlib.sha256(rules + os.path.abspath(coco.folder / coco.split).encode()).hexdigest()[:16]
    path = cache_folder() / "pictures" / f"{coco.split}-{name}.json"
    try:
        if count < REMEMBERED:
            raise OSError
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:  # a cache that cannot be written is done without
        yield {}
        return
    with file:
        file.seek(0)
        try:
            known = dict(json.load(file))
        except (ValueError, TypeError):  # new, or cut off by a full disk
            known = {}
        before = dict(known)
        yield known
        if known != before:
            with contextlib.suppress(OSError):
                file.truncate(0)
                json.dump(known, file)
                file.flush()
