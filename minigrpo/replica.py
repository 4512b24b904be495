"""The models of a run: the trained policy, the replica that rollouts run on, the frozen reference.

With several ranks the policy is sharded by FSDP2, and every rank holds one replica with full weights in rollout
precision, refreshed once a step: one gather a step, not one a token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from minigrpo.loading import load_model
from minigrpo.lora import WithoutAdapters, add_adapters
from minigrpo.models import VLM
from minigrpo.policy import Policy
from minigrpo.ranks import Ranks
from minigrpo.sections import ModelConfig

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

BUCKET = 2**23
"""Most elements that the replica's refresh gathers at a time, unless one tensor has more; two such gathers overlap."""
UNIT = 2**20
"""Fewest parameters of a block that is gathered on its own: a collective has a price of its own, whatever it moves."""


class Roles(NamedTuple):
    """The trained policy, the replica that samples with full weights, and the frozen reference where one is needed."""

    policy: Policy
    replica: VLM
    reference: Policy | WithoutAdapters | None


def load_roles(path: str, model: ModelConfig, ranks: Ranks, with_reference: bool, temperature: float = 1.0,
               seed: int = 0) -> Roles:
    """Loads a model folder or hub id for each of its roles; scores are those at the sampling temperature.

    Half precision computes in it and keeps float32 weights in the policy: by FSDP with several ranks, by autocast with
    one. With one rank and equal precision the replica is the policy. With adapters the weights are frozen and stand in
    the precision that computes, unless FSDP shards them, and the reference is the policy with its adapters off.

    Args:
        seed: Of adapters.

    Raises:
        ValueError: `model.offload` with one rank, adapters for layers that the model does not have, or a vision tower
            to freeze where there is none.
    """
    if model.offload and ranks.size == 1:
        raise ValueError("model.offload needs several ranks: only what is sharded is kept in host memory; start with "
                         "torchrun --nproc_per_node 2, or leave it out")
    compute = compute_dtype(model.dtype, ranks.device)
    half = compute is torch.bfloat16

    def load(dtype: torch.dtype) -> VLM:
        kernel = model.attention
        if kernel == "auto":
            kernel = "flash" if half and ranks.device.type == "cuda" else "sdpa"
        return load_model(path, dtype=dtype, device=ranks.device, attention_kernel=kernel, graphs=model.graphs,
                          min_pixels=model.min_pixels, max_pixels=model.max_pixels)

    def adapted(vlm: VLM) -> VLM:
        if model.lora_rank:
            add_adapters(vlm.net, vlm.decoder, model.targets, model.lora_rank, model.lora_alpha, seed)
        return vlm

    one_copy = ranks.size == 1 and (not half or model.lora_rank > 0)
    autocast = compute if half and ranks.size == 1 and not model.lora_rank else None
    policy = Policy(adapted(load(torch.float32 if half and not one_copy else compute)), temperature, autocast)
    if model.freeze_vision:
        if not policy.vlm.has_vision:
            raise ValueError(f"model.freeze_vision: {path} has no vision tower; leave it out")
        policy.net.model.visual.requires_grad_(False)
    if model.gradient_checkpointing:
        net = policy.net  # transformers renamed it on the way to version 6
        enable = getattr(net, "activation_checkpointing_enable", None) or net.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    replica, reference = policy.vlm if one_copy else adapted(load(compute)), None
    if with_reference and not model.lora_rank:
        reference = Policy(load(compute), temperature, autocast).requires_grad_(False)
    if ranks.size > 1:
        shard(policy, compute, model.offload)
        if reference is not None:
            shard(reference, compute)
    if with_reference and model.lora_rank:
        reference = WithoutAdapters(policy)
    return Roles(policy, replica, reference)


def compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision called `name`; "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return DTYPES[name]


def shard(policy: Policy, compute: torch.dtype, offload: bool = False) -> None:
    """FSDP2: every block of both towers is a unit, the rest (embeddings, head, norms) the root.

    Parameters keep their dtype, are gathered in `compute`, and gradients are reduced in float32 at least. With
    `offload` parameters and gradients stay in host memory, and so does what the optimizer makes for them.
    """
    reduce = torch.float32 if compute is torch.bfloat16 else None
    # inputs stay as the model makes them: the vision tower rotates in float32, as it does unsharded
    mixed = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=reduce, cast_forward_inputs=False)
    pinned = next(policy.parameters()).is_cuda
    place = CPUOffloadPolicy(pin_memory=pinned) if offload else OffloadPolicy()
    blocks = list(policy.vlm.decoder.layers)
    if policy.vlm.has_vision:
        blocks += policy.net.model.visual.blocks
    for block in blocks:
        if sum(p.numel() for p in block.parameters()) >= UNIT:
            fully_shard(block, mp_policy=mixed, offload_policy=place)
    fully_shard(policy, mp_policy=mixed, offload_policy=place)


@torch.no_grad()
def refresh(replica: VLM, policy: Policy) -> None:
    """Copies the policy's weights into the replica, in place, so that addresses never change; frozen ones are equal."""
    if replica is policy.vlm:
        return
    under_way = None
    pairs = zip(replica.net.parameters(), policy.net.parameters(), strict=True)
    for bucket in _buckets((whole, source) for whole, source in pairs if source.requires_grad):
        started = _Gather(bucket)
        if under_way:
            under_way.finish()  # while the next one runs
        under_way = started
    if under_way:
        under_way.finish()


def _buckets(pairs: Iterable[tuple[Tensor, Tensor]]) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Whole tensors with this rank's rows of them, BUCKET elements at a time; what is not sharded is copied at once."""
    bucket, filled = [], 0
    for whole, source in pairs:
        if not isinstance(source, DTensor):
            whole.copy_(source)
            continue
        if bucket and filled + whole.numel() > BUCKET:
            yield bucket
            bucket, filled = [], 0
        bucket.append((whole, source.to_local()))
        filled += whole.numel()
    if bucket:
        yield bucket


class _Gather:
    """Fills whole tensors from everyone's rows of them, in one collective.

    FSDP gives every rank the same number of rows of a tensor, but for the last ones, who may have fewer or none. They
    are sent in the precision, and from the device, of the whole tensors.
    """

    def __init__(self, bucket: Sequence[tuple[Tensor, Tensor]]) -> None:
        first, size = bucket[0][0], dist.get_world_size()
        self.tensors = [whole for whole, _ in bucket]
        self.sizes = [math.ceil(len(whole) / size) * whole[0].numel() for whole in self.tensors]
        own = first.new_empty(sum(self.sizes))
        for part, (_, rows) in zip(own.split(self.sizes), bucket, strict=True):
            part[: rows.numel()] = rows.flatten()
        self.every = own.new_empty(size, len(own))
        self.work = dist.all_gather(list(self.every), own, async_op=True)

    def finish(self) -> None:
        self.work.wait()
        for parts, whole in zip(self.every.split(self.sizes, dim=1), self.tensors, strict=True):
            whole.copy_(parts.flatten()[: whole.numel()].view_as(whole))
