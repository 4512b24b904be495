"""The figures of a step, added up over all ranks before anything is divided."""

from __future__ import annotations

import math
from typing import Any

import torch

from minigrpo.ranks import Ranks


class StepMetrics:
    """Named means, totals and largest values over everything that any rank adds, until `reduce`.

    Sums and counts are added up over the ranks before one is divided by the other, so that a mean is never an average
    of averages. A rank may lack a name that another has: it then adds nothing to it.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, Any] = {}
        self._largest: dict[str, float] = {}

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
        found = ranks.max([self._largest.get(name, -math.inf) for name in largest])
        return figures | dict(zip(largest, found, strict=True))


def _detached(value: float | torch.Tensor) -> Any:
    """A number as it is; a tensor in float64 without its graph, left on its device so that nothing waits for it."""
    return value.detach().double() if isinstance(value, torch.Tensor) else float(value)
