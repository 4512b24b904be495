"""Regions, their controls, and what a masked picture shows."""

import numpy as np
import pytest
import tiny
from PIL import Image

from mpcc.crm.regions import Region, masked, with_controls

HIDDEN = np.zeros((80, 100), dtype=bool)
HIDDEN[10:40, 10:50] = True


def region(*box):
    return Region("A cup.", ("cup",), box)


def pixels(box, size=(100, 80)):
    x, y, w, h = map(int, box)
    found = np.zeros(size[::-1], dtype=bool)
    found[y : y + h, x : x + w] = True
    return found


def test_a_control_has_the_same_area_and_shows_neither_evidence_nor_what_is_hidden():
    regions = [region(60, 5, 20, 20), region(52.5, 30.2, 9.8, 15), region(0, 60, 30, 20)]
    found = with_controls(regions, HIDDEN, "item 1")
    assert [one.box for one in found] == [one.box for one in regions]
    evidence = pixels((60, 5, 20, 20)) | pixels((52, 30, 11, 16)) | pixels((0, 60, 30, 20))
    for one, area in zip(found, (400, 11 * 16, 600), strict=True):
        control = pixels(one.control)
        assert control.sum() == area and not (control & (evidence | HIDDEN)).any()


def test_controls_are_the_same_every_time_and_others_for_another_item():
    regions = [region(60, 5, 20, 20)]
    again, other = (with_controls(regions, HIDDEN, seed)[0].control for seed in ("a", "b"))
    assert with_controls(regions, HIDDEN, "a")[0].control == again != other


def test_where_no_place_is_free_a_turned_one_is_taken_and_else_none():
    taken = np.ones((80, 100), dtype=bool)
    taken[40:60, 0:30] = False
    assert with_controls([region(60, 0, 20, 30)], taken, "a")[0].control == (0, 40, 30, 20)
    assert with_controls([region(60, 0, 21, 30)], taken, "a")[0].control is None
    assert with_controls([region(0, 0, 100, 80)], HIDDEN, "a")[0].control is None


def test_the_mean_colour_is_of_what_stays_in_sight():
    image = Image.new("RGB", (100, 80), (10, 20, 30))
    image.paste((200, 0, 0), (10, 10, 50, 40))
    image.paste((0, 250, 0), (60, 5, 80, 25))
    shown = np.asarray(masked(image, (60, 5, 20, 20), HIDDEN))
    assert (shown == np.asarray(image))[~pixels((60, 5, 20, 20))].all()
    assert (shown[5:25, 60:80] == (10, 20, 30)).all(), "neither what is hidden nor the region itself lends its colour"


def test_black_is_black_and_blur_keeps_the_surroundings_but_nothing_hidden():
    image = tiny.image(100, 80)
    inside = pixels((52, 12, 10, 10))
    assert (np.asarray(masked(image, (52, 12, 10, 10), HIDDEN, "black"))[inside] == 0).all()
    shown = np.asarray(masked(image, (52, 12, 10, 10), HIDDEN, "blur"))
    assert (shown == np.asarray(image))[~inside].all() and shown[inside].std() < np.asarray(image)[inside].std() / 3
    painted = image.copy()
    painted.paste((255, 0, 0), (10, 10, 50, 40))
    assert (np.asarray(masked(painted, (52, 12, 10, 10), HIDDEN, "blur"))[inside] == shown[inside]).all()


def test_the_empty_mask_leaves_the_picture_as_it_is():
    image = tiny.image(100, 80)
    assert masked(image, None, HIDDEN) is image and masked(image, (5, 5, 0, 0), HIDDEN, "blur") is image


def test_an_unknown_fill_and_a_box_outside_are_refused():
    with pytest.raises(ValueError, match="crm-fill = 'grey' is unknown: choose one of mean, blur, black"):
        masked(tiny.image(100, 80), (0, 0, 5, 5), HIDDEN, "grey")
    with pytest.raises(ValueError, match="no pixel of its box"):
        masked(tiny.image(100, 80), (200, 0, 5, 5), HIDDEN)
