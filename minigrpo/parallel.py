"""Ranks: the process group, the sharded policy, and the unsharded replica that rollouts run on.

One rank needs no process group. With several, the policy is sharded by FSDP2 and every rank holds one replica with full
weights in rollout precision, refreshed once a step: one gather a step, not one a token.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor

from minigrpo.config import Model
from minigrpo.layout import Group, Packed, micro_batches, pack
from minigrpo.loading import load_model
from minigrpo.models import VLM
from minigrpo.policy import Policy

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}

BUCKET = 2**23
"""Most elements that the replica's refresh gathers at a time, unless one tensor has more; two such gathers overlap."""
UNIT = 2**20
"""Fewest parameters of a block that is gathered on its own: a collective has a price of its own, whatever it moves."""


@dataclass(frozen=True)
class Ranks:
    """This process among `size`, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True on the rank that writes."""
        return self.rank == 0


def start(device: str = "auto") -> Ranks:
    """Joins the process group that torchrun describes; a plain start is one rank without a group.

    Raises:
        ValueError: "cuda" where there is no GPU, or fewer GPUs than ranks on this machine.
    """
    size, local = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda and local >= torch.cuda.device_count():
        raise ValueError(f"rank {local} of this machine has no GPU: there are {torch.cuda.device_count()}; "
                         "start fewer ranks or set run.device to cpu")
    own = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(own)
    else:
        _keep_freed_memory()
    if size > 1:
        # offloaded weights are in host memory, and the norm of their gradients is added up there
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    return Ranks(dist.get_rank() if size > 1 else 0, size, own)


def _keep_freed_memory() -> None:
    """Lets glibc keep what is freed: given back to the system, every large tensor would come as zeroed pages anew.

    Tensors lie in large pages, which are fewer to hand out and to look up.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first tensor
    with contextlib.suppress(OSError, AttributeError):  # another C library has its own ways
        mallopt, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, -1, -4
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)


def stop() -> None:
    """Leaves the process group, if there is one."""
    if dist.is_initialized():
        gc.collect()  # a worker thread of gloo that lets go of a tensor while the interpreter ends aborts the process
        dist.destroy_process_group()


def lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank has stopped."""
    return dist.is_initialized() and ("closed by peer" in str(error) or "reset by peer" in str(error))


def load_roles(path: str, model: Model, ranks: Ranks, with_reference: bool) -> tuple[Policy, VLM, Policy | None]:
    """The trained policy, the replica that samples, and the frozen reference where one is needed.

    Half precision computes in it and keeps float32 weights in the policy: by FSDP with several ranks, by autocast with
    one. With one rank and equal precision the replica is the policy.

    Raises:
        ValueError: `model.offload` with one rank.
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

    policy = Policy(load(torch.float32 if half else compute))
    if model.gradient_checkpointing:
        net = policy.net  # transformers renamed it on the way to version 6
        enable = getattr(net, "activation_checkpointing_enable", None) or net.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    replica = policy.vlm if ranks.size == 1 and not half else load(compute)
    reference = Policy(load(compute)).requires_grad_(False) if with_reference else None
    if ranks.size > 1:
        shard(policy, compute, model.offload)
        if reference is not None:
            shard(reference, compute)
    return policy, replica, reference


def compute_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision called `name`; "auto" is bfloat16 on CUDA and float32 elsewhere."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return DTYPES[name]


def precision(name: str, ranks: Ranks):
    """The context in which the policy runs: autocast for one rank in half precision, which FSDP does otherwise."""
    compute = compute_dtype(name, ranks.device)
    if ranks.size == 1 and compute is torch.bfloat16:
        return torch.autocast(ranks.device.type, compute)
    return contextlib.nullcontext()


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
    """Copies the policy's weights into the replica, in place, so that addresses never change."""
    if replica is policy.vlm:
        return
    under_way = None
    for bucket in _buckets(zip(replica.net.parameters(), policy.net.parameters(), strict=True)):
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


def sum_over_ranks(values: Sequence[float], ranks: Ranks) -> list[float]:
    """Each value, added up over the ranks."""
    return _reduced(values, dist.ReduceOp.SUM, ranks)


def max_over_ranks(values: Sequence[float], ranks: Ranks) -> list[float]:
    """The largest of each value over the ranks."""
    return _reduced(values, dist.ReduceOp.MAX, ranks)


def _reduced(values: Sequence[float], how: Any, ranks: Ranks) -> list[float]:
    if ranks.size == 1:
        return list(values)
    tensor = torch.tensor(values, dtype=torch.float64, device=ranks.device)
    dist.all_reduce(tensor, how)
    return tensor.tolist()


def share(items: Sequence, ranks: Ranks) -> list:
    """This rank's items: every size-th, from rank on."""
    return [items[i] for i in range(ranks.rank, len(items), ranks.size)]


def unshare(own: list, ranks: Ranks) -> list:
    """The inverse of `share` over all ranks: everyone's results, in the order of the items, on every rank."""
    if ranks.size == 1:
        return own
    parts: list[Any] = [None] * ranks.size
    dist.all_gather_object(parts, own)
    whole: list[Any] = [None] * sum(len(part) for part in parts)
    for rank, part in enumerate(parts):
        whole[rank :: ranks.size] = part
    return whole


def even_batches(live: list[Group], groups: list[Group], budget: int,
                 ranks: Ranks) -> tuple[list[Packed], list[bool], bool]:
    """Micro-batches of `live`, as many on every rank, which of them count, and whether any rank's holds an image.

    Every rank must run the same collectives; one with fewer micro-batches adds some of `groups` that weigh nothing.
    """
    batches, images = micro_batches(live, budget), any(g.prompt.pixel_values is not None for g in groups)
    most, vision = (int(n) for n in max_over_ranks([len(batches), images], ranks))
    missing = most - len(batches)
    batches += [pack([groups[0].select([0])])] * missing
    return [b.to(ranks.device) for b in batches], [True] * (most - missing) + [False] * missing, bool(vision)
