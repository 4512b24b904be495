"""The curation page in a real browser, and the decisions that it saves, read back and applied."""

import json

import pytest
from PIL import Image

from mpcc.build.curate import apply_decisions, read_decisions, write_page

EVIL = '</script><script>window.harmed = 1</script><img src=x onerror="window.harmed = 1"><!-- &amp; \u2028'


def pair(number, **changes):
    made = {
        "id": f"val2017/{number}.jpg#{number}", "file_name": f"{number}.jpg", "bbox": [1, 2, 3, 4],
        "category_name": "dog", "supercategory": "animal", "annotation_id": number, "difficulty": "easy",
        "reason": "object analogy", "confusing": ["cat", "fox", "wolf", "sheep"], "filled": ["sheep"],
        "irrelevant": ["pizza", "toilet"], "rating": 4, "rating_text": "It follows.", "trace": "It barks.",
    }
    return made | changes


PAIRS = [pair(1), pair(2, category_name="cup", supercategory="kitchen"), pair(3, trace=EVIL), pair(4, difficulty=None)]
IDS = [made["id"] for made in PAIRS]


def image_of(made):
    return Image.new("RGB", (64, 48), (0, 40 * int(made["file_name"][0]), 0))


def decide(**decisions):
    """Decisions by pair number: n1={...}."""
    return {IDS[int(name[1:]) - 1]: decision for name, decision in decisions.items()}


def write(path, made, **changes):
    path.write_text(json.dumps({"format": "mpcc-decisions", "version": 1, "decisions": made} | changes))
    return path


@pytest.fixture
def page(tmp_path, request):
    """A page of its own for every test: the browser keeps the decisions on equal pairs."""
    path = tmp_path / "curate.html"
    write_page([made | {"supercategory": request.node.name} for made in PAIRS], image_of, path)
    return path


def test_a_pair_is_shown_with_everything_that_a_curator_needs(browser):
    seen = {name: browser.text(f"#{name}") for name in ("answer", "label", "reason", "trace", "rating")}
    assert seen == {"answer": "dog", "label": "easy", "reason": "object analogy", "trace": "It barks.",
                    "rating": "4 of 5: It follows."}
    assert browser.run("return [...document.querySelectorAll('.chip')].map(c => c.textContent + c.className)") == [
        "catchip", "foxchip", "wolfchip", "sheepchip filled", "pizzachip", "toiletchip"
    ]
    colours = []
    for _ in PAIRS:
        colours.append(browser.run(
            "const i = document.getElementById('image'); await i.decode();"
            "const p = document.createElement('canvas').getContext('2d'); p.drawImage(i, 0, 0);"
            "return p.getImageData(5, 5, 1, 1).data[1]"))
        browser.press("j")
    assert colours == pytest.approx([40, 80, 120, 160], abs=4), "each pair with its own picture"


def test_keys_decide_and_the_saved_file_is_read_back(browser, tmp_path):
    (browser.folder / "decisions.json").unlink(missing_ok=True)
    browser.press("y", "x", "3", "n", *"so so", "Escape", "j", "e", *"lion", "Enter")
    assert browser.text("#progress") == "4 of 4 decided: 1 kept, 2 relabelled, 1 dropped"
    browser.press("s")
    decisions = read_decisions(browser.downloaded("decisions.json"), PAIRS)
    assert decisions == decide(
        n1={"action": "keep"},
        n2={"action": "drop"},
        n3={"action": "relabel", "difficulty": "hard", "note": "so so"},
        n4={"action": "relabel", "answer": "lion"},
    )


def test_decisions_outlive_the_page_and_can_be_cleared(browser, page):
    browser.press("y", "x")
    decided = "2 of 4 decided: 1 kept, 0 relabelled, 1 dropped"
    assert browser.text("#progress") == decided

    def opened_anew() -> bool:
        browser.open(page)
        return browser.text("#progress") == decided

    with browser.second_tab():  # Chromium's store is another process, which learns of a decision a little later
        browser.until(opened_anew, "the decisions were not there when the page was opened anew")
        assert browser.text("#place") == "pair 3 of 4", "it goes on at the first undecided pair"
        browser.press("k", "u")
        assert browser.text("#progress").startswith("1 of 4 decided")


def test_another_label_or_none_is_a_keep_or_a_relabelling(browser):
    browser.press("1")
    assert browser.text("#state") == "kept", "its own label"
    browser.press("2")
    assert browser.text("#state") == "relabelled"
    assert browser.text("#was") == "proposed as easy"
    browser.press("y", "k")
    assert browser.text("#state") == "relabelled", "keeping keeps the new label"


def test_a_wrong_option_cannot_become_the_answer(browser):
    browser.press("e", *"Fox", "Enter")
    assert "is one of the wrong options" in browser.text("#message")
    browser.press("Escape")
    assert (browser.text("#answer"), browser.text("#state")) == ("dog", "undecided")


def test_the_filter_leaves_the_undecided(browser):
    browser.press("y", "ArrowRight", "x", "g", "f")
    assert browser.text("#place") == "pair 2 of 4"
    browser.press("j")
    assert browser.text("#place") == "pair 4 of 4"
    browser.choose("#filter", "dropped")
    assert browser.text("#place") == "pair 3 of 4"


