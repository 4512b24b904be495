"""The picture of a run: what its panels show, and how often it is drawn."""

import math

import numpy as np
import pytest
from PIL import Image

from minigrpo.curves import PANELS, draw_curves, make_figure, smooth
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
    panels = dict(zip([title for title, *_ in PANELS], make_figure(history, "run").axes, strict=True))
    labels = [text.get_text() for text in panels["reward and its terms"].get_legend().get_texts()]
    assert labels == ["reward  1.5", "format  0.75", "exact  0.25"]
    assert {axes.get_lines()[-1].get_label() for axes in panels.values() if axes.get_lines()} == {
        "exact  0.25", "format  0.75", "kl  0.002", "entropy  0.5", "length  31.5", "tokens_per_second  812",
        "zero_variance  0.125", panels["gradient norm"].get_lines()[-1].get_label()}
    raw = panels["gradient norm"].get_lines()[0]
    np.testing.assert_array_equal(raw.get_xdata(), range(1, steps + 1))
    np.testing.assert_array_equal(raw.get_ydata(), [math.nan if step == 5 else step for step in range(1, steps + 1)])
    assert [text.get_text() for text in panels["log-probability per token"].texts] == ["not recorded"]
    assert len(panels["entropy (nats per token)"].get_lines()) == (2 if steps > 20 else 1)


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
