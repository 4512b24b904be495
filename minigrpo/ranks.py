"""Ranks: the processes of a run, how they split work, and how they add up, gather and wait. Knows nothing of models."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from minigrpo.standing import here

T = TypeVar("T")


class SharedError(ValueError):
    """An error that was raised on every rank, so that all can still do something together."""


@dataclass(frozen=True)
class Ranks:
    """This process among `size`, and its device. Every rank must call the collectives, in the same order.

    One rank needs no process group and no store: its collectives return what they are given.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")
    store: Any = None
    """What ranks tell each other without waiting."""

    @property
    def first(self) -> bool:
        """True on the rank that writes."""
        return self.rank == 0

    def share(self, items: Sequence) -> list:
        """This rank's items: every size-th, from rank on."""
        return [items[i] for i in range(self.rank, len(items), self.size)]

    def gather(self, own: list) -> list:
        """The inverse of `share` over all ranks: everyone's results, in the order of the items, on every rank."""
        if self.size == 1:
            return own
        parts: list[Any] = [None] * self.size
        with here.at(waiting=True):
            dist.all_gather_object(parts, own)
        whole: list[Any] = [None] * sum(len(part) for part in parts)
        for rank, part in enumerate(parts):
            whole[rank :: self.size] = part
        return whole

    def first_does(self, work: Callable[[], T]) -> T:
        """What rank 0 gets by calling `work`, on every rank. Raises its ValueError or OSError on all of them."""
        found = error = None
        if self.first:
            try:
                found = work()
            except (ValueError, OSError) as caught:
                error = caught
        found, error = self.gather([(found, error)])[0]
        if error is not None:
            raise error
        return found

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A ValueError or OSError inside is raised on every rank, as SharedError. No collective may run inside."""
        error = None
        try:
            yield
        except (ValueError, OSError) as caught:
            error = caught
        if self.max([float(error is not None)])[0]:
            said = next(text for text in self.gather([str(error) if error else None]) if text)
            raise SharedError(said) from error

    def sum(self, values: Sequence[float]) -> list[float]:
        """Each value, added up over the ranks in float64."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def max(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over the ranks."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self.size > 1:
            with here.at(waiting=True):
                dist.barrier()

    def _reduced(self, values: Sequence[float], how: Any) -> list[float]:
        if self.size == 1 or not len(values):
            return [float(value) for value in values]
        parts = [torch.as_tensor(value, dtype=torch.float64, device=self.device) for value in values]
        packed = torch.stack(parts)
        with here.at(waiting=True):
            dist.all_reduce(packed, how)
            return packed.tolist()


def open_store() -> Any:
    """The store of the ranks that torchrun describes. A restarted attempt reads nothing of a former one's."""
    store, _, _ = next(dist.rendezvous("env://"))
    return dist.PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def join(device: str = "auto", rank_timeout: float = 60.0) -> Ranks:
    """Joins the process group that torchrun describes; a plain start is one rank without a group.

    Args:
        rank_timeout: `run.rank_timeout`, seconds: a collective waits far longer, as a rank may save or evaluate alone.

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
    if size == 1:
        return Ranks(device=own)
    rank, store = int(os.environ["RANK"]), open_store()
    # offloaded weights are in host memory, and the norm of their gradients is added up there
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=size,
                            timeout=timedelta(seconds=max(1800, 10 * rank_timeout) if rank_timeout else 10**8))
    return Ranks(rank, size, own, store)


def leave() -> None:
    """Leaves the process group, if there is one."""
    if dist.is_initialized():
        gc.collect()  # a worker thread of gloo that lets go of a tensor while the interpreter ends aborts the process
        dist.destroy_process_group()


def lost_peer(error: RuntimeError) -> bool:
    """Whether a collective failed because another rank has stopped."""
    return isinstance(error, dist.DistError) or "gloo/transport" in str(error) or "closed by peer" in str(error)
