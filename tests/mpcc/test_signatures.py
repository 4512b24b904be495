"""The three signs of failure on records with known figures."""

import pytest
from PIL import Image

from minigrpo import Sample
from mpcc.benchmark import Item
from mpcc.questions import ask, record
from mpcc.signatures import NGRAM, blacked_out, blindness, format_collapse, render, rigidity
from mpcc.words import words


def item(number, answer="dog"):
    return Item(str(number), f"{number}.jpg", (1, 2, 3, 4), answer, "easy", ("cat", "fox", "wolf", "sheep"),
                ("pizza", "toilet"))


def thought(number, text, image=None):
    return {"id": str(number), "file_name": image or f"{number}.jpg", "completion": f"<think>{text}</think>"}


def free(*completions, answer="dog"):
    return [record(ask(item(i, answer), ["free"])[0], text, "reasoning") for i, text in enumerate(completions)]


def test_rigidity_counts_what_a_trace_holds_word_for_word():
    traces = ["A man holds a long leash in his hand."]
    records = [thought(1, "a man holds a long, LONG leash"), thought(2, "so short")]
    # a-man-holds-a-long stands in the trace, the two that follow do not
    assert rigidity(records, traces) == {
        "n": NGRAM, "ngrams": 3, "from_traces": pytest.approx(100 / 3), "floor": None, "excess": None, "copied": 0,
        "copied_floor": None, "across_images": 0
    }
    assert rigidity([thought(1, "A man holds a long leash")], traces)["from_traces"] == 100
    assert rigidity([thought(1, "a man holds two")], traces, n=2)["from_traces"] == pytest.approx(200 / 3)


def test_rigidity_is_told_from_the_wording_that_all_traces_share():
    seen = (("milk can stands left", "cup"), ("fork lies right", "plate"), ("pan hangs above", "pot"))
    traces = [f"The scene is a kitchen. A {clue}. So it must be a {name}." for clue, name in seen]
    held_out = thought(1, "The scene is a kitchen. A whisk lies below. So it must be a bowl.")
    parrot = thought(2, traces[0])
    # of the 10, 9 and 9 5-grams of the traces, "the scene is a kitchen" and "so it must be a" stand in all three,
    # "scene is a kitchen a" too
    floor = 100 * 9 / sum(len(words(trace)) - 4 for trace in traces)
    found = rigidity([held_out], traces)
    assert found["floor"] == pytest.approx(floor) and found["from_traces"] == pytest.approx(100 * 3 / 11)
    assert abs(found["excess"]) < 3, "as much as the traces share with each other"
    assert rigidity([parrot], traces)["excess"] == pytest.approx(100 - floor)
    assert f"(a floor of {floor:.2f}, excess +" in render({"rigidity": rigidity([parrot], traces)})
    assert (found["copied"], found["copied_floor"], rigidity([held_out, parrot], traces)["copied"]) == (0, 0, 50)
    assert "; as a whole 100.00, floor 0.00)" in render({"rigidity": rigidity([parrot, thought(3, "")], traces)})
    assert rigidity([parrot], [*traces, traces[1].upper()])["copied_floor"] == 50
    templates = ["The scene is a kitchen so it must be a cup."] * 2
    assert rigidity([parrot], templates)["floor"] == 100, "such traces can show nothing"
    assert rigidity([thought(1, "the red bird sits on a wire")], templates)["excess"] == -100


def test_rigidity_across_images_needs_another_image():
    same = "the box stands under the window"
    one = [thought(1, same), thought(2, same, image="1.jpg"), thought(3, "one two three four five", image="3.jpg")]
    assert rigidity(one, [])["across_images"] == 0, "questions about one image may repeat themselves"
    two = [thought(1, same), thought(2, f"{same} here")]
    assert rigidity(two, ["elsewhere"]) == {
        "n": 5, "ngrams": 5, "from_traces": 0, "floor": None, "excess": None, "copied": 0, "copied_floor": None,
        "across_images": 80
    }


def test_without_traces_no_share_of_them_is_claimed():
    signs = {"rigidity": rigidity([thought(1, "the box stands under the window")], iter([]))}
    assert signs["rigidity"]["from_traces"] is None
    assert "2 5-grams of reasoning: no training traces to compare with, 0.00 are said of another" in render(signs)


