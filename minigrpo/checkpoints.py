"""Checkpoints: all that a run needs to go on as if it had never stopped, written aside and renamed whole.

    RUN/checkpoints/000040/weights/        policy and AdamW's averages, sharded, by torch's distributed checkpoint
                           progress.json   where the run stood (`Progress`)
                           config.toml     the run's options
                           digests.json    size and SHA-256 of every other file
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tomllib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException

from minigrpo.files import replacing
from minigrpo.lora import add_in, base_of, is_adapter, pairs_of
from minigrpo.ranks import Ranks

WEIGHTS, PROGRESS, CONFIG, DIGESTS = "weights", "progress.json", "config.toml", "digests.json"


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        path: The model that its stage began with: the reference, and all that an export takes over but the weights.
        dtype: The precision of the exported weights: "float32", "bfloat16" or "float64".
        stage: Number of the stage, from 0.
        step: Steps done in the stage.
        steps: Steps done in all stages.
        scores: Held-out figures before the first stage and after each one that is done.
        seconds: That the run has taken, over all of its starts.
        score: The first held-out figure at this very step, where it was evaluated.
        best: The highest such figure so far.
        sampler: `Sampler.state` at the end of the step.
        watch: `Watch.state` at the end of the step.
        warned: Lines of warnings.txt.
        model: A mark of the content of the model of `path`.
        samples: A mark of the number of the task's samples, and of some of their ids.
    """

    path: str
    dtype: str = "float32"
    stage: int = 0
    step: int = 0
    steps: int = 0
    scores: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    score: float | None = None
    best: float | None = None
    sampler: dict[str, Any] = field(default_factory=dict)
    watch: dict[str, Any] = field(default_factory=dict)
    warned: int = 0
    model: str = ""
    samples: str = ""

    def after_stage(self, path: str, scores: dict[str, float]) -> Progress:
        """Where the next stage begins: with the model that this one has exported."""
        return replace(self, path=path, stage=self.stage + 1, step=0, scores=[*self.scores, scores], sampler={})


def name_of(steps: int) -> str:
    """The folder of a checkpoint after so many steps."""
    return f"{steps:06d}"


def absolute(path: str) -> str:
    """A model folder's full path, so that a run can go on from another folder; a hub id as it is."""
    return str(Path(path).resolve()) if Path(path).is_dir() else path


def is_checkpoint(folder: str | Path) -> bool:
    """Whether a folder is a checkpoint; it may be damaged."""
    return (Path(folder) / PROGRESS).is_file() and (Path(folder) / WEIGHTS).is_dir()


def start_model(path: str | Path) -> str:
    """The model folder or hub id that a path stands for: itself, or what the run of a checkpoint, or adapters, began
    with in the end."""
    before = began_with(path)
    return str(path) if before is None else start_model(before)


def began_with(path: str | Path) -> str | None:
    """The model that the run of a checkpoint, or adapters, began with; None for what is neither."""
    if is_checkpoint(path):
        return read_progress(Path(path)).path
    return base_of(path) if is_adapter(path) else None


def model_mark(path: str) -> str:
    """A digest of all files of a model folder, or of the local copy of a hub id; of a checkpoint, of its digests."""
    if is_checkpoint(path):
        return hashlib.sha256((Path(path) / DIGESTS).read_bytes()).hexdigest()[:16]
    digests = [_digest(file.parent, file) for file in files_of(path) if file.is_file() and file.name[0] != "."]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()[:16]


def files_of(model: str | Path) -> list[Path]:
    """The files of a model folder, or of the local copy of a hub id; without those of its subfolders."""
    from transformers.utils import cached_file

    folder = Path(model) if Path(model).is_dir() else Path(cached_file(str(model), "config.json")).parent
    return sorted(folder.iterdir())


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    found = (run / "checkpoints").iterdir() if (run / "checkpoints").is_dir() else []
    return sorted((path for path in found if path.name.isdecimal()), key=lambda path: int(path.name))


def write(folder: Path, policy: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, config: str,
          ranks: Ranks) -> None:
    """Writes a checkpoint; every rank calls it. The folder appears whole or not at all.

    Args:
        policy: Its parameters may be sharded; each rank writes its own part.
        config: The run's options, as TOML.

    Raises:
        OSError: it cannot be written, a full disk say; names the folder. An older checkpoint stays as it was.
    """
    part = folder.with_name(f".{folder.name}.part")
    with replacing(folder) if ranks.first else contextlib.nullcontext():
        ranks.barrier()  # what a killed process had left there is gone
        with _failures(folder):
            dcp.save(_tensors(policy, optimizer), no_dist=ranks.size == 1,
                     storage_writer=dcp.FileSystemWriter(part / WEIGHTS))
        own = [_digest(part, path) for path in (part / WEIGHTS).glob(f"__{ranks.rank}_*")]
        digests = dict(pair for pairs in ranks.gather([own]) for pair in pairs)
        if ranks.first:
            (part / PROGRESS).write_text(json.dumps(asdict(progress), indent=1), encoding="utf-8")
            (part / CONFIG).write_text(config, encoding="utf-8", newline="\n")
            digests |= [_digest(part, part / name) for name in (f"{WEIGHTS}/.metadata", PROGRESS, CONFIG)]
            (part / DIGESTS).write_text(json.dumps(digests, indent=1), encoding="utf-8")
    ranks.barrier()


