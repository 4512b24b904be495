"""Scores a model on MPCC-Eval, and prints the paper's figures.

    python eval.py                                   the shipped base model on the benchmark of the embedded scenes
    python eval.py --model runs/001 --compare runs/eval/model      a run's model, and how it differs from the base
    torchrun --nproc_per_node 2 eval.py --model FOLDER --benchmark FILE --images COCO/val2017
    python eval.py --model FOLDER --blink BLINK_FOLDER
    python eval.py --crm                             which region of the picture each step of the reasoning rests on
    python eval.py --model runs/001 --held-out       what train.py measures before and after, for any task

A benchmark is a file of `python -m mpcc.build` or the authors' own (`mpcc.benchmark`). Everything asked and answered is
left in `runs/eval/NAME`, whose name says what was asked otherwise than by default: answers.jsonl, page.html to leaf
through, tables.txt with the paper's tables, words.png, scores.json. A command that was killed goes on where it stopped;
the folder's answers count again for the same weights, tokenizer, images, prompts and decoding only, by their content.
`mpcc.eval_options` says which options there are.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from minigrpo.launch import Program, one_line_interrupts

if __name__ == "__main__":
    one_line_interrupts("eval.py")

import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText

from minigrpo import VLM, Sampling, load_model
from minigrpo.config import Config
from minigrpo.cpu import keep_freed_memory
from minigrpo.doors import evaluation_of
from minigrpo.files import held
from minigrpo.log import show_warnings
from minigrpo.ranks import Ranks
from minigrpo.replica import compute_dtype
from minigrpo.rollout import answer
from mpcc import blink, blink_table, report, signatures
from mpcc.comparison import compare, read_comparable
from mpcc.crm import identification
from mpcc.crm import run as crm
from mpcc.digests import file_digest, model_digest
from mpcc.eval_inputs import benchmark_file, id_names, read_items, read_traces
from mpcc.eval_options import AUTHORS, MODES, default_out, label, read_options
from mpcc.evaluation import (
    Evaluation,
    answer_benchmark,
    answer_samples,
    answers_digest,
    template_system,
    time_against_generate,
)
from mpcc.formats import write_json, write_lines, write_text
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.questions import Mode
from mpcc.render import NAMES, render, render_differences
from mpcc.scenes import floors
from mpcc.scenes.folder import ensure_scenes
from mpcc.summary import block, closing, cut_off_note
from mpcc.tables import tables
from mpcc.views import VIEWS, blind_kind
from mpcc.words import draw_reasoning


def main() -> None:
    """Reads the options, joins the ranks, scores. Bad input is one line and exit code 1."""
    with Program("eval.py") as program:
        options, config, task_class = read_options(sys.argv[1:])
        transformers.logging.disable_progress_bar()
        keep_freed_memory()
        ranks = program.join(config.run)
        dtype = str(compute_dtype(config.model.dtype, ranks.device)).removeprefix("torch.")  # answers belong to it
        config = replace(config, model=replace(config.model, dtype=dtype))
        show_warnings(ranks)
        path = config.model.path or task_class.default_model
        if not path:
            raise ValueError(f"{task_class.__name__} has no default model: name one with --model")
        with ExitStack() as until_done:
            if options.scored == "held-out samples":
                found = score_held_out(config, task_class(config.task), path, ranks)
            elif options.scored == "regions":
                found = score_regions(options, config, path, ranks, until_done)
            elif options.scored == "BLINK":
                found = score_blink(options, config, path, ranks, until_done)
            else:
                found = score_benchmark(options, config, path, ranks, until_done)
        if ranks.first and options.json:
            write_json(options.json, {"model": path, **found})


def load(config: Config, path: str, ranks: Ranks) -> VLM:
    """The model on this rank, as the options want it."""
    return load_model(
        path, dtype=compute_dtype(config.model.dtype, ranks.device), device=ranks.device,
        attention_kernel=config.model.attention, graphs=config.model.graphs, min_pixels=config.model.min_pixels,
        max_pixels=config.model.max_pixels,
    )


def hold(options: Namespace, path: str, ranks: Ranks, until_done: ExitStack) -> Path:
    """The folder for what is left behind, which no other process may write into until all is done.

    Raises:
        ValueError: another process holds it; says which, and since when.
    """
    out = options.out or default_out(options, path)
    ranks.first_does(lambda: until_done.enter_context(held(out, "eval.py")))
    return out


def score_held_out(config: Config, task: Any, path: str, ranks: Ranks) -> dict[str, float]:
    """The figures of the task's own evaluation, as train.py takes them, but for what needs the training samples."""
    vlm, greedy = load(config, path, ranks), Sampling(config.rollout.max_new_tokens, temperature=0.0)
    limit = config.rollout.max_prompt_tokens
    found = evaluation_of(task, lambda asked: answer(vlm, asked, greedy, ranks, limit))
    shown = "  ".join(f"{name} {value:.4g}" for name, value in found.items()) or "nothing to evaluate"
    print_first(ranks, f"{label(path)} on the held-out samples of {type(task).__name__}, at most "
                       f"{greedy.max_new_tokens} new tokens: {shown}")
    return found


