"""The figures of a step, added up over all ranks before anything is divided."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from minigrpo.ranks import Ranks
from minigrpo.standing import here

if TYPE_CHECKING:
    from minigrpo.layout import Packed
    from minigrpo.losses import PolicyLoss
    from minigrpo.policy import PolicyOutput
    from minigrpo.task import GroupContext


OWN = frozenset((
    "bad_rewards", "clipped", "cut_off", "entropy", "grad_norm", "idle", "kl", "length", "loss", "lr",
    "prior_advantage", "prior_positive", "reward", "seconds", "skipped", "step", "tokens", "tokens_per_second",
    "updated", "zero_variance",
))
"""Names of the engine's own figures; others begin with one of `OWN_PARTS`."""
OWN_PARTS = ("reward/", "logprob/", "sampler/", "seconds/", "held_out/")


class StepMetrics:
    """Named means, totals and largest values over everything that any rank adds, until `reduce`.

    Sums and counts are added up over the ranks before one is divided by the other, so that a mean is never an average
    of averages. A rank may lack a name that another has: it then adds nothing to it.

    Args:
        step: The step that begins here and ends with `reduce`, from 1, for those who watch this rank.
    """

    def __init__(self, step: int = 1) -> None:
        here.step_begins(step)
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._largest: dict[str, float] = {}
        self._marks: dict[str, list[tuple[Sequence[str], Any]]] = {}

    def mean(self, name: str, total: float | torch.Tensor, count: float | torch.Tensor) -> None:
        """Add `total`, the sum of `count` values, to the mean called `name`; each a number or a tensor []."""
        self.total(name, total)
        self._counts[name] = self._counts.get(name, 0.0) + _detached(count)

    def total(self, name: str, value: float | torch.Tensor) -> None:
        """Add a value, a number or a tensor [], to the sum called `name`."""
        self._sums[name] = self._sums.get(name, 0.0) + _detached(value)

    def max(self, name: str, value: float) -> None:
        """Keep the largest value under `name`, over the ranks too; once it was not a number, it stays so."""
        former = self._largest.get(name, -math.inf)
        self._largest[name] = value if math.isnan(value) or value > former else former

    def mark(self, name: str, ids: Sequence[str], values: Sequence[float] | torch.Tensor) -> None:
        """Keep what each of these samples adds to a figure, [B], for `worst`."""
        self._marks.setdefault(name, []).append((ids, values.detach() if hasattr(values, "detach") else values))

    def worst(self, name: str, ranks: Ranks, count: int = 3) -> list[str]:
        """Ids of the samples, of all ranks, with the largest values of what was marked; not a number comes first."""
        marked = [(i, float(v)) for ids, values in self._marks.get(name, []) for i, v in zip(ids, values, strict=True)]
        own = sorted(marked, key=_size, reverse=True)[: 99 * count]  # a group has many completions
        every = sorted((pair for pairs in ranks.gather([own]) for pair in pairs), key=_size, reverse=True)
        return list(dict.fromkeys(i for i, value in every if value > 0 or math.isnan(value)))[:count]

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Times a part of the step, as `seconds/{name}` of the slowest rank."""
        began = time.monotonic()
        with here.at(phase=name):
            yield
        self.max(f"seconds/{name}", time.monotonic() - began)

    def reduce(self, ranks: Ranks) -> dict[str, float]:
        """Means, totals and largest values over all ranks, the same on each; a mean of nothing is NaN.

        Raises:
            ValueError: A name is used for two kinds of figure.
        """
        # all must send the same figures in the same order, and a rank may lack a name that another has
        lacking = ranks.gather([[list(self._sums), list(self._counts), list(self._largest)]])
        sums, counts, largest = (sorted(set().union(*names)) for names in zip(*lacking, strict=True))
        if clash := set(sums) & set(largest):
            raise ValueError(f"metric {min(clash)!r} is both a sum and a largest value; give one of them another name")
        added = [self._sums.get(name, 0.0) for name in sums] + [self._counts.get(name, 0.0) for name in counts]
        added = ranks.sum(added)
        figures = dict(zip(sums, added[: len(sums)], strict=True))
        for name, count in zip(counts, added[len(sums) :], strict=True):
            figures[name] = figures[name] / count if count else math.nan
        own = [self._largest.get(name, -math.inf) for name in largest]
        # the ranks' largest value is told apart from whether any of them is a NaN, which a reduction may pass over
        found = ranks.max([-math.inf if math.isnan(value) else value for value in own] + [math.isnan(v) for v in own])
        here.step_ends()
        return figures | {name: math.nan if lost else value for name, value, lost in
                          zip(largest, found[: len(own)], found[len(own) :], strict=True)}


def _size(marked: tuple[str, float]) -> float:
    return math.inf if math.isnan(marked[1]) else marked[1]


def _detached(value: float | torch.Tensor) -> Any:
    """A number as it is; a tensor in float64 without its graph, left on its device so that nothing waits for it."""
    return value.detach().double() if isinstance(value, torch.Tensor) else float(value)


def record_group(metrics: StepMetrics, context: GroupContext) -> None:
    """Figures of what was sampled; priors are not the model's own and do not count."""
    group = context.group
    sampled = [i for i, prior in enumerate(group.is_prior) if not prior]
    named = {f"reward/{term}": values for term, values in context.terms.items()}
    named |= {} if context.bad else {"reward": context.rewards.tolist()}
    for name, values in named.items():
        known = [values[i] for i in sampled if not math.isnan(values[i])]
        metrics.mean(name, sum(known), len(known))
    metrics.mean("length", sum(len(group.completions[i]) for i in sampled), len(sampled))
    metrics.mean("cut_off", sum(not group.finished[i] for i in sampled), len(sampled))
    metrics.mean("zero_variance", float(not group.varied), 1)
    metrics.mark("idle", [context.sample.id], [float(not group.varied)])
    metrics.mark("cut_off", [context.sample.id], [sum(not group.finished[i] for i in sampled)])
    for i, prior in enumerate(group.is_prior):
        if prior:
            metrics.mean("prior_advantage", group.advantages[i], 1)
            metrics.mean("prior_positive", float(group.advantages[i] > 0), 1)


