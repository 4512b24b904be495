"""Stage 4: wrong answers become options, what is missing comes from the data."""

import json

import pytest

from mpcc.build import distractors as stage
from mpcc.build.cooccurrence import Cooccurrence
from mpcc.build.names import too_close
from mpcc.coco import Coco
from mpcc.prompts import QUESTION, SYSTEM_PROMPT
from mpcc.splits.coco_categories import COCO

SAME = [("bus", "buses"), ("bus", "school bus"), ("vase", "vases"), ("couch", "couches"), ("couch", "sofas"),
        ("mouse", "mice"), ("tie", "ties"), ("glass", "wine glasses"), ("person", "people"), ("person", "old man"),
        ("skis", "ski"), ("skis", "skis"), ("knife", "knives"), ("cell phone", "phone"), ("tv", "television"),
        ("cookie", "cookies"), ("pony", "ponies"), ("potted plant", "plant"), ("teddy bear", "teddy-bears"),
        ("hot dog", "dog"), ("frisbee", "a frisbee")]
DIFFERENT = [("car", "carrot"), ("cup", "cake"), ("keyboard", "board"), ("bus", "truck"), ("tie", "kite"),
             ("bed", "bedside lamp"), ("sports ball", "baseball bat"), ("stop sign", "traffic light"),
             ("skateboard", "surfboard"), ("bear", "pear")]


@pytest.mark.parametrize(("a", "b"), SAME)
def test_names_of_the_same_object(a, b):
    assert too_close(a, b) and too_close(b, a)


@pytest.mark.parametrize(("a", "b"), DIFFERENT)
def test_names_of_different_objects(a, b):
    assert not too_close(a, b) and not too_close(b, a)


