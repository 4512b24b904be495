"""The command that converts pairs files: there and back, and what it says."""

import json

import pytest
from small_benchmark import our_pair, their_pair

from mpcc import benchmark
from mpcc.benchmark import read_benchmark
from mpcc.convert import main
from mpcc.formats import read_pairs, write_pairs


def test_the_authors_evaluation_file_comes_back_as_it_was(tmp_path, capsys):
    theirs = {"hard": [their_pair()], "middle": [their_pair(file_name="2.png")], "easy": []}
    (tmp_path / "theirs.json").write_text(json.dumps(theirs))
    assert main([str(tmp_path / "theirs.json"), str(tmp_path / "ours.json"), "--to", "ours", "--split", "val2017"]) == 0
    assert capsys.readouterr().out == f"2 pairs in {tmp_path / 'ours.json'}\n"
    ours = read_benchmark(tmp_path / "ours.json")
    assert ours.split == "val2017" and [i.difficulty for i in ours.items] == ["hard", "moderate"]
    assert main([str(tmp_path / "ours.json"), str(tmp_path / "back.json"), "--to", "evaluation"]) == 0
    assert json.loads((tmp_path / "back.json").read_text()) == theirs


def test_the_authors_training_file_comes_back_as_it_was_and_what_is_lost_is_said(tmp_path, capsys):
    write_pairs(tmp_path / "ours.json", "train2017", [our_pair(), our_pair(id="b", trace=...)])
    assert main([str(tmp_path / "ours.json"), str(tmp_path / "theirs.json"), "--to", "training"]) == 0
    said = capsys.readouterr().out
    assert "left out: id, annotation_id, others_visible, rating" in said and "trace" not in said
    assert "area" not in said, "they have none"
    records = json.loads((tmp_path / "theirs.json").read_text())
    assert records[0]["cot_data"] == "A leash lies there." and "cot_data" not in records[1]
    assert main([str(tmp_path / "theirs.json"), str(tmp_path / "again.json"), "--to", "ours"]) == 0
    traces = [found.pair.get("trace") for found in read_pairs(tmp_path / "again.json")[1]]
    assert traces == ["A leash lies there.", None]


@pytest.mark.parametrize("form", ["evaluation", "training"])
def test_every_field_of_the_pipeline_is_described_and_comes_back_or_is_said_to_be_left_out(tmp_path, capsys, form):
    pair = our_pair(area=0.15, truncated=True, part="test", half="id")
    assert all(f"`{field}`" in benchmark.__doc__ for field in pair)
    write_pairs(tmp_path / "ours.json", "val2017", [pair])
    assert main([str(tmp_path / "ours.json"), str(tmp_path / "theirs.json"), "--to", form]) == 0
    left_out = capsys.readouterr().out.partition("left out: ")[2].strip().split(", ")
    (back,) = [found.pair for found in read_pairs(tmp_path / "theirs.json")[1]]
    kept = {field for field in pair if field != "id" and back.get(field) == pair[field]}
    assert kept | set(left_out) == set(pair) and not kept & set(left_out)


@pytest.mark.parametrize(("content", "expected"), [
    ('[{"file_name"', "is not whole JSON"),
    ('{"worst": []}', "is not a pairs file"),
])
def test_a_broken_file_is_one_line_and_nothing_is_written(tmp_path, capsys, content, expected):
    (tmp_path / "in.json").write_text(content)
    assert main([str(tmp_path / "in.json"), str(tmp_path / "out.json"), "--to", "ours"]) == 1
    error = capsys.readouterr().err
    assert expected in error and len(error.splitlines()) == 1 and not (tmp_path / "out.json").exists()
