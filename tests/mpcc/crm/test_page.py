"""The page of CRM, in a real browser; and what it embeds."""

import pytest
import tiny
from browser import Browser
from crm_records import record

from mpcc.crm import page as crm_page
from mpcc.crm.page import write_page

EVIL = '</script><script>window.harmed = 1</script><img src=x onerror="window.harmed = 1"><!--'


class Pictures:
    """A case of two regions, as far as the page asks: the unmasked picture, two masked ones, and a control."""

    regions = (1, 2)

    def views(self, fill):
        return [tiny.image(100, 80, seed) for seed in range(4)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "crm.html"
    wrong = record("b")
    wrong["own"] |= {"right": False, "given": None}
    wrong["truth"] = EVIL
    wrong["masked"][0] |= {"pairs": [[1, 1], [2, 2]], "aligned": 2 / 3}
    write_page([Pictures()] * 2, [record("a"), wrong], "mean", path, "Regions", "hit@1 100.0 " + EVIL,
               ["a model: GROUNDED", "- because " + EVIL])
    return path


@pytest.fixture
def browser(page, tmp_path):
    with Browser(tmp_path) as opened:
        opened.open(page)
        yield opened
        assert opened.complaints() == [] and opened.run("return window.harmed === undefined")


def texts(browser, selector):
    return browser.run("return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)", selector)


def test_a_picture_is_embedded_once_and_once_more_for_each_region(page):
    text = page.read_text(encoding="utf-8")
    assert text.count('id="picture-') == 6 and "http" not in text.partition("<body>")[2].partition("<script")[0]


def test_only_the_first_pictures_are_shown_and_that_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(crm_page, "MOST", 1)
    write_page([Pictures()] * 2, [record("a"), record("b")], "mean", tmp_path / "x.html", "Regions", "figures", [])
    text = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert text.count('id="picture-') == 3 and "the page shows the first 1 of 2 pictures" in text
    with pytest.raises(ValueError, match="there is no picture to show"):
        write_page([], [], "mean", tmp_path / "y.html", "Regions", "figures", [])


def test_the_verdict_is_in_sight_and_each_region_says_whether_it_is_still_named(browser):
    assert texts(browser, "#verdict li") == ["a model: GROUNDED", "because " + EVIL]
    assert texts(browser, "#regions button span") == [
        " · masked, it is no longer named", " · masked, it is still named"]


def test_steps_are_tinted_by_the_region_they_depend_on_and_show_their_row(browser):
    borders = browser.run("return [...document.querySelectorAll('#trace .step')].map(e => e.style.borderLeftColor)")
    regions = browser.run("return [...document.querySelectorAll('#regions button')].map(e => e.style.borderLeftColor)")
    assert borders == [*regions, ""], "the conclusion depends on none"
    browser.press("s")
    assert texts(browser, "#detail tr.named td")[0].endswith("A cup is left of the box.")
    assert texts(browser, "#detail tr.named td")[1:] == ["2.00", "", "2.00", "0.00"]


def test_a_region_shows_its_masked_picture_and_the_changed_trace(browser):
    whole = browser.run("return document.querySelector('#image').src")
    browser.press("1")
    assert browser.run("return document.querySelector('#image').src") != whole
    assert texts(browser, "#detail tr:nth-child(2) td") == ["A cup is left of the box.", "A fork is left of the box."]
    assert "answer: cat (wrong)" in browser.text("#detail") and "100 % of the steps" in browser.text("#detail")
    browser.press("0")
    assert browser.run("return document.querySelector('#image').src") == whole
    browser.press("j", "1")
    assert texts(browser, "#detail tr.alone td") == [
        "(no partner)", "A fork is left of the box.", "A cup is left of the box.", "(no partner)"]
    assert texts(browser, "#said p") == ["answer: nothing readable (wrong)", "true: " + EVIL]
