"""The shipped configurations: each can be read, and is the strategy that its name says."""

from dataclasses import replace
from pathlib import Path

import pytest

import mpcc
from minigrpo.config import parse_config
from minigrpo.sections import STRATEGIES

FOLDER = Path(mpcc.__file__).parent / "configs"


def parsed(path, *words):
    return parse_config(["--config", str(path), *words], "mpcc.task:MaskedPrediction")[0]


MMRPT = FOLDER / "qwen2.5-vl-3b-mmrpt.toml"
STRATEGIC = sorted({*FOLDER.glob("qwen*.toml")} - {MMRPT})


@pytest.mark.parametrize("path", STRATEGIC, ids=lambda path: path.stem)
def test_a_config_is_the_strategy_of_its_name(path):
    strategy = path.stem.split("b-")[-1]
    assert parsed(path) == parsed(path, "--strategy", strategy)
    assert f"--config mpcc/configs/{path.name}" in path.read_text(encoding="utf-8"), "its own command"
    found = parsed(path)
    assert found.model.path.startswith("Qwen/Qwen2.5-VL-") and found.optim.max_grad_norm == 0.1


@pytest.mark.parametrize("size", ["3b", "7b"])
def test_every_strategy_has_one(size):
    name = f"qwen2.5-vl-{size}-"
    stems = [path.stem for path in STRATEGIC]
    assert {stem.removeprefix(name) for stem in stems if stem.startswith(name)} == set(STRATEGIES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_sizes_differ_in_the_model_and_where_its_weights_are_kept(strategy):
    small, large = (parsed(FOLDER / f"qwen2.5-vl-{size}-{strategy}.toml") for size in ("3b", "7b"))
    assert large.model == replace(small.model, path="Qwen/Qwen2.5-VL-7B-Instruct", offload=True)
    assert replace(large, model=small.model) == small


def test_the_scenes_differ_from_the_default_in_steps_only():
    assert parsed(FOLDER / "scenes.toml", "--run.steps", "120") == parse_config([], "mpcc.task:MaskedPrediction")[0]


def test_mmrpt_differs_from_mpcc_where_it_says_so():
    found, mpcc_rft = parsed(MMRPT), parsed(FOLDER / "qwen2.5-vl-3b-rft.toml")
    assert found.task_class == "mpcc.mmrpt.task:MMRPT"
    assert (found.model, found.grpo) == (mpcc_rft.model, mpcc_rft.grpo)
    assert found.rollout == replace(mpcc_rft.rollout, group_size=8)
    assert found.optim == replace(mpcc_rft.optim, lr=1e-6)
    assert found.run == replace(mpcc_rft.run, steps=5000)
    assert f"--config mpcc/configs/{MMRPT.name}" in MMRPT.read_text(encoding="utf-8"), "its own command"
