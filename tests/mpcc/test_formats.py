"""Pairs files, converted both ways between our format and the authors' two."""

import json
import os

import pytest
from small_benchmark import EVIDENCE, our_pair, their_pair

from mpcc.benchmark import read_benchmark
from mpcc.formats import read_pairs, write_authors_evaluation, write_authors_training, write_pairs


def pairs_of(path, **options):
    split, located = read_pairs(path, **options)
    return split, [found.pair for found in located]


def test_our_file_keeps_every_field_also_those_it_does_not_know(tmp_path):
    pairs = [our_pair(note="näher ansehen"), our_pair(id="second", confusing=...)]
    write_pairs(tmp_path / "p.json", "val2017", pairs)
    assert pairs_of(tmp_path / "p.json") == ("val2017", pairs)
    assert "näher" in (tmp_path / "p.json").read_text(encoding="utf-8")


def test_the_authors_evaluation_file_survives_the_way_through_ours(tmp_path):
    lists = {"hard": [their_pair()], "middle": [their_pair(file_name="2.png", bbox=[1.25, 2, 3.5, 4])],
             "easy": [their_pair(category_name="A cat")]}
    (tmp_path / "theirs.json").write_text(json.dumps(lists))
    split, pairs = pairs_of(tmp_path / "theirs.json")
    write_pairs(tmp_path / "ours.json", split, pairs)
    assert pairs_of(tmp_path / "ours.json") == (split, pairs)
    write_authors_evaluation(tmp_path / "again.json", pairs)
    assert json.loads((tmp_path / "again.json").read_text()) == lists


def test_our_benchmark_survives_the_authors_format_but_for_what_that_cannot_hold(tmp_path):
    ours = [our_pair(), our_pair(id="b", file_name="2.png", difficulty="moderate"), our_pair(id="c", difficulty="easy")]
    write_authors_evaluation(tmp_path / "theirs.json", ours)
    fields = ("file_name", "bbox", "category_name", "difficulty", "confusing", "irrelevant", "scene", "evidence")
    again = pairs_of(tmp_path / "theirs.json")[1]
    assert [{f: p[f] for f in fields} for p in again] == [{f: p[f] for f in fields} for p in ours]
    assert len(read_benchmark(tmp_path / "theirs.json").items) == 3


def test_an_incomplete_pair_is_not_written_as_the_authors_would_evaluate_it(tmp_path):
    for missing in ("difficulty", "confusing", "irrelevant"):
        with pytest.raises(ValueError, match=r"pair b: .*theirs\.json needs its difficulty"):
            write_authors_evaluation(tmp_path / "theirs.json", [our_pair(), our_pair(**{"id": "b", missing: ...})])
    assert list(tmp_path.iterdir()) == []


def test_the_authors_training_file_survives_the_way_through_ours(tmp_path):
    records = [
        {"file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog", "supercategory": "animal",
         "cot_data": " A leash. "},
        {"file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog", "supercategory": "animal"},
    ]
    (tmp_path / "theirs.json").write_text(json.dumps(records))
    split, pairs = pairs_of(tmp_path / "theirs.json", split="train2014")
    assert (split, pairs[0]["trace"]) == ("train2014", " A leash. ") and "cot_data" not in pairs[0]
    assert [p["id"] for p in pairs] == ["train2014/1.png#10,10,40,30", "train2014/1.png#10,10,40,30~2"]
    write_pairs(tmp_path / "ours.json", split, pairs)
    write_authors_training(tmp_path / "again.json", pairs_of(tmp_path / "ours.json")[1])
    assert json.loads((tmp_path / "again.json").read_text()) == records


def test_our_pairs_become_training_records(tmp_path):
    write_authors_training(tmp_path / "t.json", [
        our_pair(), our_pair(trace=..., supercategory=..., scene=..., evidence=[]),
    ])
    base = {"file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog"}
    assert json.loads((tmp_path / "t.json").read_text()) == [
        base | {"supercategory": "animal", "cot_data": "A leash lies there.", "scene": "street", "evidence": EVIDENCE},
        base | {"supercategory": ""},
    ]


def test_an_annotation_id_makes_the_id_of_a_training_record(tmp_path):
    record = {"file_name": "1.png", "bbox": [1, 2, 3, 4], "category_name": "dog", "annotation_id": 7, "id": "x/7"}
    (tmp_path / "t.json").write_text(json.dumps([record]))
    assert pairs_of(tmp_path / "t.json")[1][0]["id"] == "train2017/1.png#7"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "p.json"
    write_pairs(path, "val2017", [our_pair()])
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_pairs(path, "val2017", [our_pair(note=object())])
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_pairs(path, "val2017", [])
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