def read_progress(folder: Path) -> Progress:
    """Where the run stood at a checkpoint, once it is sure that every file is as it was written.

    Raises:
        ValueError: the checkpoint is damaged, or none; says what is wrong.
    """
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
        for name in (f"{WEIGHTS}/.metadata", PROGRESS, CONFIG):
            if name not in digests:
                raise ValueError(f"{DIGESTS} does not name {name}")
        for name, expected in digests.items():
            if not (folder / name).is_file():
                raise ValueError(f"{name} is missing")
            if _digest(folder, folder / name)[1] != expected:
                raise ValueError(f"{name} is not as it was written")
        progress = Progress(**json.loads((folder / PROGRESS).read_text(encoding="utf-8")))
        within = folder.resolve().parents[1] / Path(progress.path).name  # of a run that was moved after its first stage
        if progress.stage and not Path(progress.path).is_dir() and within.is_dir():
            progress.path = str(within)
        return progress
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f"checkpoint {folder} is damaged: {' '.join(str(error).split())}") from error


def restore(folder: Path, policy: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks) -> None:
    """Fills policy and optimizer, in place, from a checkpoint of any number of ranks; every rank calls it.

    Raises:
        ValueError, OSError: it is not of this model, or cannot be read; names the folder.
    """
    reader = dcp.FileSystemReader(folder / WEIGHTS)
    stored = reader.read_metadata().state_dict_metadata
    for name, parameter in policy.named_parameters():
        if f"adamw/{name}/step" in stored:  # a parameter has no averages before its first step
            step = torch.zeros((), device=parameter.device)
            optimizer.state[parameter] = {"step": step, "exp_avg": torch.zeros_like(parameter.detach()),
                                          "exp_avg_sq": torch.zeros_like(parameter.detach())}
    with _failures(folder):
        dcp.load(_tensors(policy, optimizer), storage_reader=reader, no_dist=ranks.size == 1)


def read_weights(folder: str | Path, net: nn.Module) -> None:
    """Fills a model, on one rank and in any precision, with the policy of a checkpoint; adapters are added to its
    weights, which are then those that the run began with. Raises as `restore`."""
    reader = dcp.FileSystemReader(Path(folder) / WEIGHTS)
    kept, whole = reader.read_metadata().state_dict_metadata, dict(net.named_parameters(prefix="policy/net"))
    if small := [name for name in kept if name.startswith("policy/") and ".lora_" in name]:
        found = {name: torch.empty(kept[name].size, dtype=kept[name].properties.dtype) for name in small}
        with _failures(Path(folder)):
            dcp.load(found, storage_reader=reader, no_dist=True)
        model = tomllib.loads((Path(folder) / CONFIG).read_text(encoding="utf-8"))["model"]
        add_in(net, pairs_of(found, "policy/net."), model["lora_alpha"] / model["lora_rank"])
        return
    if lacking := whole.keys() - kept.keys():
        raise ValueError(f"checkpoint {folder} is of another model: it has no {min(lacking)}")
    stored = {name: torch.empty(p.shape, dtype=kept[name].properties.dtype) for name, p in whole.items()}
    with _failures(Path(folder)):
        dcp.load(stored, storage_reader=reader, no_dist=True)
    with torch.no_grad():
        for name, parameter in whole.items():
            parameter.copy_(stored[name])


def prune(run: Path, keep: int) -> None:
    """Removes all checkpoints but the last `keep` and the one with the best score, the first of equals."""
    found = checkpoints(run)
    scored = [(score, path) for path in found if (score := _score(path)) is not None]
    best = max(scored, key=lambda pair: pair[0], default=(None, None))[1]
    for path in found[:-keep]:
        if path != best:
            aside = path.with_name(f".{path.name}.part")
            os.replace(path, aside)  # a kill on the way leaves nothing that looks like a checkpoint
            shutil.rmtree(aside, ignore_errors=True)


def _tensors(policy: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Every tensor that decides how training goes on, by name; tied ones once."""
    found, parameters = {}, dict(policy.named_parameters())
    if any(".lora_" in name for name in parameters):  # the frozen weights are those of the model it began with
        parameters = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
    for name, parameter in parameters.items():
        found[f"policy/{name}"] = parameter.detach()
        found |= {f"adamw/{name}/{key}": value for key, value in optimizer.state.get(parameter, {}).items()}
    return found


def _digest(folder: Path, path: Path) -> tuple[str, list]:
    with path.open("rb") as file:
        return str(path.relative_to(folder)), [path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()]


def _score(folder: Path) -> float | None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return json.loads((folder / PROGRESS).read_text(encoding="utf-8")).get("score")
    return None


@contextlib.contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """What torch collects from all ranks, as one error that names the folder; it also warns where there are no ranks.

    Raises:
        OSError, ValueError
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except CheckpointException as error:
        raise _first([failure for failure, _ in error.failures.values()], folder) from error


def _first(failures: Sequence[BaseException], folder: Path) -> Exception:
    for failure in failures:
        if isinstance(failure, OSError) and failure.errno is not None:
            return OSError(failure.errno, failure.strerror, str(folder))
    return ValueError(f"checkpoint {folder}: {' '.join(str(failures[0]).split())}")
