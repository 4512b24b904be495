"""Properties of masked prediction on random input: parsers, reward terms, masks, and every file that it reads."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import test_properties  # noqa: F401 (its properties count, too)
from hypothesis import strategies as st
from properties import DECLARED, RAN, holds, one_line
from small_benchmark import our_pair, their_pair
from small_coco import ANNOTATIONS, pair, write_split

from mpcc.benchmark import DIFFICULTIES, read_benchmark
from mpcc.choices import parse_choice
from mpcc.coco import Coco
from mpcc.formats import read_pairs, write_pairs
from mpcc.masks import Region, footprint, hidden_region, others_visible, pixel_box
from mpcc.pairs import file_pairs
from mpcc.parsing import parse_free, parse_yes_no, tidy
from mpcc.rewards import (
    distance_similarity,
    format_reward,
    indel_ratio,
    levenshtein_distance,
    normalise,
    parse_answer,
    reward_terms,
)

piece = st.one_of(st.text(max_size=8), st.sampled_from((
    "<think>", "</think>", "<answer>", "</answer>", "(B)", "B", "A", " a ", "dog", "hot dog", "yes", "no", "not ",
    "The answer is ", "final answer: ", "wait, ", "or ", ". ", "\n", "**", "because ", "e.g. ", "I ", "<b>", "ﬁ", "?")))
said = st.lists(piece, max_size=12).map("".join)
short = st.text("ab c.", max_size=7)
untagged = st.text(st.characters(exclude_characters="<"), max_size=8)
OPTIONS = (("dog", "hot dog", "cat"), ("yes", "no"), ("A is closer", "B is closer"), ("a", "i", "b"), ("(", ".*", "+"))


@holds(1500, text=said, options=st.sampled_from(OPTIONS))
def test_a_choice_is_none_or_a_letter_of_the_options(text, options):
    assert parse_choice(text, options) in (None, *"ABCDEFG"[: len(options)])


@holds(400, options=st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=7, unique_by=normalise), text=said)
def test_options_of_any_text_are_read_without_failing(options, text):
    assert parse_choice(text, options) in (None, *"ABCDEFG"[: len(options)])


@holds(300, options=st.sampled_from(OPTIONS[:2]), place=st.integers(0, 2), think=short)
def test_a_plain_answer_is_the_choice_it_names(options, place, think):
    place %= len(options)
    for text in (options[place], f"({'ABC'[place]})"):
        assert parse_choice(f"<think>{think}</think><answer>{text}</answer>", options) == "ABC"[place]


@holds(1000, text=said)
def test_yes_or_no_and_free_answers_are_read_without_failing(text):
    assert parse_yes_no(text) in (None, "yes", "no")
    free = parse_free(text)
    assert free is None or free.strip() == free != ""
    assert "  " not in tidy(text)


@holds(1000, text=said, answer=st.text(min_size=1, max_size=5), variant=st.sampled_from(("eq3", "scripted")))
def test_every_reward_term_is_in_the_unit_interval_and_follows_from_the_others(text, answer, variant):
    if not normalise(answer):
        with pytest.raises(ValueError, match="is empty"):
            reward_terms([text], answer, variant)
        return
    terms = {name: value for name, (value,) in reward_terms([text], answer, variant).items()}
    assert all(0 <= value <= 1 for value in terms.values())
    assert (terms["exact"] == 1) == (terms["levenshtein"] == 1) == (normalise(parse_answer(text) or "")
                                                                    == normalise(answer))


@holds(600, think=untagged, answer=untagged, blank=st.sampled_from(("", "\n", " \t ")),
       around=st.sampled_from(("", " ", "x")))
def test_the_asked_format_earns_its_reward_and_nothing_around_it(think, answer, blank, around):
    text = f"<think>{think}</think>{blank}<answer>{answer}</answer>"
    assert format_reward(text) == 1.0 and parse_answer(text) == answer
    assert format_reward(around + text) == format_reward(text + around) == float(not around)
    assert format_reward(text + text) == 0.0


@holds(600, a=short, b=short, c=short, substitution=st.sampled_from((1, 2)))
def test_the_edit_distance_is_a_metric_between_its_bounds(a, b, c, substitution):
    def distance(x, y):
        return levenshtein_distance(x, y, substitution)

    assert distance(a, b) == distance(b, a) and (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert abs(len(a) - len(b)) <= distance(a, b) <= (max(len(a), len(b)) if substitution == 1 else len(a) + len(b))
    assert 0 <= distance_similarity(a, b) == distance_similarity(b, a) <= 1
    assert 0 <= indel_ratio(a, b) == indel_ratio(b, a) <= 1


SIZE = (23, 17)  # width and height
side = st.floats(-3, 25, allow_nan=False).map(lambda v: round(v, 2))
boxes = st.tuples(side, side, side.map(abs), side.map(abs))
junk = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.just([]), st.just({}))
outlines = st.one_of(
    st.lists(st.lists(st.one_of(side, junk), max_size=9), max_size=3), junk, st.lists(junk, max_size=3),
    st.fixed_dictionaries({
        "counts": st.one_of(st.text(max_size=8), st.lists(st.one_of(st.integers(-1, 400), junk), max_size=4), junk),
        "size": st.one_of(st.just([17, 23]), junk)}))


@holds(700, box=boxes, others=st.lists(boxes, max_size=2), kind=st.sampled_from(("box", "box_hard", "instances")))
def test_what_is_hidden_holds_every_pixel_of_the_box_that_lies_in_the_image(box, others, kind):
    target, others = Region(box=box), [Region(box=other) for other in others]
    try:
        left, top, right, bottom = pixel_box(target, SIZE)
    except ValueError as error:
        assert "no pixel of its box lies in the image" in one_line(error)
        return
    region = hidden_region(SIZE, target, others, kind)
    assert region.shape == (17, 23) and region.dtype == bool and region[top:bottom, left:right].all()
    x, y, w, h = box
    inside = [(r, c) for r in range(17) for c in range(23) if x < c + 1 and c < x + w and y < r + 1 and r < y + h]
    assert all(region[place] for place in inside)
    if kind != "instances":
        assert region.sum() == (right - left) * (bottom - top)
    else:
        assert not others_visible(region, others)


@holds(300, box=boxes, seed=st.text(max_size=3))
def test_a_random_box_is_as_large_as_the_target_and_lies_elsewhere_where_it_can(box, seed):
    try:
        left, top, right, bottom = pixel_box(Region(box=box), SIZE)
    except ValueError:
        return
    region = hidden_region(SIZE, Region(box=box), kind="random_box", seed=seed)
    assert region.sum() == (right - left) * (bottom - top)
    if max(left, SIZE[0] - right) >= right - left or max(top, SIZE[1] - bottom) >= bottom - top:
        assert not region[top:bottom, left:right].any()


@pytest.mark.skipif(find_spec("mpcc.outlines") is None, reason="a NaN kills pycocotools, and is let pass")
@holds(500, outline=outlines, kind=st.sampled_from(("polygon", "instances", "box")))
def test_any_outline_gives_a_mask_of_the_image_or_a_value_error_of_one_line(outline, kind):
    target = Region(box=(2, 2, 5, 5), segmentation=outline)
    for find in (lambda: hidden_region(SIZE, target, [target], kind), lambda: footprint(target, SIZE)):
        try:
            found = find()
        except ValueError as error:
            one_line(error)
        else:
            assert found.shape == (17, 23) and found.dtype == np.bool_


def spoiled(content):
    """Copies of a JSON document in which up to three places hold something else, or nothing."""
    def places(node, at=()):
        yield at
        inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, below in inner:
            yield from places(below, (*at, key))

    def apply(changes):
        made = json.loads(json.dumps(content))
        for at, new in changes:
            node = made
            try:
                for key in at[:-1]:
                    node = node[key]
                if at and new is ...:
                    del node[at[-1]]
                elif at:
                    node[at[-1]] = json.loads(json.dumps(new))  # a copy: a later change may alter it
                else:
                    made = None if new is ... else new
            except (LookupError, TypeError):  # an earlier change took this place away
                continue
        return made

    value = st.one_of(junk, st.just(...), st.sampled_from((
        [1e308] * 4, [0, 0, 1, 1], [[1, 2, 3]], {"counts": "x"}, 10**30, "\ud800", "dog", "1.png", [[]], [None], -1,
        1e308, "a\nb")))
    return st.lists(st.tuples(st.sampled_from(list(places(content))), value), min_size=1, max_size=3).map(apply)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A COCO folder whose annotation file the properties overwrite."""
    made = tmp_path_factory.mktemp("spoiled")
    write_split(made, "val2017", ANNOTATIONS)
    write_split(made, "train2017", ANNOTATIONS)
    return made


