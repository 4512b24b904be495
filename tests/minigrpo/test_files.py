"""What is written aside takes the place of the old at the end, or leaves it as it was."""

import errno
import os
import subprocess
import sys

import pytest

from minigrpo.files import append, held, replacing


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_file_is_on_the_disk_before_it_moves(tmp_path, monkeypatch):
    path, steps, move = tmp_path / "a.json", [], os.replace
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", lambda file: steps.append(os.fstat(file).st_size))
    monkeypatch.setattr(os, "replace", lambda source, target: steps.append(target) or move(source, target))
    with replacing(path) as part:
        part.write_text("longer")
        assert path.read_text() == "old" and part.parent == tmp_path
    assert path.read_text() == "longer" and names(tmp_path) == {"a.json"} and steps == [6, path]


def test_a_folder_takes_the_place_of_another_with_nothing_of_the_old_in_it(tmp_path):
    for name in ("one", "two"):
        with replacing(tmp_path / "model") as part:
            part.mkdir()
            (part / name).write_text(name)
    assert names(tmp_path) == {"model"} and names(tmp_path / "model") == {"two"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_or_an_interrupt_leaves_the_old_one_and_nothing_else(tmp_path, error):
    (tmp_path / "model").mkdir()
    (tmp_path / "a.json").write_text("old")
    for name in ("model", "a.json"):
        with pytest.raises(error), replacing(tmp_path / name) as part:
            part.write_text("half")
            raise error
    assert names(tmp_path) == {"model", "a.json"} and (tmp_path / "a.json").read_text() == "old"


def test_what_a_killed_process_left_behind_is_no_obstacle(tmp_path):
    for left in (".model.part", "model.old"):  # killed between the two moves of a folder
        (tmp_path / left).mkdir()
        (tmp_path / left / "half").write_text("half")
    with replacing(tmp_path / "model") as part:
        part.mkdir()
        (part / "whole").write_text("whole")
    assert names(tmp_path) == {"model"} and names(tmp_path / "model") == {"whole"}


def test_a_full_disk_is_said_of_the_file():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        append("/dev/full", "a line\n")


def test_a_full_disk_while_writing_aside_is_said_of_the_file(tmp_path):
    with pytest.raises(OSError, match="No space left on device: '.*a.json'"), replacing(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_second_process_is_told_who_holds_a_folder(tmp_path):
    with held(tmp_path / "run", "train.py"):
        with pytest.raises(ValueError, match=rf"run is in use by train.py, process {os.getpid()} on .*, since \d+-"):
            held(tmp_path / "run", "eval.py").__enter__()
        assert names(tmp_path / "run") == {".lock"}
    with held(tmp_path / "run", "eval.py"):  # free again
        pass


def test_a_folder_is_free_when_its_process_was_killed(tmp_path):
    code = f"import sys, time\nfrom minigrpo.files import held\nwith held({str(tmp_path)!r}, 'it'):\n" \
           "    print('held', flush=True)\n    time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match=f"process {holder.pid}"):
        held(tmp_path, "me").__enter__()
    holder.kill()
    holder.wait()
    with held(tmp_path, "me"):
        pass
