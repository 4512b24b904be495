"""The procedural world: deterministic, varied, and honest about what hides where."""

from collections import Counter
from functools import partial
from random import Random

import numpy as np
import pytest

from mpcc.coco import Region
from mpcc.masks import hidden_region
from mpcc.prompts import completion
from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.scenes.canvas import HEIGHT, ICONS, WIDTH, Stage, outlined, overlap
from mpcc.scenes.categories import CATEGORIES, ID_OF, NAMES
from mpcc.scenes.evidence import DETAIL, DIFFICULTY, LIKE, LOCAL, PROPS, ROW, SET, TOGETHER, at, meeting, telling
from mpcc.scenes.places import PLACES
from mpcc.scenes.world import generate, where_words
from mpcc.traces import flaw


@pytest.fixture(scope="module")
def scenes():
    return [generate(f"test/{i}") for i in range(300)]


@pytest.fixture(scope="module")
def asked(scenes):
    """Scene, pair and the item that is hidden."""
    return [(scene, pair, scene.items[pair.index]) for scene in scenes for pair in scene.pairs]


def test_a_seed_gives_the_same_scene_to_the_pixel_and_the_word():
    one, two = generate("a"), generate("a")
    assert one.image.tobytes() == two.image.tobytes()
    assert one.items == two.items and one.pairs == two.pairs and one.pick(2) == two.pick(2)
    assert generate("b").image.tobytes() != one.image.tobytes()


def test_49_categories_and_10_kinds_of_scene_occur(scenes):
    assert {item.category for scene in scenes for item in scene.items} == set(NAMES) and len(NAMES) == 49
    assert len({pair.name for scene in scenes for pair in scene.pairs}) == 49
    assert {scene.place for scene in scenes} == set(PLACES) and len(PLACES) == 10


def test_every_icon_is_a_coco_category_and_every_category_has_an_icon():
    assert set(ICONS) == set(NAMES)
    assert ID_OF["person"] == 1 and ID_OF["stop sign"] == 13 and ID_OF["teddy bear"] == 88
    assert [c["id"] for c in CATEGORIES] == sorted({c["id"] for c in CATEGORIES})


def test_every_scene_asks_something_and_every_box_lies_in_the_picture(scenes):
    for scene in scenes:
        assert scene.image.size == (WIDTH, HEIGHT)
        assert len(scene.pick(2)) == 2
        for box in [item.box for item in scene.items] + [item.hidden for item in scene.items] + [
                box for _, box in scene.props]:
            x, y, w, h = box
            assert x >= 0 and y >= 0 and w >= 3 and h >= 3 and x + w <= WIDTH and y + h <= HEIGHT, (scene.seed, box)


def test_what_is_hidden_holds_the_whole_object_and_no_evidence(asked):
    for scene, _, item in asked:
        hidden = hidden_region((WIDTH, HEIGHT), Region(box=item.hidden))
        target = Region(box=item.box, segmentation=[list(item.outline)])
        outline = hidden_region((WIDTH, HEIGHT), target, kind="polygon")
        assert outline.any() and not (outline & ~hidden).any(), scene.seed
        assert not any(overlap(item.hidden, clue.box) for clue in item.evidence + item.misleading), scene.seed


def test_sizes_and_places_of_what_is_hidden_do_not_depend_on_the_object(scenes):
    """Drawn before it: so no category's hidden boxes are larger or smaller than those of the others in its row."""
    rows = {}
    for scene in scenes:
        for item in scene.items:
            if item.reason in (LOCAL, TOGETHER, DETAIL):  # in a set or a row of three the places are the layout's
                row = "front" if item.hidden[1] + item.hidden[3] > 112 else "back"
                rows.setdefault((scene.place, row), {}).setdefault(item.category, []).append(item.hidden[2:])
    far = []
    for names in rows.values():
        sizes = np.array([size for found in names.values() for size in found], float)
        for found in names.values():
            gap = np.mean(found, axis=0) - sizes.mean(0)
            far += list(np.abs(gap) / (sizes.std(0) / len(found) ** 0.5))  # in standard errors
    assert np.mean(np.array(far) > 2) < 0.1  # 5 % by chance


def test_evidence_points_to_the_object_alone(asked):
    """What stands beside the box fits no other category of the kind of scene; the same of fewer props does not."""
    by_phrase = {}
    for prop in PROPS:
        by_phrase.setdefault(prop.phrase, []).append(prop)
    for scene, pair, item in asked:
        here = PLACES[scene.place].here
        props = {box: prop for prop, box in scene.props}
        fits = [props[clue.box].fits & here for clue in item.evidence if clue.box in props]
        if pair.reason in (LOCAL, TOGETHER, DETAIL):
            assert len(fits) == 2 and set.intersection(*map(set, fits)) == {item.category}, scene.seed
            assert (min(map(len, fits)) == 1) == (pair.reason == LOCAL)
        elif pair.reason == LIKE:
            assert item.category in fits[0] and len(item.evidence) == 2
        for clue in item.misleading:
            assert pair.reason == DETAIL and item.category not in props[clue.box].fits