def score_benchmark(options: Namespace, config: Config, path: str, ranks: Ranks, until_done: ExitStack
                    ) -> dict[str, Any]:
    """Every table of MPCC-Eval in each mode; leaves behind what the module's text names."""
    file = benchmark_file(options.benchmark, config)
    scenes = None if file else ensure_scenes()
    benchmark, images = read_items(options, config, file or scenes / "benchmark.json")
    modes = chosen_modes(options)
    evaluation = Evaluation(benchmark, images, tuple(options.kinds.split(",")), "base", decoding(options, config),
                            config.task.mask, config.task.fill, seed=options.seed)
    views = VIEWS if "free" in evaluation.kinds and not options.no_blind else ()
    theirs = read_comparable(options.compare, evaluation, modes, views) if options.compare else {}
    known, traces = id_names(options, config, benchmark, bool(scenes)), read_traces(options, config, scenes)
    out = hold(options, path, ranks, until_done)
    vlm, began = load(config, path, ranks), time.monotonic()
    weights, limit = ranks.first_does(lambda: model_digest(path)), evaluation.sampling.max_new_tokens
    print_first(ranks, f"{label(path)} on {len(benchmark.items):,} pairs of {benchmark.source}: {options.decoding} "
                       f"answers of at most {limit} new tokens")

    def answered(asked: Evaluation) -> list[dict[str, Any]]:
        name = f"{asked.mode}-{asked.view}" if asked.view else asked.mode
        folder = out / "answers" / f"{name}-{asked.digest(weights, config.model)}"
        return answer_benchmark(asked, vlm, ranks, folder, config.rollout.max_prompt_tokens, name)

    records, found, detailed = [], {}, []
    for mode in modes:
        answers = answered(replace(evaluation, mode=mode))
        signs = {"rigidity": signatures.rigidity(answers, traces), **signatures.format_collapse(answers)}
        asked = {view: blind for view in views if (blind := replace(evaluation, mode=mode).blind(view)).benchmark.items}
        blind = {view: answered(one) for view, one in asked.items()}
        if blind:
            signs["blindness"] = {view: signatures.blindness(answers, given) for view, given in blind.items()}
        answers += [r | {"kind": blind_kind(view)} for view, given in blind.items() for r in given]
        found[mode] = {"tables": tables(answers, known), "signatures": signs}
        print_first(ranks, "\n" + block(found[mode]["tables"], signs, f"{mode}: {prompted(mode, vlm)}"))
        detailed += [render(found[mode]["tables"], f"{label(path)}, {mode}"), signatures.render(signs)]
        records += answers
    if theirs:
        found["compared"] = compare(records, theirs)
        detailed += [render_differences(gaps, f"{label(path)}, {mode},", str(options.compare))
                     for mode, gaps in found["compared"].items()]
    found |= {"benchmark": benchmark.source, "max_new_tokens": limit, "seconds": time.monotonic() - began}
    if options.against_generate:
        found["against_generate"] = race(options, replace(evaluation, mode="reasoning"), vlm, path, ranks)
    floor = floors.told() if scenes and "free" in evaluation.kinds else ""
    if ranks.first:
        item_of = {item.id: item for item in benchmark.items}
        write_results(out, records, found, path, lambda record: evaluation.image(item_of[record["id"]]), floor)
        write_text(out / "tables.txt", "\n".join([*detailed, floor]))
        draw_reasoning(out / "words.png", {label(path): records} | (
            {options.compare.name: [r for side in theirs.values() for r in side]} if theirs else {}))
    runs = {mode: found[mode]["tables"] for mode in modes}
    print_first(ranks, "\n" + closing(runs, found.get("compared", {}), label(str(options.compare))))
    if floor:
        print_first(ranks, floor)
    for mode, figures in runs.items():
        if note := cut_off_note(figures, limit):
            print_first(ranks, f"{mode}: {note}")
    print_first(ranks, f"{len(records):,} answers, {found['seconds']:.0f} s; tables: {out / 'tables.txt'}; to leaf "
                       f"through: {out / 'page.html'}")
    return found


def score_regions(options: Namespace, config: Config, path: str, ranks: Ranks, until_done: ExitStack) -> dict[str, Any]:
    """Which regions each step of the model's reasoning rests on (`mpcc.crm`); or the questions of a negative set."""
    asked = identification if ranks.first_does(lambda: identification.is_named(options)) else crm
    source, cases = ranks.first_does(lambda: asked.read_cases(options, config))
    theirs = asked.read_records(options.compare) if options.compare else []
    out = hold(options, path, ranks, until_done)
    vlm, weights = load(config, path, ranks), ranks.first_does(lambda: model_digest(path))
    print_first(ranks, f"{label(path)} on {asked.about(options, source, cases)}")
    return asked.run(options, config, source, cases, theirs, vlm, label(path), weights, out, ranks)