def test_coco_categories_are_apart():
    names = list(COCO)
    close = {(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if too_close(a, b)}
    # one name lies in the other, so they are never options of one question
    assert close == {("dog", "hot dog"), ("bear", "teddy bear")}


SPOKEN = {
    "<think>x</think><answer>A dog.</answer>": "dog",
    "<answer>Fire  Hydrant</answer>": "fire hydrant",
    "<think>a cat</think> the cat": "cat",
    "teddy bear": "teddy bear",
    "<answer>cat</answer><answer>dog</answer>": "dog",
    "<answer>猫</answer>": "猫",
    "<answer></answer>": None,
    "<answer>dog or cat or bird here</answer>": None,
    "<answer>dog, cat</answer>": None,
    "The hidden object is most likely a dog": None,
    "<think>it is a dog": None,
    "<answer>dog": None,
    "<answer>!!</answer>": None,
    "": None,
}


@pytest.mark.parametrize(("text", "name"), SPOKEN.items())
def test_names_that_can_stand_as_an_option(text, name):
    assert stage.spoken_name(text) == name


def test_wrong_answers_are_counted():
    said = ["cat", "bird", "dog", None, "cat", "dogs", "fox", "foxes", "cats", "hot dog", "cow", "wolf", "wolf", "wolf"]
    names = stage.most_frequent(said, "dog", "")
    assert set(names[:2]) == {"cat", "wolf"}  # three each
    assert names[2] in ("fox", "foxes") and names[3] in ("bird", "cow")
    assert stage.most_frequent(["dog", None, "a dog"], "dog", "") == []


def test_the_commoner_form_stands_for_its_like():
    assert stage.most_frequent(["foxes", "cat", "cat", "fox", "foxes"], "dog", "") == ["foxes", "cat"]


def test_the_seed_breaks_ties():
    names = ["cat", "bird", "fox", "cow", "owl", "pig"]
    orders = {tuple(stage.most_frequent(names, "dog", str(seed))) for seed in range(10)}
    assert len(orders) > 3
    assert stage.most_frequent(names, "dog", "1") == stage.most_frequent(names[::-1], "dog", "1")


@pytest.fixture
def data(coco):
    return Cooccurrence(Coco(coco, "val2017"))


def test_cooccurrence(data):
    assert data.images("dog") == 2 and data.images("pizza") == 2 and data.images("zebra") == 0
    assert data.given("person", "dog") == 0.5 and data.given("tv", "couch") == 1.0
    assert data.with_any("couch", {"tv", "dog"}) == 1.0 and data.with_any("couch", {"dog", "zebra"}) == 0.0
    assert data.with_any("clock", {"tv", "car"}) == 1.0
    assert data.supercategory["tv"] == "electronic" and len(data.names) == 12


def test_missing_names_come_from_what_appears_with_the_rest_of_the_image(data):
    filled = stage.fill([], "clock", {"couch", "tv"}, data, "")
    assert filled[0] == "chair"  # with couch and tv in one image of two
    assert not {"couch", "tv", "clock"} & set(filled) and len(filled) == 4
    assert stage.fill(["a", "b", "c"], "clock", {"couch", "tv"}, data, "") == ["chair"]
    assert stage.fill(["chairs", "b", "c"], "clock", {"couch", "tv"}, data, "") != ["chair"]


def test_visible_names_are_filled_in_only_if_need_be(data):
    seen = set(data.names) - {"dog", "bus", "fork"}
    filled = stage.fill([], "dog", seen, data, "")
    assert filled[:2] in (["bus", "fork"], ["fork", "bus"]) and set(filled[2:]) <= seen


def test_without_company_the_truths_own_kind_comes_first(data):
    assert stage.fill([], "car", set(), data, "")[0] == "bus"


def test_irrelevant_names_neither_appear_with_the_scene_nor_are_of_the_truths_kind(data):
    for seed in range(20):
        names = stage.unrelated("couch", [], {"chair", "tv"}, data, str(seed))
        assert len(names) == 2
        for name in names:
            assert data.with_any(name, {"couch", "chair", "tv"}) == 0 and data.supercategory[name] != "furniture"
    assert len({tuple(stage.unrelated("couch", [], {"chair"}, data, str(seed))) for seed in range(20)}) > 3


def test_irrelevant_names_are_no_confusing_ones(data):
    taken = ["dogs", "person", "cars", "bus"]
    assert not {"dog", "person", "car", "bus"} & set(stage.unrelated("tv", taken, {"couch", "chair"}, data, ""))


def test_where_everything_meets_the_rarest_company_is_taken(data):
    seen = {"person", "bus", "bench", "couch", "cup"}
    names = stage.unrelated("dog", [], seen, data, "")
    others = [n for n in data.names if n not in seen | {"dog"}]
    least = sorted(data.with_any(n, seen | {"dog"}) for n in others)[:2]
    assert sorted(data.with_any(n, seen | {"dog"}) for n in names) == least


def pair(id="1"):
    return {"id": id, "file_name": "1.png", "bbox": [1, 2, 3, 4], "category_name": "tv", "supercategory": "electronic"}


def says(*answers):
    def ask(prompts):
        assert all((p.question, p.system) == (QUESTION, SYSTEM_PROMPT) for p in prompts)
        return [[f"<think></think><answer>{a}</answer>" for a in answers] for _ in prompts]

    return ask


def run(data, *respondents, visible=frozenset({"couch"})):
    return stage.distractors([pair()], respondents, data, {"1": set(visible)}, seed=0)


def test_answers_of_all_respondents_count(data):
    outcome = run(data, says("TV", "radio"), says("lamp.", "radio"), says("a shelf", "fish tank"), says("radio", "TVs"))
    (found,) = outcome.pairs
    assert found["confusing"][0] == "radio" and sorted(found["confusing"]) == ["fish tank", "lamp", "radio", "shelf"]
    assert found["filled"] == [] and not outcome.notes
    assert len(found["irrelevant"]) == 2


def test_filled_names_are_marked_and_come_last(data):
    outcome = run(data, says("radio"), says("radio"), says("tv"))
    (found,) = outcome.pairs
    assert found["confusing"][0] == "radio" and found["confusing"][1:] == found["filled"]
    assert outcome.notes == {"1": "3 of 4 confusing names filled from co-occurrence"}


def test_irrelevant_names_that_had_to_be_taken_from_the_scene_are_noted(data):
    outcome = run(data, says("radio", "lamp", "shelf", "fish tank"), visible={"person", "bus", "bench", "couch", "cup"})
    met = sum(data.with_any(name, {"person", "bus", "bench", "couch", "cup", "tv"}) > 0
              for name in outcome.pairs[0]["irrelevant"])
    assert met and outcome.notes == {"1": f"{met} of 2 irrelevant names do appear with what the image shows"}


def test_too_few_categories_drop_the_pair(coco):
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] == 3]
    path.write_text(json.dumps(content), encoding="utf-8")
    outcome = run(Cooccurrence(Coco(coco, "val2017")), says("radio"))
    assert outcome.pairs == [] and outcome.dropped == {"1": "the data has too few categories for its distractors"}