def instances() -> dict:
    """The content of `folder`'s annotation file."""
    names = ("dog", "stop sign", "cup")
    return {"images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in (1, 2, 3)],
            "annotations": ANNOTATIONS,
            "categories": [{"id": i, "name": name, "supercategory": "x"} for i, name in enumerate(names, 1)]}


def loads_or_says(file: Path, content, load):
    """What `load` gives for this content of the file; a refusal must be one line that names the file."""
    file.write_text(json.dumps(content), encoding="utf-8")
    try:
        return load()
    except (ValueError, FileNotFoundError) as error:
        assert file.name in one_line(error), error
    return None


@holds(700, content=spoiled(instances()))
def test_a_spoiled_annotation_file_loads_or_is_refused_in_one_line(folder, content):
    file = folder / "annotations" / "instances_train2017.json"
    if coco := loads_or_says(file, content, lambda: Coco(folder, "train2017")):
        assert all(instance.image_id in coco.images for instance in coco.instances.values())


OURS = {"format": "mpcc-pairs", "version": 1, "split": "val2017", "pairs": [our_pair(annotation_id=11)]}
AUTHORS = {"hard": [their_pair()], "middle": [], "easy": [their_pair(file_name="2.png", bbox=[1, 2, 3, 4])]}
TRAINING = [pair(cot_data="A leash lies there."), pair(file_name="2.png", bbox=[30, 30, 5, 5], category_name="cup")]


