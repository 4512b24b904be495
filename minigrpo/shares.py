"""How much of each token's attention lies on some tokens, those of an image say; no map of the attention is ever made.

Attention is a weighted mean of values. Values get one more channel, which is 1 at the tokens in question and 0
elsewhere: that channel of the output is the share of the weights that lies there, exactly.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor

from minigrpo.attention import PackedLayout
from minigrpo.layout import Packed
from minigrpo.models import VLM
from minigrpo.policy import decode_states

_EIGHT = 8
"""Kernels want head sizes that this divides."""


class SharesLayout(PackedLayout):
    """A `PackedLayout` that also notes, in some layers, the share of each token's attention on some tokens.

    Args:
        packed: The layout of the sequence, T tokens.
        rows: int64 [n], the places in T of the tokens in question.
        layers: Numbers of the layers, from 0.
        varlen: As of `PackedLayout`.

    Attributes:
        found: Layer → shares [T], the mean over the heads, each in [0, 1].
    """

    def __init__(self, packed: Packed, rows: Tensor, layers: Collection[int], varlen=None) -> None:
        super().__init__(packed, varlen)
        self.layers, self.found = layers, {}
        self.marked = torch.zeros(packed.input_ids.shape[1], device=packed.input_ids.device).index_fill(0, rows, 1.0)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Output [1, T, H, D] of one layer, as of `PackedLayout`."""
        size = value.shape[-1]
        if layer in self.layers:
            wider = [F.pad(x, (0, _EIGHT)) for x in (query, key, value)]  # [1, H or H_kv, T, D + 8]
            wider[2][..., size] = self.marked.to(value.dtype)
            out = super().attend(layer, *wider, size**-0.5 if scale is None else scale)
            self.found[layer] = out[0, :, :, size].mean(-1).float()
        return super().attend(layer, query, key, value, scale)


def upper_middle(layers: int) -> range:
    """Numbers of the third of the layers above the middle: 18 to 29 of 36."""
    return range(layers // 2, max(layers // 2 + 1, layers * 5 // 6))


@torch.no_grad()
def attention_shares(vlm: VLM, packed: Packed, rows: Tensor | None = None, layers: Collection[int] | None = None
                     ) -> Tensor:
    """Shares of each token's attention on some tokens, [T] in [0, 1], the mean over layers and heads.

    Args:
        packed: T tokens, on the model's device.
        rows: int64 [n], the places of the tokens in question; by default those of all images.
        layers: Numbers of the layers; by default `upper_middle`.

    Raises:
        ValueError: no rows are given and there is no image.
    """
    if rows is None:
        if packed.image_positions is None:
            raise ValueError("there is no image whose share of the attention could be told")
        rows = packed.image_positions
    layers = upper_middle(vlm.text_config.num_hidden_layers) if layers is None else layers
    layout = SharesLayout(packed, rows, layers, vlm.varlen)
    decode_states(vlm, packed, layout)
    return torch.stack([layout.found[layer] for layer in layers]).mean(0)
