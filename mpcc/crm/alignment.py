"""Aligns the steps of two reasoning traces, in order: Needleman and Wunsch's algorithm on sentences.

The cost of an alignment is the sum of 1 − similarity over the pairs of steps and `GAP` for each step without a partner;
the cheapest one is taken. Similarity is the token F1 of the two steps' content words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mpcc.crm.clues import content, token_f1

GAP = 0.3
"""What a step without a partner costs: two steps that are less than 1 − 2 · GAP = 0.4 alike stay apart."""

Pairs = list[tuple[int, int]]
"""Indices of the steps that are partners: of the one trace, of the other, both ascending."""


def align(one: Sequence[str], two: Sequence[str]) -> Pairs:
    """The partners among the steps of two traces; of equal alignments the one that pairs earlier steps."""
    first, second = ([content(step) for step in steps] for steps in (one, two))
    # cost[i, j]: of the steps from i and from j on
    cost = np.empty((len(one) + 1, len(two) + 1))
    cost[-1], cost[:, -1] = GAP * np.arange(len(two), -1, -1), GAP * np.arange(len(one), -1, -1)
    apart = np.array([[1 - token_f1(a, b) for b in second] for a in first]).reshape(len(one), len(two))
    for i in reversed(range(len(one))):
        for j in reversed(range(len(two))):
            cost[i, j] = min(apart[i, j] + cost[i + 1, j + 1], GAP + min(cost[i + 1, j], cost[i, j + 1]))
    pairs, i, j = [], 0, 0
    while i < len(one) and j < len(two):
        if apart[i, j] + cost[i + 1, j + 1] <= cost[i, j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif GAP + cost[i + 1, j] <= cost[i, j]:
            i += 1
        else:
            j += 1
    return pairs


def aligned_share(pairs: Pairs, one: int, two: int) -> float:
    """The share of the steps of both traces, `one` and `two` of them, that have a partner, 0 to 1; 1 for no steps."""
    return 2 * len(pairs) / (one + two) if one + two else 1.0
