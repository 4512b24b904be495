"""A rank that dies, freezes or fails takes the others down, and one line says why. Real processes, by torchrun."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from running import launch, start

TOY = "tests/failing_ranks.py"
HOST = re.escape(socket.gethostname())


def said(err: str) -> list[str]:
    """The lines of the program itself, without the launcher's."""
    return re.findall(r"^(?:toy|train|eval)\.py: .*$", err, re.M)


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    return False


def wait_for(true, seconds: float = 200.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come to it"
        time.sleep(0.05)


def pids(folder: Path) -> list[int]:
    """Process ids of the ranks of `failing_ranks.py`, once all have made two steps."""
    files = [folder / f"{rank}.pid" for rank in (0, 1)]
    wait_for(lambda: all(file.exists() for file in files))
    return [int(file.read_text(encoding="utf-8").split()[0]) for file in files]


def workers(launcher: subprocess.Popen) -> dict[int, int]:
    """Process ids of a launcher's ranks, by rank."""
    found = {}
    for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text(encoding="utf-8").split():
        environment = dict(part.split("=", 1) for part in Path(f"/proc/{pid}/environ").read_text().split("\0") if part)
        if "RANK" in environment:
            found[int(environment["RANK"])] = int(pid)
    return found


@contextlib.contextmanager
def started(folder: Path, *arguments: str, **options):
    """A start of which nothing is left at the end, however that comes."""
    run, ranks = start(folder, *arguments, **options), {}
    try:
        yield run
    finally:
        ranks = workers(run) if run.poll() is None else ranks
        for pid in [*ranks.values(), run.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.communicate()


def ending(run: subprocess.Popen, ranks: list[int], seconds: float = 200.0) -> tuple[str, float]:
    """What it wrote to stderr by its end, and seconds until the last rank was gone."""
    began = time.monotonic()
    wait_for(lambda: not any(map(lives, ranks)), seconds)
    took = time.monotonic() - began
    _, err = run.communicate(timeout=seconds)
    assert run.returncode != 0
    return err, took


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_takes_the_other_down_with_one_line(tmp_path, victim):
    with started(tmp_path, "run", program=TOY) as run:
        ranks = pids(tmp_path)
        os.kill(ranks[victim], signal.SIGKILL)
        err, took = ending(run, ranks)
    [line] = said(err)
    assert re.fullmatch(rf"toy.py: error: rank {victim} on {HOST} died, last seen in (step \d+, )?phase [\w ]+", line)
    assert took < 60


@pytest.mark.parametrize("victim", [0, 1])
def test_a_frozen_rank_takes_the_other_down_within_the_time_and_is_ended_with_it(tmp_path, victim):
    with started(tmp_path, "run", "5", program=TOY) as run:
        ranks = pids(tmp_path)
        os.kill(ranks[victim], signal.SIGSTOP)
        err, took = ending(run, ranks)
    [line] = said(err)
    assert re.fullmatch(rf"toy.py: error: rank {victim} on {HOST} has given no sign of life for \d s, last seen in "
                        r"(step \d+, )?phase [\w ]+", line)
    assert took < 20  # of a loaded machine; the launcher alone would wait half a minute for the frozen one


def test_a_reward_that_hangs_is_named_with_its_sample_and_ends_the_run(tmp_path):
    with started(tmp_path, "hang", "5", program=TOY) as run:
        err, _ = ending(run, pids(tmp_path))
    [line] = said(err)
    assert re.match(rf"toy.py: error: rank 1 on {HOST} stands still for \d+ s, in step 4, phase rollout, sample toy-1: "
                    r"that is run.rank_timeout \(5 s\) beyond the longest step \(\d+\.\d s\)$", line)


def test_the_first_step_and_what_lies_between_steps_may_take_as_long_as_they_like(tmp_path):
    ended = launch(tmp_path, "slow", "2", program=TOY, timeout=200)
    assert (ended.returncode, ended.stdout) == (0, "finished attempt 0\n"), ended.stderr


def test_a_stopped_job_goes_on_as_if_nothing_had_been(tmp_path):
    """Ctrl-Z and fg: each rank has heard nothing of the other, but neither was there to listen."""
    with started(tmp_path, "run", "3", program=TOY) as run:
        ranks = pids(tmp_path)
        for number, pause in ((signal.SIGSTOP, 6), (signal.SIGCONT, 4)):
            for pid in ranks:
                os.kill(pid, number)
            time.sleep(pause)
        assert all(map(lives, ranks)) and run.poll() is None


@pytest.mark.parametrize(("case", "line"), [
    ("same", "toy.py: error: no such file"), ("shared", "toy.py: error: no such sample"),
    ("own", "toy.py: error: the disk is full (rank 1)"), ("before", "toy.py: error: wrong option"),
])
def test_an_error_is_said_once_and_with_the_rank_where_it_is_of_one(tmp_path, case, line):
    ended = launch(tmp_path, case, program=TOY, timeout=200)
    assert ended.returncode == 1
    assert said(ended.stderr) == [line]
    assert "failing_ranks.py\", line" not in ended.stderr  # no traceback


def test_a_bug_of_all_ranks_shows_its_traceback_once(tmp_path):
    ended = launch(tmp_path, "bug", program=TOY, timeout=200)
    assert ended.returncode == 1
    assert ended.stderr.count("KeyError: 'a bug'") == ended.stderr.count('raise KeyError("a bug")') == 1


def test_ctrl_c_is_one_line_on_two_ranks(tmp_path):
    with started(tmp_path, "run", program=TOY) as run:
        ranks = pids(tmp_path)
        run.send_signal(signal.SIGINT)  # which the launcher passes on, as when the terminal sends it
        err, _ = ending(run, ranks)
    assert said(err) == ["toy.py: interrupted"]
    assert "failing_ranks.py\", line" not in err


def test_ctrl_c_while_modules_load_is_one_line(tmp_path):
    (tmp_path / "loads.py").write_text(
        "import time\nfrom minigrpo.launch import one_line_interrupts\none_line_interrupts('toy.py')\n"
        "open('ready', 'w').close()\ntime.sleep(100)\n", encoding="utf-8")
    with started(tmp_path, program=str(tmp_path / "loads.py"), ranks=1) as run:
        wait_for((tmp_path / "ready").exists)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=200)
    assert err == "toy.py: interrupted\n" and run.returncode == -signal.SIGINT


def test_restarted_attempts_join_and_the_last_finishes(tmp_path):
    """The store is the launcher's own and lives on: nothing that a former attempt left there may be read."""
    launcher = ("--max-restarts", "5", "--master-port", free_port())
    with started(tmp_path, "restart", program=TOY, launcher=launcher) as run:
        for attempt in range(5):
            ranks = pids(tmp_path)
            for rank in (0, 1):
                (tmp_path / f"{rank}.pid").unlink()
            os.kill(ranks[attempt % 2], signal.SIGKILL)
        out, err = run.communicate(timeout=200)
    assert run.returncode == 0 and "finished attempt 5" in out, err
    assert len(said(err)) == 5


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return str(listener.getsockname()[1])
