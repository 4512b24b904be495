"""The shared-prefix layout: what G completions share stands once, what they don't stands after it, nothing is padded.

`pack` lays groups out as one sequence [prompt₁ | c₁₁ | … | c₁G | prompt₂ | c₂₁ | …] of T tokens. A prompt stands
without its last token, which opens each of its completions instead: the inputs of completion c are
[last prompt token, c₁, …, cₙ₋₁] and their outputs predict exactly [c₁, …, cₙ]. So the LM head runs on completion rows
only, and no forward is spent on a token that predicts nothing.

Row (down) sees row (across), for a prompt p with completions a and b and a prompt q with completion c:

        p p p a a a b b q q c c c
    p   x . . . . . . . . . . . .
        x x . . . . . . . . . . .
        x x x . . . . . . . . . .
    a   x x x x . . . . . . . . .
        x x x x x . . . . . . . .
        x x x x x x . . . . . . .
    b   x x x . . . x . . . . . .
        x x x . . . x x . . . . .
    q   . . . . . . . . x . . . .
        . . . . . . . . x x . . .
    c   . . . . . . . . x x x . .
        . . . . . . . . x x x x .
        . . . . . . . . x x x x x
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

PRIOR = "prior"
"""The source of a completion that was not drawn: an annotated trajectory."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as the model takes it; P tokens, its images once.

    Attributes:
        id: The sample's id.
        input_ids: int64 [P]; the last one is a text token.
        position_ids: int64 [A, P]; A = 3 (time, height, width) for multimodal rotary positions, else 1.
        pixel_values: float [patches, patch values] of all images in order; None without images.
        image_grid_thw: int64 [images, 3], patches along time, height and width.
        image_positions: int64 [image tokens], where in the prompt the image features go.
    """

    id: str
    input_ids: Tensor
    position_ids: Tensor
    pixel_values: Tensor | None = None
    image_grid_thw: Tensor | None = None
    image_positions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Group:
    """A prompt and its G completions.

    Attributes:
        prompt: The shared prompt.
        completions: G tensors int64 [n_i], each with its end token, unless it was cut off at the length limit.
        sampler_logps: G tensors float [n_i], the log-probabilities they were drawn with, NaN for a prior; empty if
            none was drawn.
        finished: Whether each completion came to an end token; empty if not known.
        sources: Where each came from: "policy", the name of a view, or "prior", an annotated trajectory; empty if all
            are the policy's.
        views: Prompts with other pictures, by name.
        rewards, advantages: float [G]; None until they are known.
        token_weights: G tensors float [n_i] that multiply the advantage at each token; empty: 1 everywhere.
        varied: Whether an advantage of the whole group is not 0; without one there is nothing to learn from it.
    """

    prompt: EncodedPrompt
    completions: list[Tensor]
    sampler_logps: list[Tensor] = field(default_factory=list)
    finished: list[bool] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    views: Mapping[str, EncodedPrompt] = field(default_factory=dict)
    rewards: Tensor | None = None
    advantages: Tensor | None = None
    token_weights: list[Tensor] = field(default_factory=list)
    varied: bool = True

    @property
    def is_prior(self) -> list[bool]:
        """[G], which completions are annotated trajectories."""
        return [source == PRIOR for source in self.sources] or [False] * len(self.completions)

    @property
    def policy_logps(self) -> list[Tensor]:
        """`sampler_logps`, NaN for what was not drawn from the prompt itself: from a view with other pictures, say."""
        sources = self.sources or ["policy"] * len(self.sampler_logps)
        return [logps if source == "policy" else torch.full_like(logps, torch.nan)
                for logps, source in zip(self.sampler_logps, sources, strict=False)]

    def select(self, slots: Sequence[int]) -> Group:
        """The same group with only these completions; tensors are shared, not copied."""
        lists = ("completions", "sampler_logps", "finished", "sources", "token_weights")
        chosen: dict = {name: [getattr(self, name)[i] for i in slots] for name in lists if getattr(self, name)}
        for name in ("rewards", "advantages"):
            if (values := getattr(self, name)) is not None:
                chosen[name] = values[list(slots)]
        return replace(self, **chosen)


@dataclass(frozen=True)
class Span:
    """Where a group stands in the packed sequence: prompt rows [start, prompt_end), then its completions' rows."""

    start: int
    prompt_end: int
    lengths: tuple[int, ...]

    @property
    def end(self) -> int:
        return self.prompt_end + sum(self.lengths)