def chosen_modes(options: Namespace) -> tuple[Mode, ...]:
    """The modes of --mode."""
    return MODES if options.mode == "both" else (options.mode,)


def prompted(mode: Mode, vlm: VLM) -> str:
    """What system prompt the model gets in a mode."""
    if mode == "reasoning":
        return "with the paper's system prompt"
    added = template_system(vlm)
    return f"the chat template adds its own system prompt, {added!r}" if added else "no system prompt"


def decoding(options: Namespace, config: Config) -> Sampling:
    """Greedy up to rollout.max_new_tokens, or the authors'."""
    own = {"max_new_tokens": config.rollout.max_new_tokens}
    if options.decoding == "authors":
        return Sampling(**AUTHORS | (own if "rollout.max_new_tokens" in options.given else {}))
    return Sampling(**own, temperature=0.0)


def race(options: Namespace, evaluation: Evaluation, vlm: VLM, path: str, ranks: Ranks) -> dict[str, Any]:
    """How long some pairs take our way, and one question at a time with `generate`."""
    plain = AutoModelForImageTextToText.from_pretrained(path, dtype=vlm.net.dtype).to(ranks.device).eval()
    found = time_against_generate(evaluation, vlm, plain, evaluation.benchmark.items[: options.against_generate])
    print_first(ranks, "{questions} questions about {items} pairs: {seconds:.1f} s; one at a time with generate "
                       "{seconds_generate:.1f} s, {ratio:.1f} times as long; {same:.1%} with the same answer"
                .format(**found))
    return found


def score_blink(options: Namespace, config: Config, path: str, ranks: Ranks, until_done: ExitStack
                ) -> dict[str, Any]:
    """BLINK in each mode, beside the paper's Table 5; the page to leaf through goes into `--out`."""
    blink.read_blink(options.blink)  # what is wrong there is said before the model is loaded
    out, sampling = hold(options, path, ranks, until_done), decoding(options, config)
    vlm, runs, records = load(config, path, ranks), {}, []
    weights = ranks.first_does(lambda: model_digest(path))

    def answered(mode: Mode, cut_off: list[bool], asked: blink.Samples) -> list[str]:
        every = sorted([item.id, item.prompt, *map(file_digest, item.images)] for item in asked.items)
        key = answers_digest(weights, config.model, sampling, options.seed, asked.system and SYSTEM_PROMPT, every)
        answers = answer_samples(vlm, [item.id for item in asked.items], asked, sampling, ranks,
                                 out / "answers" / f"{mode}-{key}.jsonl", config.rollout.max_prompt_tokens, mode,
                                 options.seed)
        cut_off += [cut for _, cut in answers]
        return [text for text, _ in answers]

    for mode in chosen_modes(options):
        cut_off: list[bool] = []
        judged, _ = blink.score(partial(answered, mode, cut_off), options.blink, system=mode == "reasoning")
        judged = [record | {"cut_off": cut} for record, cut in zip(judged, cut_off, strict=True)]
        runs[mode] = blink.figures(judged)
        records += [r | {"id": f"{r['id']} ({mode})"} for r in judged]
    table = blink_table.render({f"{label(path)}, {mode}": found for mode, found in runs.items()})
    told = "; ".join(f"{mode}: {prompted(mode, vlm)}" for mode in runs)
    print_first(ranks, f"{label(path)}: {options.decoding} answers of at most {sampling.max_new_tokens} new tokens; "
                       f"{told}\n{table}")
    if ranks.first:
        out.mkdir(parents=True, exist_ok=True)
        write_lines(out / "answers.jsonl", records)
        report.write_page(records, blink.pictures(options.blink), out / "page.html", f"BLINK: {path}")
        write_json(out / "scores.json", {"model": path, "max_new_tokens": sampling.max_new_tokens, "blink": runs})
    print_first(ranks, f"to leaf through: {out / 'page.html'}")
    return {"blink": runs}


def write_results(out: Path, records: Sequence[Mapping[str, Any]], found: Mapping[str, Any], path: str,
                  image_of: Callable[[Mapping[str, Any]], Image.Image], note: str) -> None:
    """Answers, page and figures."""
    write_lines(out / "answers.jsonl", records)
    views = {blind_kind(view): {"seen": text} for view, text in signatures.SHOWN.items()}
    named = [r | {"kind": f"{NAMES[r['kind']]} ({'reasoning' if r['system'] else 'base'})"} | views.get(r["kind"], {})
             for r in records]
    report.write_page(named, image_of, out / "page.html", f"MPCC-Eval: {path}", note)
    write_json(out / "scores.json", {"model": path, **found})


def print_first(ranks: Ranks, text: str) -> None:
    """Prints on the first rank."""
    if ranks.first:
        print(text, flush=True)


if __name__ == "__main__":
    main()