def record_batch(metrics: StepMetrics, batch: Packed, out: PolicyOutput, result: PolicyLoss, with_kl: bool,
                 on_policy: bool) -> None:
    """Figures of the update, over tokens. All but the KL are of groups with variance, whether others are there or not,
    so that runs with and without a KL compare; the prior's log-probability stands beside that of the samples.

    Args:
        on_policy: Whether the weights are still those that the completions were drawn with.
    """
    prior, varied = batch.is_prior[batch.owner], batch.varied[batch.owner]
    own, lengths = ~prior & varied, batch.lengths.clamp(min=1)
    entropies = batch.per_completion(out.entropy) / lengths
    metrics.mark("entropy", batch.ids, entropies)
    metrics.mark("entropy_lost", batch.ids, 1 / entropies)
    metrics.mark("skipped", batch.ids, batch.per_completion((~out.logps.detach().isfinite()).to(out.entropy.dtype)))
    metrics.mean("entropy", out.entropy[own].sum(), own.sum())
    metrics.mean("logprob/sampled", out.logps[own].sum(), own.sum())
    metrics.mean("logprob/prior", out.logps[prior & varied].sum(), (prior & varied).sum())
    metrics.mean("clipped", result.clipped[varied].sum(), varied.sum())
    if with_kl:
        metrics.mean("kl", result.kl[~prior].sum(), (~prior).sum())
        metrics.mark("kl", batch.ids, batch.per_completion(result.kl) / lengths)
    if on_policy and batch.sampler_logps is not None and (known := batch.sampler_logps.isfinite()).any():
        apart = (out.logps.detach() - batch.sampler_logps)[known].abs()
        metrics.mean("sampler/mean_difference", apart.sum(), len(apart))
        metrics.max("sampler/max_difference", float(apart.max()))
        every = (out.logps.detach() - batch.sampler_logps).abs().nan_to_num(0.0)
        metrics.mark("sampler", batch.ids, batch.per_completion(every) / lengths)
