"""Counter-based random numbers and the draw: against SplitMix64 in plain integers and the exact distribution."""

import itertools
import math

import pytest
import torch

from minigrpo import Sampling
from minigrpo.sampling import BLOCK, ban, counter_key, draw, greedy, uniform

MASK = 2**64 - 1


def split_mix(key, token):
    """Output number `token` of SplitMix64 seeded with `key` (Steele, Lea, Flood, OOPSLA 2014), in Python integers."""
    z = (key + (token + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_the_reference_generator_has_its_published_outputs():
    assert [split_mix(1234567, i) for i in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]


def test_uniform_is_split_mix_of_key_and_token():
    keys = [0, 1, -1, 2**63 - 1, -(2**63), counter_key(0, 0, "a", 0)]
    for token in (0, 1, 2, 255, 4095):
        expected = [((split_mix(k & MASK, token) >> 11) + 0.5) * 2.0**-53 for k in keys]
        assert uniform(torch.tensor(keys), token + 1)[:, token].tolist() == expected


def test_uniform_numbers_are_uniform_and_uncorrelated():
    keys = torch.tensor([counter_key(0, 0, "sample", slot) for slot in range(4000)])
    u = uniform(keys, 4).T
    assert u.min() > 0 and u.max() < 1 and u.dtype == torch.float64
    assert u.unique().numel() == u.numel()
    assert (u.mean(1) - 0.5).abs().max() < 4 * (1 / 12 / 4000) ** 0.5  # 4 standard errors
    off_diagonal = torch.corrcoef(u) - torch.eye(4)
    assert off_diagonal.abs().max() < 4 / 4000**0.5
    assert torch.corrcoef(torch.stack([u[0, 1:], u[0, :-1]]))[0, 1].abs() < 4 / 4000**0.5  # neighbouring slots


def test_every_part_of_a_counter_matters():
    seen = {
        counter_key(*parts)
        for parts in itertools.product((0, 1, 11), (0, 1, 11), ("a", "b", "1/a", "0/1/a", "é"), (0, 1, 11))
    }
    assert len(seen) == 3 * 3 * 5 * 3
    assert all(-(2**63) <= key < 2**63 for key in seen)
    assert counter_key(1, 2, "a", 3) == counter_key(1, 2, "a", 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draw_inverts_the_cumulative_distribution(dtype):
    n = 20_000
    logits = torch.tensor([0.3, -1.0, 2.0, -30.0, 0.0], dtype=dtype)
    even = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    ids, logps = draw(logits.expand(n, -1), even)
    p = logits.double().softmax(-1)
    counts = torch.bincount(ids, minlength=5)
    assert (counts - n * p).abs().max() <= 1.01, "an even grid of numbers hits each id in proportion, up to one"
    assert torch.equal(ids, ids.sort().values), "ids rise with the random number"
    assert torch.allclose(logps, logits.log_softmax(-1)[ids], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_ends_of_the_interval_never_reach_an_impossible_id(dtype):
    logits = torch.randn(200, 3000, dtype=dtype, generator=torch.Generator().manual_seed(0))
    banned = torch.tensor([*range(5), *range(2995, 3000)])
    for u in (2.0**-54, 0.5, 1 - 2.0**-54):
        ids, logps = draw(ban(logits, banned), torch.full((200,), u, dtype=torch.float64))
        assert ids.max() < 2995 and ids.min() >= 5 and logps.isfinite().all()
    ids, _ = draw(ban(logits, banned), torch.full((200,), 2.0**-54, dtype=torch.float64))
    assert (ids == 5).all()


def test_impossible_ids_are_never_drawn_at_the_borders_of_blocks():
    """A random number falls on a border but for rounding, and every block begins and ends with impossible ids."""
    random = torch.Generator().manual_seed(0)
    logits, impossible = torch.randn(4000, 1300, generator=random), torch.arange(1300)[torch.arange(1300) % BLOCK != 77]
    below = ban(logits, impossible).softmax(-1)[:, 77::BLOCK].cumsum(-1)
    borders = below.gather(-1, torch.arange(4000)[:, None] % 10)[:, 0] / below[:, -1]
    for nudge in (1 - 1e-7, 1, 1 + 1e-7):
        assert (draw(logits, borders.double() * nudge)[0] % BLOCK == 77).all()


@pytest.mark.parametrize("head", [0, 1000, 151_935])
def test_every_id_of_a_long_tail_is_drawn_by_the_middle_of_its_interval(head):
    """In float32 sums near 1 stand 6e-8 apart: one in a hundred of these, 7e-10 each, could be drawn."""
    size, tail = 151_936, 1e-4
    logits = torch.zeros(1, size)
    logits[0, head] = math.log((1 - tail) / tail * (size - 1))
    p = logits.softmax(-1)[0].double()
    assert abs(p.sum() - p[head] - tail) < 1e-3 * tail
    middles = (p.cumsum(0) - p / 2) / p.sum()
    some = torch.randint(size, (2000,), generator=torch.Generator().manual_seed(0))
    asked = torch.cat([torch.tensor([0, 1, 127, 128, head, size - 2, size - 1]), some])
    ids = torch.cat([draw(logits.expand(len(part), -1), middles[part])[0] for part in asked.split(64)])
    assert torch.equal(ids, asked)


def test_one_possible_id_is_always_drawn():
    logits = torch.full((3, 7), 5.0)
    logits[:, 4] = -100.0
    ids, logps = draw(ban(logits, torch.tensor([0, 1, 2, 3, 5, 6])), torch.tensor([1e-9, 0.5, 1 - 1e-9]))
    assert ids.tolist() == [4, 4, 4] and logps.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_banned_ids_have_probability_zero_and_a_finite_logit(dtype):
    logits = torch.tensor([[1.0, 1e5, 2.0]], dtype=dtype)
    out = ban(logits, torch.tensor([1]))
    assert out.softmax(-1)[0, 1] == 0 and out.isfinite().all()
    assert torch.allclose(out.softmax(-1)[0, [0, 2]], torch.tensor([1.0, 2.0], dtype=dtype).softmax(-1))


def test_greedy_takes_the_most_probable_id():
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, -1.0, 4.9]])
    ids, logps = greedy(logits)
    assert ids.tolist() == [1, 0]
    assert torch.allclose(logps, logits.log_softmax(-1)[[0, 1], [1, 0]])


@pytest.mark.parametrize(
    "arguments, message",
    [((0,), "max_new_tokens"), ((-3,), "max_new_tokens"), ((4, -0.1), "temperature"), ((4, torch.nan), "temperature")],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Sampling(*arguments)