def test_rigidity_of_no_reasoning_is_none():
    assert rigidity([thought(1, "a dog")], ["a dog"]) == {
        "n": 5, "ngrams": 0, "from_traces": None, "floor": None, "excess": None, "copied": 100, "copied_floor": None,
        "across_images": None
    }


def test_a_blacked_out_sample_asks_the_same_about_nothing():
    images = (Image.new("RGB", (20, 10), "red"), Image.new("RGB", (5, 6), "white"))
    sample = Sample("one", "what?", images, system="be brief", data={"answer": "dog"})
    black = blacked_out(sample)
    assert (black.question, black.system, black.data) == (sample.question, sample.system, sample.data)
    assert [image.size for image in black.images] == [(20, 10), (5, 6)]
    assert all(image.getextrema() == ((0, 0),) * 3 for image in black.images)
    assert black.id != sample.id and images[0].getpixel((0, 0)) == (255, 0, 0)


def run(says):
    """Records of ten items asked Cho.E and free-form; `says(question, i)` is the completion."""
    asked = [(question, i) for i in range(10) for question in ask(item(i), ["cho_e", "free"])]
    return [record(question, says(question, i), "reasoning") for question, i in asked]


def test_blindness_compares_with_the_all_black_run():
    def seen(question, i):
        if question.kind == "free":
            return "<answer>A dog.</answer>" if i < 8 else "no idea"
        return question.truth

    def blind(question, i):
        if question.kind == "free":
            return "<answer>dog</answer>" if i < 2 else "<answer>cat</answer>" if i < 9 else "no idea"
        return question.truth if i < 4 else "Z"

    found = blindness(run(seen), run(blind)[::-1])
    assert found.keys() == {"cho_e", "free"}
    assert {name: rate["percent"] for name, rate in found["cho_e"].items()} == {
        "right": 100, "right_black": 40, "unchanged": 40
    }
    free_form = found["free"]
    assert (free_form["right"]["percent"], free_form["right_black"]["percent"]) == (80, 20)
    assert (free_form["unchanged"]["n"], free_form["unchanged"]["percent"]) == (8, 25), "of those answered, 2"
    assert found["cho_e"]["right_black"]["low"] == pytest.approx(16.82, abs=0.01), "Wilson, 4 of 10"


def test_a_parrot_is_unchanged_and_a_mute_is_not_counted():
    parrot, mute = run(lambda question, i: "<answer>A</answer>"), run(lambda question, i: "")
    assert blindness(parrot, parrot)["cho_e"]["unchanged"]["percent"] == 100
    assert blindness(mute, mute)["cho_e"]["unchanged"] is None


def test_runs_that_were_not_asked_the_same_are_refused():
    one = run(lambda question, i: "A")
    with pytest.raises(ValueError, match="not asked the same: free of item 9"):
        blindness(one, one[:-1])
    with pytest.raises(ValueError, match="item 0 was asked a cho_e question twice"):
        blindness([*one, one[0]], one)


@pytest.mark.parametrize(
    ("completion", "formed", "collapsed"),
    [
        ("<think>it barks</think><answer>dog</answer>", 100, 0),
        ("<think>it barks</think><answer>cat</answer>", 100, 0),
        ("<answer>dog</answer>", 0, 100),
        ("<think>it barks <answer>A dog.</answer>", 0, 100),
        ("<think>it barks</think> dog", 0, 100),
        ("It must be the dog.", 0, 100),
        ("A hot dogs stand", 0, 0),
        ("<think>a dog would bark</think> cat", 0, 0),
        ("<think>a dog or a cat, or", 0, 0),
        ("a dog? <answer>cat</answer>", 0, 0),
        ("", 0, 0),
    ],
)
def test_format_collapse_is_a_right_answer_without_the_tags(completion, formed, collapsed):
    found = format_collapse(free(completion))
    assert (found["well_formed"]["percent"], found["collapsed"]["percent"]) == (formed, collapsed)


def test_format_collapse_is_a_rate_over_free_form_answers():
    others = run(lambda question, i: "dog")[:1]
    found = format_collapse([*free("dog", "cat", "<answer>dog</answer>", "<think>x</think><answer>dog</answer>"),
                             *others])
    assert (found["collapsed"]["n"], found["collapsed"]["percent"], found["well_formed"]["percent"]) == (4, 50, 25)
    assert format_collapse(others) == {}
    assert format_collapse(free("It is a Fire  Hydrant", answer="fire hydrant"))["collapsed"]["percent"] == 100
