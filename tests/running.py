"""What the tests of train.py share: small models, a run in this process, a start as a person makes it."""

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
TIMED = ("seconds", "seconds/rollout", "seconds/reward", "seconds/scoring", "seconds/update",
         "seconds/views", "tokens_per_second")
SMALL = {"rollout.prompts_per_step": 4, "rollout.group_size": 3, "rollout.max_new_tokens": 6, "run.steps": 2,
         "optim.lr": 1e-3, "optim.warmup": 0, "grpo.beta": 0}


def words(options: dict) -> list[str]:
    """Options as a command line."""
    return [word for key, value in options.items() for word in (f"--{key}", str(value))]


def lines(folder: Path, name: str = "metrics") -> list[dict]:
    """The objects of a .jsonl file of a run folder."""
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").split("\n") if line]


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text(encoding="utf-8"))


def untimed(folder: Path) -> list[dict]:
    """Metrics that are the same whenever a run is."""
    return [{key: value for key, value in line.items() if key not in TIMED} for line in lines(folder)]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Path, two: Path) -> bool:
    """Whether two model folders hold equal weights, bit for bit."""
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def start(folder: Path, *arguments: str, program: str = "train.py", ranks: int = 2,
          launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    """Starts a program of the repository as a person does, in a folder of its own.

    Args:
        launcher: Options of torchrun, where there are several ranks.
    """
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--nproc_per_node", str(ranks), *(launcher or (
            "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"))]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return subprocess.Popen([*command, str(ROOT / program), *arguments], cwd=folder, text=True,
                            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def launch(folder: Path, *arguments: str, program: str = "train.py", ranks: int = 2,
           timeout: int = 120, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """A program of the repository from start to end; a hang is a failure."""
    started = start(folder, *arguments, program=program, ranks=ranks, launcher=launcher)
    try:
        out, err = started.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        started.terminate()  # the launcher then ends its ranks, by force if need be
        out, err = started.communicate()
        pytest.fail(f"hung for {timeout} s:\n{out[-2000:]}\n{err[-2000:]}")
    return subprocess.CompletedProcess(started.args, started.returncode, out, err)


def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, folder: Path, *words: str
             ) -> tuple[str, str]:
    """Runs eval.py in this process, in a folder; gives its output, and the one line that it ends with, or nothing."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["eval.py", *words])
    try:
        importlib.import_module("eval").main()
    except SystemExit as stopped:
        said = stopped.code if isinstance(stopped.code, str) else capsys.readouterr().err.strip()
        return "", said.splitlines()[-1]
    return capsys.readouterr().out, ""


def kill_all(process: subprocess.Popen) -> None:
    """SIGKILL for a process and all below it, until all are gone: the launcher's ranks are in sessions of their own."""
    family = descendants(process.pid)
    for pid in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    while any(map(alive, family)):
        time.sleep(0.01)


def descendants(process: int) -> list[int]:
    """The process and all below it."""
    family = [process]
    for pid in family:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            family += map(int, children.read_text().split())
    return family


def alive(pid: int) -> bool:
    """Whether a process is there, and no zombie."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
