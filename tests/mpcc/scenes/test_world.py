"""The procedural world: deterministic, varied, and honest about what hides where."""

from collections import Counter
from random import Random

import pytest

from mpcc.prompts import completion
from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.scenes.canvas import HEIGHT, ICONS, WIDTH, Stage
from mpcc.scenes.categories import CATEGORIES, ID_OF, NAMES
from mpcc.scenes.evaluation import baselines, questions
from mpcc.scenes.world import DIFFICULTY, PLACES, generate, shape_words, where_words


@pytest.fixture(scope="module")
def scenes():
    return [generate(f"test/{i}") for i in range(300)]


def test_a_seed_gives_the_same_scene_to_the_pixel_and_the_word():
    one, two = generate("a"), generate("a")
    assert one.image.tobytes() == two.image.tobytes()
    assert one.items == two.items and one.pairs == two.pairs and one.pick(2) == two.pick(2)
    assert generate("b").image.tobytes() != one.image.tobytes()


def test_at_least_24_categories_and_6_kinds_of_scene_occur(scenes):
    assert len({item.category for scene in scenes for item in scene.items}) >= 24
    assert len({pair.name for scene in scenes for pair in scene.pairs}) >= 24
    assert {scene.place for scene in scenes} == set(PLACES) and len(PLACES) >= 6


def test_every_icon_is_a_coco_category_and_every_category_has_an_icon():
    assert set(ICONS) == set(NAMES)
    assert ID_OF["person"] == 1 and ID_OF["stop sign"] == 13 and ID_OF["teddy bear"] == 88
    assert [c["id"] for c in CATEGORIES] == sorted({c["id"] for c in CATEGORIES})


def test_every_scene_asks_something_and_every_box_lies_in_the_picture(scenes):
    for scene in scenes:
        assert scene.image.size == (WIDTH, HEIGHT)
        assert scene.pick(2)
        for item in scene.items:
            x, y, w, h = item.box
            assert x >= 0 and y >= 0 and w > 3 and h > 3 and x + w <= WIDTH and y + h <= HEIGHT, (scene.seed, item)


def test_an_outline_spans_its_box(scenes):
    for item in scenes[0].items + scenes[1].items:
        x, y, w, h = item.box
        xs, ys = item.outline[::2], item.outline[1::2]
        assert min(ys) == pytest.approx(y, abs=0.51) and max(ys) == pytest.approx(y + h, abs=0.51)
        assert min(xs) >= x - 0.01 and max(xs) <= x + w + 0.01 and max(xs) - min(xs) > 0.6 * w


@pytest.mark.parametrize("name", NAMES)
def test_an_icon_marks_the_pixels_of_its_box(name):
    blank, drawn = Stage(Random(0)), Stage(Random(0))
    item = drawn.put(name, 120, 130)
    changed = [
        (i % WIDTH, i // WIDTH)
        for i, (a, b) in enumerate(zip(blank.finish().getdata(), drawn.finish().getdata(), strict=True))
        if a != b
    ]
    x, y, w, h = item.box
    assert min(px for px, _ in changed) >= x - 1 and max(px for px, _ in changed) <= x + w + 1
    assert min(py for _, py in changed) >= y - 1 and max(py for _, py in changed) <= y + h + 1


def test_a_trace_names_place_evidence_shape_and_answer(scenes):
    for scene in scenes:
        for pair in scene.pairs:
            item = scene.items[pair.index]
            assert pair.name == item.category and pair.difficulty == DIFFICULTY[pair.reason]
            assert scene.place in pair.trace and item.clue.evidence in pair.trace
            assert shape_words(item.box) in pair.trace
            assert pair.trace.rstrip(".").endswith(pair.name)
            assert 20 <= len(pair.trace.split()) <= 40
            text = completion(pair.trace, pair.name)
            assert format_reward(text) == 1 and normalise(parse_answer(text)) == pair.name


def test_the_three_difficulties_all_occur_often(scenes):
    counts = Counter(pair.difficulty for scene in scenes for pair in scene.pick(2))
    assert set(counts) == {"easy", "moderate", "hard"}
    assert min(counts.values()) > 0.15 * sum(counts.values())


def test_pick_asks_for_different_answers(scenes):
    assert all(len({pair.name for pair in scene.pick(3)}) == len(scene.pick(3)) for scene in scenes)


def test_neither_the_most_frequent_answer_nor_the_scene_alone_gets_far():
    figures = baselines(questions("train2017", 300), questions("val2017", 100))
    assert figures["most_frequent"] < 0.2 and figures["scene"] < 0.4
    assert figures["scene_shape_and_where"] > figures["scene_and_shape"] > figures["scene"]


def test_words_for_size_shape_and_place():
    assert shape_words((0, 0, 10, 20)) == "small and tall"
    assert shape_words((0, 0, 60, 30)) == "large and wide"
    assert shape_words((0, 0, 30, 30)) == "medium and square"
    assert where_words((0, 0, 10, 10)) == "top left" and where_words((220, 140, 20, 20)) == "bottom right"


def test_an_unknown_place_is_refused():
    with pytest.raises(ValueError, match="no scene is called 'moon'"):
        generate(1, "moon")
