"""The parts of a step, which training, imitation and the benchmark call."""

from __future__ import annotations

from minigrpo.layout import Group, Packed, micro_batches, pack
from minigrpo.ranks import Ranks


def even_batches(live: list[Group], groups: list[Group], budget: int,
                 ranks: Ranks) -> tuple[list[Packed], list[bool], bool]:
    """Micro-batches of `live`, as many on every rank, which of them count, and whether any rank's holds an image.

    Every rank must run the same collectives; one with fewer micro-batches adds some of `groups` that weigh nothing.
    """
    batches, images = micro_batches(live, budget), any(g.prompt.pixel_values is not None for g in groups)
    most, vision = (int(n) for n in ranks.max([len(batches), images]))
    missing = most - len(batches)
    batches += [pack([groups[0].select([0])])] * missing
    return [b.to(ranks.device) for b in batches], [True] * (most - missing) + [False] * missing, bool(vision)
