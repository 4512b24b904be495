"""A disk that is full, or read-only, at each kind of write of a run: it is named, nothing is lost, the run goes on.

The disk is a small one in memory, which only root can make.
"""

import os
import re
import shutil
import subprocess
from contextlib import nullcontext

import pytest
from running import lines, result, same, untimed

import train
from minigrpo import saving
from minigrpo.checkpoints import checkpoints, read_progress
from minigrpo.log import RunLog

MIB = 2**20
WRITES = {  # what is called before the write, and on which of its calls the disk fails
    "checkpoint": (saving, "write", 2), "log line": (RunLog, "step", 3), "completions": (RunLog, "completions", 9),
    "export": (train, "export", 1),
}


def mount(folder, *options):
    return subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of 24 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = mount(folder, "-t", "tmpfs", "-o", "size=24m", "tmpfs")
    if made.returncode:
        pytest.skip(f"cannot mount a disk in memory: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk):
    with open(disk / "filler", "ab", buffering=0) as file:
        for size in (MIB, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


def break_disk(disk, how):
    fill(disk) if how == "full" else subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


def mend_disk(disk, how):
    if how == "full":
        (disk / "filler").unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)


def fail_at(monkeypatch, disk, how, owner, name, call):
    """Breaks the disk before this call of a function."""
    calls, function = [], getattr(owner, name)

    def failing(*args, **options):
        calls.append(None)
        if len(calls) == call:
            break_disk(disk, how)
        return function(*args, **options)

    monkeypatch.setattr(owner, name, failing)


@pytest.mark.parametrize("how", ["full", "read-only"])
@pytest.mark.parametrize("write", WRITES)
def test_a_disk_that_fails_names_the_path_and_the_run_goes_on_once_it_is_mended(run, disk, monkeypatch, write, how):
    options = {"run__steps": 5, "run__save_every": 2, "run__log_completions": 4}
    whole = run("whole", **options)
    with monkeypatch.context() as patched:
        patched.setattr("minigrpo.log.held", lambda *_: nullcontext())  # an open file keeps a disk from such a change
        fail_at(patched, disk, how, *WRITES[write])
        with pytest.raises(SystemExit) as stopped:
            run(run__dir=disk / "run", **options)
    said = "No space left on device" if how == "full" else "Read-only file system"
    assert said in stopped.value.code and "\n" not in stopped.value.code
    assert re.search(r"run/(checkpoints/\.?0000|\w+\.jsonl|\.?model)", stopped.value.code), stopped.value.code
    kept = checkpoints(disk / "run")
    assert kept and read_progress(kept[-1]).steps == int(kept[-1].name)
    mend_disk(disk, how)
    resumed = run(run__dir=disk / "run", run__resume="auto", **options)
    assert untimed(resumed) == untimed(whole) and lines(resumed, "completions") == lines(whole, "completions")
    assert result(resumed)["after"] == result(whole)["after"] and same(resumed / "model", whole / "model")


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_run_that_cannot_begin_to_write_says_where(run, disk, how):
    break_disk(disk, how)
    with pytest.raises(SystemExit, match=r"run.dir: .*(No space left|Read-only file system).*disk/run"):
        run(run__dir=disk / "run")


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_picture_that_cannot_be_written_ends_no_run(run, disk, monkeypatch, how, capsys):
    shown = disk.parent / "elsewhere"
    shown.mkdir()
    from minigrpo.curves import draw_curves

    def drawn(path, history):
        break_disk(disk, how)
        draw_curves(disk / "curves.png", history)

    with monkeypatch.context() as patched:
        patched.setattr("minigrpo.log.draw_curves", drawn)
        assert result(run(curves=True, run__dir=shown / "run"))["steps"] == 2
    assert "cannot be drawn: [Errno" in capsys.readouterr().out
    assert os.path.exists(shown / "run/model") and shutil.disk_usage(disk).free >= 0
