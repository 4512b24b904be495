"""The blind views: what they show, and that nothing leaks through them."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image
from small_coco import annotation, pair, pairs_file, task, write_split

from minigrpo import Sampling
from minigrpo.sections import ModelConfig
from mpcc.benchmark import Benchmark, Item
from mpcc.coco import Region
from mpcc.evaluation import Evaluation
from mpcc.formats import Evidence
from mpcc.masks import apply_mask, hidden_region
from mpcc.views import VIEWS, has_view, other_pictures, seen, without_evidence

SIZE = (100, 80)
BOX = (10.0, 10.0, 40.0, 30.0)
CLUES = (Evidence("A leash.", (55.0, 15.0, 12.0, 10.0)), Evidence("A bowl.", (40.0, 30.0, 20.0, 20.0)))
HIDDEN = hidden_region(SIZE, Region(box=BOX))


def noise(seed=0, low=60):
    return Image.fromarray(np.random.default_rng(seed).integers(low, 256, (80, 100, 3), dtype=np.uint8))


def within(*boxes):
    region = np.zeros((80, 100), dtype=bool)
    for x, y, w, h in boxes:
        region[int(y) : int(y + h), int(x) : int(x + w)] = True
    return region


EVIDENCE = within(*(clue.box for clue in CLUES))


def swapped(image, region, seed=9):
    """The picture with other noise where the region is."""
    return Image.fromarray(np.where(region[..., None], np.asarray(noise(seed, 0)), np.asarray(image)))


def view_of(view, image, fill="black", other=None, evidence=CLUES):
    mask = partial(apply_mask, target=Region(box=BOX), fill=fill, seed="one")
    return np.asarray(seen(view, image, mask, HIDDEN, evidence, lambda: other))


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_evidence_leaves_nothing_to_read_and_neither_does_the_object(fill):
    shown = view_of("no_evidence", noise(), fill)
    assert (view_of("no_evidence", swapped(noise(), EVIDENCE), fill) == shown).all()
    assert (view_of("no_evidence", swapped(noise(), HIDDEN), fill) == shown).all(), "no colour comes from the object"
    assert not (view_of(None, swapped(noise(), EVIDENCE), fill) == view_of(None, noise(), fill)).all()


def test_without_evidence_the_rest_is_untouched_and_the_mask_stays():
    shown, plain = view_of("no_evidence", noise()), view_of(None, noise())
    assert (shown[~EVIDENCE] == plain[~EVIDENCE]).all()
    assert (shown[HIDDEN & EVIDENCE] == plain[HIDDEN & EVIDENCE]).all(), "the part of a region under the mask"
    assert (shown[EVIDENCE & ~HIDDEN] != plain[EVIDENCE & ~HIDDEN]).any(axis=1).mean() > 0.9


def test_a_region_gets_the_mean_colour_of_the_ring_around_it():
    pixels = np.full((80, 100, 3), 40, dtype=np.uint8)
    pixels[8:12, :] = (200, 100, 50)
    clue = Evidence("A bowl.", (60.0, 12.0, 20.0, 10.0))
    filled = np.asarray(without_evidence(Image.fromarray(pixels), [clue], np.zeros((80, 100), dtype=bool)))
    ring = 28 * 18 - 20 * 10  # 4 pixels on every side, 4 rows of them coloured
    share = 28 * 4 / ring
    expected = np.round(share * np.array([200, 100, 50]) + (1 - share) * 40)
    assert (filled[12:22, 60:80] == expected).all()
    pixels[12:22, 60:80] = expected
    assert (filled == pixels).all()


def test_a_region_without_free_surroundings_takes_what_is_left_of_the_picture():
    image, everything = Image.new("RGB", SIZE, (9, 80, 7)), np.ones((80, 100), dtype=bool)
    far = ~within((0, 0, 5, 5))
    clue = Evidence("A bowl.", (60.0, 12.0, 20.0, 10.0))
    assert (np.asarray(without_evidence(image, [clue], far))[12:22, 60:80] == (9, 80, 7)).all()
    assert (np.asarray(without_evidence(image, [clue], everything))[12:22, 60:80] == 0).all()


def test_elsewhere_shows_the_same_mask_and_nothing_of_the_picture():
    other = noise(5)
    shown = view_of("elsewhere", noise(), other=other)
    assert (shown == np.asarray(apply_mask(other, Region(box=BOX)))).all()
    assert (view_of("elsewhere", noise(1), other=other) == shown).all()


def test_elsewhere_brings_the_other_picture_to_the_size_so_that_the_mask_is_the_same():
    shown = view_of("elsewhere", noise(), other=Image.new("RGB", (37, 200), (90, 180, 30)))
    assert shown.shape == (80, 100, 3) and (shown[HIDDEN] == 0).all()
    assert (shown[60:, 70:] == (90, 180, 30)).all()


def test_black_shows_nothing():
    assert view_of("black", noise()).shape == (80, 100, 3) and not view_of("black", noise()).any()


def test_which_pairs_have_a_view():
    assert has_view("black", (), None)
    assert has_view("no_evidence", CLUES, None) and not has_view("no_evidence", (), "2.png")
    assert has_view("elsewhere", (), "2.png") and not has_view("elsewhere", CLUES, None)


def test_another_picture_is_of_the_same_scene_and_never_the_pairs_own_file():
    pairs = [(f"{scene}/{i}", f"{scene}-{i // 2}.png", scene) for scene in ("kitchen", "street") for i in range(20)]
    found = other_pictures([*pairs, ("alone", "moon.png", "moon")])
    assert "alone" not in found and len(found) == 40
    for id, name, scene in pairs:
        assert found[id].startswith(scene) and found[id] != name
    taken = {found[id] for id, _, scene in pairs if scene == "kitchen"}
    assert len(taken) > 5, "each draws its own"
    assert found == other_pictures(reversed([*pairs, ("alone", "moon.png", "moon")])), "their order does not count"


def test_every_other_picture_may_come():
    names = [f"{i}.png" for i in range(4)]
    pairs = [(f"pair {i}", names[i % 4], "street") for i in range(200)]
    found = other_pictures(pairs)
    for own in names:
        assert {found[id] for id, name, _ in pairs if name == own} == set(names) - {own}


def test_a_pair_without_a_scene_takes_any_other_picture_of_the_set():
    pairs = [(f"pair {i}", f"{i}.png", "street" if i < 3 else None) for i in range(6)]
    found = other_pictures(pairs)
    assert {found[f"pair {i}"] for i in range(3)} <= {"0.png", "1.png", "2.png"}
    many = other_pictures([(f"pair {i}", f"{i % 6}.png", None) for i in range(60)])
    assert set(many.values()) == {f"{i}.png" for i in range(6)}
    assert other_pictures([("one", "1.png", None), ("two", "1.png", None)]) == {}


@pytest.fixture
def held_out(tmp_path):
    """Held-out samples on pictures of two kinds, all with evidence but the last."""
    folder = tmp_path / "coco"
    write_split(folder, "train2017", [annotation(1, 1, 1, [10, 10, 40, 30])])
    write_split(folder, "val2017", [annotation(1, 1, 1, [10, 10, 40, 30])], images=6)
    clue = {"text": "A leash.", "bbox": [55, 15, 12, 10]}
    pairs = [pair(file_name=f"{i}.png", scene="street" if i < 4 else "kitchen", evidence=[clue]) for i in range(1, 6)]
    path = pairs_file(tmp_path / "p.json", *pairs, pair(file_name="6.png", scene="kitchen"))
    return task(folder, held_out_pairs=path).held_out()


def test_the_tasks_samples_in_a_view_ask_the_same_about_another_picture(held_out):
    for view in VIEWS:
        blind = held_out.blind(view)
        assert len(blind) == (5 if view == "no_evidence" else 6)
        for sample, plain in zip(blind, held_out, strict=False):
            assert sample.id == f"{plain.id}/{view}"
            assert replace(sample, id=plain.id, images=plain.images) == plain
            assert sample.images[0].tobytes() != plain.images[0].tobytes()
            assert blind[:1][0].images[0].tobytes() == blind[0].images[0].tobytes()


def test_the_task_shows_a_picture_of_the_same_kind_elsewhere(held_out):
    blind = held_out.blind("elsewhere")
    for sample, own in zip(blind, held_out.pairs, strict=True):
        shown = [
            other.image.file_name for other in held_out.pairs
            if apply_mask(held_out.coco.open(other.image), own.target).tobytes() == sample.images[0].tobytes()
        ]
        (name,) = shown
        assert name != own.image.file_name
        assert {entry.scene for entry in held_out.pairs if entry.image.file_name == name} == {own.scene}


def test_an_evaluation_asks_the_free_form_question_alone_in_a_view(tmp_path):
    write_split(tmp_path, "val2017", [], images=5)
    items = tuple(
        Item(f"{i}", f"{i}.png", BOX, "dog", "easy", ("cat", "fox", "wolf", "sheep"), ("pizza", "toilet"),
             evidence=CLUES * (i < 3)) for i in (1, 2, 3)
    )
    others = other_pictures((item.id, item.file_name, item.scene) for item in items)
    plain = Evaluation(Benchmark(items, "val2017", "here", others), tmp_path / "val2017", ("cho_e", "free"), "base",
                       Sampling(8))
    for view, count in (("no_evidence", 2), ("elsewhere", 3), ("black", 3)):
        blind = plain.blind(view)
        assert [item.id for item in blind.benchmark.items] == [item.id for item in items[:count]]
        (question,), (sample,) = blind.samples(items[0])
        assert question == plain.samples(items[0])[0][1]
        shown = np.asarray(sample.images[0])
        image = Image.open(tmp_path / "val2017/1.png")
        expected = view_of(view, image, other=Image.open(tmp_path / "val2017" / others["1"]))
        assert (shown == expected).all()
    asked = replace(plain, mask="box_hard", fill="mean").samples(items[0])[1]
    assert all(sample.question.startswith("A plain rectangle hides") for sample in asked)
    assert (np.asarray(plain.image(items[0])) == view_of(None, Image.open(tmp_path / "val2017/1.png"))).all()
    elsewhere = plain.blind("elsewhere")
    moved = replace(elsewhere, benchmark=replace(elsewhere.benchmark, others=others | {"1": "5.png"}))
    assert moved.digest("m", ModelConfig()) != elsewhere.digest("m", ModelConfig()), "another picture, another answer"
