"""The scenes benchmark: the paper's sizes, the same every time, and options that deserve their names."""

import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from mpcc.benchmark import category_names, read_benchmark
from mpcc.coco import Coco
from mpcc.formats import read_pairs
from mpcc.pairs import file_pairs
from mpcc.scenes import benchmark
from mpcc.scenes.canvas import HEIGHT, WIDTH, overlap
from mpcc.scenes.categories import NAMES, SUPERCATEGORY_OF
from mpcc.scenes.evidence import DIFFICULTY
from mpcc.scenes.folder import write_benchmark
from mpcc.scenes.places import PLACES
from mpcc.scenes.world import generate

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("scenes")
    write_benchmark(path)
    return path


@pytest.fixture(scope="module")
def pairs(folder):
    return [found.pair for found in read_pairs(folder / "benchmark.json")[1]]


def scene_of(pair):
    return scene(int(pair["file_name"].removesuffix(".jpg")))


@cache
def scene(number):
    return generate(f"benchmark2017/{number}")


def test_it_is_a_sound_benchmark_of_the_papers_sizes(folder):
    names = category_names(folder / "annotations" / "instances_benchmark2017.json")
    read = read_benchmark(folder / "benchmark.json", folder / "benchmark2017", names)
    assert Counter(item.difficulty for item in read.items) == {"hard": 322, "moderate": 341, "easy": 451}
    assert read.split == "benchmark2017" and names == set(NAMES)


def test_the_same_bytes_come_out_of_every_process(tmp_path, monkeypatch):
    """Sets are ordered anew in each process: nothing may depend on that."""
    few = {"hard": 20, "moderate": 20, "easy": 20}
    monkeypatch.setattr(benchmark, "COUNTS", few)
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    write_benchmark(tmp_path / "here")
    program = (
        "import sys; from pathlib import Path; from mpcc.scenes import benchmark, folder;"
        f"benchmark.COUNTS = {few}; folder.write_benchmark(Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "there")], check=True, timeout=120, cwd=ROOT,
                   env=os.environ | {"PYTHONHASHSEED": "7"})
    files = sorted(path.relative_to(tmp_path / "here") for path in (tmp_path / "here").rglob("*.*"))
    assert len(files) > 30
    for name in files:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def test_a_picture_has_at_most_two_pairs_with_different_answers(pairs):
    answers = Counter((pair["file_name"], pair["category_name"]) for pair in pairs)
    pictures = Counter(pair["file_name"] for pair in pairs)
    assert max(answers.values()) == 1 and set(pictures.values()) == {1, 2}


def test_pairs_fit_their_annotations_and_can_be_trained_on(folder, pairs):
    coco = Coco(folder, "benchmark2017")
    by_id = {pair.id: pair for pair in file_pairs(folder / "benchmark.json", coco)}
    assert len(by_id) == 1114
    for pair in pairs:
        instance, read = coco.instances[pair["annotation_id"]], by_id[pair["id"]]
        assert holds(pair["bbox"], instance.box) and instance.category == pair["category_name"]
        assert (read.annotation, read.answer, read.trace) == (instance.id, pair["category_name"], pair["trace"])
        assert read.scene == pair["scene"] and [clue.text for clue in read.evidence] == [
            clue["text"] for clue in pair["evidence"]]
        assert pair["difficulty"] == DIFFICULTY[pair["reason"]] and pair["filled"] == pair["confusing"]


def holds(hidden, box):
    (x, y, w, h), (left, top, wide, high) = hidden, box
    return x <= left and y <= top and left + wide <= x + w and top + high <= y + h


def test_confusing_names_are_of_the_place_and_never_the_truth(pairs):
    for pair in pairs:
        assert pair["scene"] == scene_of(pair).place
        assert pair["category_name"] not in pair["confusing"] and len(set(pair["confusing"])) == 4
        away = set(pair["confusing"]) - PLACES[pair["scene"]].here
        assert len(away) == max(5 - len(PLACES[pair["scene"]].here), 0), "only where a place knows fewer than 5"


def test_confusing_names_rather_look_or_serve_alike(pairs):
    chosen = possible = 0.0
    for pair in pairs:
        group, local = SUPERCATEGORY_OF[pair["category_name"]], PLACES[pair["scene"]].here - {pair["category_name"]}
        chosen += sum(SUPERCATEGORY_OF[name] == group for name in pair["confusing"]) / 4
        possible += sum(SUPERCATEGORY_OF[name] == group for name in local) / len(local)
    assert chosen > 1.15 * possible


def test_irrelevant_names_never_go_with_the_picture(pairs):
    for pair in pairs:
        seen = {item.category for item in scene_of(pair).items}
        for name in pair["irrelevant"]:
            assert not any(name in place.here and seen & place.here for place in PLACES.values())
            assert SUPERCATEGORY_OF[name] != SUPERCATEGORY_OF[pair["category_name"]]


def test_every_pair_has_evidence_with_regions_beside_what_is_hidden(pairs):
    for pair in pairs:
        assert len(pair["evidence"]) >= 2
        for clue in pair["evidence"]:
            x, y, w, h = clue["bbox"]
            assert w > 0 and h > 0 and x >= 0 and y >= 0 and x + w <= WIDTH and y + h <= HEIGHT
            assert not overlap(clue["bbox"], pair["bbox"]) and clue["text"] in pair["trace"]


def test_others_visible_says_whether_another_one_is(pairs):
    seen = Counter()
    for pair in pairs:
        count = sum(item.category == pair["category_name"] for item in scene_of(pair).items)
        assert not pair["others_visible"] or count > 1
        # in a row they stand apart: no box hides its neighbours whole
        assert pair["others_visible"] or pair["reason"] != "object analogy"
        seen[pair["others_visible"]] += 1
    assert min(seen.values()) > 100


def test_no_answer_and_no_place_prevails(pairs):
    answers = Counter(pair["category_name"] for pair in pairs)
    assert max(answers.values()) < 0.1 * len(pairs) and len(answers) > 40
    places = Counter(scene_of(pair).place for pair in pairs[::5])
    assert len(places) == 10 and max(places.values()) < 0.25 * sum(places.values())
