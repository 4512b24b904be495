"""How a token is drawn: temperature, banned ids, and an inverse-CDF draw from counter-based random numbers.

A random number is a pure function of (seed, step, sample, slot, token). So any number of ranks draws the same
completions, a resumed run goes on as if never stopped, and there is no random state to save.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64: the odd increment of SplitMix64
BLOCK = 128
"""Ids whose probabilities are added up before the draw looks among them: running sums are slow, and stay short so."""


@dataclass(frozen=True)
class Sampling:
    """What `generate` may do: by default the exact, untruncated softmax at one temperature.

    Attributes:
        max_new_tokens: Longest completion, its end token included.
        temperature: Divides the logits; 0 is greedy decoding.
        top_p: Draws from the fewest tokens that have this much probability together. For evaluation: training needs
            the exact distribution, or its importance ratio is biased.
        repetition_penalty: Above 1, tokens that prompt or completion hold already are less likely (CTRL, arXiv
            1909.05858, section 4.1). For evaluation, as `top_p`.
    """

    max_new_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p}")
        if not self.repetition_penalty > 0:
            raise ValueError(f"repetition_penalty must be positive (1 is none), not {self.repetition_penalty}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}")
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 (greedy) or positive, not {self.temperature}")


def counter_key(seed: int, step: int, sample: str, slot: int) -> int:
    """The 64-bit key of one completion's random stream, as a signed integer."""
    digest = hashlib.blake2b(f"{seed}/{step}/{slot}/{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def uniform(keys: Tensor, tokens: int) -> Tensor:
    """One number in (0, 1) for each key and each of the first `tokens` tokens of a completion: SplitMix64.

    Args:
        keys: int64 [R], from `counter_key`.

    Returns:
        float64 [R, tokens], multiples of 2⁻⁵³ plus half of one; column i depends on key and i alone.
    """
    count = torch.arange(1, tokens + 1, device=keys.device)
    x = keys[:, None] + count * _GOLDEN  # int64 arithmetic wraps, as SplitMix64 wants
    x = (x ^ _shift(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shift(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    x = x ^ _shift(x, 31)
    return (_shift(x, 11).double() + 0.5) * 2.0**-53


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def ban(logits: Tensor, ids: Tensor) -> Tensor:
    """Makes the banned ids impossible, in place: the lowest finite value keeps entropy sums free of 0 · inf.

    Args:
        logits: [R, V], which are changed.
        ids: int64 [n].
    """
    return logits.index_fill_(-1, ids, torch.finfo(logits.dtype).min)


def penalise(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Makes seen tokens less likely: a positive logit is divided by the penalty, a negative one multiplied.

    Args:
        logits: [R, V].
        seen: bool [R, V].
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def nucleus(logits: Tensor, top_p: float) -> Tensor:
    """Leaves the fewest tokens of each row whose probabilities reach `top_p`; logits [R, V]."""
    ordered, ids = logits.softmax(-1).sort(descending=True, stable=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p  # the most likely one always stays
    return logits.masked_fill(torch.zeros_like(beyond).scatter(-1, ids, beyond), torch.finfo(logits.dtype).min)


def draw(logits: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """Draws one token a row by inverting the cumulative distribution.

    Args:
        logits: [R, V], temperature and bans applied.
        uniforms: [R] in (0, 1).

    Returns:
        token ids int64 [R], and their log-probabilities [R] under softmax(logits).
    """
    probabilities = logits.softmax(-1)  # [R, V]
    short = -logits.shape[-1] % BLOCK
    blocks = (F.pad(probabilities, (0, short)) if short else probabilities).unflatten(-1, (-1, BLOCK))  # [R, V', BLOCK]
    # the block in which the random share of all probability is reached, then the place within it
    block, within = _invert(blocks.sum(-1), uniforms[:, None])
    place, _ = _invert(blocks.take_along_dim(block[..., None], 1)[:, 0], within)
    ids = (block * BLOCK + place).clamp(max=logits.shape[-1] - 1)  # NaN is above everything; its log-probability tells
    return ids[:, 0], probabilities.gather(-1, ids)[:, 0].log()


def _invert(weights: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Where a share [R, 1], in [0, 1], of the sum of weights [R, n] is reached.

    Sums run in float64: in float32 places near 1 are 6e-8 apart, and most of a long tail would never be drawn.

    Returns:
        The place int64 [R, 1], and which share [R, 1] of that place's own weight is reached.
    """
    weights = weights.double()
    cdf = weights.cumsum(-1)
    total = cdf[:, -1:]
    # kept below the total, so that rounding never lands on a place behind the last that has weight
    reached = torch.minimum(share * total, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(cdf, reached, right=True).clamp(max=weights.shape[-1] - 1)  # first with cdf > reached
    own = weights.gather(-1, place)
    before = cdf.gather(-1, place) - own
    return place, ((reached - before) / own).clamp(0, 1)  # below 0 by rounding, it would name a place without weight


def greedy(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The most probable token of each row, and its log-probability; shapes as in `draw`."""
    logps, ids = logits.log_softmax(-1).max(-1)
    return ids, logps