@dataclass(frozen=True)
class Packed:
    """Groups laid out as one sequence of T tokens with N completion tokens in B completions.

    Attributes:
        input_ids: int64 [1, T].
        position_ids: int64 [A, 1, T].
        spans: One per group, in order.
        rows: int64 [N], the positions in T whose outputs predict `targets`.
        targets: int64 [N], the completion tokens, completion after completion.
        lengths: int64 [B], tokens of each completion.
        owner: int64 [N], which completion each target belongs to.
        ids: Of the prompt of each completion, [B].
        pixel_values, image_grid_thw, image_positions: As in `EncodedPrompt`, of all prompts; positions are in T.
        rewards, advantages: float [B]; None if the groups have none.
        is_prior, varied: bool [B], as in `Group`.
        sampler_logps: float [N], those of `Group.policy_logps`; None if the groups have none.
        token_weights: float [N], as in `Group`; None if the groups have none.
        prompt: The prompt alone, where it stands apart: this is one of several batches with completions of one group,
            whose rows follow the same prompt and are laid out as if it had none.
        counted: False for a batch that only keeps this rank in step with the others, and weighs nothing.
        blank_image: Whether the vision tower, which the other ranks need, is run on a blank image.
    """

    input_ids: Tensor
    position_ids: Tensor
    spans: tuple[Span, ...]
    rows: Tensor
    targets: Tensor
    lengths: Tensor
    owner: Tensor
    ids: tuple[str, ...]
    pixel_values: Tensor | None
    image_grid_thw: Tensor | None
    image_positions: Tensor | None
    rewards: Tensor | None
    advantages: Tensor | None
    is_prior: Tensor
    varied: Tensor
    sampler_logps: Tensor | None
    token_weights: Tensor | None
    prompt: Packed | None = None
    counted: bool = True
    blank_image: bool = False

    def to(self, device: torch.device | str) -> Packed:
        """The same layout on another device."""
        moved = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)}
        if self.prompt is not None:
            moved["prompt"] = self.prompt.to(device)
        return replace(self, **moved)

    def per_completion(self, values: Tensor) -> Tensor:
        """Sums per-token values [N] over each completion: [B]."""
        return values.new_zeros(len(self.lengths)).index_add(0, self.owner, values)


def pack(groups: Sequence[Group]) -> Packed:
    """Lays groups out as one sequence; see the module's text. A group without completions contributes its prompt only.

    Raises:
        ValueError: no groups, an empty completion, or groups of which only some have rewards or advantages.
    """
    if not groups:
        raise ValueError("pack needs at least one group")
    ids, positions, rows, images, spans = [], [], [], [], []
    offset = 0
    for group in groups:
        prompt, shared = group.prompt, len(group.prompt) - 1
        if any(len(c) == 0 for c in group.completions):
            raise ValueError(f"{prompt.id}: an empty completion cannot be packed")
        ids.append(prompt.input_ids[:shared])
        positions.append(prompt.position_ids[:, :shared])
        if prompt.image_positions is not None:
            images.append(prompt.image_positions + offset)
        start, offset = offset, offset + shared
        spans.append(Span(start, offset, tuple(len(c) for c in group.completions)))
        for completion in group.completions:
            ids += [prompt.input_ids[shared:], completion[:-1]]
            positions.append(continued_positions(prompt, len(completion)))
        rows.append(torch.arange(offset, spans[-1].end))
        offset = spans[-1].end
    lengths = torch.tensor([n for span in spans for n in span.lengths], dtype=torch.long)
    completions = [c for group in groups for c in group.completions]
    return Packed(
        input_ids=torch.cat(ids)[None],
        position_ids=torch.cat(positions, dim=1)[:, None],
        spans=tuple(spans),
        rows=torch.cat(rows),
        targets=torch.cat(completions) if completions else lengths.new_zeros(0),
        lengths=lengths,
        owner=torch.arange(len(lengths)).repeat_interleave(lengths),
        ids=tuple(g.prompt.id for g in groups for _ in g.completions),
        pixel_values=_cat(g.prompt.pixel_values for g in groups),
        image_grid_thw=_cat(g.prompt.image_grid_thw for g in groups),
        image_positions=_cat(images),
        rewards=_cat_all("rewards", [g.rewards for g in groups]),
        advantages=_cat_all("advantages", [g.advantages for g in groups]),
        is_prior=torch.tensor([prior for g in groups for prior in g.is_prior], dtype=torch.bool),
        varied=torch.tensor([g.varied for g in groups for _ in g.completions], dtype=torch.bool),
        sampler_logps=_per_token(groups, "policy_logps", torch.nan),
        token_weights=_per_token(groups, "token_weights", 1.0),
    )


def continued_positions(prompt: EncodedPrompt, length: int) -> Tensor:
    """Position ids [A, length] of a completion's inputs: the prompt's last token, then one further each."""
    return prompt.position_ids[:, -1:] + torch.arange(length)


def _cat(tensors) -> Tensor | None:
    present = [t for t in tensors if t is not None]
    return torch.cat(present) if present else None


def _cat_all(what: str, tensors: list[Tensor | None]) -> Tensor | None:
    if any(t is None for t in tensors):
        if any(t is not None for t in tensors):
            raise ValueError(f"either every group of a pack has {what}, or none")
        return None
    return torch.cat(tensors)


def _per_token(groups: Sequence[Group], name: str, missing: float) -> Tensor | None:
    """[N], the groups' values for each token, `missing` where a group has none; None where no group has any."""
    if not any(getattr(g, name) for g in groups):
        return None
    return torch.cat([values for g in groups
                      for values in getattr(g, name) or [torch.full((len(c),), missing) for c in g.completions]])