def test_a_decisions_file_is_loaded(browser, tmp_path):
    others = decide(n2={"action": "drop", "note": "no"}) | {"other": {"action": "keep"}}
    browser.attach("#file", write(tmp_path / "given.json", others))
    browser.wait("#message", "Loaded 1 decisions. Left out: 1 of other pairs.")
    assert browser.text("#progress").startswith("1 of 4 decided: 0 kept, 0 relabelled, 1 dropped")
    broken = tmp_path / "broken.json"
    broken.write_text('{"format": "mpcc-dec')
    browser.attach("#file", broken)
    browser.wait("#message", "Cannot load broken.json")


def test_the_question_mark_shows_the_keys(browser):
    browser.press("?")
    assert browser.run("return document.getElementById('help').open")
    browser.press("x", "?")
    assert not browser.run("return document.getElementById('help').open")
    assert browser.text("#progress").startswith("0 of 4 decided"), "no key decides behind the help"


def test_text_of_a_model_is_shown_and_does_nothing(browser):
    browser.press("j", "j")
    assert browser.text("#trace") == EVIL
    assert browser.run("return window.harmed === undefined && document.images.length === 1")


def test_the_page_asks_for_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert "http" not in text.replace('http-equiv="Content-Security-Policy"', "")
    assert "default-src 'none'" in text
    assert EVIL not in text and "onerror" in text, "embedded, as inert text"


def test_no_page_of_nothing_and_no_half_page(tmp_path):
    with pytest.raises(ValueError, match="no pair to curate"):
        write_page([], image_of, tmp_path / "page.html")
    with pytest.raises(ValueError, match="1.jpg#1 occurs more than once"):
        write_page([pair(1), pair(1)], image_of, tmp_path / "page.html")

    def fails(made):
        raise OSError("the image is gone")

    with pytest.raises(OSError, match="gone"):
        write_page(PAIRS, fails, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


def test_decisions_are_applied():
    decisions = decide(
        n1={"action": "keep", "note": "good"},
        n2={"action": "drop"},
        n3={"action": "relabel", "difficulty": "hard"},
    )
    first, third, fourth = apply_decisions(PAIRS, decisions)
    assert first == PAIRS[0] and fourth == PAIRS[3], "kept, and undecided"
    assert third == {key: value for key, value in PAIRS[2].items() if key != "reason"} | {"difficulty": "hard"}


def test_another_answer_takes_its_supercategory_and_loses_the_trace():
    known, unknown = apply_decisions(PAIRS, decide(
        n1={"action": "relabel", "answer": "cup"}, n2={"action": "drop"}, n3={"action": "drop"},
        n4={"action": "relabel", "answer": "unicorn", "difficulty": "hard"},
    ))
    assert (known["category_name"], known["supercategory"], known["reason"]) == ("cup", "kitchen", "object analogy")
    assert (unknown["category_name"], unknown["supercategory"], unknown["difficulty"]) == ("unicorn", "", "hard")
    assert "trace" not in known and "trace" not in unknown
    assert PAIRS[0] == pair(1), "the pairs given are left alone"


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        ("keep", "must be an object"),
        ({}, "action None is unknown"),
        ({"action": "burn"}, "action 'burn' is unknown; it must be one of keep, drop, relabel"),
        ({"action": 1}, "action = 1 is not a text"),
        ({"action": "relabel"}, "needs a difficulty or an answer"),
        ({"action": "relabel", "difficulty": "middle"}, "difficulty 'middle' is unknown"),
        ({"action": "relabel", "answer": " Fox. "}, "is one of the pair's confusing names"),
        ({"action": "relabel", "answer": "a pizza"}, "is one of the pair's irrelevant names"),
        ({"action": "keep", "difficulty": "hard"}, "difficulty goes with the action relabel"),
        ({"action": "keep", "level": "hard"}, "unknown field 'level'"),
    ],
)
def test_an_impossible_decision_is_named(tmp_path, decision, message):
    path = write(tmp_path / "decisions.json", decide(n3=decision))
    with pytest.raises(ValueError, match=message) as caught:
        read_decisions(path, PAIRS)
    assert f"{path}: decision on {IDS[2]}" in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    path = tmp_path / "decisions.json"
    with pytest.raises(FileNotFoundError, match="save it from the page"):
        read_decisions(path, PAIRS)
    with pytest.raises(ValueError, match="decision on elsewhere: there is no such pair"):
        read_decisions(write(path, {"elsewhere": {"action": "keep"}}), PAIRS)
    for change, message in (({"format": "x"}, "no decisions file"), ({"version": 2}, "version 2 is unknown"),
                            ({"decisions": []}, "must be an object")):
        with pytest.raises(ValueError, match=message):
            read_decisions(write(path, {}, **change), PAIRS)
    path.write_text('{"format": "mpcc-decisions", "vers')
    with pytest.raises(ValueError, match="not whole JSON"):
        read_decisions(path, PAIRS)
