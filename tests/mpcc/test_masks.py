"""Masks, pixel by pixel."""

from math import erf, sqrt
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpcc.coco import Region
from mpcc.masks import apply_mask, footprint, hidden_region, others_visible, pixel_box
from mpcc.task import MaskedPrediction

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "coco"
needs_coco = pytest.mark.skipif(not REAL.is_dir(), reason="the shared COCO images are not at hand")

WIDTH, HEIGHT = 120, 90
SIZE = (WIDTH, HEIGHT)
BOX = (30.0, 20.0, 50.0, 40.0)
TRIANGLE = [[30.0, 20.0, 80.0, 20.0, 30.0, 60.0]]


def noise(seed=0):
    pixels = np.random.default_rng(seed).integers(1, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def rectangle(left, top, right, bottom):
    region = np.zeros((HEIGHT, WIDTH), dtype=bool)
    region[top:bottom, left:right] = True
    return region


def changed(before, after):
    return (np.asarray(before) != np.asarray(after)).any(axis=2)


def test_hard_box_is_black_inside_and_untouched_outside():
    image = noise()
    masked = np.asarray(apply_mask(image, Region(box=BOX), kind="box_hard"))
    expected = np.asarray(image).copy()
    expected[20:60, 30:80] = 0
    assert (masked == expected).all()


def test_the_given_image_stays_as_it_is():
    image = noise()
    apply_mask(image, Region(box=BOX), kind="box_hard")
    assert image.tobytes() == noise().tobytes()


def test_a_fractional_box_covers_every_pixel_it_touches():
    assert pixel_box(Region(box=(30.7, 20.2, 10.5, 5.9)), SIZE) == (30, 20, 42, 27)
    region = hidden_region(SIZE, Region(box=(30.7, 20.2, 10.5, 5.9)), kind="box_hard")
    assert (region == rectangle(30, 20, 42, 27)).all()


def test_a_box_is_cut_at_the_image():
    assert pixel_box(Region(box=(-0.5, 80.0, 20.0, 10.6)), SIZE) == (0, 80, 20, 90)


def test_a_box_without_a_pixel_is_refused():
    for box in ((200.0, 10.0, 5.0, 5.0), (30.0, 20.0, 0.0, 4.0)):
        with pytest.raises(ValueError, match="no pixel of its box lies in the image of 120x90"):
            apply_mask(noise(), Region(box=box))


def gaussian_edge(low, high, length):
    """Share of a unit Gaussian of 5 px around every pixel's centre that falls in [low, high)."""
    centres = np.arange(length) + 0.5
    return np.array([(erf((high - c) / (5 * sqrt(2))) - erf((low - c) / (5 * sqrt(2)))) / 2 for c in centres])


def test_soft_box_is_black_through_a_gaussian_of_5_px():
    white = Image.new("RGB", (640, 100), (255, 255, 255))
    masked = np.asarray(apply_mask(white, Region(box=BOX))).astype(float)
    assert (masked[..., 0] == masked[..., 1]).all() and (masked[..., 0] == masked[..., 2]).all()
    alpha = np.outer(gaussian_edge(20, 60, 100), gaussian_edge(30, 80, 640))
    alpha[20:60, 30:80] = 1  # the box itself is opaque
    # Pillow's Gaussian is three box blurs: 1.5 % of the range is its own error
    assert np.abs(masked[..., 0] - 255 * (1 - alpha)).max() <= 0.015 * 255
    assert (masked[20:60, 30:80] == 0).all()


def test_the_soft_edge_narrows_with_the_image_so_that_a_small_object_stays_hidden():
    white = Image.new("RGB", (240, 160), (255, 255, 255))
    masked = np.asarray(apply_mask(white, Region(box=(100.0, 60.0, 10.0, 60.0))))[..., 0]
    assert masked[60:120, 100:110].max() == 0, "no pixel of the object shows"
    assert 0 < masked[90, 98] < 255 and masked[90, 92] == 255, "the edge is soft, and narrow"


OTHERS = [Region(box=(90.0, 62.0, 20.0, 20.0))]
TARGET = Region(box=BOX, segmentation=TRIANGLE)


@pytest.mark.parametrize("kind", ["box", "box_hard", "polygon", "instances"])
@pytest.mark.parametrize("fill", ["black", "mean"])
@pytest.mark.parametrize("dim", [1, 12])
def test_of_what_is_hidden_no_pixel_counts(kind, fill, dim):
    """Two pictures that differ inside the mask alone look the same, bright or so dark that a rim is drawn."""
    region = hidden_region(SIZE, TARGET, OTHERS, kind)
    around = np.asarray(noise()) // dim
    shown = {
        apply_mask(Image.fromarray(np.where(region[..., None], inside, around).astype(np.uint8)), TARGET, OTHERS, kind,
                   fill).tobytes()
        for inside in (np.asarray(noise(1)), np.asarray(noise(2)), 0, 255)
    }
    assert len(shown) == 1


def outline(width, left=30, top=20, right=80, bottom=60):
    return rectangle(left - width, top - width, right + width, bottom + width) & ~rectangle(left, top, right, bottom)


@pytest.mark.parametrize(("side", "width"), [(120, 1), (240, 1), (640, 2)])
@pytest.mark.parametrize("kind", ["box", "box_hard"])
def test_a_black_box_on_a_dark_picture_gets_a_thin_light_rim(side, width, kind):
    dark = Image.new("RGB", (side, HEIGHT), (20, 30, 20))
    masked = np.asarray(apply_mask(dark, Region(box=BOX), kind=kind))
    rim = (masked == 224).all(axis=2)
    assert (rim[:, :120] == outline(width)).all() and not rim[:, 120:].any()
    assert (masked[20:60, 30:80] == 0).all(), "the box stays whole and black"


def has_rim(image, **options):
    return bool((np.asarray(apply_mask(image, Region(box=BOX), **options)) == 224).all(axis=2).any())


def test_the_rim_is_for_dark_masks_in_dark_surroundings_alone():
    grey = {level: Image.new("RGB", SIZE, (level,) * 3) for level in (31, 33, 200)}
    assert [has_rim(image) for image in grey.values()] == [True, False, False]
    assert has_rim(grey[31], fill="mean"), "its mean colour is as dark"
    red, blue = Image.new("RGB", SIZE, (120, 0, 0)), Image.new("RGB", SIZE, (0, 0, 255))
    assert not has_rim(red) and has_rim(blue), "luma: 36 and 29"
    pixels = np.full((HEIGHT, WIDTH, 3), 200, dtype=np.uint8)
    pixels[10:70, 20:90] = 10
    assert has_rim(Image.fromarray(pixels)), "what is around the box decides"
    assert not has_rim(Image.fromarray(210 - pixels))
    assert not has_rim(Image.fromarray(pixels), fill="mean"), "a bright mask"


def test_a_rim_ends_at_the_images_edge_and_a_mask_of_everything_has_none():
    dark = Image.new("RGB", SIZE, (9, 9, 9))
    masked = np.asarray(apply_mask(dark, Region(box=(0.0, 0.0, 60.0, 90.0))))
    assert (masked[:, 60] == 224).all() and (masked[:, :60] == 0).all() and (masked[:, 80:] == 9).all()
    for fill in ("black", "mean"):
        assert not np.asarray(apply_mask(dark, Region(box=(0.0, 0.0, 120.0, 90.0)), fill=fill)).any()


def test_soft_box_is_pure_black_deep_inside_and_exact_far_outside():
    image = noise()
    masked = apply_mask(image, Region(box=BOX))
    assert (np.asarray(masked)[20:60, 30:80] == 0).all()
    assert not (changed(image, masked) & ~rectangle(30 - 16, 20 - 16, 80 + 16, 60 + 16)).any()
    assert changed(image, masked)[40, 27], "the edge must be soft: pixels outside the box darken"


def test_soft_box_is_the_default():
    image = noise()
    assert apply_mask(image, Region(box=BOX)).tobytes() == apply_mask(image, Region(box=BOX), kind="box").tobytes()
    assert apply_mask(image, Region(box=BOX)).tobytes() != apply_mask(image, Region(box=BOX), kind="box_hard").tobytes()


def test_a_soft_box_at_the_border_stays_black_up_to_the_border():
    white = Image.new("RGB", SIZE, (255, 255, 255))
    masked = np.asarray(apply_mask(white, Region(box=(0.0, 0.0, 60.0, 90.0))))
    assert (masked[:, :60] == 0).all()
    assert (masked[:, 80:] == 255).all()


def test_polygon_hides_the_outline_only():
    image = noise()
    target = Region(box=BOX, segmentation=TRIANGLE)
    masked = np.asarray(apply_mask(image, target, kind="polygon"))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    depth = 1 - (columns - 30) / 50 - (rows - 20) / 40  # positive within the slanted side
    inside = rectangle(30, 20, 80, 60) & (depth > 0.04)
    outside = ~rectangle(30, 20, 80, 60) | (depth < -0.04)
    assert (masked[inside] == 0).all()
    assert (masked[outside] == np.asarray(image)[outside]).all()
    assert inside.sum() > 800


def test_polygon_without_an_outline_is_refused():
    with pytest.raises(ValueError, match="no segmentation: use a mask kind that needs the box only"):
        apply_mask(noise(), Region(box=BOX), kind="polygon")


def run_lengths(region):
    """Uncompressed COCO run lengths: column by column, zeros first."""
    flat = region.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"counts": ([0] if flat[0] else []) + counts, "size": [HEIGHT, WIDTH]}


