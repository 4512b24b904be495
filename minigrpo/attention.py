"""The one function through which every forward meets the HF model, and the two layouts that it asks.

`attend` is registered with transformers' attention interface under the name NAME. The caller passes `layout=…` to the
language model; it arrives in every attention layer, and the layout computes the attention:

- `PackedLayout`: scoring, training, prefill. Prompts attend causally to themselves, completions to [prompt ; self].
- `DecodeLayout`: one token for each live completion, against its group's prompt keys and its own.

Queries come as [1, H, T, D], keys and values as [1, H_kv, T, D]; outputs go as [1, T, H, D]. Grouped-query heads are
never repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from minigrpo.layout import Packed, Span

NAME = "minigrpo"

Varlen = Callable[..., Tensor]
"""(q [Tq, H, D], k, v [Tk, H_kv, D], cu_q, cu_k int32 [S + 1], max_q, max_k, scale) → [Tq, H, D], each sequence causal
with its last query on its last key."""


def attend(module, query, key, value, attention_mask, *, layout=None, scaling=None, **kwargs) -> tuple[Tensor, None]:
    """transformers' attention signature; hands over to `layout.attend`.

    Raises:
        RuntimeError: the model was called without a layout.
        ValueError: the layer asks for a kind of attention that the layouts do not implement.
    """
    if layout is None:
        raise RuntimeError("a model loaded by minigrpo is called through Policy or generate, which pass it a layout")
    if attention_mask is not None:
        raise ValueError(f"{type(module).__name__} brings its own attention mask, which minigrpo does not implement")
    for kind in ("sliding_window", "softcap", "s_aux"):
        if kwargs.get(kind) is not None:
            raise ValueError(f"{type(module).__name__} asks for {kind} attention, which minigrpo does not implement")
    return layout.attend(module.layer_idx, query, key, value, scaling), None


AttentionInterface.register(NAME, attend)


class PackedLayout:
    """Attention over a `Packed` sequence.

    Args:
        packed: The layout of the sequence.
        varlen: A variable-length flash kernel; None uses SDPA, group by group.
        cache: Receives the prompts' keys and values (prefill).
    """

    def __init__(self, packed: Packed, varlen: Varlen | None = None, cache: KVCache | None = None) -> None:
        self.spans, self.cache, self.varlen = packed.spans, cache, varlen
        device = packed.input_ids.device
        if varlen is None:
            self.masks = [_completions_mask(span, device) for span in packed.spans]
        else:
            self.ranges = _varlen_ranges(packed.spans, device)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Output [1, T, H, D] of one layer."""
        if self.cache is not None:
            self.cache.write_prompts(layer, key, value, self.spans)
        if self.varlen is not None:
            return self._attend_varlen(query, key, value, scale)
        out = []
        for span, mask in zip(self.spans, self.masks, strict=True):
            start, middle, end = span.start, span.prompt_end, span.end
            if middle > start:
                q, k, v = (x[:, :, start:middle] for x in (query, key, value))
                out.append(F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True))
            if end > middle:
                q, k, v = query[:, :, middle:end], key[:, :, start:end], value[:, :, start:end]
                out.append(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=True))
        return torch.cat(out, dim=2).transpose(1, 2)

    def _attend_varlen(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        keys, cu_q, cu_k, max_q, max_k = self.ranges
        q, k, v = (x[0].transpose(0, 1).to(value.dtype) for x in (query, key, value))  # autocast rotates in float32
        return self.varlen(q.contiguous(), k[keys], v[keys], cu_q, cu_k, max_q, max_k, scale)[None]


def _completions_mask(span: Span, device: torch.device) -> Tensor:
    """Bool [C, P + C] for the C completion rows of a group: the whole prompt, and one's own past."""
    shared, lengths = span.prompt_end - span.start, torch.tensor(span.lengths, dtype=torch.long, device=device)
    owner = torch.arange(len(lengths), device=device).repeat_interleave(lengths)
    own_past = (owner[:, None] == owner[None]).tril()
    return torch.cat([own_past.new_ones(len(owner), shared), own_past], dim=1)


def _varlen_ranges(spans: tuple[Span, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor, int, int]:
    """Key rows of every sequence (prompts, and [prompt ; completion]), and the kernel's cumulative lengths."""
    keys, queries, lengths = [], [], []
    for span in spans:
        prompt = torch.arange(span.start, span.prompt_end)
        sequences = [(prompt, len(prompt))] if len(prompt) else []
        row = span.prompt_end
        for n in span.lengths:
            sequences.append((torch.cat([prompt, torch.arange(row, row + n)]), n))
            row += n
        for rows, n in sequences:
            keys.append(rows)
            queries.append(n)
            lengths.append(len(rows))
    cumulative = [F.pad(torch.tensor(n).cumsum(0), (1, 0)).int().to(device) for n in (queries, lengths)]
    return torch.cat(keys).to(device), *cumulative, max(queries), max(lengths)


class KVCache:
    """Keys and values of N prompts, once each, and of their R live completions.

    Attributes:
        prompts: Per layer, keys and values [N, H_kv, P_max, D] of the prompts without their last token, zero-padded.
        own: Per layer, keys and values [R, H_kv, C, D] of the completions' rows.
        width: P_max.
        length: Rows written for each live completion so far.
    """

    def __init__(self, rows: int, max_new_tokens: int) -> None:
        self.rows, self.max_new_tokens, self.length, self.width = rows, max_new_tokens, 0, 0
        self.prompts: dict[int, tuple[Tensor, Tensor]] = {}
        self.own: dict[int, tuple[Tensor, Tensor]] = {}

    def write_prompts(self, layer: int, key: Tensor, value: Tensor, spans: tuple[Span, ...]) -> None:
        """Stores the prompts of a prefill: key, value [1, H_kv, T, D]."""
        self.width = max(span.prompt_end - span.start for span in spans)
        shape = (len(spans), key.shape[1], self.width, key.shape[3])
        stored = key.new_zeros(shape), value.new_zeros(shape)
        for source, target in zip((key, value), stored, strict=True):
            for i, span in enumerate(spans):
                target[i, :, : span.prompt_end - span.start] = source[0, :, span.start : span.prompt_end]
        self.prompts[layer] = stored

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds one row to each live completion, key and value [R, H_kv, D]; returns all so far, [R, H_kv, t, D]."""
        if layer not in self.own:
            shape = (self.rows, key.shape[1], self.max_new_tokens, key.shape[2])
            self.own[layer] = key.new_empty(shape), value.new_empty(shape)
        keys, values = self.own[layer]
        keys[:, :, self.length], values[:, :, self.length] = key, value
        return keys[:, :, : self.length + 1], values[:, :, : self.length + 1]

    def keep(self, rows: Tensor, prompts: Tensor) -> None:
        """Drops the completions and prompts that are not named, int64 indices."""
        if len(rows) < self.rows:
            self.own = {layer: (k[rows], v[rows]) for layer, (k, v) in self.own.items()}
            self.rows = len(rows)
        if any(len(prompts) < len(k) for k, _ in self.prompts.values()):
            self.prompts = {layer: (k[prompts], v[prompts]) for layer, (k, v) in self.prompts.items()}


class DecodeLayout:
    """One token of each of R live completions; scores against prompt keys are one matrix product per group.

    Args:
        cache: What `PackedLayout` filled.
        prompt_of_row: int64 [R], ascending: the prompt of each live completion, an index into the cache.
        prompt_lengths: int64 [N], rows of each cached prompt.
    """

    def __init__(self, cache: KVCache, prompt_of_row: Tensor, prompt_lengths: Tensor) -> None:
        self.cache = cache
        self.prompts, rows = len(prompt_lengths), len(prompt_of_row)
        counts = torch.bincount(prompt_of_row, minlength=self.prompts)
        self.slots = int(counts.max())
        slot = torch.arange(rows, device=counts.device) - (counts.cumsum(0) - counts)[prompt_of_row]
        self.cell = prompt_of_row * self.slots + slot
        self.full = rows == self.prompts * self.slots  # then rows are the cells, in order
        beyond = torch.arange(cache.width, device=counts.device) >= prompt_lengths[:, None]
        self.beyond = beyond[:, None, None] if bool(beyond.any()) else None

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Output [1, R, H, D] of one layer, for query [1, H, R, D]; stores the new keys and values."""
        _, heads, rows, dim = query.shape
        kv_heads = key.shape[1]
        own_k, own_v = self.cache.append(layer, key[0].transpose(0, 1), value[0].transpose(0, 1))
        q = query[0].transpose(0, 1).reshape(rows, kv_heads, heads // kv_heads, dim)
        q = q * (dim**-0.5 if scale is None else scale)
        prompt_k, prompt_v = self.cache.prompts[layer]
        scores = self._by_group(q) @ prompt_k.transpose(-1, -2)
        if self.beyond is not None:
            scores = scores.masked_fill(self.beyond, float("-inf"))
        shared = prompt_k.shape[2]
        scores = torch.cat([self._by_row(scores, q), q @ own_k.transpose(-1, -2)], dim=-1)
        weights = scores.softmax(-1)
        out = self._by_row(self._by_group(weights[..., :shared]) @ prompt_v, q)
        return (out + weights[..., shared:] @ own_v).reshape(1, rows, heads, dim)

    def _by_group(self, x: Tensor) -> Tensor:
        """[R, H_kv, h, X] → [N, H_kv, slots · h, X]; empty cells hold zeros."""
        _, kv_heads, per_head, width = x.shape
        if not self.full:
            x = x.new_zeros(self.prompts * self.slots, *x.shape[1:]).index_copy(0, self.cell, x)
        x = x.view(self.prompts, self.slots, kv_heads, per_head, width).transpose(1, 2)
        return x.reshape(self.prompts, kv_heads, self.slots * per_head, width)

    def _by_row(self, x: Tensor, like: Tensor) -> Tensor:
        """The inverse of `_by_group`, with the head shape of `like`."""
        kv_heads, per_head = like.shape[1:3]
        x = x.view(self.prompts, kv_heads, self.slots, per_head, -1).transpose(1, 2)
        x = x.reshape(self.prompts * self.slots, kv_heads, per_head, -1)
        return x if self.full else x[self.cell]


def flash_kernel(device: torch.device) -> Varlen:
    """The variable-length flash kernel of flash-attn if it is installed, else of torch.

    Raises:
        ValueError: not a CUDA device.
    """
    if device.type != "cuda":
        raise ValueError(f"flash attention runs on CUDA only, not on {device.type}: set model.attention to sdpa")
    try:
        from flash_attn import flash_attn_varlen_func
    except ImportError:
        return _torch_varlen
    return lambda q, k, v, cu_q, cu_k, max_q, max_k, scale: flash_attn_varlen_func(
        q, k, v, cu_q, cu_k, max_q, max_k, softmax_scale=scale, causal=True
    )


def _torch_varlen(q, k, v, cu_q, cu_k, max_q, max_k, scale) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    # older releases take grouped heads without being told
    grouped = {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
    window = (-1, 0)  # all of the past, nothing of the future, aligned at the last key
    return varlen_attn(q, k, v, cu_q, cu_k, max_q, max_k, scale=scale, window_size=window, **grouped)
