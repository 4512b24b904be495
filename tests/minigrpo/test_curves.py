"""The picture of a run: what its panels show, and how often it is drawn."""

import math

import numpy as np
import pytest
from PIL import Image

from minigrpo.curves import bounds, draw_curves, make_figure, panels_of, smooth
from minigrpo.log import RunLog
from minigrpo.ranks import Ranks
from minigrpo.sections import Config, RunConfig
from minigrpo.task import Task

METRICS = {"reward": 1.5, "reward/format": 0.75, "reward/exact": 0.25, "kl": 0.002, "entropy": 0.5, "length": 31.5,
           "grad_norm": 0.8, "tokens_per_second": 812.3, "zero_variance": 0.125, "seconds": 2.0}


def test_smoothing_is_a_centred_mean_that_keeps_gaps():
    values = np.array([0.0, 3.0, 6.0, np.nan, 12.0])
    np.testing.assert_allclose(smooth(values, 3), [1.5, 3.0, 4.5, np.nan, 12.0])
    np.testing.assert_array_equal(smooth(values, 1), values)
    np.testing.assert_allclose(smooth(np.arange(6.0), 2), [0.0, 0.5, 1.5, 2.5, 3.5, 4.5])


@pytest.mark.parametrize("steps", [1, 30])
def test_each_panel_draws_what_was_recorded(steps):
    history = [{"step": step} | METRICS | {"grad_norm": None if step == 5 else step} for step in range(1, steps + 1)]
    panels = {axes.get_title(loc="left"): axes for axes in make_figure(history, "run").axes}
    assert {title: labels(axes) for title, axes in panels.items() if title != "gradient norm"} == {
        "reward and its terms (1/2)": ["reward  1.50"], "reward and its terms (2/2)": ["format  0.75", "exact  0.25"],
        "groups without variance, answers cut off": ["zero_variance  0.12"],
        "entropy (nats per token)": ["entropy  0.50"],
        "KL to the reference (nats per token)": ["kl  0.002"], "completion length (tokens)": ["length  31.5"],
        "tokens per second": ["tokens_per_second  812"]}
    raw = panels["gradient norm"].get_lines()[0]
    np.testing.assert_array_equal(raw.get_xdata(), range(1, steps + 1))
    np.testing.assert_array_equal(raw.get_ydata(), [math.nan if step == 5 else step for step in range(1, steps + 1)])
    assert len(panels["entropy (nats per token)"].get_lines()) == (2 if steps > 20 else 1)


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def names(history):
    return [(title, list(curves), share) for title, curves, share in panels_of(history)]


def test_a_task_s_own_figures_have_panels_of_shares_and_of_like_sizes():
    record = {"step": 1, "reward": -20.0, "reward/right": 1.0, "reward/length": -45.0, "reward/rare": 0.004, "lr": 0.1,
              "game/score": 3000.0, "calls": 2.0, "steps_taken": 7.0, "never": None, "saw_image": 0.5, "skipped": 1.0}
    assert names([record, {"step": 2, "held_out/right": 0.0}, {"step": 3, "held_out/words": 80.0}]) == [
        ("reward and its terms (1/3)", ["reward", "reward/length"], False),
        ("reward and its terms (2/3)", ["reward/right"], True), ("reward and its terms (3/3)", ["reward/rare"], False),
        ("held-out (1/2)", ["held_out/right"], True), ("held-out (2/2)", ["held_out/words"], False),
        ("the task's own figures (1/3)", ["game/score"], False),
        ("the task's own figures (2/3)", ["calls", "steps_taken"], False),
        ("the task's own figures (3/3)", ["saw_image"], True)]


def test_more_figures_than_one_can_read_are_left_to_the_file():
    many = {f"held_out/{i}": 0.5 for i in range(20)}
    assert names([{"step": 1} | many]) == [
        ("held-out (1/4)", [f"held_out/{i}" for i in range(6)], True),
        ("held-out (2/4)", [f"held_out/{i}" for i in range(6, 12)], True),
        ("held-out (3/4, rest in metrics.jsonl)", [f"held_out/{i}" for i in range(12, 18)], True)]


def test_a_sampler_is_drawn_where_it_differs_by_more_than_rounding():
    assert names([{"step": 1, "sampler/mean_difference": 1e-6, "sampler/max_difference": 0.3}]) == []
    (panel,) = names([{"step": 1, "sampler/mean_difference": 0.01, "sampler/max_difference": 0.3}])
    assert panel == ("sampler against policy (nats per token)", ["sampler/mean_difference"], False)


@pytest.mark.parametrize(("values", "expected"), [
    ([1, 2, 3, 900, 5], (1, 900)),  # too few to tell
    ([1, 2, 3, 900, 5, 6, 7, 8, 9, 700], (1, 16)),  # the median runs from 2 to 9
    ([0, 0, 0, 0, 0, 0, 9, 9, 9, 9], (0, 9)),  # what lasts is no spike
    ([-1, -2, -1, -2, -500, -1, -2, -1, -2], (-3, -1)),
    ([30, 40, 2, 35, 40, 30, 40, 35, 30], (2, 40)),  # nothing is negative: from 0 all is in sight
    ([0, 0, 0, 0, 7, 0, 0, 0, 0], (0, 7)),
])
def test_an_axis_is_set_by_all_but_spikes(values, expected):
    np.testing.assert_allclose(bounds(np.array(values, float)), expected, atol=1e-9)


def test_a_spike_is_marked_with_its_value_and_sets_no_axis():
    history = [{"step": step, "kl": 850.0 if step == 20 else 0.01 + 0.001 * (step % 7)} for step in range(1, 41)]
    (axes,) = make_figure(history, "run").axes
    assert axes.get_ylim()[0] == 0 and 0.016 < axes.get_ylim()[1] < 0.03
    mark, raw, smoothed = axes.get_lines()
    assert list(mark.get_xdata()) == [20] and mark.get_marker() == "^" and [t.get_text() for t in axes.texts] == ["850"]
    assert np.nanmax(smoothed.get_ydata()) < 0.016 and np.isnan(smoothed.get_ydata()[19])
    assert raw.get_ydata()[19] == mark.get_ydata()[0] < axes.get_ylim()[1]


def test_curves_are_a_whole_picture(tmp_path):
    draw_curves(tmp_path / "a.png", [{"step": 1} | METRICS])
    with Image.open(tmp_path / "a.png") as picture:
        picture.load()
        assert picture.format == "PNG" and min(picture.size) > 900
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_curves_are_drawn_ten_times_a_run_but_not_when_that_takes_long(tmp_path, monkeypatch):
    now, drawn = [0.0], []

    def draw(path, history):
        drawn.append(history[-1]["step"])
        now[0] += 2.0  # so the next one comes 100 seconds later at the earliest

    monkeypatch.setattr("minigrpo.log.draw_curves", draw)
    monkeypatch.setattr("minigrpo.log.time.monotonic", lambda: now[0])
    for seconds, expected in ((20.0, list(range(10, 101, 10))), (1.0, [10]), (4.0, [10, 40, 70, 100])):
        now[0] = 0.0
        run = RunConfig(dir=str(tmp_path / str(seconds)), steps=100)
        log = RunLog(Config("minigrpo.task:Task", Task.Config(), run=run), Ranks())
        for step in range(1, 101):
            now[0] += seconds
            log.step(step, METRICS)
        assert drawn == expected
        drawn.clear()


def test_curves_of_nothing_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no step to draw"):
        draw_curves(tmp_path / "a.png", [])
