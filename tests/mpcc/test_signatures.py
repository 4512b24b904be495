"""The three signs of failure on records with known figures."""

import pytest

from mpcc.benchmark import Item
from mpcc.questions import ask, record
from mpcc.signatures import NGRAM, blindness, format_collapse, render, rigidity
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


def run(says):
    """Records of ten items asked Cho.E and free-form; `says(question, i)` is the completion."""
    asked = [(question, i) for i in range(10) for question in ask(item(i), ["cho_e", "free"])]
    return [record(question, says(question, i), "reasoning") for question, i in asked]


def seen(question, i):
    return "<answer>A dog.</answer>" if i < 8 else "no idea"


def blind(question, i):
    return "<answer>dog</answer>" if i < 2 else "<answer>cat</answer>" if i < 9 else "no idea"


def of_free(records):
    return [record for record in records if record["kind"] == "free"]


def test_blindness_compares_with_the_run_in_a_blind_view():
    found = blindness(run(seen), of_free(run(blind))[::-1])
    assert (found["right"]["percent"], found["right_blind"]["percent"], found["right"]["n"]) == (80, 20, 10)
    assert (found["unchanged"]["n"], found["unchanged"]["percent"]) == (8, 25), "of those answered, 2"
    assert found["right_blind"]["low"] == pytest.approx(5.67, abs=0.01), "Wilson, 2 of 10"
    said = render({"rigidity": rigidity([], []), "blindness": {"no_evidence": found}})
    assert "evidence filled, free-form: right 20.00 [5.67, 50.98], with the image 80.00 [" in said
    assert "25.00 [7.15, 59.07] of the answers unchanged" in said


def test_pairs_without_the_view_do_not_count():
    found = blindness(run(seen), of_free(run(blind))[6:])
    assert (found["right"]["n"], found["right"]["percent"], found["right_blind"]["percent"]) == (4, 50, 0)


def test_a_parrot_is_unchanged_and_a_mute_is_not_counted():
    parrot, mute = of_free(run(lambda question, i: "<answer>A</answer>")), of_free(run(lambda question, i: ""))
    assert blindness(parrot, parrot)["unchanged"]["percent"] == 100
    assert blindness(mute, mute)["unchanged"] is None


def test_runs_that_were_not_asked_the_same_are_refused():
    one = of_free(run(lambda question, i: "A"))
    with pytest.raises(ValueError, match="not asked the same: only one has item 9"):
        blindness(one[:-1], one)
    with pytest.raises(ValueError, match="not asked the same"):
        blindness(one, [])
    with pytest.raises(ValueError, match="item 0 was asked the free-form question twice"):
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