def test_a_set_lacks_one_of_the_things_that_the_other_side_shows(asked):
    found = [(scene, item) for scene, pair, item in asked if pair.reason == SET]
    assert len(found) > 50
    for scene, item in found:
        whole, *beside = item.evidence
        inside = [other.category for other in scene.items
                  if overlap(other.box, whole.box) == other.box[2] * other.box[3]]
        seen = [other.category for other in scene.items for clue in beside if overlap(other.box, clue.box)
                and other is not item]
        assert sorted(inside) == sorted([item.category, *seen]) and len(set(inside)) == 3


def test_there_are_two_clues_a_scene_and_more(scenes):
    clues = [len({clue for pair in scene.pairs for clue in scene.items[pair.index].evidence}) for scene in scenes]
    assert min(clues) >= 1 and np.mean(clues) > 4
    assert all(len(item.evidence) >= 2 for scene in scenes for item in scene.items if item.reason)


def test_every_object_of_every_kind_of_scene_can_be_asked_for_in_each_way():
    for name, place in PLACES.items():
        assert min(len(set(place.back)), len(set(place.front))) >= 5
        for category in place.here:
            assert telling(name, category) and meeting(name, category), (name, category)
    assert len({prop.phrase for place in PLACES for prop in at(place)}) > 150


def test_an_outline_spans_its_box(scenes):
    for item in scenes[0].items + scenes[1].items:
        x, y, w, h = item.box
        xs, ys = item.outline[::2], item.outline[1::2]
        assert min(ys) == pytest.approx(y, abs=0.51) and max(ys) == pytest.approx(y + h, abs=0.51)
        assert min(xs) >= x - 0.01 and max(xs) <= x + w + 0.01 and max(xs) - min(xs) > 0.6 * w


@pytest.mark.parametrize("name", NAMES)
def test_an_icon_marks_the_pixels_of_its_box(name):
    function, wide, high = ICONS[name]
    paint = partial(function, r=Random(0))
    for flip in (False, True):
        blank, drawn = Stage(Random(0)), Stage(Random(0))
        x, y, w, h = outlined(*drawn.put(paint, (90, 80, wide, high), flip=flip))[0]
        changed = np.argwhere(np.any(np.asarray(blank.finish()) != np.asarray(drawn.finish()), axis=2))
        assert changed[:, 1].min() >= x - 1 and changed[:, 1].max() <= x + w + 1
        assert changed[:, 0].min() >= y - 1 and changed[:, 0].max() <= y + h + 1


def test_a_trace_says_place_evidence_and_answer(asked):
    for scene, pair, item in asked:
        assert pair.name == item.category and pair.difficulty == DIFFICULTY[pair.reason]
        assert scene.place in pair.trace and all(clue.text in pair.trace for clue in item.evidence + item.misleading)
        assert pair.trace.rstrip(".").endswith(pair.name) and flaw(pair.trace, pair.name, NAMES) is None
        assert 15 <= len(pair.trace.split()) <= 50
        text = completion(pair.trace, pair.name)
        assert format_reward(text) == 1 and normalise(parse_answer(text)) == pair.name


def test_reasoning_without_evidence_names_the_place_alone(asked):
    scene, pair, item = asked[0]
    said = scene.trace(pair.index, "dog", Random(0), evidence=False)
    assert scene.place in said and said.endswith("dog.") and not any(clue.text in said for clue in item.evidence)


def test_every_reason_and_difficulty_occurs_often(scenes):
    counts = Counter(pair.difficulty for scene in scenes for pair in scene.pick(2))
    assert set(counts) == {"easy", "moderate", "hard"}
    assert min(counts.values()) > 0.2 * sum(counts.values())
    reasons = Counter(pair.reason for scene in scenes for pair in scene.pick(2))
    assert set(reasons) == {LOCAL, ROW, TOGETHER, LIKE, DETAIL, SET} and min(reasons.values()) > 20


def test_pick_asks_for_different_answers(scenes):
    assert all(len({pair.name for pair in scene.pick(3)}) == len(scene.pick(3)) for scene in scenes)


def test_words_for_a_place_in_the_picture():
    assert where_words((0, 0, 10, 10)) == "top left" and where_words((204, 148, 20, 20)) == "bottom right"


def test_an_unknown_place_is_refused():
    with pytest.raises(ValueError, match="no scene is called 'moon'"):
        generate(1, "moon")
