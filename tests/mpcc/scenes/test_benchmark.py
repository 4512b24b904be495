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
from mpcc.scenes.benchmark import likelihoods
from mpcc.scenes.categories import NAMES, SUPERCATEGORY_OF
from mpcc.scenes.folder import write_benchmark
from mpcc.scenes.world import DIFFICULTY, generate

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
        assert list(instance.box) == pair["bbox"] and instance.category == pair["category_name"]
        assert (read.annotation, read.answer, read.trace) == (instance.id, pair["category_name"], pair["trace"])
        assert pair["difficulty"] == DIFFICULTY[pair["reason"]] and pair["filled"] == pair["confusing"]


def test_confusing_names_are_of_the_place_and_never_the_truth(pairs):
    here, foreign = likelihoods().here, 0
    for pair in pairs:
        place = scene_of(pair).place
        assert pair["category_name"] not in pair["confusing"] and len(set(pair["confusing"])) == 4
        away = [name for name in pair["confusing"] if name not in here[place]]
        foreign += len(away)
        assert not away or (place == "ski slope" and len(away) == 1), "only the slope knows fewer than 5 categories"
    assert 0 < foreign < 200


def test_confusing_names_rather_look_or_serve_alike(pairs):
    here = likelihoods().here
    chosen = possible = 0.0
    for pair in pairs:
        group, place = SUPERCATEGORY_OF[pair["category_name"]], scene_of(pair).place
        local = here[place] - {pair["category_name"]}
        chosen += sum(SUPERCATEGORY_OF[name] == group for name in pair["confusing"]) / 4
        possible += sum(SUPERCATEGORY_OF[name] == group for name in local) / len(local)
    assert chosen > 1.15 * possible


def test_irrelevant_names_never_go_with_the_picture(pairs):
    likely = likelihoods()
    for pair in pairs:
        picture = scene_of(pair)
        seen = {item.category for item in picture.items}
        for name in pair["irrelevant"]:
            assert name not in likely.here[picture.place] and not seen & likely.beside[name].keys()
            assert SUPERCATEGORY_OF[name] != SUPERCATEGORY_OF[pair["category_name"]]


def test_the_evidence_points_to_the_answer(pairs):
    """Where the world surprises, nobody could know: a cat on the leash is no item."""
    readings = likelihoods().readings
    for pair in pairs:
        item = next(i for i in scene_of(pair).items if list(i.box) == pair["bbox"])
        best, count = readings[item.clue.evidence].most_common(1)[0]
        assert best == pair["category_name"] and count >= 2 / 3 * readings[item.clue.evidence].total()


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
