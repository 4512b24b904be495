"""How every forward meets the HF model: two attention functions, registered with transformers' attention interface.

`attend` (LANGUAGE) serves the language model. The caller passes `layout=…`; it arrives in every attention layer, and
the layout computes the attention:

- `PackedLayout`: scoring, training, prefill. Prompts attend causally to themselves, completions to [prompt ; self].
- `decode.DecodeLayout`: one token for each live completion, against its group's prompt keys and its own.

`attend_windows` (VISION) serves the vision tower, all its windows at once. Queries come as [1, H, T, D], keys and
values as [1, H_kv, T, D]; outputs go as [1, T, H, D].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from minigrpo.decode import KVCache
from minigrpo.kernels import Buckets, Rows, Varlen, windows
from minigrpo.layout import Packed, Span
from minigrpo.prefix import KeptPrompt

LANGUAGE = "minigrpo"
VISION = "minigrpo_flash_windows"
"""transformers hands all windows with their bounds to a function whose name holds "flash", others get one each."""

HARMLESS = {"dropout", "position_ids", "use_cache", "is_causal", "output_attentions"}
"""What a layer may hand over beside scale and layout: it says nothing that the layout does not say."""


def attend(module, query, key, value, attention_mask, *, layout=None, scaling=None, **kwargs) -> tuple[Tensor, None]:
    """transformers' attention signature; hands over to `layout.attend`.

    Raises:
        RuntimeError: the model was called without a layout.
        ValueError: the layer asks for a kind of attention that the layouts do not implement.
    """
    if layout is None:
        raise RuntimeError(f"no layout reached {type(module).__name__}: a model loaded by minigrpo is called through "
                           "Policy or generate, which pass it one")
    if attention_mask is not None:
        raise ValueError(f"{type(module).__name__} brings its own attention mask, which minigrpo does not implement")
    if key.shape != value.shape:
        raise ValueError(f"{type(module).__name__} has keys and values of different sizes, which minigrpo does not "
                         "implement")
    for kind, asked in kwargs.items():
        if kind not in HARMLESS and asked is not None:
            raise ValueError(f"{type(module).__name__} asks for {kind} attention, which minigrpo does not implement")
    return layout.attend(module.layer_idx, query, key, value, scaling), None


def attend_windows(module, query, key, value, attention_mask, *, cu_seq_lens_q, scaling=None, **kwargs):
    """transformers' attention signature, for a vision tower: full attention within each window."""
    return windows(query, key, value, cu_seq_lens_q, scaling), None


AttentionInterface.register(LANGUAGE, attend)
AttentionInterface.register(VISION, attend_windows)


class PackedLayout:
    """Attention over a `Packed` sequence.

    Args:
        packed: The layout of the sequence.
        varlen: A variable-length flash kernel; None pads sequences of like length together.
        cache: Receives keys and values of the prompts (prefill).
        kept: Those of the prompt that stands apart, if one does.
    """

    def __init__(self, packed: Packed, varlen: Varlen | None = None, cache: KVCache | KeptPrompt | None = None,
                 kept: KeptPrompt | None = None) -> None:
        if packed.prompt is not None and kept is None:
            raise ValueError("a batch whose prompt stands apart needs its keys and values: see prefix.with_prompts")
        self.spans, self.cache, self.varlen, self.kept = packed.spans, cache, varlen, kept
        before = 0 if packed.prompt is None else packed.prompt.input_ids.shape[1]  # keys that have no query here
        device, sequences = packed.input_ids.device, _sequences(packed.spans, before)
        if varlen is None:
            self.buckets = Buckets(sequences, device, before)
        else:
            self.ranges = _varlen_ranges(sequences, device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Output [1, T, H, D] of one layer."""
        if self.cache is not None:
            self.cache.write(layer, key, value, self.spans)
        if self.kept is not None:
            key, value = (torch.cat(both, dim=2) for both in zip(self.kept.leaves[layer], (key, value), strict=True))
        if self.varlen is None:
            return self.buckets.attend(query, key, value, scale)
        keys, cu_q, cu_k, max_q, max_k = self.ranges
        q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))  # autocast rotates in float32
        k, v = k.index_select(0, keys), v.index_select(0, keys)
        return self.varlen(q.contiguous(), k, v, cu_q, cu_k, max_q, max_k, scale)[None]


def _sequences(spans: tuple[Span, ...], before: int) -> list[Rows]:
    """Every prompt as a sequence of its own, and every completion after the prompt it shares, in packed order.

    Where a prompt stands apart, its rows are the first `before`, and all completions share them.
    """
    sequences = []
    for span in spans:
        prompt, row = range(before + span.start, before + span.prompt_end), before + span.prompt_end
        if prompt:
            sequences.append(Rows(range(0), prompt))
        for n in span.lengths:
            sequences.append(Rows(prompt or range(before), range(row, row + n)))
            row += n
    return sequences


def _varlen_ranges(sequences: list[Rows], device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Key rows of every sequence, and the kernel's cumulative lengths."""
    keys = [torch.arange(rows.start, rows.stop) for s in sequences for rows in (s.shared, s.own)]
    queries, lengths = [len(s.own) for s in sequences], [len(s.shared) + len(s.own) for s in sequences]
    cumulative = [F.pad(torch.tensor(n).cumsum(0), (1, 0)).int().to(device) for n in (queries, lengths)]
    return torch.cat(keys).to(device), *cumulative, max(queries), max(lengths)
