"""Kills a training on the scenes at random moments, again and again, and holds what comes out against a quiet run.

    python tests/killing.py                      40 kills of a run of 40 steps on two ranks: some ten minutes
    python tests/killing.py --kills 5 --steps 4

Every process of the run gets SIGKILL while it draws, updates, saves, writes its logs, evaluates or exports; then it is
started again with `--run.resume auto`. Metrics, completions, result and weights must be those of a run that nothing
disturbed, to the bit.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from running import kill_all

ROOT = Path(__file__).resolve().parents[1]
LOOP = {"rollout": 0.5, "update": 0.5, "saving": 0.3, "logging": 0.005}
"""Seconds after the beginning of a part of the run within which it is killed there."""
END = {"evaluation": 0.5, "export": 0.05}
OPTIONS = ["--run.save_every", "2", "--task.held_out", "20", "--rollout.prompts_per_step", "4"]


def child(mark: str, part_wanted: str, after: str, arguments: list[str]) -> None:
    """train.py, but that its first rank makes a file once it enters this part of the run, so many steps being done."""
    import train
    from minigrpo import saving
    from minigrpo.log import RunLog

    run, first = Path(arguments[arguments.index("--run.dir") + 1]), os.environ.get("RANK", "0") == "0"

    def marked(owner: object, name: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def wrapped(*args, **options):
            if first and steps_done(run) >= int(after):
                Path(mark).touch()
            return function(*args, **options)

        setattr(owner, name, wrapped)

    for owner, name, part in [(train, "sample_groups", "rollout"), (train, "update", "update"),
                              (saving, "write", "saving"), (RunLog, "step", "logging"), (train, "answer", "evaluation"),
                              (train, "export", "export")]:
        if part == part_wanted:
            marked(owner, name)
    sys.argv = ["train.py", *arguments]
    train.main()


def start(folder: Path, arguments: list[str], mark: Path = Path("none"), part: str = "none",
          after: int = 0) -> subprocess.Popen:
    """The run on two ranks, in a process group of its own."""
    mark.unlink(missing_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--rdzv-backend", "c10d",
               "--rdzv-endpoint", "localhost:0", str(Path(__file__).resolve()), "--child", str(mark), part, str(after),
               *arguments]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with open(folder / "errors.txt", "wb") as errors:
        return subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
                                stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)


def said(folder: Path) -> str:
    """What the last start printed as errors, the launcher's report left out."""
    return (folder / "errors.txt").read_text(encoding="utf-8").partition("Traceback (most recent call last)")[0][-3000:]


def steps_done(run: Path) -> int:
    """Whole lines of metrics.jsonl."""
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def kill(process: subprocess.Popen, mark: Path, delay: float) -> bool:
    """Kills every process of the run so many seconds after the mark is made; False where it ended before."""
    while process.poll() is None:
        if mark.exists():
            time.sleep(delay)
            kill_all(process)
            return True
        time.sleep(0.001)
    return False


def contents(run: Path) -> dict:
    """All of a run that must not depend on kills: no times."""
    metrics = [{k: v for k, v in json.loads(line).items() if "second" not in k}
               for line in (run / "metrics.jsonl").read_text(encoding="utf-8").split("\n") if line]
    weights = {path.name: path.read_bytes() for path in (run / "model").iterdir()}
    result = json.loads((run / "result.json").read_text()) | {"seconds": 0}
    warnings = run / "warnings.txt"
    return {"metrics": metrics, "completions": (run / "completions.jsonl").read_text(), "model": weights,
            "result": result, "warnings": warnings.read_text() if warnings.exists() else ""}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python tests/killing.py", description="Kills a training at random moments.")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--steps", type=int, default=40, help="of the run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args(argv)
    draw = random.Random(options.seed)
    at_end = max(1, options.kills // 5)
    plan = [(list(LOOP)[i % len(LOOP)], i * options.steps // (options.kills - at_end))
            for i in range(options.kills - at_end)]
    plan += [(list(END)[i % len(END)], options.steps) for i in range(at_end)]
    with tempfile.TemporaryDirectory() as folder:
        folder, killed = Path(folder), Counter()
        quiet, run, mark = folder / "quiet", folder / "run", folder / "mark"
        common = [*OPTIONS, "--run.steps", str(options.steps), "--run.resume", "auto"]
        if start(folder, ["--run.dir", str(quiet), *common]).wait():
            sys.exit(f"the quiet run failed:\n{said(folder)}")
        for number, (part, after) in enumerate(plan, 1):
            process = start(folder, ["--run.dir", str(run), *common], mark, part, after)
            done = kill(process, mark, draw.uniform(0, (LOOP | END)[part]))
            if not done and process.returncode:
                sys.exit(f"start {number} failed:\n{said(folder)}")
            killed[part if done else "too late"] += 1
            print(f"kill {number}/{len(plan)}: in {part}, {steps_done(run)} steps done", flush=True)
        if start(folder, ["--run.dir", str(run), *common]).wait():
            sys.exit(f"the last start failed:\n{said(folder)}")
        expected, found = contents(quiet), contents(run)
        wrong = [name for name in expected if expected[name] != found[name]]
        verdict = f"NOT the same: {', '.join(wrong)}" if wrong else "the same as undisturbed, to the bit"
        print(f"{options.kills} kills: {dict(killed)}; {options.steps} steps; {verdict}")
    if wrong or killed["too late"]:
        sys.exit(1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:5], sys.argv[5:])
    else:
        main()
