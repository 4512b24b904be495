"""VisArgs: five records written by hand are read, and what is wrong with others is listed."""

import json
from copy import deepcopy

import pytest
from small_visargs import RECORDS, write_visargs

from mpcc.crm.visargs import is_visargs, read_visargs, rests_on


def test_five_records_are_read_with_their_regions_and_steps(tmp_path):
    cases = read_visargs(write_visargs(tmp_path), None)
    assert [len(case.regions) for case in cases] == [2, 3, 1, 2, 2]
    turtle, clock, *_ = cases
    assert turtle.picture.name == "turtle.png" and turtle.hidden is None and not turtle.exact
    assert turtle.regions[1].box == (60, 10, 30, 30) and turtle.regions[1].control is not None
    assert turtle.annotated == (("The turtle eats what floats.", (0,)), ("The bag is a danger.", (1,)),
                                ("So plastic in the sea kills turtles.", (0, 1)))
    assert [region.relevant for region in clock.regions] == [True, True, False], "the bird argues nothing"
    assert len(turtle.views("mean")) == 5


def test_a_step_rests_on_premises_through_intermediate_conclusions():
    steps = ["(VP2, CP1 -> IC1): a", "(IC1, VP3 -> IC2): b", "( CP1->IC3 ) c", "(IC2, IC3 -> C): d  e"]
    assert rests_on(steps, 3, 1, "here") == [("a", (1,)), ("b", (1, 2)), ("c", ()), ("d e", (1, 2))]


@pytest.mark.parametrize(("step", "expected"), [
    ("VP1 so a", "is not of the form"), ("(VP1 -> X): a", "is not of the form"), ("(VP1 -> C): ", "is not of the form"),
    ("(VP4 -> C): a", "rests on VP4, which is not there"), ("(IC1 -> C): a", "rests on IC1, which is not there or is"),
])
def test_a_step_that_breaks_the_grammar_is_named(step, expected):
    with pytest.raises(ValueError, match=r"here: reasoning_steps\[0\]") as error:
        rests_on([step], 3, 1, "here")
    assert expected in str(error.value)


def test_pictures_may_have_names_of_their_own(tmp_path):
    file = write_visargs(tmp_path)
    (tmp_path / "images/turtle.png").rename(tmp_path / "images/0001.png")
    (tmp_path / "images/images.json").write_text(json.dumps({RECORDS[0]["url"]: "0001.png"}))
    assert [case.picture.name for case in read_visargs(file, tmp_path / "images")][:2] == ["0001.png", "clock.png"]


@pytest.mark.parametrize(("change", "expected"), [
    ({"url": "https://example.org/gone.png"}, "gone.png is missing"),
    ({"url": "https://example.org/"}, "names no picture"),
    ({"b_box": RECORDS[0]["b_box"][:1]}, "b_box must hold a box for each of the 2 visual_premises"),
    ({"b_box": [{"startX": 5, "startY": 5, "w": 400, "h": 30}] * 2}, r"b_box\[0\]: bbox .* lies outside its image"),
    ({"b_box": [[1, 2, 3, 4]] * 2}, "is not an object with startX"),
    ({"conclusion": " "}, "lacks conclusion"),
    ({"reasoning_steps": ["(VP1 -> C): a <answer> b"]}, "holds the special token or tag"),
    ({"visual_premises": "A turtle"}, "visual_premises = 'A turtle' is not a list of names"),
])
def test_a_wrong_record_is_left_out_and_listed(tmp_path, cache, change, expected):
    records = deepcopy(RECORDS)
    records[0] |= change
    file = write_visargs(tmp_path, records)
    with pytest.warns(UserWarning, match=rf"1 of 5 records of .* are wrong and left out.*\[0\].*{expected}"):
        assert len(read_visargs(file, None)) == 4
    file.write_text(json.dumps(records[:1]))
    with pytest.raises(ValueError, match="of 1 records none is left"):
        read_visargs(file, None)


def test_other_lists_are_no_visargs():
    assert is_visargs(RECORDS)
    assert not is_visargs([]) and not is_visargs({"pairs": []}) and not is_visargs([{"file_name": "a"}])
