"""What is found out about pictures and pairs before the first step."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from small_coco import pair, pairs_file, task

from mpcc import inspection
from mpcc.coco import Coco
from mpcc.inspection import without_bad_pictures
from mpcc.pairs import instance_pairs


def whole(folder):
    coco = Coco(folder, "train2017")
    return coco, instance_pairs(coco, 0.01, 0.5)


def truncate(path):
    path.write_bytes(path.read_bytes()[:500])


def test_a_bad_picture_takes_its_pairs_along_and_is_listed(folder, cache):
    coco, pairs = whole(folder)
    truncate(folder / "train2017" / "1.png")
    with pytest.warns(UserWarning, match=r"1 of 2 pictures of .*train2017 are wrong and left out, listed in"):
        kept = without_bad_pictures(coco, pairs, 0.5)
    assert {pair.image.file_name for pair in pairs} == {"1.png", "3.png"}
    assert {pair.image.file_name for pair in kept} == {"3.png"}
    (listed,) = (cache / "rejected").iterdir()
    assert "1.png (image 1)" in listed.read_text()


@pytest.mark.parametrize("harm", ["truncated", "missing", "size", "pipe", "text", "folder"])
def test_too_many_bad_pictures_are_refused_before_the_first_step(folder, harm):
    path = folder / "train2017" / "3.png"
    path.unlink()
    if harm == "truncated":
        shutil.copy(folder / "train2017" / "1.png", path)
        truncate(path)
    elif harm == "size":
        Image.new("RGB", (80, 100)).save(path)
    elif harm == "pipe":
        os.mkfifo(path)
    elif harm == "text":
        path.write_text("no picture")
    elif harm == "folder":
        path.mkdir()
    with pytest.raises(ValueError, match=r"3\.png .*1 of 2 pictures of .*more than task\.max_bad = 0\.01") as caught:
        task(folder).samples()
    assert "\n" not in str(caught.value)


def test_a_bad_picture_that_no_pair_uses_is_not_looked_at(folder):
    truncate(folder / "train2017" / "2.png")
    assert len(task(folder).samples()) > 0


def test_good_pictures_are_remembered_until_they_change(folder, cache, monkeypatch):
    monkeypatch.setattr(inspection, "REMEMBERED", 1)
    coco, pairs = whole(folder)
    opened = []
    monkeypatch.setattr(Coco, "open", lambda self, entry, real=Coco.open: opened.append(entry.id) or real(self, entry))
    for expected in ([1, 3], []):
        assert without_bad_pictures(coco, pairs, 0.0) == pairs
        assert sorted(opened) == expected
        opened.clear()
    truncate(folder / "train2017" / "3.png")
    for _ in range(2):  # a bad one is not remembered: it may be replaced
        with pytest.raises(ValueError, match=r"3\.png"):
            without_bad_pictures(coco, pairs, 0.0)
        assert opened == [3]
        opened.clear()
    (memory,) = (cache / "pictures").iterdir()
    memory.write_text('{"cut')
    shutil.copy(folder / "train2017" / "2.png", folder / "train2017" / "3.png")
    assert without_bad_pictures(coco, pairs, 0.0) == pairs and sorted(opened) == [1, 3]


def test_a_cache_that_cannot_be_written_is_done_without(folder, cache, monkeypatch):
    monkeypatch.setattr(inspection, "REMEMBERED", 1)
    cache.write_text("in the way")
    coco, pairs = whole(folder)
    assert without_bad_pictures(coco, pairs, 0.0) == pairs


def test_of_two_processes_both_find_the_same(folder, cache):
    program = ("import sys; from mpcc import inspection; from mpcc.coco import Coco; from mpcc.pairs import *; "
               "inspection.REMEMBERED = 1; coco = Coco(sys.argv[1], 'train2017'); "
               "print(len(inspection.without_bad_pictures(coco, instance_pairs(coco, 0.01, 0.5), 0.0)))")
    command = [sys.executable, "-c", program, str(folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {process.communicate(timeout=120)[0] for process in both}
    assert said == {f"{len(whole(folder)[1])}\n"}


def test_held_out_pairs_that_are_trained_on_are_refused(folder, tmp_path):
    shutil.copy(folder / "train2017" / "1.png", folder / "val2017" / "2.png")
    train = pairs_file(tmp_path / "train.json", pair())
    held_out = pairs_file(tmp_path / "held.json", pair(file_name="2.png", bbox=[12, 10, 40, 30]))
    with pytest.raises(ValueError, match=r"held-out pair val2017/2\.png#12,10,40,30 is the "
                                         r"training pair train2017/1\.png#11 .*take it out of one; 1 of 1 held-out "
                                         r"pairs of .*held\.json"):
        task(folder, pairs=train, held_out_pairs=held_out).held_out()


def test_an_outline_that_hides_nothing_is_refused(folder, tmp_path):
    content = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    content["annotations"][0]["segmentation"] = [[60, 60, 60, 60, 60, 60]]
    (folder / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    path = pairs_file(tmp_path / "p.json", pair(annotation_id=11))
    with pytest.raises(ValueError, match=r"train2017/1\.png#11 has an outline without a pixel"):
        task(folder, pairs=path, mask="polygon").samples()
    assert len(task(folder, pairs=path).samples()) == 1


def test_another_object_of_a_trained_picture_may_be_held_out(folder, tmp_path):
    shutil.copy(folder / "train2017" / "1.png", folder / "val2017" / "2.png")
    train = pairs_file(tmp_path / "train.json", pair(bbox=[70, 50, 20, 20]))
    others = pair(file_name="2.png"), pair(file_name="3.png", bbox=[70, 50, 20, 20])
    held_out = pairs_file(tmp_path / "held.json", *others)
    assert len(task(folder, pairs=train, held_out_pairs=held_out).held_out()) == 2
