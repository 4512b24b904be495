"""Reading benchmarks: both formats as they are, and every way in which a file can be bad."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from small_benchmark import EVIDENCE, our_pair, their_pair

from mpcc.benchmark import category_names, open_image, read_benchmark
from mpcc.coco import Coco
from mpcc.formats import Evidence, write_pairs
from mpcc.pairs import instance_pairs

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco"


def ours(path, *pairs, **head):
    path.write_text(json.dumps({"format": "mpcc-pairs", "version": 1, "split": "val2017", "pairs": pairs} | head))
    return path


def theirs(path, **lists):
    path.write_text(json.dumps({"hard": [], "middle": [], "easy": []} | lists))
    return path


def test_our_file_is_read(folder, tmp_path):
    bare = our_pair(id="second", difficulty="easy", reason=..., trace=..., scene=..., evidence=...)
    path = ours(tmp_path / "b.json", our_pair(), bare)
    benchmark = read_benchmark(path, folder / "val2017", {"dog"})
    assert (benchmark.split, benchmark.source, len(benchmark.items)) == ("val2017", str(path), 2)
    item = benchmark.items[0]
    assert (item.id, item.file_name, item.box) == ("val2017/1.png#11", "1.png", (10.0, 10.0, 40.0, 30.0))
    assert (item.answer, item.supercategory, item.difficulty) == ("dog", "animal", "hard")
    assert item.confusing == ("cat", "fox", "wolf", "sheep") and item.irrelevant == ("pizza", "toilet")
    assert (item.reason, item.trace) == ("scene understanding", "A leash lies there.")
    assert (benchmark.items[1].reason, benchmark.items[1].trace) == (None, None)
    assert item.scene == "street" and item.evidence == (
        Evidence("A leash lies beside the box.", (52.0, 30.0, 20.0, 8.0)),
        Evidence("A bowl stands below it.", (20.5, 45.0, 12.0, 9.0)))
    assert benchmark.items[1].scene is None and benchmark.items[1].evidence == ()
    assert open_image(item, folder / "val2017").size == (100, 80)


def test_the_authors_evaluation_file_is_read_as_it_is(folder, tmp_path):
    path = theirs(tmp_path / "e.json", hard=[their_pair()], middle=[their_pair(), their_pair(bbox=[1.5, 2, 3, 4])],
                  easy=[their_pair(file_name="2.png")])
    benchmark = read_benchmark(path, folder / "val2017", {"dog"})
    assert [item.difficulty for item in benchmark.items] == ["hard", "moderate", "moderate", "easy"]
    assert [item.id for item in benchmark.items] == [
        "val2017/1.png#10,10,40,30", "val2017/1.png#10,10,40,30~2", "val2017/1.png#1.5,2,3,4",
        "val2017/2.png#10,10,40,30",
    ]
    item = benchmark.items[0]
    assert item.confusing == ("cat", "fox", "wolf", "sheep"), "Cho.E's two stand first"
    assert item.irrelevant == ("pizza", "toilet", "kite") and benchmark.split == "val2017"


def test_an_item_written_and_read_is_the_same(tmp_path):
    benchmark = read_benchmark(ours(tmp_path / "b.json", our_pair()))
    write_pairs(tmp_path / "again.json", benchmark.split, [item.to_pair() for item in benchmark.items])
    assert read_benchmark(tmp_path / "again.json").items == benchmark.items
    assert benchmark.items[0].to_pair()["evidence"] == EVIDENCE
    assert "evidence" not in replace(benchmark.items[0], evidence=()).to_pair()


@pytest.mark.parametrize(("changes", "match"), [
    ({"id": ...}, r"pairs\[1\] lacks id"),
    ({"id": 7}, r"pairs\[1\]: id = 7 is not a text"),
    ({"id": "first"}, r"pairs\[1\]: id 'first' is that of pairs\[0\] too"),
    ({"file_name": ...}, "pair second lacks file_name"),
    ({"category_name": " "}, "pair second lacks category_name"),
    ({"category_name": "unicorn"}, "pair second: category_name 'unicorn' is no category of the annotations"),
    ({"difficulty": ...}, "pair second: difficulty None is unknown"),
    ({"difficulty": "middle"}, "pair second: difficulty 'middle' is unknown; it must be one of hard, moderate, easy"),
    ({"bbox": [90, 10, 40, 4]}, r"pair second: bbox .* outside its image 1\.png of 100x80"),
    ({"bbox": [1, 1, 0, 4]}, "pair second: bbox .* is empty"),
    ({"bbox": [1, 1, 4]}, "pair second: bbox .* is not four finite numbers"),
    ({"confusing": ["cat", "fox", "wolf"]}, "pair second: confusing holds 3 names, not 4"),
    ({"confusing": ["cat", "fox", "wolf", "sheep", "cow"]}, "pair second: confusing holds 5 names, not 4"),
    ({"confusing": "cat"}, "pair second: confusing = 'cat' is not a list of names"),
    ({"confusing": ["cat", "fox", "wolf", 4]}, "pair second: confusing = .* is not a list of names"),
    ({"confusing": ["cat", "fox", "wolf", "A Dog."]}, "confusing holds 'A Dog.', which is the true answer"),
    ({"confusing": ["cat", "fox", "wolf", "the cat"]}, "confusing holds 'the cat', which stands in confusing already"),
    ({"irrelevant": ["pizza"]}, "pair second: irrelevant holds 1 names; 2 or more are needed"),
    ({"irrelevant": ["pizza", "Fox"]}, "pair second: irrelevant holds 'Fox', which stands in confusing already"),
    ({"irrelevant": ["pizza", "."]}, "pair second: irrelevant '.' is no name"),
    ({"reason": 3}, "pair second: reason = 3 is not a text"),
    ({"scene": ["street"]}, "pair second: scene = .* is not a text"),
    ({"evidence": "a leash"}, "pair second: evidence = 'a leash' is not a list of clues"),
    ({"evidence": [{"bbox": [1, 2, 3, 4]}]}, r"pair second: evidence\[0\] lacks text"),
    ({"evidence": [EVIDENCE[0], {"text": "A leash."}]}, r"pair second: evidence\[1\] lacks bbox"),
    ({"evidence": [{"text": "A leash.", "bbox": [90, 10, 40, 4]}]}, r"evidence\[0\]: bbox .* outside its image"),
    ({"file_name": "text.png"}, r"pair second: file_name: cannot read .*text\.png as an image"),
])
def test_a_bad_item_is_named_with_file_and_field(folder, tmp_path, changes, match):
    (folder / "val2017" / "text.png").write_text("no image")
    path = ours(tmp_path / "b.json", our_pair(id="first"), our_pair(**{"id": "second"} | changes))
    with pytest.raises(ValueError, match=rf"b\.json: .*{match}") as caught:
        read_benchmark(path, folder / "val2017", {"dog"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("changes", "match"), [
    ({"choose_negtive_confusion": ["cat", "fox", "cow"]}, "choose_negtive_confusion holds 3 names, not 2"),
    ({"judgement_negtive_confusion": ["cow"]}, "judgement_negtive_confusion holds 1 names, not 2"),
    ({"judgement_negtive_confusion": ...}, "judgement_negtive_confusion = None is not a list of names"),
    ({"judgement_negtive_confusion": ["cow", "Dog"]}, "judgement_negtive_confusion holds 'Dog', .* true answer"),
    ({"judgement_negtive_confusion": ["cow", "cat"]}, "holds 'cat', which stands in choose_negtive_confusion already"),
    ({"irrelevant_negtive": ["pizza"]}, "irrelevant_negtive holds 1 names"),
    ({"irrelevant_negtive": ["pizza", "pizza"]}, "irrelevant_negtive holds 'pizza', .* irrelevant_negtive already"),
    ({"bbox": None}, "bbox None is not four finite numbers"),
    ({"category_name": ...}, "lacks category_name"),
])
def test_a_bad_record_of_the_authors_is_named_in_their_words(tmp_path, changes, match):
    path = theirs(tmp_path / "e.json", middle=[their_pair(), their_pair(**changes)])
    with pytest.raises(ValueError, match=rf"e\.json: middle\[1\] \(1\.png\).*{match}") as caught:
        read_benchmark(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "match"), [
    ('{"format": "mpcc-pairs", "ver', "not whole JSON"),
    ("", "not whole JSON"),
    ("[]", "holds no pairs"),
    ('{"hard": [], "middle": [], "easy": []}', "holds no pairs"),
    ('{"pairs": []}', "not a pairs file"),
    ('"text"', "not a pairs file"),
    ('{"hard": [], "moderate": []}', "'moderate' is no difficulty; the lists are called hard, middle, easy"),
    ('{"hard": {}}', "hard is not a list"),
    ('{"hard": [3]}', r"hard\[0\] is not an object"),
    ('{"format": "coco", "version": 1}', "is of format 'coco', version 1; this program reads 'mpcc-pairs', version 1"),
    ('{"format": "mpcc-pairs", "version": 2, "split": "a", "pairs": []}', "version 2; this program reads"),
    ('{"format": "mpcc-pairs", "version": 1, "pairs": []}', "split = None is not the name of a split"),
    ('{"format": "mpcc-pairs", "version": 1, "split": "a"}', "pairs is not a list"),
    ('{"format": "mpcc-pairs", "version": 1, "split": "a", "pairs": ["x"]}', r"pairs\[0\] is not an object"),
])
def test_a_file_that_is_no_benchmark(tmp_path, text, match):
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"b\.json.*{match}") as caught:
        read_benchmark(path)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json is missing: a pairs file holds"):
        read_benchmark(tmp_path / "none.json")
    with pytest.raises(ValueError, match="is a folder: name the pairs file"):
        read_benchmark(tmp_path)
    path = ours(tmp_path / "b.json", our_pair(file_name="9.png"))
    with pytest.raises(FileNotFoundError, match=r"pair val2017/1\.png#11: file_name: .*9\.png is missing"):
        read_benchmark(path, folder / "val2017")


def test_an_image_that_breaks_off_is_found_when_it_is_opened(tmp_path):
    whole = tmp_path / "1.png"
    Image.effect_noise((100, 80), 50).save(whole)
    whole.write_bytes(whole.read_bytes()[:3000])
    item = read_benchmark(ours(tmp_path / "b.json", our_pair()), tmp_path).items[0]
    with pytest.raises(ValueError, match=r"pair val2017/1\.png#11: file_name: cannot read .*1\.png"):
        open_image(item, tmp_path)


@pytest.mark.skipif(not (REAL / "val2017").is_dir(), reason="the real COCO images are not here")
def test_the_authors_file_works_on_real_images(tmp_path):
    coco = Coco(REAL, "val2017")
    pairs = [
        their_pair(file_name=pair.image.file_name, bbox=list(pair.target.box), category_name=pair.answer,
                   choose_negtive_confusion=["x1", "x2"], judgement_negtive_confusion=["x3", "x4"],
                   irrelevant_negtive=["x5", "x6"])
        for pair in instance_pairs(coco, 0.01, 0.5)
    ]
    names = category_names(REAL / "annotations" / "instances_val2017.json")
    benchmark = read_benchmark(theirs(tmp_path / "e.json", middle=pairs), REAL / "val2017", names)
    assert len(names) == 80 and len(benchmark.items) == len(pairs) > 100
    with pytest.raises(ValueError, match="category_name 'dog' is no category"):
        read_benchmark(theirs(tmp_path / "e.json", easy=[their_pair()]), categories=names - {"dog"})


def test_category_names_of_an_annotation_file(folder, tmp_path):
    assert category_names(folder / "annotations" / "instances_val2017.json") == {"dog", "stop sign", "cup"}
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(ValueError, match=r"bad\.json is not a COCO annotation file"):
        category_names(tmp_path / "bad.json")
