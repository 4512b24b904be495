"""The options of eval.py: its own, and those of a training that count in an evaluation. The others are refused."""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

from minigrpo.checkpoints import is_checkpoint
from minigrpo.config import load_config
from minigrpo.sections import Config
from minigrpo.task import Task
from mpcc.digests import digest
from mpcc.questions import KINDS, Mode
from mpcc.task import MaskedPrediction

DEFAULT_TASK = "mpcc.task:MaskedPrediction"
MODES: tuple[Mode, ...] = get_args(Mode)
NEW_TOKENS = 512
"""Longest answer of a model that is neither the shipped one nor a run's: what the authors' evaluation allows."""
AUTHORS = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1, "max_new_tokens": NEW_TOKENS}
"""The decoding of the authors' evaluation scripts."""

_DEFAULTS = {
    "model": "", "benchmark": None, "images": None, "kinds": ",".join(KINDS), "mode": "both", "decoding": "greedy",
    "halves": "", "traces": None, "no_blind": False, "compare": None, "blink": None, "held_out": False,
    "against_generate": 0, "limit": 0, "seed": 0, "out": None, "json": None, "crm": None, "crm_fill": "mean",
    "crm_samples": 0, "crm_kept": 0.8, "crm_collapsed": 0.5,
}
_MODEL = {"model.path", "model.dtype", "model.attention", "model.graphs", "model.min_pixels", "model.max_pixels",
          "rollout.max_new_tokens", "rollout.max_prompt_tokens", "run.device"}
_COUNTING = {
    "a benchmark": _MODEL | {"task.mask", "task.fill", "task.coco", "task.pairs"},
    "regions": _MODEL | {"task.mask", "task.fill", "task.coco"},
    "BLINK": _MODEL,
    "held-out samples": _MODEL,  # and whatever the task declares
}
"""What is scored → the options of a training that count there."""
_CRM = {"crm", "crm_fill", "crm_samples", "crm_kept", "crm_collapsed"}
_OWN = {
    "a benchmark": set(_DEFAULTS) - {"blink", "held_out"} - _CRM,
    "regions": {"model", "json", "images", "mode", "compare", "limit", "seed", "out"} | _CRM,
    "BLINK": {"model", "json", "blink", "mode", "decoding", "seed", "out"},
    "held-out samples": {"model", "json", "held_out"},
}
_DECIDING = ("model.dtype", "model.min_pixels", "model.max_pixels", "rollout.max_new_tokens", "task.mask", "task.fill",
             "task.coco")
"""Options of a training that decide what is answered."""
_INSTEAD = {
    "task.system_prompt": "--mode base or reasoning says whether the system prompt is sent",
    "task.half": "--halves NAME shows both halves of the categories",
    "task.halves": "--halves NAME shows both halves of the categories",
    "task.held_out": "give --held-out to score a task's held-out samples",
    "task.held_out_split": "give --held-out to score a task's held-out samples",
    "task.held_out_pairs": "give --held-out to score a task's held-out samples",
    "rollout.temperature": "answers are greedy, or sampled as --decoding authors says",
    "run.seed": "give --seed",
}


def read_options(argv: Sequence[str]) -> tuple[Namespace, Config, type[Task]]:
    """Our own options, the configuration, with a run folder's options before those of the line, and the task.

    The namespace gets `scored`, what is scored ("a benchmark", "regions", "BLINK", "held-out samples"), `given`, the
    names of the options on the line, and `distinctions`.

    Raises:
        ValueError: an option that would not count, or an impossible value.
        SystemExit: --help, or an option that does not exist; see `minigrpo.config.load_config`.
    """
    own, asked = _parser().parse_known_args(argv)
    options, given = Namespace(**(_DEFAULTS | vars(own))), set(option_names(asked))
    folder = Path(options.model)
    near = (folder, folder.parent) if options.model and folder.is_dir() else ()
    run = next((place for place in near if (place / "config.toml").is_file()), None)
    if options.model and "model.path" in given:
        raise ValueError("--model and --model.path name a model each: give one of the two")
    if run and "config" in given:
        raise ValueError(f"--model {options.model} brings its run's own config.toml: leave out --config")
    words = []
    if run:
        weights = folder / "model" if run == folder and not is_checkpoint(folder) else folder
        words = ["--config", str(run / "config.toml"), "--model.path", str(weights)]
    elif options.model:
        words = ["--model.path", options.model]
    named = options.model or "model.path" in given
    shipped = options.model and folder.resolve() == Path(MaskedPrediction.default_model).resolve()
    longer = ["--rollout.max_new_tokens", str(NEW_TOKENS)] if named and not run and not shipped else []
    plain, _ = load_config([*longer, *words], DEFAULT_TASK)
    words = [*([] if given & {"config", "rollout.max_new_tokens"} else longer), *words, *asked]
    config, task_class = load_config(words, DEFAULT_TASK)
    scored = [name for name in ("crm", "blink", "held_out") if getattr(options, name) not in (None, False)]
    if len(scored) > 1:
        one, two = (f"--{name.replace('_', '-')}" for name in scored[:2])
        raise ValueError(f"{one} and {two} are two evaluations: give one of the two")
    masked = issubclass(task_class, MaskedPrediction)
    on_task = "held-out samples" if options.held_out or not masked else "a benchmark"
    options.given, options.scored = given, {"crm": "regions", "blink": "BLINK"}.get("".join(scored), on_task)
    _refuse_ignored(set(vars(own)), given, options.scored, "" if masked else f" of {task_class.__name__}")
    _check(options)
    options.distinctions = distinctions(options, config, plain)
    return options, config, task_class


