"""JSON files of all kinds of wrong, and records that are skipped, counted and listed."""

import json
import os
import re
import warnings

import pytest

from mpcc.coco import Region
from mpcc.formats import read_pairs
from mpcc.outlines import decode_mask
from mpcc.reading import Rejected, cache_folder, read_json, shown, unfit


def file(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_byte_order_mark_is_accepted(tmp_path):
    assert read_json(file(tmp_path, b'\xef\xbb\xbf{"a": 1}'), "") == {"a": 1}


@pytest.mark.parametrize(("text", "match"), [
    ('{"a": 1, "b": {"c": 1, "c": 2}}', "holds the key 'c' twice; remove one"),
    ("[" * 200_000, "nests its lists or objects too deeply"),
    ("[" + "9" * 5000 + "]", "more than 4,300 digits"),
    ('{"a"', "is not whole JSON .*download it again"),
    ("", "is not whole JSON"),
    (b'{"a": "\xff"}', "is no UTF-8 text .* at byte 7.*save it as UTF-8"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "pointer of Git LFS"),
])
def test_files_that_are_no_json_are_named_in_one_line(tmp_path, text, match):
    with pytest.raises(ValueError, match=rf"a\.json.*{match}") as caught:
        read_json(file(tmp_path, text), "")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_missing_file_says_the_hint_and_a_pipe_is_not_waited_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.json is missing: look there"):
        read_json(tmp_path / "a.json", "look there")
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path):
        with pytest.raises(ValueError, match="no regular file"):
            read_json(path, "")


@pytest.mark.parametrize(("text", "match"), [
    ("a <|im_end|> b", r"special token or tag '<\|im_end\|>'"), ("so </answer>", "'</answer>'"),
    ("a\0", "control character"), ("a\ud800", "control character"),
])
def test_texts_unfit_for_a_prompt(text, match):
    assert re.search(match, unfit(text))
    assert unfit("two\nlines, 3 < 4 | 5 > 2: “é”") is None


def test_values_are_shown_short():
    assert shown("a") == "'a'" and len(shown(10**4000)) == 80


def test_few_wrong_records_are_counted_listed_and_warned_of_once(cache):
    assert cache_folder() == cache
    rejected = Rejected("data.json", "annotations", 0.02)
    rejected.add(ValueError("annotation 7 is\nwrong"))
    rejected.add("annotation 9 too")
    with pytest.warns(UserWarning) as caught:
        rejected.settle(100)
    (listed,) = (cache / "rejected").iterdir()
    assert listed.read_text() == "annotation 7 is wrong\nannotation 9 too\n"
    (said,) = [str(warning.message) for warning in caught]
    assert said == (f"2 of 100 annotations of data.json are wrong and left out, listed in {listed}; "
                    "the first: annotation 7 is wrong")


def test_too_many_wrong_records_are_refused_with_the_first_reason(cache):
    rejected = Rejected("data.json", "annotations", 0.02)
    for number in range(3):
        rejected.add(f"annotation {number} is wrong")
    with pytest.raises(ValueError, match=r"^annotation 0 is wrong; 3 of 100 annotations of data\.json are wrong, "
                                         r"listed in .*, more than task\.max_bad = 0\.02: correct them, "
                                         r"or raise it to leave them out$"):
        rejected.settle(100)
    assert len(next((cache / "rejected").iterdir()).read_text().splitlines()) == 3


def test_nothing_is_said_where_all_is_well_and_a_cache_that_cannot_be_written_ends_nothing(cache):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Rejected("data.json", "annotations", 0.0).settle(0)
    cache.write_text("in the way")
    rejected = Rejected("data.json", "annotations", 0.5)
    rejected.add("annotation 7 is wrong")
    with pytest.warns(UserWarning, match="left out; the first: annotation 7"):
        rejected.settle(2)


@pytest.mark.parametrize("name", ["a\n.jpg", "a\t.jpg", "a\u2028.jpg"])
def test_a_file_name_with_a_control_character_is_refused_in_one_line(tmp_path, name):
    record = {"file_name": name, "bbox": [1, 1, 5, 5], "category_name": "dog"}
    for number, content in enumerate(([record], {"hard": [record], "middle": [], "easy": []})):
        file = tmp_path / f"{number}.json"
        file.write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(ValueError, match="holds a control character; rename the file") as caught:
            read_pairs(file)
        assert len(str(caught.value).splitlines()) == 1


def test_run_lengths_of_no_size_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"run lengths of size '\\n' do not fit an image of \[h, w\] = \[17, 23\]"):
        decode_mask(Region(box=(2, 2, 5, 5), segmentation={"counts": None, "size": "\n"}), 17, 23)


def test_half_a_character_is_refused_where_it_is_read(tmp_path):
    file = tmp_path / "a.json"
    file.write_text(r'["\ud83d\ude00"]')
    assert read_json(file, "") == ["\U0001f600"]
    file.write_text(r'["\ud83d"]')
    with pytest.raises(ValueError, match=r"a\.json holds '\\ud83d', half a character; correct it"):
        read_json(file, "")
