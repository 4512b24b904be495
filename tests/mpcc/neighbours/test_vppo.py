"""VPPO: dependency of tokens, which are trained, what completions weigh, on numbers by hand."""

import math

import pytest
import torch
from kept_scenes import kept_scenes  # noqa: F401
from PIL import Image
from running import ROOT, lines, same, untimed

from minigrpo.task import BatchContext
from mpcc.neighbours.vppo import Config, Vppo, VppoPenalised, blacked, dependency, scales, top_tokens

NAME = "mpcc.neighbours.vppo:Vppo"
TINY = {"model__path": ROOT / "mpcc/scenes/model", "rollout__group_size": 3, "rollout__prompts_per_step": 2,
        "rollout__max_new_tokens": 16, "task__held_out": 0, "task__traces": 0.0, "run__steps": 2}


def test_dependency_is_k3_of_the_masked_view_within_bounds():
    logps = torch.tensor([-1.0, -1.0, -1.0, -30.0], dtype=torch.float64)
    masked = torch.tensor([-1.0, -2.0, -90.0, -1.0], dtype=torch.float64)
    by_hand = [0.0, math.exp(-1) + 1 - 1, 10.0, 10.0]  # delta: 0, -1, -20 (cut from -89), +20 (cut from +29)
    assert dependency(logps, masked).tolist() == pytest.approx(by_hand)


@pytest.mark.parametrize(("share", "lengths", "expected"), [
    (0.4, (5, 2), [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]),  # 2 of 5; 1 of 2, the first of equals
    (0.5, (4, 1), [[0, 1, 0, 1, 0], [1, 0, 0, 0, 0]]),
    (1.0, (5, 2), [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]),
    (0.01, (5, 2), [[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]]),
    (0.6, (5, 2), [[0, 1, 0, 1, 1], [1, 1, 0, 0, 0]]),  # 3 of 5, not 4 by a rounding error
])
def test_the_top_tokens_of_each_completion(share, lengths, expected):
    found = torch.tensor([[0.1, 0.8, 0.0, 0.9, 0.5], [0.3, 0.3, 9.0, 9.0, 9.0]])
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    found[0] = found[0] if lengths[0] == 5 else torch.tensor([0.1, 0.8, 0.0, 0.9, 9.0])
    assert top_tokens(found, mask, share).int().tolist() == expected


def test_completions_weigh_from_m_up_and_one_on_average():
    every = [0.0, 1.0, 2.0, 5.0]
    alpha = scales(every, every, 0.9)
    assert alpha[0] == 0.9 and sum(alpha) / 4 == pytest.approx(1)
    assert alpha == pytest.approx([0.9, 0.9 + 0.25 * 0.2, 0.9 + 0.25 * 0.4, 0.9 + 0.25])  # mean of s: 0.4, M - m = 0.25
    assert scales([1.0], every, 0.9) == [alpha[1]], "a rank with one of them says the same"
    assert scales([3.0, 3.0], [3.0] * 4, 0.9) == [1.0, 1.0]


def test_half_of_the_squares_are_black_and_others_in_the_next_step():
    white = Image.new("RGB", (140, 84), "white")
    one, two = blacked(white, "a/0"), blacked(white, "a/1")
    assert one.tobytes() == blacked(white, "a/0").tobytes() != two.tobytes()
    pixels = [one.getpixel((x, y)) for x in range(7, 140, 14) for y in range(7, 84, 14)]
    assert 18 < sum(pixel == (0, 0, 0) for pixel in pixels) < 42
    assert all(one.getpixel((14 * i, 0)) == one.getpixel((14 * i + 13, 13)) for i in range(10))


def test_closed_it_is_plain_grpo_bit_for_bit(run):
    closed = run("closed", task=NAME, task__dependency="false", **TINY)
    plain = run("plain", task="mpcc.task:MaskedPrediction", **TINY)
    assert same(closed / "model", plain / "model") and untimed(closed) == untimed(plain)


def test_a_step_trains_what_depends_on_the_picture(run, monkeypatch):
    seen, weighed = [], []
    gathered, weights = Vppo.advantages, Vppo.token_weights

    def advantages(self, context):
        seen.append((context.gathered["dependency"], gathered(self, context), context.advantages))
        return seen[-1][1]

    def token_weights(self, context):
        weighed.append((weights(self, context), context.mask))
        return weighed[-1][0]

    monkeypatch.setattr(Vppo, "advantages", advantages)
    monkeypatch.setattr(Vppo, "token_weights", token_weights)
    folder = run("open", task=NAME, **TINY)
    every = seen[0][0]
    assert len(every) == 6 and every == sorted(every) and seen[0][0] == seen[1][0]
    assert lines(folder)[0]["dependency"] == pytest.approx(sum(every) / 6)
    for _, scaled, plain in seen:
        assert torch.all(scaled.abs() >= 0.9 * plain.abs() - 1e-12) and torch.equal(scaled.sign(), plain.sign())
    for found, mask in weighed:
        assert found.sum(1).tolist() == [math.ceil(0.4 * n - 1e-9) for n in mask.sum(1).tolist()]
        assert not found[~mask].any()


def test_the_penalty_is_the_mean_of_minus_log_pi_over_the_tokens_of_the_step():
    logps = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64, requires_grad=True)
    weights = torch.full((3,), 1 / 6, dtype=torch.float64)  # three of six tokens
    loss = VppoPenalised(Config(penalty=0.5)).extra_loss(BatchContext(0, None, logps, None, weights))
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * 6 / 6) and logps.grad.tolist() == pytest.approx([-0.5 / 6] * 3)


@pytest.mark.parametrize(("options", "message"), [({"top": 0.0}, "top = 0.0 must be between 0.01 and 1"),
                                                  ({"least": 1.5}, "least = 1.5 must be between 0 and 1")])
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Vppo(Config(**options))
