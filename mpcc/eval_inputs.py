"""What an evaluation on a benchmark reads: its pairs and their images, halves of the categories, training traces."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from minigrpo.sections import Config
from mpcc.benchmark import Benchmark, category_names, read_benchmark
from mpcc.formats import read_pairs
from mpcc.splits import read_halves


def benchmark_file(benchmark: Path | None, config: Config) -> Path | None:
    """The file of --benchmark, else that of the run's COCO folder; None stands for the drawn scenes.

    Raises:
        FileNotFoundError: the run is of a COCO folder without a benchmark: other data must not be scored unasked.
    """
    if benchmark or not config.task.coco:
        return benchmark
    file = Path(config.task.coco) / "benchmark.json"
    if not file.is_file():
        raise FileNotFoundError(
            f"task.coco is {config.task.coco}, which holds no benchmark.json: name one with --benchmark FILE, score "
            "the folder's held-out pairs with --held-out, or the drawn scenes with --task.coco ''"
        )
    return file


def read_items(options: Namespace, config: Config, file: Path) -> tuple[Benchmark, Path]:
    """The benchmark, checked against its images (and their annotations where they lie beside), and the images' folder.

    Raises:
        FileNotFoundError, ValueError: see `mpcc.benchmark.read_benchmark`.
    """
    benchmark = read_benchmark(file)
    beside, in_coco = file.parent / benchmark.split, Path(config.task.coco) / benchmark.split
    images = options.images or (in_coco if config.task.coco and ("task.coco" in options.given or not beside.is_dir())
                                else beside)
    if not images.is_dir():
        raise FileNotFoundError(f"{images} is not a folder: name that of the benchmark's images with --images")
    annotations = images.parent / "annotations" / f"instances_{images.name}.json"
    benchmark = read_benchmark(file, images, category_names(annotations) if annotations.is_file() else None)
    return replace(benchmark, items=benchmark.items[: options.limit or None]), images


def id_names(options: Namespace, config: Config, benchmark: Benchmark, scenes: bool) -> set[str] | None:
    """The categories of the ID half; None where no halves are to be told apart.

    Raises:
        ValueError: the benchmark has a category that is in neither half.
    """
    name = options.halves or (config.task.halves if config.task.half != "all" else "scenes" if scenes else "")
    if not name:
        return None
    half_of = read_halves(name)
    if strange := sorted({item.answer for item in benchmark.items} - half_of.keys()):
        raise ValueError(f"{benchmark.source}: category {strange[0]!r} is in neither half of {name!r}: name the halves "
                         "of these categories with --halves")
    return {category for category, half in half_of.items() if half == "id"}


def read_traces(options: Namespace, config: Config, scenes: Path | None) -> list[str]:
    """The reasoning that the model was trained on: of --traces, else of the run's training pairs; without tags."""
    folder = Path(config.task.coco) if config.task.coco else scenes
    own = folder / f"pairs_{config.task.train_split}.json" if folder else None
    training = options.traces or config.task.pairs or (own if own and own.is_file() else None)
    return [found.pair["trace"] for found in read_pairs(training)[1] if found.pair.get("trace")] if training else []
