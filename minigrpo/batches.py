"""Micro-batches: groups packed as far as a budget of tokens goes, and the same passes over them on every rank.

A group that is too long for one micro-batch goes in parts, each with some of its completions. Its prompt stands apart,
and is computed once for all of them (`prefix.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from minigrpo.layout import EncodedPrompt, Group, Packed, pack
from minigrpo.prefix import sharing

if TYPE_CHECKING:  # what lays groups out loads no model and no collectives
    from minigrpo.models import VLM
    from minigrpo.ranks import Ranks


def micro_batches(groups: Sequence[Group], tokens: int) -> list[Packed]:
    """Packs groups, in order, into micro-batches of at most `tokens` tokens each.

    A group that is too long for one is split by completions. Its batches follow one another, hold the same object as
    their `prompt`, whose tokens count in each, and are nobody else's. A single completion that is too long with its
    prompt stands alone: nothing is ever truncated.
    """
    batches: list[Packed] = []
    together: list[Group] = []
    for group in groups:
        parts = list(_split(group, tokens))
        if together and (len(parts) > 1 or sum(map(_size, together)) + _size(group) > tokens):
            batches.append(pack(together))
            together = []
        if len(parts) > 1:
            batches += _apart(group, parts)
        else:
            together.append(group)
    return [*batches, pack(together)] if together else batches


def _size(group: Group) -> int:
    return len(group.prompt) - 1 + sum(len(c) for c in group.completions)


def _split(group: Group, tokens: int) -> Iterator[Group]:
    if _size(group) <= tokens:
        yield group
        return
    slots: list[int] = []
    room = 0
    for slot, completion in enumerate(group.completions):
        if slots and len(completion) > room:
            yield group.select(slots)
            slots = []
        if not slots:
            room = tokens - (len(group.prompt) - 1)
        slots.append(slot)
        room -= len(completion)
    yield group.select(slots)


def _apart(group: Group, parts: Sequence[Group]) -> list[Packed]:
    """Parts of a group, each packed without the prompt, but for the last token, which opens the completions."""
    whole, last = group.prompt, slice(len(group.prompt) - 1, None)
    alone = pack([group.select([])]) if len(whole) > 1 else None
    tail = EncodedPrompt(whole.id, whole.input_ids[last], whole.position_ids[:, last])
    return [replace(pack([replace(part, prompt=tail)]), prompt=alone) for part in parts]


def batches_in_step(groups: Sequence[Group], tokens: int, ranks: Ranks, vlm: VLM) -> list[Packed]:
    """`micro_batches` of this rank's groups, on its device, in as many passes on every rank, as all must run the same
    collectives.

    A rank with fewer adds batches that weigh nothing; where any rank has an image, all run the vision tower.
    """
    made = micro_batches(groups, tokens)
    passes = [list(parts) for parts in sharing(made)]
    vision = ranks.max([any((b.prompt or b).pixel_values is not None for b in made)])[0] > 0 and ranks.size > 1

    def placed(batch: Packed) -> Packed:
        return replace(batch, blank_image=vision and batch.pixel_values is None).to(ranks.device)

    batches = []
    counts = ranks.gather([[len(parts) if parts[0].prompt else 0 for parts in passes]])
    for count, own in in_step(counts, ranks.rank):
        parts = [] if own is None else passes[own]
        parts = [*parts, *blank_batches(vlm, count)[len(parts) :]]
        if parts[0].prompt is None:
            batches += map(placed, parts)
        else:  # all hold one prompt, which alone may have images
            prompt = placed(parts[0].prompt)
            batches += [replace(replace(part, prompt=None).to(ranks.device), prompt=prompt) for part in parts]
    return batches


def in_step(counts: Sequence[Sequence[int]], rank: int) -> Iterator[tuple[int, int | None]]:
    """Lines up what the ranks have to compute, so that all run the same passes.

    Args:
        counts: Of every rank, in its order: how many batches share a prompt that stands apart; 0 for one that has all.

    Yields:
        That number for each common pass, the largest of any rank, and which of its own `rank` computes there, if any.
    """
    done = [0] * len(counts)
    while ahead := {i: own[at] for i, (own, at) in enumerate(zip(counts, done, strict=True)) if at < len(own)}:
        count = max(ahead.values())
        taken = [i for i, own in ahead.items() if (own > 0) == (count > 0)]
        yield count, done[rank] if rank in taken else None
        for i in taken:
            done[i] += 1


def blank_batches(vlm: VLM, count: int = 0) -> list[Packed]:
    """Batches of one token that keep their rank in step with the others, and weigh nothing: one, or `count` >= 2 that
    share a prompt which stands apart."""
    end = torch.tensor([vlm.end_ids[0] if vlm.end_ids else 0])
    positions, size = torch.arange(2).expand(3 if vlm.has_vision else 1, -1), max(1, count)
    group = Group(EncodedPrompt("", end.repeat(2), positions), [end] * size, rewards=torch.zeros(size),
                  advantages=torch.zeros(size))
    return [replace(batch, counted=False) for batch in micro_batches([group], 1)]