def label(path: str) -> str:
    """A short name for a model: the run's where it is a run's, with the step of a checkpoint; else the folder's."""
    folder = Path(path)
    if is_checkpoint(folder):
        return f"{folder.parent.parent.name}-{folder.name}"
    return folder.parent.name if (folder.parent / "config.toml").is_file() else folder.name


def default_out(options: Namespace, path: str) -> Path:
    """The folder without --out: `runs/eval/`, the model's `label`, and the `distinctions` of the options.

    The shipped base is called model, a run of the folder runs by its name; any other model gets a mark of its path, as
    many models are called alike.
    """
    folder, runs = Path(path).resolve(), Path("runs").resolve()
    plain = folder == Path(MaskedPrediction.default_model).resolve() or runs in folder.parents[:3]
    name = label(path) if plain else f"{label(path)}-{_mark(path)}"
    return Path("runs/eval") / "-".join([name, *options.distinctions])


def distinctions(options: Namespace, config: Config, plain: Config) -> list[str]:
    """What was asked otherwise than by default, in short words: two evaluations that differ must not share a folder.

    Only what decides the answers counts; tables are made from them anew.

    Args:
        plain: The configuration that an evaluation of this model has by default.
    """
    found = [f"blink-{_mark(options.blink)}"] if options.blink else []
    if options.crm is not None:
        found = [f"crm-{Path(options.crm).stem}-{_mark(options.crm)}" if options.crm else "crm"]
    for name in ("benchmark", "images", "kinds", "mode", "decoding", "no_blind", "limit", "seed", "crm_fill",
                 "crm_samples"):
        value = getattr(options, name)
        if value == _DEFAULTS[name]:
            continue
        if isinstance(value, Path):
            found.append(f"{value.resolve().stem}-{_mark(value)}")
        elif isinstance(value, int) and value is not True:
            found.append(f"{name.removeprefix('crm_')}{value}")
        else:
            found.append(name if value is True else value.replace(",", "+"))
    for name in _DECIDING:
        section, _, field = name.partition(".")
        value, usual = (getattr(getattr(each, section), field, None) for each in (config, plain))
        if value != usual:
            found.append(f"coco-{_mark(value)}" if field == "coco" and value else f"{field}-{value or 'none'}")
    return found


def _mark(path: str | Path) -> str:
    """Six digits of a file's or folder's place."""
    return digest(Path(path).resolve())[:6]


