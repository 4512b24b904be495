"""The words of the reasoning."""

import pytest
from PIL import Image

from mpcc.words import STOP_WORDS, draw_words, make_figure, reasoning, top_words, words


@pytest.mark.parametrize(
    ("completion", "thought"),
    [
        ("<think> A dog sits. </think><answer>dog</answer>", "A dog sits."),
        ("<think> A dog sits. <answer>dog</answer>", "A dog sits."),
        ("<think> A dog", "A dog"),
        ("A dog sits. </think> dog", "A dog sits."),
        ("A dog sits. <answer>dog", "A dog sits."),
        ("<answer>dog</answer>", ""),
        ("It is a dog.", "It is a dog."),
        ("", ""),
    ],
)
def test_reasoning_is_what_stands_before_the_answer(completion, thought):
    assert reasoning(completion) == thought


def test_words_are_lower_case_without_figures_and_punctuation():
    assert words("The dog's T-shirt, “isn’t” 2 m away: 狗, naïve!") == [
        "the", "dog", "t-shirt", "isn't", "m", "away", "狗", "naïve"
    ]


def test_top_words_leave_stop_words_out_and_break_ties_by_alphabet():
    texts = ["The box is behind the bench. It isn't a b c d.", "Bench and box; a kite! The dog's kite and the BENCH"]
    assert top_words(texts) == [("bench", 3), ("box", 2), ("kite", 2), ("behind", 1), ("dog", 1)]
    assert top_words(texts, 2) == [("bench", 3), ("box", 2)]
    assert len(top_words([" ".join(f"w{chr(97 + i)}" for i in range(26))])) == 15
    assert top_words([]) == []


def test_stop_words_are_words_as_they_are_counted():
    assert all(words(word) == [word] for word in STOP_WORDS)
    assert not STOP_WORDS & {"dog", "box", "scene", "behind", "under", "likely"}


def test_the_words_that_the_paper_shows_are_counted():
    shown = ("positioned", "nearby", "size", "given", "expect", "reasonable")  # MPCC, on its Fig. 4b
    assert top_words([" ".join(shown)]) == [(word, 1) for word in sorted(shown)]


def test_strategies_stand_side_by_side_in_order():
    figure = make_figure({"base": [("box", 5), ("sky", 2)], "rft": [("box", 7), ("shape", 3), ("wide", 1)]})
    base, rft = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["base", "rft"]
    assert [label.get_text() for label in rft.get_yticklabels()] == ["box", "shape", "wide"]
    assert [bar.get_width() for bar in base.patches] == [5, 2]
    box, sky = (bar.get_facecolor() for bar in base.patches)
    assert box == rft.patches[0].get_facecolor() != sky == rft.patches[1].get_facecolor(), "shared words are pale"
    assert base.get_ylim()[0] > base.get_ylim()[1], "the most frequent word on top"


def test_the_plot_is_the_same_every_time(tmp_path):
    for name in ("one.png", "two.png"):
        draw_words(tmp_path / name, {"base": top_words(["a box, a kite"])})
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert Image.open(tmp_path / "one.png").format == "PNG"
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "two.png"}


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(ValueError, match="no words to draw"):
        draw_words(tmp_path / "plot.png", {})
    with pytest.raises(ValueError, match="prompt has none"):
        draw_words(tmp_path / "plot.png", {"base": [("box", 1)], "prompt": []})
    assert list(tmp_path.iterdir()) == []