def test_instances_hides_boxes_of_all_and_the_run_lengths_of_crowds():
    crowd = rectangle(100, 70, 110, 80) | rectangle(0, 85, 5, 90)
    others = [
        Region(box=(2.0, 2.0, 6.0, 6.0)),
        Region(box=(0.0, 70.0, 110.0, 20.0), segmentation=run_lengths(crowd), crowd=True),
    ]
    region = hidden_region(SIZE, Region(box=BOX), others, kind="instances")
    assert (region == (rectangle(30, 20, 80, 60) | rectangle(2, 2, 8, 8) | crowd)).all()
    assert not others_visible(region, others)


@pytest.mark.parametrize("kind", ["box", "box_hard", "polygon", "random_box"])
def test_only_instances_hides_others(kind):
    others = [Region(box=(100.0, 70.0, 8.0, 8.0))]
    target = Region(box=BOX, segmentation=TRIANGLE)
    alone = hidden_region(SIZE, target, kind=kind, seed="x")
    assert (hidden_region(SIZE, target, others, kind=kind, seed="x") == alone).all()


@pytest.mark.parametrize("seed", ["a", "b", "c", "train2017/1.jpg#7"])
def test_random_box_has_the_same_size_and_avoids_the_object(seed):
    region = hidden_region(SIZE, Region(box=(30.4, 20.4, 29.2, 19.2)), kind="random_box", seed=seed)
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    assert (len(columns), len(rows)) == (30, 20)
    assert region.sum() == 30 * 20
    assert not (region & rectangle(30, 20, 60, 40)).any()


