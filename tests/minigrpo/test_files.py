"""What is written aside takes the place of the old at the end, or leaves it as it was."""

import os

import pytest

from minigrpo.files import replacing


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
