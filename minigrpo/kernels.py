"""Attention kernels behind one small interface: variable-length flash on CUDA, padded buckets of like length elsewhere.

A sequence is named by rows of a packed tensor: those it shares with others (its prompt), then its own. It is causal,
its last query on its last key. Grouped-query heads are never repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor

Varlen = Callable[..., Tensor]
"""(q [Tq, H, D], k, v [Tk, H_kv, D], cu_q, cu_k int32 [S + 1], max_q, max_k, scale) → [Tq, H, D]: S sequences,
each causal, its last query on its last key."""

ALIKE = 0.7
"""The shortest sequence of a bucket has at least this share of the longest one's rows."""
BY_HAND = 2**26
"""Most scores that are computed by hand on a CPU in half precision, where the fused kernel's backward takes several
times as long; above that, memory counts more."""


@dataclass(frozen=True)
class Rows:
    """One sequence of a packed tensor: `own` rows attend to all `shared` ones and causally to themselves."""

    shared: range
    own: range


class Buckets:
    """Padded attention over sequences whose own rows make up the packed tensor, each row once.

    Args:
        sequences: Rows of the keys; the queries are the same rows.
        before: But for so many keys that come first and have no query.
    """

    def __init__(self, sequences: Sequence[Rows], device: torch.device, before: int = 0) -> None:
        # longest first, prompts apart from completions; a bucket ends where padding would cost more than a call
        parts: list[list[Rows]] = []
        for rows in sorted(sequences, key=lambda s: (len(s.shared) > 0, len(s.own)), reverse=True):
            longest = parts[-1][0] if parts else rows
            alike = bool(longest.shared) == bool(rows.shared) and len(rows.own) >= ALIKE * len(longest.own)
            if not parts or not alike:
                parts.append([])
            parts[-1].append(rows)
        self.buckets = [_bucket(part, device, before) for part in parts]
        self.back = _places(parts, sum(len(s.own) for s in sequences), before).to(device)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        """Output [1, T, H, D] for query [1, H, T, D], key and value [1, H_kv, before + T, D]."""
        out = []
        for queries, keys, mask in self.buckets:  # [B, C], [B, P + C], [B, 1, C, P + C]
            q, k, v = (_gather(x, i) for x, i in ((query, queries), (key, keys), (value, keys)))
            out.append(dense(q, k, v, scale, mask).transpose(1, 2).flatten(0, 1))  # [B · C, H, D]
        return torch.cat(out).index_select(0, self.back)[None]  # packed order again, padding dropped


def _bucket(part: Sequence[Rows], device: torch.device, before: int) -> tuple[Tensor, Tensor, Tensor]:
    """Query rows [B, C] and key rows [B, P + C] of a bucket, and its mask [B, 1, C, P + C]; padding names a first row.

    What padding yields is dropped, and no other row sees it.
    """
    width, shared = max(len(s.own) for s in part), max(len(s.shared) for s in part)
    own = torch.tensor([[*s.own] + [before] * (width - len(s.own)) for s in part])
    prompts = torch.tensor([[*s.shared] + [0] * (shared - len(s.shared)) for s in part], dtype=torch.long)
    seen = torch.arange(shared) < torch.tensor([len(s.shared) for s in part])[:, None]
    causal = torch.ones(width, width, dtype=torch.bool).tril()
    mask = torch.cat([seen[:, None].expand(-1, width, -1), causal.expand(len(part), -1, -1)], dim=-1)[:, None]
    return (own - before).to(device), torch.cat([prompts, own], dim=1).to(device), mask.to(device)


def _gather(x: Tensor, rows: Tensor) -> Tensor:
    """[B, H, K, D]: the rows [B, K] of x [1, H, T, D]."""
    picked = x[0].transpose(0, 1).index_select(0, rows.flatten())  # indexing's gradient takes several times as long
    return picked.unflatten(0, rows.shape).transpose(1, 2)


def _places(parts: Sequence[Sequence[Rows]], total: int, before: int) -> Tensor:
    """int64 [T]: where in the buckets' outputs, one after another and padded, each packed row is found."""
    places = torch.empty(total, dtype=torch.long)
    offset = 0
    for part in parts:
        width = len(part[0].own)
        for s in part:
            places[s.own.start - before : s.own.stop - before] = torch.arange(offset, offset + len(s.own))
            offset += width
    return places


def dense(query: Tensor, key: Tensor, value: Tensor, scale: float | None, mask: Tensor | None = None) -> Tensor:
    """Attention [B, H, Q, D] of query [B, H, Q, D] over key and value [B, H_kv, K, D].

    Args:
        mask: bool [B or 1, 1, Q, K], True where a query sees a key; None: everywhere.
    """
    batch, heads, rows, dim = query.shape
    half = value.device.type == "cpu" and value.dtype in (torch.bfloat16, torch.float16)
    if not half or batch * heads * rows * key.shape[2] > BY_HAND:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=True)
    query, key, kv_heads = query.to(value.dtype), key.to(value.dtype), key.shape[1]  # autocast rotates in float32
    q = query.reshape(batch, kv_heads, heads // kv_heads * rows, dim) * (dim**-0.5 if scale is None else scale)
    scores = (q @ key.transpose(-1, -2)).view(batch, heads, rows, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(-1).to(value.dtype)
    return (weights.view(batch, kv_heads, heads // kv_heads * rows, -1) @ value).view(batch, heads, rows, dim)


def windows(query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, scale: float | None) -> Tensor:
    """Full attention within each window of a packed tensor, windows of equal length in one batch.

    Args:
        query, key, value: [1, H, T, D].
        bounds: int [W + 1], where the windows begin, and T.

    Returns:
        [1, T, H, D].
    """
    lengths = bounds.diff().tolist()
    starts = bounds[:-1].tolist()
    if len(set(lengths)) == 1:  # the usual case: no gathering
        q, k, v = (x[0].unflatten(1, (len(lengths), -1)).transpose(0, 1) for x in (query, key, value))
        return dense(q, k, v, scale).transpose(1, 2).flatten(0, 1)[None]
    out, places = [], []
    for length in sorted(set(lengths)):
        rows = torch.tensor([range(s, s + length) for s, n in zip(starts, lengths, strict=True) if n == length])
        rows = rows.to(query.device)
        q, k, v = (_gather(x, rows) for x in (query, key, value))
        out.append(dense(q, k, v, scale).transpose(1, 2).flatten(0, 1))
        places.append(rows.flatten())
    return torch.cat(out).index_select(0, torch.cat(places).argsort())[None]


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
