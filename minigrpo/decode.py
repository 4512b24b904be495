"""Decoding: the KV cache, and the layout of one token for each live completion."""

from __future__ import annotations

import torch
from torch import Tensor

from minigrpo.layout import Span

BLOCK = 256
"""In the fixed form the rows of a completion that a step reads grow by this many at a time, not one by one."""


class KVCache:
    """Keys and values of N prompts, once each, and of their R live completions.

    A step reads the completions' rows that are in use: one more each time. In the fixed form it reads whole blocks, and
    where it writes is a tensor, so that steps of the same shapes are the same operations on the same memory.

    Attributes:
        prompts: Per layer, keys and values [N, H_kv, P_max, D] of the prompts without their last token, zero-padded.
        own: Per layer, keys and values [R, H_kv, B + C, D] of the completions' rows: what they begin with, ending at
            row B, then what is drawn.
        width: P_max.
        length: Rows in use of each live completion so far, padding included.
        place: In the fixed form, int64 [1]: the row that the step under way writes.
    """

    def __init__(self, rows: int, max_new_tokens: int, begun: int = 0, fixed: bool = False) -> None:
        self.rows, self.capacity, self.length, self.width = rows, begun + max_new_tokens, begun, 0
        self.begun, self.fixed = begun, fixed
        self.place: Tensor | None = None
        self.prompts: dict[int, tuple[Tensor, Tensor]] = {}
        self.own: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def reach(self) -> int:
        """Rows of each live completion that a step reads."""
        if not self.fixed:
            return self.length + 1
        return min(self.capacity, (self.length // BLOCK + 1) * BLOCK)

    def write(self, layer: int, key: Tensor, value: Tensor, spans: tuple[Span, ...]) -> None:
        """Stores a prefill: key, value [1, H_kv, T, D] of prompts and of what their completions begin with."""
        self.width = max(span.prompt_end - span.start for span in spans)
        shape = (len(spans), key.shape[1], self.width, key.shape[3])
        stored = key.new_zeros(shape), value.new_zeros(shape)
        for source, target in zip((key, value), stored, strict=True):
            for i, span in enumerate(spans):
                target[i, :, : span.prompt_end - span.start] = source[0, :, span.start : span.prompt_end]
        self.prompts[layer] = stored
        if self.length:
            self._write_begun(self._own(layer, key), key, value, spans)

    def _write_begun(self, own: tuple[Tensor, Tensor], key: Tensor, value: Tensor, spans: tuple[Span, ...]) -> None:
        for source, target in zip((key, value), own, strict=True):
            slot = 0
            for span in spans:
                row = span.prompt_end
                for n in span.lengths:
                    target[slot, :, self.length - n : self.length] = source[0, :, row : row + n]
                    row, slot = row + n, slot + 1

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Adds one row to each live completion, key and value [R, H_kv, D]; returns all so far, [R, H_kv, reach, D]."""
        keys, values = self._own(layer, key)
        for buffer, row in ((keys, key), (values, value)):
            if self.fixed:
                buffer.index_copy_(2, self.place, row[:, :, None])
            else:
                buffer.select(2, self.length).copy_(row)
        return keys.narrow(2, 0, self.reach), values.narrow(2, 0, self.reach)

    def _own(self, layer: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """The completions' buffers of a layer; `like` has the heads in dimension 1 and their size in the last."""
        if layer not in self.own:
            shape = (self.rows, like.shape[1], self.capacity, like.shape[-1])
            # zeros: what a softmax gives no weight must still be finite
            self.own[layer] = like.new_zeros(shape), like.new_zeros(shape)
        return self.own[layer]

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
        first: int64 [R], the first row of each completion that is not padding; None: all begin with row 0.
    """

    def __init__(self, cache: KVCache, prompt_of_row: Tensor, prompt_lengths: Tensor,
                 first: Tensor | None = None) -> None:
        self.cache = cache
        # Rows are sorted by prompt. One product per prompt wants a rectangle, prompts × slots of cells, of which a row
        # takes one: with 3 rows of prompt 0 and 1 of prompt 1, slots = 3, cells 0, 1, 2 and 3; 4 and 5 stay empty.
        self.prompts, rows = len(prompt_lengths), len(prompt_of_row)
        counts = torch.bincount(prompt_of_row, minlength=self.prompts)  # [N]
        self.slots = int(counts.max())
        slot = torch.arange(rows, device=counts.device) - (counts.cumsum(0) - counts)[prompt_of_row]  # [R]
        self.cell = prompt_of_row * self.slots + slot  # [R]
        self.full = rows == self.prompts * self.slots  # then rows are the cells, in order
        beyond = torch.arange(cache.width, device=counts.device) >= prompt_lengths[:, None]  # [N, P_max]
        self.beyond = beyond[:, None, None] if bool(beyond.any()) else None
        padding = 0 if first is None else int(first.max())
        self.first = first[:, None, None, None] if padding else None
        # [R, 1, 1, padding]: rows before a completion's first, where others have begun already
        self.unused = torch.arange(padding, device=counts.device) < self.first if padding else None

    def begin(self, token: Tensor) -> None:
        """Opens a step of the fixed form, in which a row is in use or not by its number alone.

        Args:
            token: int64 [1], how many tokens of each completion were drawn before.
        """
        if self.cache.fixed:
            self.cache.place = token + self.cache.begun
            columns = torch.arange(self.cache.reach, device=token.device)
            unused = (columns > self.cache.place)[None, None, None]  # the whole block is read
            self.unused = unused if self.first is None else unused | (columns < self.first)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Output [1, R, H, D] of one layer, for query [1, H, R, D]; stores the new keys and values."""
        _, heads, rows, dim = query.shape
        kv_heads = key.shape[1]
        own_k, own_v = self.cache.append(layer, key[0].transpose(0, 1), value[0].transpose(0, 1))
        # nothing is stored of prompts of one token: the first step takes it
        prompt_k, prompt_v = self.cache.prompts.get(layer) or [key.new_zeros(self.prompts, kv_heads, 0, dim)] * 2
        q = query[0].transpose(0, 1).reshape(rows, kv_heads, heads // kv_heads, dim)  # [R, H_kv, h, D], h to a key head
        q = q * (dim**-0.5 if scale is None else scale)
        shared = self._by_group(q) @ prompt_k.transpose(-1, -2)  # [N, H_kv, slots · h, P_max]
        own = q @ own_k.transpose(-1, -2)  # [R, H_kv, h, reach]
        if self.beyond is not None:
            shared.masked_fill_(self.beyond, float("-inf"))
        if self.unused is not None:
            own[..., : self.unused.shape[-1]].masked_fill_(self.unused, float("-inf"))
        # joined by group, not by row: a prompt's scores are many and stay where they are
        weights = torch.cat([shared, self._by_group(own)], dim=-1).softmax(-1)
        of_shared, of_own = weights.split([shared.shape[-1], own.shape[-1]], dim=-1)  # one softmax over both
        out = self._by_row(of_shared @ prompt_v, q) + self._by_row(of_own, q) @ own_v
        return out.reshape(1, rows, heads, dim)

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
        return x if self.full else x.index_select(0, self.cell)
