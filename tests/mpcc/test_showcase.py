"""The picture of what a run did."""

import json
import shutil
import sys
from itertools import combinations

import pytest
from PIL import Image

from minigrpo.config import parse_config, to_toml
from minigrpo.task import Sample
from mpcc import DEFAULT_TASK
from mpcc.rewards import reward_terms
from mpcc.showcase import Answered, answered, main, make_figure
from mpcc.task import MaskedPrediction

HISTORY = [{"step": step, "reward": 1 + step / 30, "kl": None} for step in range(1, 31)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder whose model is the one it began with."""
    folder = tmp_path_factory.mktemp("runs") / "001"
    shutil.copytree(MaskedPrediction.default_model, folder / "model")
    config, _ = parse_config(["--task.held_out", "16"], DEFAULT_TASK)
    (folder / "config.toml").write_text(to_toml(config), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in HISTORY), encoding="utf-8")
    return folder


def pair(name, before=False, after=False, text="<think> A rope. </think><answer>dog</answer>"):
    sample = Sample(name, "Which?", (Image.new("RGB", (240, 160), "green"),), data={"answer": name})
    return Answered(sample, [text] * 2, (before, after), ["2.14 = format 1 + exact 0 + levenshtein 0.14"] * 2)


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_both_models_answer_the_held_out_pairs_and_earn_what_the_task_says(finished):
    pairs, history = answered(finished)
    assert (len(pairs), history) == (16, HISTORY)
    assert {one.right for one in pairs} == {(True, True), (False, False)}, "the same model twice"
    for one in pairs:
        assert one.texts[0] == one.texts[1]
        truth = one.sample.data["answer"]
        assert one.right[0] == (f"<answer>{truth}</answer>" in one.texts[0])
        terms = {name: value for name, (value,) in reward_terms(one.texts[:1], truth).items()}
        said = " + ".join(f"{name} {round(value, 2):g}" for name, value in terms.items())
        assert one.earned == [f"{sum(terms.values()):.2f} = {said}"] * 2


def test_the_command_leaves_a_picture(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["showcase", str(finished), "--out", str(tmp_path / "a.png"), "--pairs", "1"])
    main()
    assert Image.open(tmp_path / "a.png").size == (1300, 429)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_rule_says_which_pairs_are_shown():
    pairs = [pair("kept", True, True), pair("wrong 1"), pair("wrong 2"), pair("lost", True),
             pair("right 1", after=True), pair("right 2", after=True)]
    shown = texts(make_figure(pairs, HISTORY, 5))
    assert [text for text in shown if text.startswith(("hidden", "the "))] == [
        "hidden: right 1", "the first of 6 that became right", "hidden: wrong 1", "the first of 6 that stayed wrong",
        "hidden: lost", "the first of 6 that became wrong", "hidden: kept", "the first of 6 that stayed right",
        "hidden: right 2", "the next of 6 that became right"]
    assert "2 became right, 2 stayed wrong, 1 became wrong, 1 stayed right" in shown[-1]
    labels = [text.get_text() for axes in make_figure(pairs, HISTORY, 1).axes for text in axes.texts]
    assert labels == ["before 33.3 %", "after 50.0 %"]


@pytest.mark.filterwarnings("error")  # such as one of a character that the font lacks
@pytest.mark.parametrize("text", [
    "$\\frac{ _^ $x$ " * 40, "W" * 900, "M i " * 200, "狗 \U0001f415 " * 60, "a\n\x00\t\x1b[31m b\n\n" * 30, "", "$"])
def test_whatever_a_model_writes_is_drawn_as_it_stands_and_over_nothing_else(text):
    figure = make_figure([pair("traffic light, $5 and more", text=text), pair("dog", text=text)], HISTORY, 2)
    figure.draw_without_rendering()  # raises where text is taken for a formula that it is not
    boxes = [text.get_window_extent() for text in figure.texts] + [axes.get_tightbbox() for axes in figure.axes]
    for box in boxes:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1
    for one, two in combinations(boxes, 2):
        assert not one.overlaps(two), (one, two)


def test_the_end_of_a_long_answer_is_kept():
    long = "<think>" + " The box is small." * 60 + " </think> <answer>dog</answer>"
    (lines,) = {text for text in texts(make_figure([pair("dog", text=long)], HISTORY, 1)) if "<think>" in text}
    assert len(lines.splitlines()) == 5 and lines.splitlines()[3] == "…" and lines.endswith("<answer>dog</answer>")


@pytest.mark.parametrize(("missing", "message"), [
    ("config.toml", "cannot read the configuration"), ("model", "model"), ("metrics.jsonl", "metrics.jsonl"),
    ("reward", "no reward"), ("pairs", "--pairs 0 must be")])
def test_a_run_that_cannot_be_shown_is_refused_in_one_line(missing, message, finished, tmp_path, monkeypatch):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    if missing == "reward":
        (run / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n', encoding="utf-8")
    elif missing == "model":
        shutil.rmtree(run / missing)
    elif missing != "pairs":
        (run / missing).unlink()
    monkeypatch.setattr(sys, "argv", ["showcase", str(run), "--pairs", "0" if missing == "pairs" else "1"])
    with pytest.raises(SystemExit, match=message) as error:
        main()
    assert "\n" not in str(error.value) and not list(run.glob("*.png"))
