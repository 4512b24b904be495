"""A prompt that stands apart from the micro-batches with its group's completions, computed once for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from minigrpo.layout import Packed, Span


class KeptPrompt:
    """Keys and values of a prompt that stands apart: computed once, read by every batch of its group, and led back
    through the prompt once.

    What reads them gets leaves of the autograd graph, in which the gradients of all batches add up.
    """

    def __init__(self) -> None:
        self.made: dict[int, tuple[Tensor, Tensor]] = {}  # by layer, keys and values [1, H_kv, P, D]
        self.leaves: dict[int, tuple[Tensor, Tensor]] = {}
        self.hidden: Tensor | None = None  # [1, P, width]

    def write(self, layer: int, key: Tensor, value: Tensor, spans: tuple[Span, ...]) -> None:
        """Takes over what a layer makes of the prompt; not again where checkpointing computes the layer anew."""
        if layer not in self.made:
            self.made[layer] = key, value
            self.leaves[layer] = tuple(x.detach().requires_grad_(x.requires_grad) for x in (key, value))

    def backward(self) -> None:
        """The backward pass of the prompt, after those of all that read it; none where nothing needs gradients."""
        pairs = [(made, leaf.grad) for layer, both in self.made.items()
                 for made, leaf in zip(both, self.leaves[layer], strict=True) if leaf.grad is not None]
        if pairs:  # the last output has no gradient of its own, but FSDP gathers a layer once its output gets one
            pairs += [(self.hidden, torch.zeros_like(self.hidden))] if self.hidden.requires_grad else []
            made, gradients = zip(*pairs, strict=True)
            torch.autograd.backward(made, gradients)


def sharing(batches: Sequence[Packed]) -> Iterator[Iterator[Packed]]:
    """The batches in order, those together that share a prompt which stands apart."""
    return (parts for _, parts in groupby(batches, key=lambda b: id(b if b.prompt is None else b.prompt)))


def with_prompts(policy: nn.Module, batches: Sequence[Packed]) -> Iterator[tuple[Packed, KeptPrompt | None]]:
    """Every micro-batch with the keys and values of its prompt, where that stands apart, for `Policy.forward`.

    They are computed once for all batches that share the prompt. Once the loop goes on from the last of these, the
    gradients of all are led back through the prompt.
    """
    for parts in sharing(batches):
        kept = None
        for part in parts:
            if kept is None and part.prompt is not None:
                kept = KeptPrompt()
                policy(part.prompt, with_entropy=False, kept=kept)
            yield part, kept
        if kept is not None:
            if hasattr(policy, "unshard"):  # FSDP scattered its root after the last part's backward pass
                policy.unshard()
            kept.backward()


def score(policy: nn.Module, batches: Sequence[Packed]) -> list[Tensor]:
    """Log-probabilities [N] of each micro-batch's completion tokens."""
    return [policy(batch, with_entropy=False, kept=kept).logps for batch, kept in with_prompts(policy, batches)]
