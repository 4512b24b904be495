"""Scores a model on MPCC-Eval, and prints the paper's tables.

    python eval.py                                   the shipped base model on the benchmark of the embedded scenes
    python eval.py --model runs/001 --compare runs/eval/model      a run's model, and how it differs from the base
    torchrun --nproc_per_node 2 eval.py --model FOLDER --benchmark FILE --images COCO/val2017
    python eval.py --model FOLDER --blink BLINK_FOLDER
    python eval.py --model runs/001 --held-out       what train.py measures before and after, for any task

A benchmark is a file of `python -m mpcc.build` or the authors' own (`mpcc.benchmark`). Everything asked and answered is
left in `runs/eval/NAME`: answers.jsonl, page.html to leaf through, words.png, scores.json. A command that was killed
goes on where it stopped. Every option of train.py is taken too, --rollout.max_new_tokens or --task.mask, say.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText

from minigrpo import VLM, Sampling, load_model
from minigrpo.config import Config, load_config
from minigrpo.cpu import keep_freed_memory
from minigrpo.ranks import Ranks, join, leave, lost_peer
from minigrpo.replica import compute_dtype
from minigrpo.rollout import answer
from mpcc import blink, blink_table, evaluation, report, signatures, words
from mpcc.benchmark import Benchmark, category_names, read_benchmark
from mpcc.formats import read_pairs, write_json, write_lines
from mpcc.journal import read_journal
from mpcc.questions import KINDS, Mode
from mpcc.render import render, render_differences
from mpcc.scenes.folder import ensure_scenes
from mpcc.splits import read_halves
from mpcc.statistics import differences
from mpcc.tables import tables
from mpcc.task import MaskedPrediction
from train import DEFAULT_TASK, figures

MODES: tuple[Mode, ...] = get_args(Mode)
AUTHORS = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1, "max_new_tokens": 512}
"""The decoding of the authors' evaluation (mpcc-spec section 6)."""
BLACK_KINDS = ("cho_e", "free")
"""What is asked again about all-black images (F2)."""


def arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our own options, and the words for `load_config`, with a run folder's options before those of the line."""
    parser = argparse.ArgumentParser(prog="eval.py", description=__doc__, allow_abbrev=False,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", default="", help="model folder, hub id or run folder; the shipped base by default")
    add("--benchmark", type=Path, help="benchmark file; that of the embedded scenes by default")
    add("--images", type=Path, help="folder of its images; by default the benchmark's split, beside its file")
    add("--kinds", default=",".join(KINDS), help="questions asked, by default %(default)s")
    add("--mode", choices=(*MODES, "both"), default="both", help="base: no system prompt; reasoning: the paper's")
    add("--decoding", choices=("greedy", "authors"), default="greedy", help=f"authors: {AUTHORS}")
    add("--halves", default="", help="print ID and OOD: coco, scenes, or a file of `python -m mpcc.splits`")
    add("--traces", type=Path, help="training pairs, for rigidity (F1); those of the scenes by default")
    add("--no-black", action="store_true", help="leave out the all-black images (F2)")
    add("--compare", type=Path, metavar="DIR", help="folder of another evaluation: prints the differences")
    add("--blink", type=Path, metavar="DIR", help="score BLINK's four subtasks instead")
    add("--held-out", action="store_true", help="score the task's own held-out samples instead")
    add("--against-generate", type=int, default=0, metavar="N", help="time N pairs, also one question at a time")
    add("--limit", type=int, default=0, metavar="N", help="ask about the first N pairs only")
    add("--seed", type=int, default=0, help="of the order of options and of sampling (default 0)")
    add("--out", type=Path, help="folder for what is left behind; runs/eval/NAME by default")
    add("--json", type=Path, metavar="FILE", help="write the figures into this file too")
    options, words_left = parser.parse_known_args(argv)
    run = Path(options.model) / "config.toml"
    if options.model and run.is_file():
        words_left = ["--config", str(run), "--model.path", f"{options.model}/model", *words_left]
    elif options.model:
        words_left += ["--model.path", options.model]
    if unknown := set(options.kinds.split(",")) - set(KINDS):
        parser.error(f"--kinds: {sorted(unknown)[0]!r} is unknown: choose from {', '.join(KINDS)}")
    return options, words_left


def main() -> None:
    """Reads the options, joins the ranks, scores. Bad input is one line and exit code 1."""
    options, words_left = arguments(sys.argv[1:])
    config, task_class = load_config(words_left, DEFAULT_TASK)
    transformers.logging.disable_progress_bar()
    keep_freed_memory()
    try:
        ranks = join(config.run.device)
        path = config.model.path or task_class.default_model
        if not path:
            raise ValueError(f"{task_class.__name__} has no default model: name one with --model")
        if options.json and not options.json.parent.is_dir():
            raise ValueError(f"--json: folder {options.json.parent} does not exist")
        if options.held_out or not issubclass(task_class, MaskedPrediction):
            found = held_out(config, task_class(config.task), load(config, path, ranks), ranks)
        elif options.blink:
            found = score_blink(options, config, path, ranks)
        else:
            found = score_benchmark(options, config, path, ranks)
        if ranks.first and options.json:
            write_json(options.json, {"model": path, **found})
    except (ValueError, OSError) as error:
        raise SystemExit(f"eval.py: error: {' '.join(str(error).split())}") from error
    except RuntimeError as error:
        if not lost_peer(error):
            raise
        raise SystemExit(1) from error  # the rank that stopped has said why
    finally:
        leave()


def load(config: Config, path: str, ranks: Ranks) -> VLM:
    """The model on this rank, as the options want it."""
    return load_model(
        path, dtype=compute_dtype(config.model.dtype, ranks.device), device=ranks.device,
        attention_kernel=config.model.attention, graphs=config.model.graphs, min_pixels=config.model.min_pixels,
        max_pixels=config.model.max_pixels,
    )


def held_out(config: Config, task: Any, model: VLM, ranks: Ranks) -> dict[str, float]:
    """The figures of the task's own evaluation, as train.py takes them."""
    greedy = Sampling(config.rollout.max_new_tokens, temperature=0.0)
    found = task.evaluate(lambda asked: answer(model, asked, greedy, ranks, config.rollout.max_prompt_tokens))
    say(ranks, f"held-out: {figures(found)}")
    return found


def score_benchmark(options: argparse.Namespace, config: Config, path: str, ranks: Ranks) -> dict[str, Any]:
    """Every table of MPCC-Eval in each mode; leaves behind what the module's text names."""
    began, scenes = time.monotonic(), None if options.benchmark else ensure_scenes()
    benchmark, images = read_items(options, scenes)
    theirs = read_answers(options.compare) if options.compare else []
    halves = options.halves or ("scenes" if scenes else "")
    known = {name for name, half in read_halves(halves).items() if half == "id"} if halves else None
    training = options.traces or (scenes / "pairs_train2017.json" if scenes else None)
    traces = [found.pair["trace"] for found in read_pairs(training)[1] if found.pair.get("trace")] if training else []
    kinds = tuple(options.kinds.split(","))
    exam = evaluation.Exam(benchmark, images, kinds, "base", decoding(options, config), config.task.mask,
                           config.task.fill, seed=options.seed)
    out, model = options.out or Path("runs/eval") / label(path), load(config, path, ranks)

    def sit(exam: evaluation.Exam) -> list[dict[str, Any]]:
        name = f"{exam.mode}-black" if exam.black else exam.mode
        folder = out / "answers" / f"{name}-{exam.digest(path, config.model)}"
        return evaluation.sit(exam, model, ranks, folder, config.rollout.max_prompt_tokens, progress(ranks, name))

    records, found = [], {}
    for mode in MODES if options.mode == "both" else (options.mode,):
        answers = sit(replace(exam, mode=mode))
        signs = {"rigidity": signatures.rigidity(answers, traces), **signatures.format_collapse(answers)}
        if (blind := tuple(kind for kind in BLACK_KINDS if kind in kinds)) and not options.no_black:
            seen = [r for r in answers if r["kind"] in blind]
            signs["blindness"] = signatures.blindness(seen, sit(replace(exam, mode=mode, kinds=blind, black=True)))
        found[mode] = {"tables": tables(answers, known), "signatures": signs}
        say(ranks, render(found[mode]["tables"], f"{label(path)}, {mode}"))
        say(ranks, signatures.render(signs))
        records += answers
    if theirs:
        found["compared"] = compare(records, theirs, str(options.compare), ranks)
    found |= {"benchmark": benchmark.source, "seconds": time.monotonic() - began}
    if options.against_generate:
        found["against_generate"] = race(options, replace(exam, mode="reasoning"), model, path, ranks)
    if ranks.first:
        item_of = {item.id: item for item in benchmark.items}
        leave_behind(out, records, found, path, lambda record: exam.image(item_of[record["id"]]))
        draw_reasoning(out / "words.png", {label(path): records} | ({options.compare.name: theirs} if theirs else {}))
    say(ranks, f"{len(records)} answers, {found['seconds']:.0f} s; to leaf through: {out / 'page.html'}")
    return found


def label(path: str) -> str:
    """A short name for a model: the run's where it is a run's, else the folder's."""
    folder = Path(path)
    return folder.parent.name if (folder.parent / "config.toml").is_file() else folder.name


def read_items(options: argparse.Namespace, scenes: Path | None) -> tuple[Benchmark, Path]:
    """The benchmark, checked against its images (and their annotations where they lie beside), and the images' folder.

    Raises:
        FileNotFoundError, ValueError: see `mpcc.benchmark.read_benchmark`.
    """
    file = options.benchmark or scenes / "benchmark.json"
    benchmark = read_benchmark(file)
    images = options.images or file.parent / benchmark.split
    if not images.is_dir():
        raise FileNotFoundError(f"{images} is not a folder: name that of the benchmark's images with --images")
    annotations = images.parent / "annotations" / f"instances_{images.name}.json"
    benchmark = read_benchmark(file, images, category_names(annotations) if annotations.is_file() else None)
    return replace(benchmark, items=benchmark.items[: options.limit or None]), images


def decoding(options: argparse.Namespace, config: Config) -> Sampling:
    """Greedy up to rollout.max_new_tokens, or the authors'."""
    return Sampling(**AUTHORS) if options.decoding == "authors" else Sampling(config.rollout.max_new_tokens, 0.0)


def read_answers(folder: Path) -> list[dict[str, Any]]:
    """The records of another evaluation. Raises FileNotFoundError where the folder holds none."""
    if not (folder / "answers.jsonl").is_file():
        raise FileNotFoundError(f"{folder} holds no answers.jsonl: name the folder of another evaluation")
    return read_journal(folder / "answers.jsonl")


def compare(records: list[dict[str, Any]], theirs: list[dict[str, Any]], name: str, ranks: Ranks
            ) -> dict[str, Any]:
    """Differences from the records of another evaluation, mode by mode, by paired bootstrap.

    Raises:
        ValueError: it was asked something else.
    """
    found = {}
    for system in sorted({r["system"] for r in records}):
        mode = "reasoning" if system else "base"
        found[mode] = differences(*([r for r in side if r["system"] is system] for side in (records, theirs)))
        say(ranks, render_differences(found[mode], f"this model, {mode},", name))
    return found


def race(options: argparse.Namespace, exam: evaluation.Exam, model: VLM, path: str, ranks: Ranks
         ) -> dict[str, Any]:
    """How long some pairs take our way, and one question at a time with `generate`."""
    plain = AutoModelForImageTextToText.from_pretrained(path, dtype=model.net.dtype).to(ranks.device).eval()
    found = evaluation.race(exam, model, plain, exam.benchmark.items[: options.against_generate])
    say(ranks, "{questions} questions about {items} pairs: {seconds:.1f} s; one at a time with generate "
               "{seconds_generate:.1f} s, {ratio:.1f} times as long; {same:.1%} with the same answer".format(**found))
    return found


def score_blink(options: argparse.Namespace, config: Config, path: str, ranks: Ranks) -> dict[str, Any]:
    """BLINK in each mode, beside the paper's Table 5; the page to leaf through goes into `--out`."""
    model, runs, records = load(config, path, ranks), {}, []
    out = options.out or Path("runs/eval") / f"{label(path)}-blink"

    def say_it(mode: Mode, asked: blink.Samples) -> list[str]:
        sampling = decoding(options, config)
        given = asdict(sampling), options.seed, [asdict(item) for item in asked.items]
        key = evaluation.digest(path, config.model, *given)
        return evaluation.say(model, asked, sampling, ranks, out / "answers" / f"{mode}-{key}.jsonl",
                              config.rollout.max_prompt_tokens, progress(ranks, mode, "items"), options.seed)

    for mode in MODES if options.mode == "both" else (options.mode,):
        answers, runs[mode] = blink.score(partial(say_it, mode), options.blink, system=mode == "reasoning")
        records += [r | {"id": f"{r['id']} ({mode})"} for r in answers]
    say(ranks, blink_table.render({f"{label(path)}, {mode}": found for mode, found in runs.items()}))
    if ranks.first:
        out.mkdir(parents=True, exist_ok=True)
        write_lines(out / "answers.jsonl", records)
        report.write_page(records, blink.pictures(options.blink), out / "page.html", f"BLINK: {path}")
        write_json(out / "scores.json", {"model": path, "blink": runs})
    say(ranks, f"to leaf through: {out / 'page.html'}")
    return {"blink": runs}


def leave_behind(out: Path, records: list[dict[str, Any]], found: dict[str, Any], path: str,
                 image_of: Callable[[dict[str, Any]], Image.Image]) -> None:
    """Answers, page and figures."""
    write_lines(out / "answers.jsonl", records)
    named = [r | {"kind": f"{r['kind']} ({'reasoning' if r['system'] else 'base'})"} for r in records]
    report.write_page(named, image_of, out / "page.html", f"MPCC-Eval: {path}")
    write_json(out / "scores.json", {"model": path, **found})


def draw_reasoning(path: Path, runs: dict[str, list[dict[str, Any]]]) -> None:
    """The words of each run's reasoning, run beside run and mode beside mode (E16); no plot where nobody reasons."""
    counted = {}
    for name, records in runs.items():
        for system in sorted({r["system"] for r in records}):
            thoughts = [words.reasoning(r["completion"]) for r in records
                        if r["system"] is system and "<think>" in r["completion"]]
            counted[f"{name}, {'reasoning' if system else 'base'}"] = words.top_words(thoughts)
    if counted := {name: found for name, found in counted.items() if found}:
        words.draw_words(path, counted)


def progress(ranks: Ranks, name: str, what: str = "pairs") -> Callable[[int, int], None]:
    """Tells on the first rank how far it is."""
    began = time.monotonic()

    def show(done: int, total: int) -> None:
        if ranks.first:
            end = "\n" if done == total else "\r" if sys.stderr.isatty() else "\n"
            line = f"{name}: {done} of {total} {what}  {time.monotonic() - began:.0f} s"
            print(line, end=end, file=sys.stderr, flush=True)

    return show


def say(ranks: Ranks, text: str) -> None:
    """Prints on the first rank."""
    if ranks.first:
        print(text, flush=True)


if __name__ == "__main__":
    main()
