"""What only tunes a CPU: the allocator, patch embeddings as products, float32 products by oneDNN where MKL is slow.

MKL, torch's own choice, has AVX-512 kernels for Intel's CPUs alone. On others oneDNN, which torch brings along too,
takes less than half the time for the same float32 products, which differ by rounding.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CPU = Path("/proc/cpuinfo")
KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "64"}
"""How many shapes oneDNN and torch's layer over it remember, not 1024: a shape takes a third of a megabyte, and no two
batches have the same. A rollout's shapes come again, and there are fewer."""


def keep_freed_memory() -> None:
    """Lets glibc keep what is freed: given back to the system, every large tensor would come as zeroed pages anew.

    Tensors lie in large pages, which are fewer to hand out and to look up.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch reads it at its first tensor
    with contextlib.suppress(OSError, AttributeError):  # another C library has its own ways
        mallopt, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, -1, -4
        mallopt(trim_threshold, -1)
        mallopt(mmap_max, 0)


def give_back_freed_memory() -> None:
    """Gives pages that no tensor lies in back to the system: what is kept grows to the largest step there ever was."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def has_slow_products() -> bool:
    """Whether this CPU has AVX-512 and torch would not use it: on AMD's, where that was measured."""
    backends = torch.backends
    if not (backends.mkl.is_available() and backends.mkldnn.is_available()):
        return False
    vendor = ""
    with contextlib.suppress(OSError):  # a system without this file has no MKL that could be slow
        vendor = CPU.read_text(encoding="utf-8")
    return backends.cpu.get_cpu_capability() == "AVX512" and "AuthenticAMD" in vendor


def use_linear_patches(net: nn.Module) -> None:
    """Turns patch embeddings into `Patches`, in place; parameters stay as they are."""
    for module in net.modules():
        if type(module) is nn.Conv3d and module.groups == 1 and module.padding == (0, 0, 0):
            module.__class__ = Patches


def use_fast_products(net: nn.Module) -> None:
    """Turns linear layers into `Linear` and patch embeddings into `Patches` in oneDNN, in place."""
    use_linear_patches(net)
    for name, count in KEPT.items():
        os.environ.setdefault(name, count)  # read at the process's first product
    for module in net.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is Patches:
            module.product = _linear


class Linear(nn.Linear):
    """A linear layer that computes in oneDNN where input and weights are float32."""

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        return _linear(input, self.weight, self.bias)


class Patches(nn.Conv3d):
    """A vision tower's patch embedding; to convolve inputs as large as the kernel is a linear layer, done slowly."""

    product = staticmethod(F.linear)

    def forward(self, input: Tensor) -> Tensor:
        """[patches, channels, frames, height, width] → [patches, out, 1, 1, 1]; larger inputs are convolved."""
        if input.shape[2:] != self.kernel_size:
            return super().forward(input)
        return self.product(input.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None, None]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    single = x.dtype is weight.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")
    if not single or not x.numel():
        return F.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Product.apply(x, weight, bias)
    return product(x, weight, bias)


class _Product(torch.autograd.Function):
    """x [..., in], weight [out, in], bias [out] or None → x · weightᵀ + bias."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows, inputs = gradient.flatten(0, -2), x.flatten(0, -2)
        found: list[Tensor | None] = [None, None, None]
        if of_x:
            found[0] = product(rows, weight.t()).view(x.shape)
        if of_weight:  # the larger side comes second, which is packed
            wide = rows.shape[1] > inputs.shape[1]
            found[1] = product(inputs.t(), rows.t()).t() if wide else product(rows.t(), inputs.t())
        if of_bias:
            found[2] = rows.sum(0)
        return tuple(found)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias in oneDNN: x [..., in], weight [out, in], float32."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
