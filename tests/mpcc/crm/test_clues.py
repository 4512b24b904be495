"""Which regions a step names."""

import pytest

from mpcc.crm.clues import clue_names, first_span, name_spans, named_regions, token_f1
from mpcc.crm.regions import Region
from mpcc.scenes.evidence import PROPS


def regions(*texts):
    return [Region(text, clue_names(text), (0, 0, 9, 9)) for text in texts]


@pytest.mark.parametrize(("text", "names"), [
    ("A milk can is left of the box.", ("milk can",)),
    ("Reading glasses are below the box.", ("reading glasses",)),
    ("Another pair of skis is left of the box.", ("skis",)),
    ("Elsewhere a lamp post and a traffic light are together.", ("lamp post", "traffic light")),
    ("On the left are a cup, an apple and a bowl.", ("cup", "apple", "bowl")),
    ("Next to the box on its left is a cup.", ("cup",)),
    ("A bowl of pet food is above the box.", ("bowl of pet food",)),
    ("A leash lies beside the box.", ("leash",)),
])
def test_a_clue_names_what_it_speaks_of(text, names):
    assert clue_names(text) == names


def test_every_prop_of_the_scenes_is_found_in_its_own_sentence():
    for prop in PROPS:
        clues = regions(prop.seen("left of"))
        assert named_regions(prop.seen("right of"), clues) == [0], prop.phrase
        assert named_regions("It must be a couch.", clues) == []


def test_a_sentence_about_several_things_is_about_the_region_of_them_all():
    clues = regions("On the left are a cup, an apple and a bowl.", "Next to the box on its left is a cup.",
                    "Next to the box on its right is an apple.")
    for i, clue in enumerate(clues):
        assert named_regions(clue.text, clues) == [i]
    both = regions("A lamp post is right of the box.", "Elsewhere a lamp post and a traffic light are together.")
    assert [named_regions(clue.text, both) for clue in both] == [[0], [1]]


def test_clues_of_one_name_are_told_apart_by_their_words_where_anything_does():
    clues = regions("Another dog is left of the box.", "Another dog is right of the box.")
    assert [named_regions(clue.text, clues) for clue in clues] == [[0], [1]]
    assert named_regions("A dog.", clues) == [0, 1]
    assert named_regions("It must be a dog.", clues, without="dog") == []


def test_a_step_may_name_two_regions():
    clues = regions("A saddle is left of the box.", "A milk can is right of the box.", "A steak is below the box.")
    assert named_regions("There are milk cans, and a saddle.", clues) == [0, 1]


def test_names_are_found_where_they_stand():
    assert name_spans("Two cups stand by a shepherd's crook.", ["cup", "shepherd's crook"]) == [
        ("cup", 4, 8), ("shepherd's crook", 20, 36)]
    assert name_spans("This is a ski slope.", ["skis"]) == []
    assert name_spans("A ski is there.", ["skis"]) == [("skis", 2, 5)]
    assert name_spans("One ski, two skis.", ["skis"]) == [("skis", 4, 7), ("skis", 13, 17)]
    assert first_span("a hot dog and a dog", ["dog", "hot dog"]) == (2, 9)
    assert first_span("nothing", ["dog"]) is None


def test_token_f1_counts_each_word_as_often_as_both_hold_it():
    assert token_f1(["a", "b", "b"], ["b", "b", "c", "d"]) == pytest.approx(4 / 7)
    assert token_f1([], []) == 1 and token_f1(["a"], []) == 0
