"""Stage 7, split: training pairs and a benchmark by image, ID and OOD by category."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mpcc.benchmark import read_benchmark
from mpcc.build.store import Outcome, PairRecord
from mpcc.formats import write_authors_evaluation, write_authors_training, write_pairs
from mpcc.progress import counted

TRAIN, TRAIN_ID, BENCHMARK = "train.json", "train-id.json", "benchmark.json"
AUTHORS_TRAIN, AUTHORS_BENCHMARK = "train-authors.json", "benchmark-authors.json"


def split(pairs: Sequence[PairRecord], test_share: float, half_of: Mapping[str, str], seed: int) -> Outcome:
    """Adds `part` ("train" or "test", the same for all pairs of an image) and `half` ("id" or "ood") to every pair.

    Args:
        test_share: Share of the images whose pairs are tested on; the seed decides which.
        half_of: Category → half, from `mpcc.splits.read_halves`.

    Raises:
        ValueError: a pair's category is in neither half, or a pair to be tested on lacks its difficulty.
    """
    names = {pair["file_name"] for pair in pairs}
    images = sorted(names, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    tested = set(images[: round(test_share * len(images))])
    divided = []
    for pair in counted("split", pairs):
        if pair["category_name"] not in half_of:
            raise ValueError(f"pair {pair['id']}: category_name {pair['category_name']!r} is in neither half of the "
                             "categories: correct it in curation, or name other halves with --halves")
        part = "test" if pair["file_name"] in tested else "train"
        divided.append(pair | {"part": part, "half": half_of[pair["category_name"]]})
    unlabelled = [pair["id"] for pair in divided if pair["part"] == "test" and not pair.get("difficulty")]
    if unlabelled:
        which = ", ".join(unlabelled)
        raise ValueError(f"{len(unlabelled)} pairs of the benchmark lack difficulty: {which}; label them in curation")
    return Outcome(divided)


def outputs(test_share: float, authors: bool) -> list[str]:
    """Names of the files that `write_outputs` writes: no benchmark at a `test_share` of 0, no training pairs at 1."""
    train = [TRAIN, TRAIN_ID] + [AUTHORS_TRAIN] * authors if test_share < 1 else []
    return train + ([BENCHMARK] + [AUTHORS_BENCHMARK] * authors if test_share > 0 else [])


def write_outputs(folder: Path, source: Path, coco_split: str, pairs: Sequence[PairRecord], names: Sequence[str],
                  images: Path) -> None:
    """Writes the files called `names` (see `outputs`); the benchmark is read back and checked before anything appears.

    Those that are not among `names` are removed: they would be of another split, and share images with the new ones.

    Args:
        source: The file that the pairs come from, for error messages.
        images: Folder of the images, which the check opens.

    Raises:
        ValueError: an unusable pair, or a file without any.
    """
    train = [pair for pair in pairs if pair["part"] == "train"]
    test = [pair for pair in pairs if pair["part"] == "test"]
    for chosen, wanted, advice in ((train, TRAIN in names, "lower"), (test, BENCHMARK in names, "raise")):
        if wanted and not chosen:
            part = "training" if chosen is train else "the benchmark"
            raise ValueError(f"{source}: no pair is left for {part}: keep more of them, or {advice} --test-share")
    if BENCHMARK in names:
        _write_benchmark(folder / BENCHMARK, source, coco_split, test, images)
    for name in {TRAIN, TRAIN_ID, BENCHMARK, AUTHORS_TRAIN, AUTHORS_BENCHMARK} - set(names):
        (folder / name).unlink(missing_ok=True)
    if TRAIN in names:
        write_pairs(folder / TRAIN, coco_split, train)
        write_pairs(folder / TRAIN_ID, coco_split, [pair for pair in train if pair["half"] == "id"])
    if AUTHORS_TRAIN in names:
        write_authors_training(folder / AUTHORS_TRAIN, train)
    if AUTHORS_BENCHMARK in names:
        write_authors_evaluation(folder / AUTHORS_BENCHMARK, test)


def _write_benchmark(path: Path, source: Path, coco_split: str, pairs: Sequence[PairRecord], images: Path) -> None:
    draft = path.with_name(f".{path.name}.draft")
    try:
        write_pairs(draft, coco_split, pairs)
        read_benchmark(draft, images)
        draft.replace(path)
    except (ValueError, FileNotFoundError) as error:
        # the pairs stand in the source, where they can be corrected
        raise type(error)(str(error).replace(str(draft), str(source))) from error
    finally:
        draft.unlink(missing_ok=True)
