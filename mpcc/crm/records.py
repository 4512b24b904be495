"""One case, asked and scored: what the model said under every view, and what each region is worth to each step.

A record is JSON throughout, so that figures and page are made from what was kept. K steps, R regions:

- `id`, `size` ([W, H] of the picture in pixels), `question`, `truth`
- `regions`: {`text`, `names`, `box`, `control`, `relevant`} each
- `own`: the greedy trace about the unmasked picture, as `told` gives it
- `masked`, `controls`: [R], the greedy trace with that region, or its control, masked; None where there is no control
- `samples`: [1 + R] lists of sampled traces, of the unmasked picture first; empty where none were drawn
- `scored`: what attribution was measured on, the model's own trace or an annotated one: `text`, `annotated`, `steps`
  ({`text`, `chars`, `names`} each, `names` the regions that it rests on), `conclusion` (the index of the step that
  names the answer, or None). And in nats a token, None where there is no token or no control: `delta` and `control`
  [K][R], `name` [K][R] over the tokens of the names of what the step rests on, `answer` [R] over those of the answer,
  `concluded` and `concluded_control` [R] over those of its name in the conclusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from minigrpo import VLM
from mpcc.crm.alignment import align, aligned_share
from mpcc.crm.attribution import over_tokens
from mpcc.crm.cases import Case
from mpcc.crm.clues import content, first_span, name_spans, named_regions, token_f1
from mpcc.crm.regions import Region
from mpcc.crm.steps import Span, answer_span, split_steps, tokens_of
from mpcc.parsing import parse_free
from mpcc.prompts import completion as completion_text
from mpcc.rewards import format_reward, normalise

ALIKE = 0.5
"""Token F1 of its content words from which on an answer counts as right where it need not be exact."""

Record = dict[str, Any]


def told(case: Case, text: str, cut_off: bool = False, own: Record | None = None) -> Record:
    """A trace as a record holds it: `completion`, `cut_off`, `well_formed`, `given` (the parsed answer or None),
    `right`, `steps` ({`text`, `names`}); and where the `own` trace is given, `pairs` and `aligned` with its steps."""
    given = parse_free(text)
    name = normalise(given or "")
    steps = [text[start:end] for start, end in split_steps(text)]
    last = _conclusion(steps, given)
    found = {
        "completion": text, "cut_off": cut_off, "well_formed": bool(format_reward(text)), "given": given,
        "right": _right(case, given),
        "steps": [{"text": step, "names": named_regions(step, case.regions, name if i == last else "")}
                  for i, step in enumerate(steps)],
    }
    if own:
        pairs = align([step["text"] for step in own["steps"]], steps)
        found |= {"pairs": pairs, "aligned": aligned_share(pairs, len(own["steps"]), len(steps))}
    return found


def completion_of(case: Case, vlm: VLM, own: Tensor) -> Tensor:
    """What attribution is measured on, int64 [n]: the annotated trace where there is one, else the model's own."""
    if not case.annotated:
        return own
    text = completion_text("\n".join(step for step, _ in case.annotated), case.answer)
    return vlm.encode_completion(text, f"{case.id}: its reasoning steps")


def attributed(case: Case, vlm: VLM, completion: Tensor, deltas: Tensor, controls: Tensor) -> Record:
    """The field `scored` of a record.

    Args:
        completion: int64 [n], of `completion_of`.
        deltas, controls: [R, n] in nats, of every region and its control; NaN where there is none.
    """
    text, tokens = vlm.decode(completion), vlm.token_spans(completion)
    answer = answer_span(text)
    spans, rests = _steps(case, text)
    steps = [text[start:end] for start, end in spans]
    last = _conclusion(steps, text[slice(*answer)] if answer else None)

    def mean(values: Tensor, chars: Sequence[Span | None]) -> list[list[float | None]]:
        return [[None if value is None or value != value else value for value in row]
                for row in over_tokens(values, [tokens_of(span, tokens) if span else (0, 0) for span in chars])]

    names = [_name_tokens(step, start, [case.regions[i] for i in regions], tokens)
             for step, (start, _), regions in zip(steps, spans, rests, strict=True)]
    concluded = None
    if last is not None and (inside := first_span(steps[last], [normalise(text[slice(*answer)])])):
        concluded = (spans[last][0] + inside[0], spans[last][0] + inside[1])
    return {
        "text": text, "annotated": bool(case.annotated), "conclusion": last,
        "steps": [{"text": step, "chars": list(span), "names": list(regions)}
                  for step, span, regions in zip(steps, spans, rests, strict=True)],
        "delta": mean(deltas, spans), "control": mean(controls, spans),
        "name": [deltas[:, chosen].double().mean(1).tolist() if chosen else [None] * len(deltas) for chosen in names],
        "answer": mean(deltas, [answer])[0], "concluded": mean(deltas, [concluded])[0],
        "concluded_control": mean(controls, [concluded])[0],
    }


def regions_of(case: Case) -> list[Record]:
    """The regions as a record holds them."""
    return [asdict(region) for region in case.regions]


def with_gaps(rows: Tensor, present: Sequence[bool]) -> Tensor:
    """[R, n]: the rows of what is `present`, in order, NaN for what is not."""
    found = torch.full((len(present), rows.shape[1]), torch.nan)
    found[torch.tensor(present, dtype=torch.bool)] = rows.float()
    return found


def _steps(case: Case, text: str) -> tuple[list[Span], list[Sequence[int]]]:
    """Where the steps of the scored text stand, and the regions that each rests on."""
    if case.annotated:
        spans, place = [], 0
        for step, _ in case.annotated:
            start = text.index(step, place)
            place = start + len(step)
            spans.append((start, place))
        return spans, [regions for _, regions in case.annotated]
    steps = told(case, text)["steps"]
    return split_steps(text), [step["names"] for step in steps]


def _conclusion(steps: Sequence[str], answer: str | None) -> int | None:
    """The last step that names the answer; None where there is none, or no answer."""
    name = normalise(answer or "")
    return max((i for i, step in enumerate(steps) if name and name_spans(step, [name])), default=None)


def _name_tokens(step: str, start: int, regions: Sequence[Region], tokens: Sequence[Span]) -> list[int]:
    """The tokens of all names of some regions in a step that begins at character `start`."""
    names = sorted({name for region in regions for name in region.names})
    found = [tokens_of((start + a, start + b), tokens) for _, a, b in name_spans(step, names)]
    return sorted({i for first, last in found for i in range(first, last)})


def _right(case: Case, given: str | None) -> bool:
    if case.exact:
        return normalise(given or "") == normalise(case.answer)
    return bool(given) and token_f1(content(given), content(case.answer)) >= ALIKE
