"""Small cases of noise."""

import pytest
import tiny
import torch

from minigrpo import Policy
from mpcc.crm.cases import Case
from mpcc.crm.regions import Region


@pytest.fixture
def policy():
    vlm = tiny.rolling(dtype=torch.float32)
    vlm.end_ids = [vlm.tokenizer.eos_token_id]
    return Policy(vlm)


@pytest.fixture
def case(tmp_path):
    """A picture of 112 x 84 with two regions, one of them without a control."""
    tiny.image(112, 84, 5).save(tmp_path / "a.png")
    regions = (Region("A cup is left of the box.", ("cup",), (0, 0, 28, 28), control=(84, 56, 28, 28)),
               Region("A saddle is above the box.", ("saddle",), (56, 0, 56, 40)))
    return Case("a", tmp_path / "a.png", "what is hidden?", "dog", regions, hidden=(30, 45, 20, 20))
