"""COCO folders, good and bad; and the real images where the shared data folder is at hand."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_api

from mpcc.coco import Coco
from mpcc.outlines import Region, decode_mask
from mpcc.pairs import exclusion, instance_pairs

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco"
needs_coco = pytest.mark.skipif(not REAL.is_dir(), reason="the shared COCO images are not at hand")

WIDTH, HEIGHT = 40, 30
SQUARE = [[10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]]


def annotation(**changes):
    record = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [10.0, 5.0, 10.0, 10.0], "area": 100.0, "iscrowd": 0,
              "segmentation": SQUARE}
    return record | changes


def content(*annotations):
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
        "categories": [{"id": 3, "name": "stop sign", "supercategory": "outdoor"}, {"id": 4, "name": "dog"}],
        "annotations": list(annotations),
    }


@pytest.fixture
def folder(tmp_path):
    """Writes a COCO folder of one 40x30 image and the given annotation file."""

    def write(data):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "val2017").mkdir(exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), (9, 8, 7)).save(tmp_path / "val2017" / "a.jpg")
        text = data if isinstance(data, str) else json.dumps(data)
        (tmp_path / "annotations" / "instances_val2017.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def refuses(folder, data, *parts):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        Coco(folder(data), "val2017")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("instances_val2017.json", *parts):
        assert part in message


def test_reads_images_instances_and_crowds(folder):
    crowd = annotation(id=8, category_id=4, iscrowd=1, segmentation={"counts": [300, 600, 300], "size": [30, 40]})
    coco = Coco(folder(content(annotation(), crowd)), "val2017")
    assert coco.images[1].file_name == "a.jpg"
    sign, dogs = coco.instances[7], coco.instances[8]
    assert (sign.category, sign.supercategory, sign.box, sign.crowd) == (
        "stop sign", "outdoor", (10.0, 5.0, 10.0, 10.0), False)
    assert (dogs.category, dogs.supercategory, dogs.crowd) == ("dog", "", True)
    assert coco.by_image[1] == [sign, dogs]


def test_reads_without_printing(folder, capsys):
    Coco(folder(content(annotation())), "val2017")
    assert capsys.readouterr() == ("", "")


def test_every_kind_of_segmentation_decodes_to_the_same_mask():
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[5:15, 10:20] = True
    flat = expected.flatten(order="F")
    counts = np.diff([0, *(np.flatnonzero(np.diff(flat)) + 1), flat.size]).tolist()
    packed = rle_api.encode(np.asfortranarray(expected.astype(np.uint8)))
    box = (10.0, 5.0, 10.0, 10.0)
    for segmentation in (
        SQUARE,
        [[10, 5, 15, 5, 15, 15, 10, 15], [15, 5, 20, 5, 20, 15, 15, 15]],
        {"counts": counts, "size": [HEIGHT, WIDTH]},
        {"counts": packed["counts"].decode(), "size": [HEIGHT, WIDTH]},
    ):
        mask = decode_mask(Region(box=box, segmentation=segmentation), HEIGHT, WIDTH)
        assert mask.dtype == bool
        assert mask.shape == (HEIGHT, WIDTH)
        assert (mask == expected).all()


def test_compressed_run_lengths_of_any_mask_decode():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 0.98, 1.0):
        expected = rng.random((HEIGHT, WIDTH)) < share
        packed = rle_api.encode(np.asfortranarray(expected.astype(np.uint8)))
        region = Region(box=(0, 0, 1, 1), segmentation={"counts": packed["counts"].decode(), "size": [HEIGHT, WIDTH]})
        assert (decode_mask(region, HEIGHT, WIDTH) == expected).all()


BROKEN = [
    ([[1.0, 2.0, 3.0, 4.0]], "at least 3 points"),
    ([[1, 2, 3, 4, 5, 6, 7]], "at least 3 points"),
    ([5, 6, 7], "at least 3 points"),
    ("0520", "neither a list of polygons nor run lengths"),
    ([[1, 2, 30, 4, 1e30, 6]], "no coordinate in an image of 40x30 pixels"),
    ([[1, 2, 30, 4, 10**400, 6]], "no coordinate in an image"),
    ([[1, 2, float("nan"), 4, 5, 6]], "no coordinate in an image"),
    ([[float("nan"), 2, 5, 4, 5, 6]], "no coordinate in an image"),
    ([[1, 2, "3", 4, 5, 6]], "no coordinate in an image"),
    ([[1, 2, [3], 4, 5, 6]], "no coordinate in an image"),
    ({"counts": [1200], "size": [40, 30]}, "of size [40, 30] do not fit an image of [h, w] = [30, 40]"),
    ({"counts": [10**12], "size": [10**6, 10**6]}, "of size [1000000, 1000000] do not fit an image"),
    ({"counts": [600, 500], "size": [30, 40]}, "sum to 1100, not to height x width = 1200"),
    ({"counts": [-5, 1205], "size": [30, 40]}, "broken run lengths"),
    ({"size": [30, 40]}, "broken run lengths"),
    ({"counts": "05d0", "size": [30, 40]}, "run lengths sum to 25, not to"),
    ({"counts": "05d", "size": [30, 40]}, "broken run lengths"),
    ({"counts": "o" * 10**6, "size": [30, 40]}, "broken run lengths"),
    ({"counts": "\u20ac 0", "size": [30, 40]}, "broken run lengths"),
]


@pytest.mark.parametrize(("segmentation", "said"), BROKEN)
def test_broken_outlines_are_refused_before_they_are_decoded(folder, segmentation, said):
    refuses(folder, content(annotation(segmentation=segmentation)), "annotation 7 (image 1)", said)
    with pytest.raises(ValueError, match=re.escape(said)):
        decode_mask(Region(box=(0, 0, 1, 1), segmentation=segmentation), HEIGHT, WIDTH)


def test_an_object_without_an_outline_has_no_mask(folder):
    coco = Coco(folder(content(annotation(segmentation=None))), "val2017")
    with pytest.raises(ValueError, match=r"annotation 7 \(image 1\) has no segmentation"):
        decode_mask(coco.instances[7], HEIGHT, WIDTH)


def test_an_outline_may_leave_its_image_a_little():
    region = Region(box=(0, 0, 40, 30), segmentation=[[-60, -60, 110, -60, 110, 110, -60, 110]])
    assert decode_mask(region, HEIGHT, WIDTH).all()


@pytest.mark.parametrize("box", [[10, 5, -3, 4], [10, 5, 3, -4]])
def test_negative_box(folder, box):
    refuses(folder, content(annotation(bbox=box)), "annotation 7", "image 1", "negative width or height")


@pytest.mark.parametrize("box", [[10, 5, 0, 4], [10, 5, 3, 0], [10, 5, 0.0, 0.0]])
@pytest.mark.parametrize("segmentation", [SQUARE, [], None, {"counts": [1200], "size": [30, 40]}])
def test_empty_box(folder, box, segmentation):
    data = content(annotation(bbox=box, segmentation=segmentation))
    refuses(folder, data, "annotation 7 (image 1)", "is empty")


def test_cocos_own_instance_without_extent_is_kept_and_makes_no_pair(folder):
    flat = [[10.65, 8.33, 10.65, 8.33, 11.68, 8.33, 11.68, 8.33]]  # as annotation 918 of train2017
    degenerate = annotation(id=918, bbox=[10.65, 8.33, 1.03, 0.0], segmentation=flat, area=0.0)
    coco = Coco(folder(content(degenerate, annotation())), "val2017")
    assert exclusion(coco.instances[918], coco.images[1], 0.0, 1.0) == "empty box"
    assert [pair.annotation for pair in instance_pairs(coco, 0.0, 1.0)] == [7]


@pytest.mark.parametrize("box", [[50, 5, 4, 4], [35, 5, 10, 4], [10, 25, 4, 10], [-3, 5, 9, 4], [10, -3, 4, 9]])
def test_box_outside_its_image(folder, box):
    refuses(folder, content(annotation(bbox=box)), "annotation 7 (image 1)", "outside its image a.jpg of 40x30")


def test_box_a_little_over_the_edge_is_clipped(folder):
    coco = Coco(folder(content(annotation(bbox=[-2, 5, 44, 26.5]))), "val2017")
    assert coco.instances[7].box == (0.0, 5.0, 40.0, 25.0)


def test_box_may_round_over_the_edge(folder):
    coco = Coco(folder(content(annotation(bbox=[-0.4, 5, 41.3, 25.9]))), "val2017")
    assert coco.instances[7].box == (-0.4, 5.0, 41.3, 25.9)


@pytest.mark.parametrize(
    "box", [[1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, float("nan")], [1, 2, 3, float("inf")], [None] * 4]
)
def test_box_that_is_no_box(folder, box):
    refuses(folder, content(annotation(bbox=box)), "annotation 7 (image 1)", "not four finite numbers")


def test_unknown_category_or_image(folder):
    refuses(folder, content(annotation(category_id=99)), "annotation 7 (image 1)", "unknown category_id 99")
    refuses(folder, content(annotation(image_id=2)), "annotation 7 (image 2)", "does not list")


def test_duplicate_ids(folder):
    refuses(folder, content(annotation(), annotation()), "annotations[1] repeats id 7")
    refuses(folder, content() | {"images": content()["images"] * 2}, "images[1] repeats id 1")


def test_missing_field(folder):
    record = annotation()
    del record["bbox"]
    refuses(folder, content(annotation(id=6), record), "annotations[1] has no usable field 'bbox'")
    refuses(folder, content("text"), "annotations[0] has no usable field 'id'")


def test_image_without_pixels(folder):
    data = content()
    data["images"][0]["height"] = 0
    refuses(folder, data, "image 1 has a size of 40x0")


def test_truncated_json_and_json_of_another_kind(folder):
    refuses(folder, json.dumps(content(annotation()))[:-20], "not whole JSON")
    refuses(folder, [], "top level must be an object")
    refuses(folder, {"images": [], "annotations": []}, "no list named 'categories'")


MANY = [annotation(id=100 + i) for i in range(99)]
WRONG = [
    (annotation(bbox=[10, 5, 0, 0], segmentation=[]), "bbox [10.0, 5.0, 0.0, 0.0] is empty"),
    (annotation(bbox=[10, 5, 1e30, 4]), "not four finite numbers"),
    (annotation(bbox=[10, 5, 10**400, 4]), "not four finite numbers"),
    (annotation(bbox=[-3, 5, 9, 4]), "outside its image"),
    (annotation(segmentation=[[1, 2, 3, 4]]), "at least 3 points"),
    (annotation(iscrowd="0"), "iscrowd = '0' is neither 0 nor 1"),
    (annotation(iscrowd=True), "iscrowd = True is neither 0 nor 1"),
    (annotation(iscrowd=2), "iscrowd = 2 is neither 0 nor 1"),
    (annotation(id=True), "annotations[99] has no usable field 'id': True is no whole number"),
    (annotation(id="7"), "annotations[99] has no usable field 'id': '7' is no whole number; write it as one"),
    (annotation(id=10**400), "annotations[99] has no usable field 'id': 1000"),
    (annotation(id=100), "annotations[99] repeats id 100"),
    (annotation(category_id=[3]), "no usable field 'category_id'"),
    (annotation(category_id=9), "category 9): name 'a <|im_end|>' holds the special token or tag '<|im_end|>'"),
    (annotation(category_id=10), "(category 10) has no usable field 'name'"),
    (annotation(image_id=2), "does not list"),
    ([7], "annotations[99] has no usable field 'id'"),
]


@pytest.mark.parametrize(("record", "said"), WRONG)
def test_one_wrong_annotation_of_a_hundred_is_left_out_counted_and_listed(folder, cache, record, said):
    data = content(*MANY, record)
    data["categories"] += [{"id": 9, "name": "a <|im_end|>"}, {"id": 10, "name": " "}]
    with pytest.warns(UserWarning, match=r"1 of 100 annotations of .*instances_val2017\.json are wrong and left out"):
        coco = Coco(folder(data), "val2017")
    assert list(coco.instances) == [i["id"] for i in MANY] and coco.categories == ["stop sign", "dog"]
    (listed,) = (cache / "rejected").iterdir()
    assert said in listed.read_text() and len(listed.read_text().splitlines()) == 1
    with pytest.raises(ValueError, match=r"1 of 100 annotations .* more than task\.max_bad = 0\.009"):
        Coco(coco.folder, "val2017", max_bad=0.009)


@pytest.mark.parametrize(("image", "said"), [
    ({"file_name": "../a.jpg"}, "file_name '../a.jpg' leads out of val2017/"),
    ({"file_name": "/a.jpg"}, "leads out of val2017/"),
    ({"file_name": "a.jpg"}, "is that of another image too"),
    ({"file_name": ""}, "no usable field 'file_name'"),
    ({"width": 10**7}, "image 2 has a size of 10000000x30; it must be 1 to 100,000,000 pixels"),
    ({"height": "30"}, "no usable field 'height': '30' is no whole number"),
])
def test_a_wrong_image_is_left_out_with_its_annotations(folder, cache, image, said):
    data = content(annotation(), annotation(id=8, image_id=2))
    data["images"].append({"id": 2, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT} | image)
    refuses(folder, data, said, "1 of 2 images")
    with pytest.warns(UserWarning, match="1 of 2 images"):
        coco = Coco(folder(data), "val2017", max_bad=0.5)
    assert list(coco.images) == [1] and list(coco.instances) == [7]


def test_an_image_behind_a_link_out_of_the_folder_is_not_opened(folder, tmp_path_factory):
    coco = Coco(folder(content()), "val2017")
    elsewhere = (coco.folder / "val2017" / "a.jpg").rename(tmp_path_factory.mktemp("elsewhere") / "a.jpg")
    (coco.folder / "val2017" / "a.jpg").symlink_to(elsewhere)
    fresh = Coco(coco.folder, "val2017")
    with pytest.raises(ValueError, match=r"'a\.jpg' leads out of .*val2017"):
        fresh.open(fresh.images[1])


def test_missing_folder_split_and_file_say_what_is_expected(folder, tmp_path):
    path = folder(content())
    layout = r"a COCO folder holds annotations/instances_\w+.json and the images in \w+/"
    for given, split in ((tmp_path / "none", "val2017"), (path, "train2017")):
        with pytest.raises(FileNotFoundError, match=layout):
            Coco(given, split)
    (path / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(FileNotFoundError, match=f"instances_val2017.json is missing: {layout}"):
        Coco(path, "val2017")


def test_missing_image(folder):
    coco = Coco(folder(content()), "val2017")
    (coco.folder / "val2017" / "a.jpg").unlink()
    fresh = Coco(coco.folder, "val2017")
    with pytest.raises(
        FileNotFoundError, match=r"a\.jpg is missing, but .*instances_val2017\.json lists it as image 1"
    ):
        fresh.image_path(fresh.images[1])


@pytest.mark.parametrize("keep", [0, 20, 350])
def test_unreadable_image_names_the_file_and_chains_the_reason(folder, keep):
    coco = Coco(folder(content()), "val2017")
    path = coco.folder / "val2017" / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"cannot read .*a\.jpg \(image 1\)") as caught:
        coco.open(coco.images[1])
    assert isinstance(caught.value.__cause__, OSError)


def test_image_of_another_size_than_annotated(folder):
    coco = Coco(folder(content()), "val2017")
    Image.new("RGB", (HEIGHT, WIDTH)).save(coco.folder / "val2017" / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg has 30x40 pixels, but .* states 40x30"):
        coco.open(coco.images[1])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_images_open_in_rgb(folder, mode):
    coco = Coco(folder(content()), "val2017")
    Image.new(mode, (WIDTH, HEIGHT)).save(coco.folder / "val2017" / "a.jpg")
    assert coco.open(coco.images[1]).mode == "RGB"


def test_exif_orientation_is_left_alone(folder):
    coco = Coco(folder(content()), "val2017")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees to view
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, : WIDTH // 2] = 255
    Image.fromarray(pixels).save(coco.folder / "val2017" / "a.jpg", exif=exif)
    opened = np.asarray(coco.open(coco.images[1]))
    assert opened.shape == (HEIGHT, WIDTH, 3)
    assert opened[:, :12].min() > 200
    assert opened[:, -12:].max() < 50


def test_find_takes_the_best_overlap_of_the_category(folder):
    other = annotation(id=8, bbox=[11.0, 5.0, 10.0, 10.0])
    crowd = annotation(id=9, iscrowd=1)
    dog = annotation(id=10, category_id=4)
    coco = Coco(folder(content(other, crowd, dog, annotation())), "val2017")
    image = coco.images[1]
    assert coco.find(image, "stop sign", (10.0, 5.0, 10.0, 10.0)).id == 7
    assert coco.find(image, "stop sign", (11.2, 5.0, 10.0, 10.0)).id == 8
    assert coco.find(image, "stop sign", (10.0, 5.0, 10.0, 21.0)) is None
    assert coco.find(image, "cat", (10.0, 5.0, 10.0, 10.0)) is None


@needs_coco
@pytest.mark.parametrize(("split", "images", "annotations", "crowds"), [
    ("train2017", 78, 744, 9), ("val2017", 47, 469, 7),
])
def test_real_coco(split, images, annotations, crowds):
    coco = Coco(REAL, split)
    assert (len(coco.images), len(coco.instances)) == (images, annotations)
    assert sum(instance.crowd for instance in coco.instances.values()) == crowds
    paired = {pair.annotation for pair in instance_pairs(coco, 0.01, 0.5)}
    reasons = {i.id: exclusion(i, coco.images[i.image_id], 0.01, 0.5) for i in coco.instances.values()}
    assert paired == {id for id, reason in reasons.items() if reason is None}
    assert {reason for reason in reasons.values() if reason} == {
        "crowd",
        "smaller than min_area",
        "larger than max_area",
    }
    assert all((reasons[i.id] == "crowd") == i.crowd for i in coco.instances.values())


@needs_coco
@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_images_open_and_masks_have_their_annotated_areas(split):
    coco = Coco(REAL, split)
    annotations = json.loads((REAL / "annotations" / f"instances_{split}.json").read_text())["annotations"]
    areas = {annotation["id"]: annotation["area"] for annotation in annotations}
    for image in coco.images.values():
        assert coco.open(image).mode == "RGB"
    for instance in coco.instances.values():
        image = coco.images[instance.image_id]
        mask = decode_mask(instance, image.height, image.width)
        assert mask.shape == (image.height, image.width)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if instance.crowd:
            # COCO's crowd boxes end at the last pixel, and their areas are up to 11 % above the runs'
            x, y, w, h = instance.box
            assert (columns[0], columns[-1], rows[0], rows[-1]) == (x, x + w, y, y + h), instance.where
            assert 0.89 * areas[instance.id] <= mask.sum() <= areas[instance.id], instance.where
        else:
            # a polygon's area counts fractions of pixels along its outline, a mask whole pixels
            assert abs(mask.sum() - areas[instance.id]) <= 0.5 * (len(rows) + len(columns)), instance.where
