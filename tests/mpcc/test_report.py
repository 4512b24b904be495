"""The page of answers, in a real browser."""

import pytest
from PIL import Image

from mpcc.prompts import SYSTEM_PROMPT
from mpcc.report import write_page

EVIL = '</script><script>window.harmed = 1</script><img src=x onerror="window.harmed = 1"><!--'


def record(number, kind="cho_e", **changes):
    made = {
        "id": f"pair {number}", "kind": kind, "role": None, "in_all": False, "difficulty": "easy", "answer": "dog",
        "supercategory": "animal", "file_name": f"{number}.jpg", "bbox": [1, 2, 3, 4],
        "options": ["cat", "dog", "pizza", "fox"], "prompt": "Which?", "system": True, "truth": "B",
        "completion": "<answer>B</answer>", "parsed": "B", "right": True,
    }
    return made | changes


def free(number, **changes):
    return record(number, "free", options=[], truth="dog", prompt="What is it?", parsed="dig", right=False,
                  similarity=2 / 3, completion="<answer>dig</answer>", **changes)


def statement(number, **changes):
    return record(number, "true_false", role="confusing", options=["cat"], truth="no", parsed="no", **changes)


RECORDS = [
    record(1), free(1), statement(1),
    record(2, difficulty="hard", parsed="D", right=False, completion="<answer>D</answer>", system=False),
    record(3, answer="cup", supercategory="kitchen", parsed=None, right=False, completion=EVIL),
]


def image_of(made):
    return Image.new("RGB", (640, 480), (60 * int(made["file_name"][0]), 0, 0))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(RECORDS, image_of, path, "Base <model> & friends")
    return path


def texts(browser, selector):
    return browser.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)


def test_an_item_is_shown_with_all_its_questions(browser):
    assert browser.text("#title") == "Base <model> & friends"
    assert texts(browser, ".row span:first-child") == ["dog", "dog", "cup"]
    assert (browser.text("#answer"), browser.text("#label")) == ("dog", "easy")
    assert texts(browser, ".question .line") == [
        "Cho.Esaid Bright", "free-formsaid dig, true is dog, similarity 0.67wrong", "true/false, confusingsaid noright"
    ]
    assert texts(browser, ".question .completion")[1] == "<answer>dig</answer>"
    assert texts(browser, ".question details p")[0] == f"{SYSTEM_PROMPT}\n\nWhich?"
    assert texts(browser, ".chip.truth.given") == ["B dog"]
    browser.press("j")
    assert (texts(browser, ".chip.truth"), texts(browser, ".chip.given")) == (["B dog"], ["D fox"])
    assert texts(browser, ".question details p") == ["Which?"], "asked without the system prompt"


def test_each_item_has_its_picture_and_none_is_embedded_twice(browser, page):
    assert page.read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 3
    seen = []
    for _ in range(3):
        seen.append(browser.run(
            "const i = document.getElementById('image'); await i.decode();"
            "const p = document.createElement('canvas').getContext('2d'); p.drawImage(i, 0, 0);"
            "return [i.naturalWidth, i.naturalHeight, p.getImageData(5, 5, 1, 1).data[0]]"))
        browser.press("ArrowDown")
    assert [size for *size, _ in seen] == [[480, 360]] * 3
    assert [red for *_, red in seen] == pytest.approx([60, 120, 180], abs=4)


def test_filters_by_kind_difficulty_category_and_verdict(browser):
    answers = ".row span:first-child"
    assert browser.text("#figures") == (
        "5 questions about 3 items: 2 right (40.0 %), 2 wrong (40.0 %), 1 unparsed (20.0 %)"
    )
    browser.press("w")
    assert browser.text("#place") == "item 1 of 2"
    assert texts(browser, ".question b") == ["free-form"], "the wrong answer alone"
    assert "1 of its 3 questions shown" in browser.text("#source")
    browser.press("u")
    assert texts(browser, answers) == ["cup"]
    browser.press("a")
    browser.choose("#kind", "cho_e")
    assert browser.text("#figures").startswith("3 questions about 3 items: 1 right (33.3 %)")
    browser.choose("#difficulty", "hard")
    assert browser.text("#figures").startswith("1 questions about 1 items")
    browser.choose("#difficulty", "all")
    browser.choose("#category", "answer cup")
    assert texts(browser, answers) == ["cup"]
    browser.choose("#category", "group animal")
    assert texts(browser, answers) == ["dog", "dog"]
    browser.press("u")
    assert browser.run("return getComputedStyle(document.getElementById('what')).display") == "none", "nothing is left"
    assert browser.text("#figures").startswith("2 questions about 2 items")


def test_keys_turn_pages_kinds_and_prompts(browser):
    browser.press("j", "j", "j", "k")
    assert browser.text("#place") == "item 2 of 3", "the last item has no next"
    assert texts(browser, ".row.here span:first-child") == ["dog"]
    browser.press("p")
    assert browser.run("return document.querySelector('details').open")
    browser.press("t", "t")
    assert browser.run("return document.getElementById('kind').value") == "free"


def test_text_of_a_model_is_shown_and_does_nothing(browser):
    browser.press("j", "j")
    assert texts(browser, ".completion") == [EVIL]
    assert browser.run("return window.harmed === undefined && document.images.length === 1")


def test_the_note_stands_below_the_title_and_an_answer_to_another_picture_says_so(window, tmp_path):
    path = tmp_path / "noted.html"
    write_page([record(1), free(1, seen="all-black images")], image_of, path, "Base", "floors: 2 %")
    window.open(path)
    assert window.text("#note") == "floors: 2 %"
    assert texts(window, ".question p.soft") == ["not this picture was shown: all-black images"]
    assert window.complaints() == []


def test_rows_are_made_as_they_are_needed(window, tmp_path):
    path = tmp_path / "many.html"
    write_page([record(i, difficulty=None) for i in range(350)], lambda made: Image.new("RGB", (8, 8)), path, "many")
    window.open(path)
    count = "return document.querySelectorAll('.row').length"
    assert window.run(count) == 100
    window.press(*["j"] * 120)
    assert window.text("#place") == "item 121 of 350"
    assert 121 <= window.run(count) < 350
    window.run("const l = document.getElementById('list'); l.scrollTop = l.scrollHeight")
    window.run("return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert window.run(count) >= 200
    assert window.run("return document.getElementById('label').hidden"), "no difficulty, no label"
    assert window.complaints() == []


def test_the_page_asks_for_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in text


def test_no_page_of_nothing(tmp_path):
    with pytest.raises(ValueError, match="no answer to show"):
        write_page([], image_of, tmp_path / "page.html", "nothing")
    assert list(tmp_path.iterdir()) == []
