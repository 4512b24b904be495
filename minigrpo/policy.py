"""Policy: Packed → log-probability and entropy of every completion token. The only forward that is trained."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from minigrpo.attention import PackedLayout
from minigrpo.decode import DecodeLayout
from minigrpo.layout import Packed
from minigrpo.models import VLM
from minigrpo.prefix import KeptPrompt
from minigrpo.sampling import ban

HEAD_ELEMENTS = {"cpu": 2**23, "cuda": 2**26}
"""Logits that exist at one time: a chunk of the LM head has at most this many elements, by device."""


@dataclass(frozen=True)
class PolicyOutput:
    """Log-probability of each completion token of a `Packed`, [N]; the entropy, [N], if asked for."""

    logps: Tensor
    entropy: Tensor | None


class Policy(nn.Module):
    """An HF model as a policy over completions.

    It is one module, so that FSDP wraps embeddings, towers and head together, and one forward, so that every rank runs
    the same collectives.

    Args:
        vlm: The model.
        temperature: The one that completions are sampled at.
        autocast: Precision to compute in, where it is not that of the weights and FSDP does not see to it.
    """

    def __init__(self, vlm: VLM, temperature: float = 1.0, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.vlm, self.net, self.temperature, self.autocast = vlm, vlm.net, temperature, autocast
        self.entropy_gradient = False  # an entropy bonus needs one

    def forward(self, packed: Packed, with_entropy: bool = True, kept: KeptPrompt | None = None) -> PolicyOutput:
        """Scores every completion token under softmax(logits / temperature), banned ids left out.

        The head runs chunk by chunk, and all but the last are recomputed in the backward pass.

        Args:
            packed: N completion tokens, on the policy's device.
            with_entropy: Whether to compute the entropies: three passes over all logits that scores alone do not need.
            kept: Keys and values of `packed.prompt`, where that stands apart; filled where this is such a prompt.
        """
        with torch.autocast(self.vlm.device.type, self.autocast) if self.autocast else contextlib.nullcontext():
            return self._forward(packed, with_entropy, kept)

    def _forward(self, packed: Packed, with_entropy: bool, kept: KeptPrompt | None) -> PolicyOutput:
        if packed.prompt is None and kept is not None:  # the prompt itself
            kept.hidden = decode_states(self.vlm, packed, PackedLayout(packed, self.vlm.varlen, cache=kept))
            return PolicyOutput(kept.hidden.new_zeros(0), None)
        hidden = decode_states(self.vlm, packed, PackedLayout(packed, self.vlm.varlen, kept=kept))
        rows = hidden[0].index_select(0, packed.rows)  # the head never sees a prompt row
        most = max(1, HEAD_ELEMENTS[rows.device.type] // self.vlm.vocabulary)
        count = max(1, math.ceil(len(rows) / most))
        *pieces, last = zip(rows.tensor_split(count), packed.targets.tensor_split(count), strict=True)
        chunks = [checkpoint(self._score, *piece, with_entropy, use_reentrant=False) for piece in pieces]
        chunks.append(self._score(*last, with_entropy))  # the backward pass begins with it, so it may as well be kept
        logps, entropies = zip(*chunks, strict=True)
        return PolicyOutput(torch.cat(logps), torch.cat(entropies) if with_entropy else None)

    def _score(self, hidden: Tensor, targets: Tensor, with_entropy: bool) -> tuple[Tensor, Tensor | None]:
        """Log-probability of each target [n] and the entropy [n] or None, for hidden [n, width]."""
        logits = next_logits(self.vlm, hidden, self.temperature)
        every = logits.log_softmax(-1)  # its backward pass is one kernel, that of logsumexp several
        logps = every.gather(-1, targets[:, None])[:, 0]
        if not with_entropy:
            return logps, None
        if self.entropy_gradient:
            return logps, -(every.exp() * every.clamp(min=-1e3)).sum(-1)  # exp(-1e3) is 0, and 0 · -1e308 a NaN
        with torch.no_grad():  # after all that the backward pass needs, so that it is not recomputed
            entropy = -every.exp().mul_(every).sum(-1)
        return logps, entropy


def next_logits(vlm: VLM, hidden: Tensor, temperature: float) -> Tensor:
    """Logits [n, V] of hidden [n, width], in float32 at least, temperature and bans applied.

    Sampling and scoring share this function, so that both mean the same distribution.
    """
    logits = vlm.net.lm_head(hidden)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return ban(logits if temperature == 1 else logits / temperature, vlm.banned_ids)


def decode_states(vlm: VLM, inputs: Packed, layout: PackedLayout) -> Tensor:
    """Hidden states [1, T, width] of a packed sequence: embeddings, image features in their places, decoder."""
    embeddings = vlm.net.get_input_embeddings()(inputs.input_ids)
    extra = {}
    if inputs.pixel_values is not None:
        features, deep = image_features(vlm, inputs.pixel_values, inputs.image_grid_thw)
        features = features.to(embeddings.dtype)
        embeddings = embeddings.index_copy(1, inputs.image_positions, features[None])
        if deep:
            mask = torch.zeros_like(inputs.input_ids, dtype=torch.bool)
            mask[0, inputs.image_positions] = True
            extra = {"visual_pos_masks": mask, "deepstack_visual_embeds": deep}
    elif inputs.blank_image:  # other ranks have images, and all must run the same collectives: it changes nothing
        features, deep = image_features(vlm, *_blank_image(vlm))
        embeddings = embeddings + 0 * sum(f.sum() for f in (features, *deep)).to(embeddings.dtype)
    return run_decoder(vlm, embeddings, inputs.position_ids, layout, **extra)


def run_decoder(vlm: VLM, embeddings: Tensor, position_ids: Tensor, layout: PackedLayout | DecodeLayout, **extra):
    """Hidden states [1, T, width] of embeddings [1, T, width] at position_ids [A, 1, T]."""
    positions = position_ids if vlm.has_vision else position_ids[0]
    return vlm.decoder(
        inputs_embeds=embeddings, position_ids=positions, use_cache=False, layout=layout, **extra
    ).last_hidden_state


def image_features(vlm: VLM, pixel_values: Tensor, grid: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Features [image tokens, width] of the images in order, and those of deeper injections (Qwen3-VL)."""
    out = vlm.net.model.get_image_features(pixel_values, grid, return_dict=True)
    deep = getattr(out, "deepstack_features", None) or []
    # transformers 5.17 gives the deeper ones whole, later releases image by image
    return torch.cat(out.pooler_output), [f if isinstance(f, Tensor) else torch.cat(f) for f in deep]


def _blank_image(vlm: VLM) -> tuple[Tensor, Tensor]:
    """Patches and grid of the smallest image there is."""
    vision = vlm.net.config.vision_config
    side = vision.spatial_merge_size
    channels = getattr(vision, "in_channels", 3)
    values = channels * vision.temporal_patch_size * vision.patch_size**2
    grid = torch.tensor([[1, side, side]], device=vlm.device)
    return torch.zeros(side * side, values, device=vlm.device), grid


