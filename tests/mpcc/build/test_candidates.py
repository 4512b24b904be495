"""Stage 1: which instances make candidates, and why the others do not."""

from collections import Counter

import pytest
from small_coco import annotation, write_split

from mpcc.build.candidates import Limits, candidates, is_truncated
from mpcc.coco import Coco, ImageEntry
from mpcc.task import MaskedPrediction


def outcome(folder, annotations, seed=0, **limits):
    write_split(folder, "val2017", annotations)
    return candidates(Coco(folder, "val2017"), Limits(**{"per_image": 0} | limits), seed)


@pytest.fixture
def mixed():
    return [
        annotation(1, 1, 1, [10, 10, 40, 30]),
        annotation(2, 1, 1, [60, 10, 20, 20]),
        annotation(3, 1, 2, [0, 40, 30, 30]),
        annotation(4, 1, 3, [50, 50, 5, 5]),
        annotation(5, 2, 1, [5, 5, 90, 70]),
        annotation(6, 2, 3, [20, 20, 30, 30], iscrowd=1, segmentation={"counts": [0, 8000], "size": [80, 100]}),
    ]


def test_what_fits_and_what_does_not(tmp_path, mixed):
    found = outcome(tmp_path, mixed)
    assert [pair["annotation_id"] for pair in found.pairs] == [1, 2, 3]
    assert found.pairs[0] == {
        "id": "val2017/1.png#1", "file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog",
        "supercategory": "animal", "annotation_id": 1, "area": 0.15, "truncated": False, "others_visible": True,
    }
    assert [pair["truncated"] for pair in found.pairs] == [False, False, True]
    assert [pair["others_visible"] for pair in found.pairs] == [True, True, False]
    assert found.dropped == {
        "val2017/1.png#4": "smaller than min_area", "val2017/2.png#5": "larger than max_area",
        "val2017/2.png#6": "crowd",
    }


def test_truncated_and_repeated_ones_can_be_dropped(tmp_path, mixed):
    found = outcome(tmp_path, mixed, truncated=False, others=False)
    assert found.pairs == []
    reasons = Counter(found.dropped.values())
    assert reasons["truncated at the border"] == 1
    assert reasons["another instance of its class is visible"] == 2


@pytest.mark.parametrize(("box", "cut"), [
    ([3, 3, 10, 10], False), ([2, 3, 10, 10], True), ([3, 2, 10, 10], True), ([3, 3, 94, 10], False),
    ([3, 3, 95, 10], True), ([3, 3, 10, 75], True), ([3, 3, 10, 74], False), ([-0.5, 3, 10, 10], True),
])
def test_truncation_is_within_two_pixels_of_the_edge(box, cut):
    assert is_truncated(box, ImageEntry(1, "1.png", 100, 80)) is cut


def test_other_instances_are_those_the_task_sees(tmp_path, mixed):
    found = outcome(tmp_path, mixed)
    samples = MaskedPrediction(MaskedPrediction.Config(coco=str(tmp_path), train_split="val2017",
                                                       held_out_split="none")).samples()
    assert {s.id: s.data["others_visible"] for s in samples} == {p["id"]: p["others_visible"] for p in found.pairs}


def crowded():
    """One image with six dogs, two signs and a cup."""
    kinds = [1, 1, 1, 1, 1, 1, 2, 2, 3]
    return [annotation(i, 1, kind, [5 + 10 * i, 10, 12, 12]) for i, kind in enumerate(kinds)]


def test_one_of_each_category_comes_before_the_second_of_any(tmp_path):
    found = outcome(tmp_path, crowded(), per_image=3)
    assert sorted(pair["category_name"] for pair in found.pairs) == ["cup", "dog", "stop sign"]
    assert Counter(found.dropped.values()) == {"beyond 3 of its image": 6}


def test_the_seed_chooses(tmp_path):
    chosen = {seed: tuple(pair["id"] for pair in outcome(tmp_path / str(seed), crowded(), seed, per_image=1).pairs)
              for seed in range(8)}
    assert len(set(chosen.values())) > 2
    assert chosen[3] == tuple(p["id"] for p in outcome(tmp_path / "again", crowded(), 3, per_image=1).pairs)


def test_the_order_is_by_file_name_and_annotation(tmp_path):
    boxes = [annotation(9, 3, 1, [10, 10, 20, 20]), annotation(8, 1, 1, [10, 10, 20, 20]),
             annotation(2, 3, 2, [40, 40, 20, 20])]
    assert [pair["annotation_id"] for pair in outcome(tmp_path, boxes).pairs] == [8, 2, 9]
