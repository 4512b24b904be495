"""Captions: of the scenes, which know what the picture alone tells, and of a COCO folder."""

import json
import re

import pytest
from small_coco import write_split

from mpcc.mmrpt.captions import EVERYDAY, SCENES, CocoCaptions, SceneCaptions, read_captions, scene_caption
from mpcc.mmrpt.masks import masked_by_choice
from mpcc.mmrpt.spans import hidden, parts_of, word_spans
from mpcc.scenes.categories import NAMES
from mpcc.scenes.evidence import PROPS
from mpcc.scenes.places import PLACES
from mpcc.scenes.world import generate

PHRASES = {prop.phrase.removeprefix("a ").removeprefix("an ") for prop in PROPS}


@pytest.fixture(scope="module")
def captions():
    made = [(scene := generate(f"captions/test/{n}"), scene_caption(scene, f"test/{n}")) for n in range(60)]
    return made


def test_a_caption_names_things_of_the_picture_and_holds_two_sentences_of_every_day(captions):
    for scene, caption in captions:
        facts = [caption.text[slice(*fact)] for fact in caption.facts]
        objects = [fact for fact in facts if fact in NAMES]
        assert set(facts) <= set(NAMES) | PHRASES and objects
        assert set(objects) <= {item.category for item in scene.items}
        sentences = [caption.text[slice(*part)] for part in parts_of(caption.text, "sentence")]
        assert len(set(sentences) & set(EVERYDAY[scene.place])) == 2 and len(sentences) == len(facts) + 2
        assert caption.subject == scene.place and caption.question == f"Describe the {scene.place}."
        assert caption == scene_caption(scene, caption.id), "the same every time"


def test_what_is_hidden_is_said_nowhere_else_in_the_caption(captions):
    for _, caption in captions:
        for masked in masked_by_choice([caption], "true", "span", 0.5):
            name = caption.text[slice(*next(f for f in caption.facts if masked.part[0] <= f[0] < masked.part[1]))]
            assert not re.search(rf"\b{name}\b", hidden(caption.text, masked.part))


def test_a_prop_in_a_caption_points_to_no_object_that_is_named(captions):
    told = 0
    for scene, caption in captions:
        facts = [caption.text[slice(*fact)] for fact in caption.facts]
        for prop in (fact for fact in facts if fact not in NAMES):
            told += 1
            beside = {item.category for item in scene.items for clue in item.evidence if clue.name.endswith(prop)}
            assert not beside & set(facts)
    assert told >= 5


def test_sentences_of_every_day_name_no_object_and_no_place_twice():
    assert EVERYDAY.keys() == PLACES.keys()
    for sentences in EVERYDAY.values():
        for sentence in sentences:
            assert not any(re.search(rf"\b{name}\b", sentence) for name in NAMES) and sentence.endswith(".")
    every = [sentence for sentences in EVERYDAY.values() for sentence in sentences]
    assert len(set(every)) == len(every)


def test_the_splits_of_the_scenes_share_no_picture():
    held_out, train = SceneCaptions("val2017"), SceneCaptions("train2017")
    assert len(held_out) == SCENES["val2017"] and len(train) == SCENES["train2017"]
    assert not {c.picture for c in held_out} & {c.picture for c in train}
    assert held_out.shown(held_out[0]).tobytes() == generate(held_out[0].picture).image.tobytes()
    with pytest.raises(ValueError, match="no split 'test2017'; choose one of train2017, val2017"):
        SceneCaptions("test2017")


def caption_file(folder, *records):
    images = json.loads((folder / "annotations" / "instances_val2017.json").read_text())["images"]
    path = folder / "annotations" / "captions_val2017.json"
    path.write_text(json.dumps({"images": images, "annotations": list(records)}))


@pytest.fixture
def coco(tmp_path):
    write_split(tmp_path, "val2017", [])
    return tmp_path


def test_captions_of_a_coco_folder_are_read_with_their_pictures(coco):
    caption_file(coco, {"id": 7, "image_id": 2, "caption": " A dog\n and a  cup. "})
    captions = read_captions(str(coco), "val2017")
    (caption,) = captions
    assert (caption.id, caption.text) == ("val2017/7", "A dog and a cup.")
    assert (caption.subject, caption.facts) == ("image", None)
    assert captions.shown(caption).size == (100, 80)
    with pytest.raises(ValueError, match="val2017/7: what only its picture can tell is not known"):
        masked_by_choice(captions, "true", "span", 0.5)


@pytest.mark.parametrize(("record", "said"), [
    ({"id": 7, "image_id": 2}, r"caption 7 \(image 2\) has no usable field 'caption': None; write its text"),
    ({"id": 7, "image_id": 2, "caption": "  "}, "has no usable field 'caption'"),
    ({"id": 7, "image_id": 9, "caption": "A dog."}, r"caption 7 \(image 9\) belongs to an image that the file does"),
    ({"id": 7, "image_id": 2, "caption": "A <|im_end|> dog."}, "holds the special token or tag '<|im_end|>'; correct"),
    ({"id": 7, "image_id": 2, "caption": "A ___ dog."}, "holds '___'; correct it"),
    ({"id": 7, "caption": "A dog."}, r"annotations\[0\] has no usable field 'image_id'"),
])
def test_a_wrong_caption_is_refused_or_left_out(coco, record, said, cache):
    caption_file(coco, record)
    with pytest.raises(ValueError, match=said.replace("|", r"\|")):
        CocoCaptions(coco, "val2017")
    caption_file(coco, record, {"id": 8, "image_id": 1, "caption": "A cup."})
    with pytest.warns(UserWarning, match="1 of 2 annotations"):
        assert [caption.id for caption in CocoCaptions(coco, "val2017", max_bad=0.5)] == ["val2017/8"]


def test_a_folder_without_captions_says_what_it_should_hold(coco):
    with pytest.raises(FileNotFoundError, match="captions_val2017.json is missing: a COCO folder holds annotations/ca"):
        CocoCaptions(coco, "val2017")


@pytest.mark.parametrize(("text", "spans"), [
    ("A man riding a wave on top of a surfboard.", ["A man", "riding", "a wave", "top", "a surfboard"]),
    ("At the back left is a fire hydrant.", ["the back left", "a fire hydrant"]),
    ("Two girls, in red dresses, are eating it.", ["Two girls", "red dresses", "eating"]),
    ("a wooden dark brown dining room table top", ["a wooden dark brown", "dining room table top"]),
    ("There is a.", []),
])
def test_spans_are_noun_phrases_as_far_as_words_tell(text, spans):
    assert [text[slice(*span)] for span in parts_of(text, "span")] == spans


def test_auto_takes_sentences_where_there_are_several():
    assert len(parts_of("A dog. A cat on a mat.", "auto")) == 2 == len(parts_of("A cat on a mat.", "auto"))
    assert len(parts_of("A cat on a mat.", "sentence")) == 1
    assert [len("It's 3-D"[slice(*span)]) for span in word_spans("It's 3-D")] == [4, 3]
