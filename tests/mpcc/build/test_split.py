"""Stage 7: parts by image, halves by category, and the committed halves."""

import json
from collections import Counter

import pytest

from mpcc.build.split import split
from mpcc.scenes.categories import SUPERCATEGORY_OF
from mpcc.splits import FOLDER, __main__, make_halves, read_halves
from mpcc.splits.coco_categories import COCO

COMMITTED = {"coco": COCO, "scenes": SUPERCATEGORY_OF}


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_halves_are_as_generated_and_balanced(name):
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    categories = COMMITTED[name]
    assert content == make_halves(categories, content["seed"])
    halves = [content["id"], content["ood"]]
    assert sorted(halves[0] + halves[1]) == sorted(categories)
    assert abs(len(halves[0]) - len(halves[1])) <= 1
    counts = [Counter(categories[category] for category in half) for half in halves]
    assert all(abs(counts[0][group] - counts[1][group]) <= 1 for group in set(categories.values()))


def test_coco_has_80_categories_40_in_each_half():
    assert len(COCO) == 80 and len(set(COCO.values())) == 12
    assert Counter(read_halves("coco").values()) == {"id": 40, "ood": 40}


def test_the_seed_decides_the_halves():
    assert len({tuple(make_halves(COCO, seed)["id"]) for seed in range(5)}) == 5


@pytest.mark.parametrize("name", COMMITTED)
def test_the_command_prints_and_writes_only_where_it_is_told_to(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    committed = (FOLDER / f"{name}.json").read_bytes()
    assert __main__.main([name]) == 0
    assert capsys.readouterr().out.encode() == committed and not list(tmp_path.iterdir())
    assert __main__.main([name, "--out", "halves.json"]) == 0
    assert (tmp_path / "halves.json").read_bytes() == committed
    assert __main__.main([name, "--seed", "1", "--out", "halves.json"]) == 0
    assert read_halves("halves.json").keys() == COMMITTED[name].keys()
    assert (tmp_path / "halves.json").read_bytes() != committed == (FOLDER / f"{name}.json").read_bytes()
    assert __main__.main([name, "--out", "gone/halves.json"]) == 1
    assert capsys.readouterr().err == "mpcc.splits: error: gone/halves.json: No such file or directory\n"


def test_help_and_a_missing_name_write_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in FOLDER.glob("*.json")}
    for words, code in ((["--help"], 0), ([], 2), (["voc"], 2)):
        with pytest.raises(SystemExit) as stopped:
            __main__.main(words)
        assert stopped.value.code == code
    assert before == {path: path.stat().st_mtime_ns for path in FOLDER.glob("*.json")} and not list(tmp_path.iterdir())


HEAD = {"format": "mpcc-halves", "version": 1}


@pytest.mark.parametrize(("content", "message"), [
    ([], "is not a halves file"),
    ({"format": "mpcc-pairs", "version": 1, "id": [], "ood": []}, "is not a halves file"),
    (HEAD | {"id": ["dog"]}, "ood is not a list of category names"),
    (HEAD | {"id": ["dog", 3], "ood": []}, "id is not a list of category names"),
    (HEAD | {"id": ["dog"], "ood": ["cat", "dog"]}, "category 'dog' stands twice"),
])
def test_broken_halves_are_refused(tmp_path, content, message):
    (tmp_path / "h.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_halves(str(tmp_path / "h.json"))


PAIRS = [{"id": f"{i}#{j}", "file_name": f"{i}.jpg", "category_name": name, "difficulty": "easy"}
         for i in range(40) for j, name in enumerate(("dog", "bus"))]
HALF_OF = {"dog": "id", "bus": "ood"}


@pytest.mark.parametrize(("share", "tested"), [(0, 0), (0.25, 10), (0.5, 20), (1, 40)])
def test_images_are_divided_not_pairs(share, tested):
    divided = split(PAIRS, share, HALF_OF, seed=0).pairs
    parts = {part: {p["file_name"] for p in divided if p["part"] == part} for part in ("train", "test")}
    assert len(parts["test"]) == tested and len(parts["train"]) == 40 - tested
    assert not parts["train"] & parts["test"]
    assert all(p["half"] == HALF_OF[p["category_name"]] for p in divided)
    assert [{k: p[k] for k in PAIRS[0]} for p in divided] == PAIRS


def test_the_seed_decides_which_images_are_tested_on():
    parts = {tuple(p["part"] for p in split(PAIRS, 0.5, HALF_OF, seed).pairs) for seed in range(5)}
    assert len(parts) == 5


def test_missing_labels_are_named():
    unlabelled = [p | {"difficulty": None} if p["id"] in ("3#0", "7#1") else p for p in PAIRS]
    with pytest.raises(ValueError, match=r"2 pairs of the benchmark lack difficulty: 3#0, 7#1; label them"):
        split(unlabelled, 1, HALF_OF, 0)


def test_an_unknown_category_is_named():
    with pytest.raises(ValueError, match="pair 0#1: category_name 'bus' is in neither half"):
        split(PAIRS, 0.5, {"dog": "id"}, 0)
