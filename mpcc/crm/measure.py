"""Asks and scores cases in batches: every view of every case once in scoring, and once in what is generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from minigrpo import EncodedPrompt, Group, Policy, Sample, Sampling, generate
from mpcc.crm.attribution import differences, encode_views, score_views
from mpcc.crm.cases import Case
from mpcc.crm.records import Record, attributed, completion_of, regions_of, told, with_gaps
from mpcc.crm.regions import Fill

CASES_AT_ONCE = 16
"""Cases whose views are asked together; their records are then on disk."""


def measure(policy: Policy, cases: Sequence[Case], system: str | None, fill: Fill, sampling: Sampling, samples: int = 0,
            seed: int = 0, max_prompt_tokens: int | None = None) -> list[Record]:
    """The record of each case (`mpcc.crm.records`).

    With V views of a case, the unmasked picture, R regions and their controls, this costs V forward passes over prompt
    and scored trace, and V greedy generations: all prompts are packed and decoded together.

    Args:
        sampling: Greedy, with the limit of new tokens.
        samples: Sampled traces of the unmasked picture and of each region, at temperature 1, drawn from `seed`.

    Raises:
        FileNotFoundError, ValueError: a picture that is missing or unreadable, or a prompt that is too long.
    """
    vlm, prompts, sizes = policy.vlm, [], []
    for case in cases:
        views = case.views(fill)
        sizes.append(views[0].size)
        sample = Sample(case.id, case.question, (views[0],), system)
        prompts.append(encode_views(policy, sample, views, max_prompt_tokens))
    greedy = [[group.completions[0] for group in groups] for groups in _generated(policy, prompts, 1, sampling)]
    scored = [completion_of(case, vlm, own[0]) for case, own in zip(cases, greedy, strict=True)]
    logps = score_views(policy, list(zip(prompts, scored, strict=True)))
    drawn: Iterator[list[Group]] = iter(())
    if samples:
        own = [views[: 1 + len(case.regions)] for case, views in zip(cases, prompts, strict=True)]
        drawn = _generated(policy, own, samples, replace(sampling, temperature=1.0), seed)
    records = []
    for case, size, completions, tokens, rows in zip(cases, sizes, greedy, scored, logps, strict=True):
        count, deltas = len(case.regions), differences(rows)
        present = [region.control is not None for region in case.regions]
        cut = [len(c) == sampling.max_new_tokens and int(c[-1]) not in vlm.end_ids for c in completions]
        own, *others = _traces(case, list(zip(map(vlm.decode, completions), cut, strict=True)))
        elsewhere = iter(others[count:])
        records.append({
            "id": case.id, "size": list(size), "question": case.question, "truth": case.answer,
            "regions": regions_of(case), "own": own,
            "masked": others[:count], "controls": [next(elsewhere) if there else None for there in present],
            "samples": [[told(case, vlm.decode(c), own=own) for c in group.completions] for group in next(drawn, [])],
            "scored": attributed(case, vlm, tokens, deltas[:count], with_gaps(deltas[count:], present)),
        })
    return records


def _generated(policy: Policy, prompts: Sequence[Sequence[EncodedPrompt]], size: int, sampling: Sampling, seed: int = 0
               ) -> Iterator[list[Group]]:
    """The groups of every view of every case, all drawn together; a view that occurs twice is asked once."""
    distinct = list({id(prompt): prompt for views in prompts for prompt in views}.values())
    groups = generate(policy.vlm, distinct, size, sampling, seed=seed)
    of: dict[int, Any] = {id(prompt): group for prompt, group in zip(distinct, groups, strict=True)}
    return iter([[of[id(prompt)] for prompt in views] for views in prompts])


def _traces(case: Case, answers: Sequence[tuple[str, bool]]) -> list[Record]:
    """The greedy trace of every view, of the unmasked picture first; the others aligned with it."""
    own = told(case, *answers[0])
    return [own, *(told(case, text, cut, own) for text, cut in answers[1:])]
