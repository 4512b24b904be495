"""VOGUE: the symmetric KL, its bonus, the noise, and how many completions are drawn from it."""

import math

import numpy as np
import pytest
import torch
from kept_scenes import kept_scenes  # noqa: F401
from PIL import Image
from running import ROOT, lines, same, untimed

from mpcc.neighbours.vogue import Config, Vogue, symmetric_kl, with_bonus, with_noise

NAME = "mpcc.neighbours.vogue:Vogue"
TINY = {"model__path": ROOT / "mpcc/scenes/model", "rollout__group_size": 4, "rollout__prompts_per_step": 2,
        "rollout__max_new_tokens": 16, "task__held_out": 0, "task__traces": 0.0, "run__steps": 2}


def test_the_estimate_is_the_symmetric_kl_on_average_and_never_negative():
    """Over all tokens of a vocabulary, each as often as its own distribution draws it."""
    own, other = (torch.tensor(x, dtype=torch.float64) for x in ([0.5, 0.3, 0.15, 0.05], [0.1, 0.6, 0.2, 0.1]))
    exact = 0.5 * ((own * (own / other).log()).sum() + (other * (other / own).log()).sum())
    found = symmetric_kl(own.log(), other.log())
    assert (own * found).sum().item() == pytest.approx(exact.item()) and torch.all(found >= 0)
    assert symmetric_kl(own.log(), own.log()).tolist() == [0, 0, 0, 0]
    assert symmetric_kl(torch.tensor(-900.0), torch.tensor(0.0)).isfinite()


def test_the_bonus_is_proportional_up_to_a_share_of_the_advantage():
    advantages, uncertainty = torch.tensor([1.0, -1.0, 0.1, 0.0]), torch.tensor([0.4, 0.4, 9.0, 9.0])
    assert with_bonus(advantages, uncertainty, Config(bonus=0.5, kappa=2.0)).tolist() == pytest.approx(
        [1.2, -0.8, 0.15, 0.0])


@pytest.mark.parametrize(("step", "count"), [(0, 3), (1, 3), (27, 2), (53, 2), (54, 1), (79, 1), (80, 0), (500, 0)])
def test_ever_fewer_are_drawn_from_the_noisy_picture(step, count):
    assert Vogue(Config(noisy=3, anneal=80)).count(step) == count


def test_the_noise_is_of_its_size_and_belongs_to_sample_and_step():
    grey = Image.new("RGB", (80, 60), (128, 128, 128))
    one = with_noise(grey, 40.0, "a/0")
    spread = np.asarray(one, dtype=float).std()
    assert 35 < spread < 41 and one.tobytes() == with_noise(grey, 40.0, "a/0").tobytes()
    assert one.tobytes() != with_noise(grey, 40.0, "a/1").tobytes()
    assert with_noise(grey, 0.0, "a/0").tobytes() == grey.tobytes()


def test_closed_it_is_plain_grpo_bit_for_bit(run):
    closed = run("closed", task=NAME, task__noisy=0, **TINY)
    plain = run("plain", task="mpcc.task:MaskedPrediction", **TINY)
    assert same(closed / "model", plain / "model") and untimed(closed) == untimed(plain)


def test_noisy_completions_alone_get_a_bonus_and_after_the_annealing_there_are_none(run, monkeypatch):
    seen = []
    inner = Vogue.advantages

    def advantages(self, context):
        found = inner(self, context)
        seen.append((context.step, list(context.group.sources), found - context.advantages, context.advantages))
        return found

    monkeypatch.setattr(Vogue, "advantages", advantages)
    folder = run("open", task=NAME, task__noisy=2, task__anneal=1, **{**TINY, "rollout__max_new_tokens": 48})
    first = [(sources, more, plain) for step, sources, more, plain in seen if step == 0]
    for sources, more, plain in first:
        assert sources == ["policy", "policy", "noisy", "noisy"]
        assert not more[:2].any() and torch.all(more >= 0) and torch.all(more <= plain.abs() / 2 + 1e-12)
    assert any(more.any() for _, more, plain in first if plain.any())
    assert all(sources == ["policy"] * 4 for step, sources, *_ in seen if step == 1)
    one, two = lines(folder)
    assert one["uncertainty"] > 0 and "uncertainty" not in two and math.isfinite(one["loss"])


@pytest.mark.parametrize(("options", "message"), [({"noisy": -1}, "noisy = -1 must be between 0 and 4096"),
                                                  ({"kappa": 0.0}, "kappa = 0.0 must be between 1e-06 and"),
                                                  ({"anneal": 0}, "anneal = 0 must be between 1 and")])
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Vogue(Config(**options))