def test_random_box_depends_on_the_seed_alone():
    places = {hidden_region(SIZE, Region(box=BOX), kind="random_box", seed=str(i)).tobytes() for i in range(12)}
    again = {hidden_region(SIZE, Region(box=BOX), kind="random_box", seed=str(i)).tobytes() for i in range(12)}
    small = {hidden_region(SIZE, Region(box=(5.0, 5.0, 9.0, 9.0)), kind="random_box", seed=str(i)).tobytes()
             for i in range(12)}
    assert places == again
    assert len(small) > 6


def test_random_box_finds_free_places_where_they_are_rare():
    target = Region(box=(25.0, 15.0, 45.0, 35.0))  # a fifth of all places is free of it
    regions = [hidden_region(SIZE, target, kind="random_box", seed=str(i)) for i in range(12)]
    assert not any((region & rectangle(25, 15, 70, 50)).any() for region in regions)
    assert len({region.tobytes() for region in regions}) >= 10


@pytest.mark.parametrize("box", [(10.0, 10.0, 100.0, 70.0), (3.0, 15.0, 90.0, 60.0), (0.0, 0.0, 120.0, 90.0)])
def test_random_box_overlaps_as_little_as_any_place_can(box):
    region = hidden_region(SIZE, Region(box=box), kind="random_box", seed="s")
    left, top, right, bottom = pixel_box(Region(box=box), SIZE)
    width, height = right - left, bottom - top
    least = min(
        max(0, width - abs(x - left)) * max(0, height - abs(y - top))
        for x in range(WIDTH - width + 1)
        for y in range(HEIGHT - height + 1)
    )
    assert (region & rectangle(left, top, right, bottom)).sum() == least


def test_mean_fill_is_the_mean_colour_of_what_stays_in_sight():
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, : WIDTH // 2] = (200, 100, 51)
    share = (60 * 90 - 30 * 40) / (120 * 90 - 50 * 40)
    mean = np.round(share * np.array([200, 100, 51]))
    masked = np.asarray(apply_mask(Image.fromarray(pixels), Region(box=BOX), kind="box_hard", fill="mean"))
    assert (masked[20:60, 30:80] == mean).all()
    pixels[20:60, 30:80] = mean
    assert (masked == pixels).all()


def test_others_visible():
    region = rectangle(30, 20, 80, 60)
    assert not others_visible(region, [])
    assert not others_visible(region, [Region(box=(30.0, 20.0, 50.0, 40.0))])
    assert others_visible(region, [Region(box=(29.0, 20.0, 50.0, 40.0))])
    covered = Region(box=(0.0, 0.0, 120.0, 90.0), segmentation=TRIANGLE)
    assert not others_visible(region, [covered]), "what counts is the outline, where there is one"


def test_footprint_of_a_box_outside_is_empty():
    assert not footprint(Region(box=(500.0, 500.0, 3.0, 3.0)), SIZE).any()


@pytest.mark.parametrize(("option", "match"), [
    ({"kind": "circle"}, "mask = 'circle' is unknown: choose one of box, box_hard, polygon, instances, random_box"),
    ({"fill": "red"}, "fill = 'red' is unknown: choose one of black, mean"),
])
def test_unknown_options_name_the_choices(option, match):
    with pytest.raises(ValueError, match=match):
        apply_mask(noise(), Region(box=BOX), **option)


@needs_coco
@pytest.mark.parametrize("kind", ["box", "polygon", "instances", "random_box"])
def test_masks_on_real_images(kind):
    chosen = MaskedPrediction(MaskedPrediction.Config(coco=str(REAL), mask=kind))
    samples = chosen.samples()
    assert len({sample_pair.id for sample_pair in samples.pairs}) == len(samples) == 291
    assert len(chosen.held_out()) == 197
    for index in range(0, len(samples), 30):
        sample, entry = samples[index], samples.pairs[index].image
        original = np.asarray(samples.coco.open(entry))
        masked = np.asarray(sample.images[0])
        assert masked.shape == original.shape == (entry.height, entry.width, 3)
        rim = (masked == 224).all(axis=2)
        assert (masked <= original)[~rim].all()
        assert (masked < original).any()
        assert sample.data["answer"]
