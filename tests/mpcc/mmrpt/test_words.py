"""The area under the curve of words, against counting pairs; its intervals; frequency; a model with random weights."""

import json
import math
from functools import partial

import numpy as np
import pytest
import tiny
import torch

from mpcc.mmrpt.captions import Caption
from mpcc.mmrpt.words import (
    DRAWS,
    Words,
    area,
    area_among_like,
    by_frequency,
    main,
    untrained,
    with_interval,
    words_of,
)


def drawn(seed, count=40, captions=6):
    rng = np.random.default_rng(seed)
    return Words(rng.integers(0, 8, count) / 8, rng.random(count) < 0.3, rng.integers(0, captions, count))


@pytest.mark.parametrize("seed", range(3))
def test_the_area_counts_pairs_ties_as_half(seed):
    words, times = drawn(seed), np.array([1, 0, 3, 1, 2, 1])
    pairs = [(times[words.owner[i]] * times[words.owner[j]], words.scores[i] - words.scores[j])
             for i in np.flatnonzero(words.visual) for j in np.flatnonzero(~words.visual)]
    expected = sum(n * (0.5 if d == 0 else d > 0) for n, d in pairs) / sum(n for n, _ in pairs)
    assert area(words, times) == pytest.approx(expected)
    assert area(words) == pytest.approx(np.mean([0.5 if d == 0 else d > 0 for _, d in pairs]))


def test_bounds_and_what_cannot_be_told():
    words = words_of([CAPTION], [[0.1, 0.9, 0.2, 0.3]])
    assert words.visual.tolist() == [False, True, False, False] and area(words) == 1.0
    assert area(words._replace(scores=-words.scores)) == 0.0
    assert math.isnan(area(words._replace(visual=np.zeros(4, dtype=bool))))


CAPTION = Caption("c", "image", "A dog. A cat.", ((2, 5),), "")


def test_frequency_is_counted_in_the_training_captions():
    words = by_frequency([CAPTION], [CAPTION, CAPTION, Caption("d", "image", "A bird.", (), "")])
    assert words.scores == pytest.approx([-math.log(n) for n in (6, 3, 6, 3)])
    assert area_among_like(words_of([CAPTION], [[0, 0.5, 9, 0.2]]), words.scores) == 1.0  # "dog" against "cat" alone


def test_the_interval_holds_the_figure_and_narrows_with_captions():
    few, many = drawn(4, 60, 6), drawn(5, 1200, 120)
    found = [with_interval(partial(area, words), captions) for words, captions in ((few, 6), (many, 120))]
    assert all(one["low"] < one["area"] < one["high"] for one in found) and DRAWS >= 1000
    assert found[1]["high"] - found[1]["low"] < (found[0]["high"] - found[0]["low"]) / 2


def test_random_weights_are_others_of_the_same_shapes():
    vlm = tiny.vlm("qwen2_5_vl", torch.float32)
    made, given = untrained(vlm).net.state_dict(), vlm.net.state_dict()
    assert {name: w.shape for name, w in made.items()} == {name: w.shape for name, w in given.items()}
    assert not torch.equal(made["lm_head.weight"], given["lm_head.weight"])


def test_the_command_writes_all_areas(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mpcc.mmrpt.words.DRAWS", 20)
    tiny.vlm("qwen2_5_vl", torch.float32).save(tmp_path / "model")
    assert main(["--model", str(tmp_path / "model"), "--limit", "2", "--out", str(tmp_path / "words.json")]) == 0
    found = json.loads((tmp_path / "words.json").read_text())
    assert found == json.loads(capsys.readouterr().out) and found["captions"] == 2
    assert found["areas"].keys() == {"word frequency", *(
        f"{name}, row {row}" for name in ("model", "untrained") for row in ("own", "before"))}
    assert all(0 <= one["area"] <= 1 for one in found["areas"].values())
    assert main(["--model", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("mpcc.mmrpt.words: error: ")
