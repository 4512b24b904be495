"""The shipped configurations: each can be read, and is the strategy that its name says."""

from pathlib import Path

import pytest

import mpcc
from minigrpo.config import STRATEGIES, parse_config

FOLDER = Path(mpcc.__file__).parent / "configs"


def parsed(path, *words):
    return parse_config(["--config", str(path), *words], "mpcc.task:MaskedPrediction")[0]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("qwen*.toml")), ids=lambda path: path.stem)
def test_a_config_is_the_strategy_of_its_name(path):
    strategy = path.stem.split("b-")[-1]
    assert parsed(path) == parsed(path, "--strategy", strategy)
    assert f"--config mpcc/configs/{path.name}" in path.read_text(encoding="utf-8"), "its own command"
    found = parsed(path)
    assert found.model.path.startswith("Qwen/Qwen2.5-VL-") and found.optim.max_grad_norm == 0.1


def test_every_strategy_has_one():
    assert {path.stem.removeprefix("qwen2.5-vl-3b-") for path in FOLDER.glob("qwen2.5-vl-3b-*.toml")} == set(STRATEGIES)


def test_the_scenes_differ_from_the_default_in_steps_only():
    assert parsed(FOLDER / "scenes.toml", "--run.steps", "120") == parse_config([], "mpcc.task:MaskedPrediction")[0]
