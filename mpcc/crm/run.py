"""`eval.py --crm`: cases read, asked and scored by all ranks, kept as they are made, told as figures and a page."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from minigrpo import VLM, Policy, Sampling
from minigrpo.progress import progress_bar
from minigrpo.ranks import Ranks
from minigrpo.sections import Config
from mpcc import masks
from mpcc.crm import alignment, attribution, clues, measure, records, regions, steps
from mpcc.crm.cases import Case, read_pair_cases
from mpcc.crm.figures import Thresholds, compared, figures
from mpcc.crm.page import write_page
from mpcc.crm.records import Record
from mpcc.crm.told import summary, verdict
from mpcc.crm.visargs import is_visargs, read_visargs
from mpcc.digests import file_digest
from mpcc.eval_inputs import benchmark_file
from mpcc.evaluation import answers_digest
from mpcc.formats import write_json, write_lines, write_text
from mpcc.journal import Journal, read_journal
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.reading import read_json
from mpcc.scenes.folder import ensure_scenes

_KEPT = {"id": str, "regions": list, "masked": list}
_DECIDING = (alignment, attribution, clues, measure, records, regions, steps, masks)
"""Modules that decide what a record holds."""


def read_cases(options: Namespace, config: Config) -> tuple[str, list[Case]]:
    """The file that --crm names, else the benchmark of the run or of the scenes, and its cases.

    Raises:
        FileNotFoundError, ValueError: see `read_pair_cases` and `read_visargs`; or a mask that boxes do not have.
    """
    if config.task.mask in ("polygon", "instances"):
        raise ValueError(f"mask = {config.task.mask!r} needs outlines, and --crm takes boxes: take box or box_hard")
    file = Path(options.crm) if options.crm else benchmark_file(None, config) or ensure_scenes() / "benchmark.json"
    found = options.crm and is_visargs(read_json(file, "name a file of pairs or of VisArgs records"))
    cases = read_visargs(file, options.images, options.seed) if found else read_pair_cases(file, options, config)
    return str(file), cases[: options.limit or None]


def about(options: Namespace, source: str, cases: Sequence[Case]) -> str:
    """What is asked, in words."""
    return f"{len(cases):,} pictures of {source}, regions masked one at a time ({options.crm_fill})"


def read_records(folder: Path) -> list[Record]:
    """The records of another eval.py --crm. Raises FileNotFoundError, ValueError where the folder holds none."""
    if not (folder / "crm.jsonl").is_file():
        raise FileNotFoundError(f"--compare {folder}: it holds no crm.jsonl: name the folder of another eval.py --crm")
    return read_journal(folder / "crm.jsonl", _KEPT)


def run(options: Namespace, config: Config, source: str, cases: Sequence[Case], theirs: Sequence[Record], vlm: VLM,
        name: str, weights: str, out: Path, ranks: Ranks) -> dict[str, Any]:
    """Asks and scores all cases, leaves crm.jsonl, page.html, tables.txt and scores.json in `out`, prints a summary.

    Args:
        theirs: Records of another model, to compare with.
        name, weights: The model's label and digest.
    """
    sampling = Sampling(config.rollout.max_new_tokens, temperature=0.0)
    system = None if options.mode == "base" else SYSTEM_PROMPT
    key = answers_digest(
        weights, config.model, sampling, options.seed, system, options.crm_fill, options.crm_samples,
        [asdict(case) | {"picture": file_digest(case.picture)} for case in cases],
        [file_digest(module.__file__) for module in _DECIDING],
    )

    def measured(policy: Policy, batch: Sequence[Case]) -> list[Record]:
        return measure.measure(policy, batch, system, options.crm_fill, sampling, options.crm_samples, options.seed,
                               config.rollout.max_prompt_tokens)

    made = _kept(cases, vlm, ranks, out / "answers" / f"crm-{key}", measured)
    thresholds = Thresholds(options.crm_kept, options.crm_collapsed)
    found: dict[str, Any] = {
        "source": source, "mode": "base" if system is None else "reasoning", "fill": options.crm_fill,
        "max_new_tokens": sampling.max_new_tokens, "thresholds": thresholds._asdict(), "items": len(made),
        "without_control": sum(control is None for record in made for control in record["controls"]),
        "figures": figures(made, thresholds),
    }
    if theirs:
        found["compared"] = compared(made, theirs, thresholds)
    text = summary(found, name, str(options.compare))
    if ranks.first:
        write_lines(out / "crm.jsonl", made)
        write_text(out / "tables.txt", text + "\n")
        write_page(cases, made, options.crm_fill, out / "page.html", f"Regions of the reasoning: {name}", text,
                   verdict(found, name, str(options.compare)))
        write_json(out / "scores.json", {"model": name, **found})
        print(f"{text}\nto leaf through: {out / 'page.html'}", flush=True)
    return found


def _kept(cases: Sequence[Case], vlm: VLM, ranks: Ranks, folder: Path, measured: Any) -> list[Record]:
    """The records of all cases in their order, the same on every rank; those that a journal holds are not made anew."""
    known: Mapping[str, Record] = ranks.first_does(lambda: {
        entry["id"]: entry for path in sorted(folder.glob("*.jsonl")) for entry in read_journal(path, _KEPT)})
    missing = [case for case in cases if case.id not in known]
    todo, own = ranks.share(missing), []
    journal, policy = Journal(folder / f"{ranks.rank}.jsonl"), Policy(vlm)
    try:
        with progress_bar("regions", len(cases), len(cases) - len(missing), "pictures", shown=ranks.first) as bar:
            for start in range(0, len(todo), measure.CASES_AT_ONCE):
                batch = measured(policy, todo[start : start + measure.CASES_AT_ONCE])
                own += json.loads(json.dumps(batch))  # as they are read again
                journal.add(*batch)
                bar.update(min(len(batch) * ranks.size, bar.total - bar.n))
    finally:
        journal.close()
    made = {record["id"]: record for record in ranks.gather(own)}
    return [known.get(case.id) or made[case.id] for case in cases]
