"""The scenes as a COCO folder: pycocotools reads it, it is complete, and two processes may write it at once."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from pycocotools.coco import COCO

from mpcc.scenes import benchmark
from mpcc.scenes import folder as scenes_folder
from mpcc.scenes.evidence import DIFFICULTY
from mpcc.scenes.folder import ensure_scenes
from mpcc.scenes.world import generate

FEW = {"hard": 3, "moderate": 4, "easy": 5}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with few pictures: the code is the same, the time is not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes_folder, "IMAGES", {"train2017": 30, "val2017": 10})
        patch.setattr(benchmark, "COUNTS", FEW)
        yield ensure_scenes(tmp_path_factory.mktemp("cache"))


def test_pycocotools_reads_it(small, capsys):
    coco = COCO(str(small / "annotations" / "instances_train2017.json"))
    assert len(coco.getImgIds()) == 30 and len(coco.getCatIds()) >= 24
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.loadImgs(annotation["image_id"])[0]
        mask = coco.annToMask(annotation)
        x, y, w, h = annotation["bbox"]
        assert mask.shape == (image["height"], image["width"])
        assert 0 < mask.sum() <= (w + 1) * (h + 1)
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.25, abs=12)
        assert mask[:, : max(int(x) - 1, 0)].sum() == 0 and mask[: max(int(y) - 1, 0)].sum() == 0
        assert annotation["iscrowd"] == 0


@pytest.mark.parametrize(("split", "images"), [("train2017", 30), ("val2017", 10)])
def test_pairs_are_in_the_authors_form_and_fit_their_annotations(small, split, images):
    pairs = json.loads((small / f"pairs_{split}.json").read_text())
    coco = json.loads((small / "annotations" / f"instances_{split}.json").read_text())
    annotations = {a["id"]: a for a in coco["annotations"]}
    categories = {c["id"]: c for c in coco["categories"]}
    files = {i["id"]: i["file_name"] for i in coco["images"]}
    assert images < len(pairs) <= 2 * images and len({p["id"] for p in pairs}) == len(pairs)
    for pair in pairs:
        annotation = annotations[pair["annotation_id"]]
        category = categories[annotation["category_id"]]
        (x, y, w, h), (left, top, wide, high) = pair["bbox"], annotation["bbox"]
        assert x <= left and y <= top and left + wide <= x + w and top + high <= y + h, "hidden whole"
        assert pair["evidence"] == annotation["evidence"] and len(pair["evidence"]) >= 2
        assert pair["scene"] in pair["cot_data"] and pair["file_name"] == files[annotation["image_id"]]
        assert (pair["category_name"], pair["supercategory"]) == (category["name"], category["supercategory"])
        assert pair["difficulty"] == DIFFICULTY[pair["reason"]]
        assert "<" not in pair["cot_data"] and pair["category_name"] in pair["cot_data"]
        assert (small / split / pair["file_name"]).is_file()


def test_pictures_are_whole(small):
    drawn = generate("val2017/1").image
    with Image.open(small / "val2017" / "000000000001.jpg") as stored:
        assert stored.size == drawn.size
        differences = [abs(a - b) for a, b in zip(stored.tobytes(), drawn.tobytes(), strict=True)]
    assert sum(differences) / len(differences) < 4


def test_two_writers_at_once_leave_one_whole_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "COUNTS", FEW)
    monkeypatch.setattr(scenes_folder, "IMAGES", {"train2017": 3, "val2017": 2})
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: ensure_scenes(tmp_path), range(2))
    assert one == two and len(list((one / "train2017").iterdir())) == 3
    assert [entry.name for entry in tmp_path.iterdir()] == [one.name]


def test_a_present_folder_is_left_alone(small, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    present = tmp_path / "minigrpo" / f"scenes-{scenes_folder.VERSION}"
    present.mkdir(parents=True)
    assert ensure_scenes() == present and not list(present.iterdir())


def test_the_same_files_come_out_every_time(small, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "COUNTS", FEW)
    monkeypatch.setattr(scenes_folder, "IMAGES", {"train2017": 30, "val2017": 10})
    again = ensure_scenes(tmp_path)
    for name in ("pairs_train2017.json", "annotations/instances_val2017.json", "val2017/000000000007.jpg",
                 "benchmark.json", "annotations/instances_benchmark2017.json"):
        assert (again / name).read_bytes() == (small / name).read_bytes()