def option_names(words: Sequence[str]) -> Iterator[str]:
    """The names of the options among the words of a command line: "task.mask" for --task.mask=box."""
    return (word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--"))


def counting(words: Sequence[str]) -> list[str]:
    """Those options among the words of a training's command line that count in an evaluation on a benchmark."""
    kept: list[str] = []
    counts = False
    for word in words:
        if word.startswith("--"):
            counts = next(option_names([word])) in {*_COUNTING["a benchmark"], "config"}
        kept += [word] * counts
    return kept


def _refuse_ignored(own: Collection[str], given: Collection[str], scored: str, of: str) -> None:
    """Raises ValueError for an option on the line that would be ignored."""
    for name in sorted(own):
        if name not in _OWN[scored]:
            raise ValueError(f"--{name.replace('_', '-')} does not count for {scored}{of}"
                             + (f": {_INSTEAD[name]}" if name in _INSTEAD else ""))
    for name in sorted(given):
        of_task = scored == "held-out samples" and name.startswith("task.")
        if name not in _COUNTING[scored] and name not in ("config", "task") and not of_task:
            raise ValueError(f"--{name} does not count for {scored}{of}: {_INSTEAD.get(name, 'it concerns training')}")


def _check(options: Namespace) -> None:
    kinds = options.kinds.split(",")
    if unknown := set(kinds) - set(KINDS):
        raise ValueError(f"--kinds: {sorted(unknown)[0]!r} is unknown: choose from {', '.join(KINDS)}")
    if len(kinds) > len(set(kinds)):
        raise ValueError(f"--kinds {options.kinds} names a kind twice")
    for name in ("limit", "against_generate", "crm_samples"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)} must be at least 1, or 0 for "
                             f"{'all pairs' if name == 'limit' else 'none'}")
    for name in ("crm_kept", "crm_collapsed"):
        if not 0 <= getattr(options, name) <= 1:
            raise ValueError(f"--{name.replace('_', '-')} {getattr(options, name)} is no share: give 0 to 1")
    if options.against_generate and options.decoding != "greedy":
        raise ValueError("--against-generate compares greedy answers: leave out --decoding")
    if options.json and not options.json.parent.is_dir():
        raise ValueError(f"--json: folder {options.json.parent} does not exist")


def _parser() -> argparse.ArgumentParser:
    """Our own options, without defaults, so that what was given can be told."""
    parser = argparse.ArgumentParser(
        prog="eval.py", usage="eval.py [--model MODEL] [option ...] [--section.field VALUE ...]", allow_abbrev=False,
        argument_default=argparse.SUPPRESS, formatter_class=argparse.RawDescriptionHelpFormatter, description=_ABOUT,
        epilog=_EPILOG,
    )
    add = parser.add_argument
    add("--model", help="model folder, hub id, run folder or checkpoint of a run; the shipped base by default")
    add("--benchmark", type=Path, help="benchmark file; that of the embedded scenes by default")
    add("--images", type=Path, help="folder of its images; by default the benchmark's split, beside its file")
    add("--kinds", help=f"questions asked, by default {_DEFAULTS['kinds']}")
    add("--mode", choices=(*MODES, "both"),
        help="reasoning: with the paper's system prompt; base: without, though a chat template may add its own, as "
             "Qwen2.5-VL's does; both by default")
    add("--decoding", choices=("greedy", "authors"), help=f"greedy by default; authors: {AUTHORS}")
    add("--halves", help="print ID and OOD: coco, scenes, or a file of `python -m mpcc.splits`")
    add("--traces", type=Path, help="training pairs, to tell what is said by rote; the run's own by default")
    add("--no-blind", action="store_true", help="leave out the blind views: evidence filled, elsewhere, all black")
    add("--compare", type=Path, metavar="DIR", help="folder of another evaluation: prints the differences")
    add("--blink", type=Path, metavar="DIR", help="score BLINK's four subtasks instead")
    add("--crm", nargs="?", const="", metavar="FILE", help="mask the regions of each picture one at a time instead "
        "(mpcc/crm): of a file of pairs or of VisArgs, by default of the benchmark")
    add("--crm-fill", choices=("mean", "blur", "black"), help="what a masked region shows; its mean colour by default")
    add("--crm-samples", type=int, metavar="K", help="draw K more traces of the picture and of each masked one")
    add("--crm-kept", type=float, help="share of aligned steps from which on reasoning kept its structure (0.8)")
    add("--crm-collapsed", type=float, help="share of aligned steps below which it has collapsed (0.5)")
    add("--held-out", action="store_true", help="score the task's own held-out samples instead")
    add("--against-generate", type=int, metavar="N", help="time N pairs, also one question at a time")
    add("--limit", type=int, metavar="N", help="ask about the first N pairs only; 0, the default, asks about all")
    add("--seed", type=int, help="of the order of options and of sampling (default 0)")
    add("--out", type=Path, help="folder for what is left behind; by default runs/eval/NAME, whose name says what is "
                                 "asked otherwise than by default")
    add("--json", type=Path, metavar="FILE", help="write the figures into this file too")
    return parser


_ABOUT = """Scores a model on MPCC-Eval, on BLINK, or on a task's held-out samples."""
_EPILOG = f"""Of train.py's options those count that concern the model and what it is asked, and are taken too:
  {' '.join(f'--{name}' for name in sorted(_MODEL - {'model.path'}))}
  on a benchmark also --task.mask --task.fill --task.coco --task.pairs; with --crm the first three of these; with
  --held-out every --task.FIELD
An option that would not count is refused. rollout.max_new_tokens is a run's own, 64 for the shipped model, and
{NEW_TOKENS} for any other model."""