@pytest.mark.filterwarnings("ignore")
@holds(500, content=st.one_of(spoiled(OURS), spoiled(TRAINING)))
def test_a_spoiled_pairs_file_loads_or_is_refused_in_one_line(folder, content):
    file, coco = folder / "spoiled_pairs.json", Coco(folder, "val2017")
    for found in loads_or_says(file, content, lambda: file_pairs(file, coco)) or ():
        assert found.answer and found.image.file_name in ("1.png", "2.png", "3.png")


@holds(800, content=st.one_of(spoiled(OURS), spoiled(AUTHORS)), with_images=st.booleans())
def test_a_spoiled_benchmark_loads_or_is_refused_in_one_line(folder, content, with_images):
    file, images = folder / "spoiled_benchmark.json", folder / "val2017" if with_images else None
    if found := loads_or_says(file, content, lambda: read_benchmark(file, images)):
        assert all(item.answer and item.difficulty in DIFFICULTIES and len(item.confusing) == 4 for item in found.items)


@holds(300, content=st.one_of(spoiled(OURS), spoiled(AUTHORS), spoiled(TRAINING)))
def test_what_is_read_of_a_pairs_file_is_the_same_once_written_and_read_again(folder, content):
    file, copy = folder / "spoiled_read.json", folder / "written.json"
    if found := loads_or_says(file, content, lambda: read_pairs(file)):
        try:
            write_pairs(copy, found[0], [located.pair for located in found[1]])
            assert read_pairs(copy)[0] == found[0]
        except ValueError as error:
            assert "Out of range float" in one_line(error) or re.search("written.json|surrogates", str(error))


def test_at_least_ten_thousand_cases_are_drawn():
    assert sum(DECLARED.values()) >= 10_000
    assert {name: count for name, count in RAN.items() if count < DECLARED[name]} == {}
