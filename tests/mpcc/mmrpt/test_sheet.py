"""The sheet of tinted captions."""

import numpy as np
import pytest
import torch
from running import ROOT

from minigrpo import load_model
from mpcc.mmrpt.captions import SceneCaptions
from mpcc.mmrpt.sheet import DEEPEST, EDGE, PICTURE, main, make_sheet, tint


def test_the_deepest_word_is_tinted_and_the_least_is_white():
    assert tint(0) == (255, 255, 255) and tint(1) == DEEPEST
    vlm = load_model(ROOT / "mpcc/scenes/model", dtype=torch.float32)
    sheet = np.array(make_sheet(vlm, SceneCaptions("val2017"), 1))
    assert sheet.shape[0] == PICTURE[1] + 2 * EDGE
    text = sheet[:, PICTURE[0] + 2 * EDGE :].reshape(-1, 3)
    assert (text == DEEPEST).all(1).any() and (text == 255).all(1).mean() > 0.5 and (text == 0).all(1).any()


@pytest.mark.parametrize(("argv", "said"), [(["a.png", "--model", "nowhere"], "nowhere")])
def test_what_is_missing_is_named(argv, said, capsys):
    assert main(argv) == 1 and said in capsys.readouterr().err
