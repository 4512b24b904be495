"""LoRA: trained beside frozen weights, W x + (α / r) B A x with A [r, in] and B [out, r] (arXiv 2106.09685, Eq. 3).

Weights are never touched: not by sampling, which computes with the adapters as training does, nor by the reference,
which is the same model with its adapters off. Adapters are kept and read in peft's format, and added in for an export.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minigrpo.layout import Packed
from minigrpo.prefix import KeptPrompt

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the names of modules."""
PLAIN = {"peft_type": "LORA", "use_dora": False, "use_rslora": False, "bias": "none", "fan_in_fan_out": False,
         "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None}
"""What peft's configuration says of plain LoRA; null is as good."""


class Adapter:
    """What is mixed into a linear layer that has an adapter.

    Attributes:
        lora_A, lora_B: float32 parameters [r, in] and [out, r].
        scale: α / r.
        adapting: False while the layer is to compute what it did without an adapter.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        out = super().forward(input)
        if not self.adapting:
            return out
        small = F.linear(input, self.lora_A.to(input.dtype))
        return out + F.linear(small, self.lora_B.to(input.dtype)) * self.scale


def add_adapters(net: nn.Module, layers: nn.Module, targets: Sequence[str], rank: int, alpha: float, seed: int) -> None:
    """Gives linear layers an adapter each, and freezes all else of the model, in place.

    A is drawn (Kaiming, uniform), B is zero: the model computes what it did.

    Args:
        layers: The part of the model that is searched.
        targets: Last parts of the names of the linear layers, as peft's `target_modules`.
        seed: Of A: every rank draws the same.

    Raises:
        ValueError: a target names no linear layer, or the rank is no less than a layer's smaller side.
    """
    net.requires_grad_(False)
    generator, found = torch.Generator().manual_seed(seed), set()
    for name, module in list(layers.named_modules()):
        target = name.rpartition(".")[2]
        if not isinstance(module, nn.Linear) or target not in targets:
            continue
        if rank >= min(module.weight.shape):
            raise ValueError(f"model.lora_rank {rank} is not below the smaller side of {name}, "
                             f"{min(module.weight.shape)}: take less, or train it whole")
        found.add(target)
        outputs, inputs = module.weight.shape
        bound = 1 / math.sqrt(inputs)
        first = torch.empty(rank, inputs).uniform_(-bound, bound, generator=generator)
        device, dtype = module.weight.device, torch.promote_types(module.weight.dtype, torch.float32)
        module.lora_A = nn.Parameter(first.to(device, dtype))
        module.lora_B = nn.Parameter(torch.zeros(outputs, rank, device=device, dtype=dtype))
        module.scale, module.adapting = alpha / rank, True
        module.__class__ = _adapted(type(module))
    if missing := [target for target in targets if target not in found]:
        known = {name.rpartition(".")[2] for name, module in layers.named_modules() if isinstance(module, nn.Linear)}
        raise ValueError(f"model.lora_targets: no linear layer of the language model is called {missing[0]!r}, but "
                         f"{', '.join(sorted(known))}")


@functools.cache
def _adapted(kind: type) -> type:
    return type(f"Adapted{kind.__name__}", (Adapter, kind), {})


def adapters(net: nn.Module) -> dict[str, Adapter]:
    """The layers with adapters, by name."""
    return {name: module for name, module in net.named_modules() if isinstance(module, Adapter)}


@contextlib.contextmanager
def adapters_off(net: nn.Module) -> Iterator[None]:
    """Within, the model computes what it did before it got adapters."""
    found = adapters(net).values()
    for module in found:
        module.adapting = False
    try:
        yield
    finally:
        for module in found:
            module.adapting = True


class WithoutAdapters:
    """A policy as it began: the reference of a run that trains adapters, for which no second model is kept."""

    def __init__(self, policy: nn.Module) -> None:
        self.policy, self.vlm = policy, policy.vlm

    def __call__(self, packed: Packed, with_entropy: bool = True, kept: KeptPrompt | None = None):
        """As `Policy.forward`."""
        with adapters_off(self.policy.net):
            return self.policy(packed, with_entropy, kept)


def merged_state(net: nn.Module) -> dict[str, Tensor]:
    """The state of a model with its adapters added to copies of the weights, as a model without adapters has it."""
    state = {name: value for name, value in net.state_dict().items() if ".lora_" not in name}
    for name, module in adapters(net).items():
        state[f"{name}.weight"] = _sum(module.weight, module.lora_A, module.lora_B, module.scale)
    return state


@torch.no_grad()
def add_in(net: nn.Module, pairs: Mapping[str, tuple[Tensor, Tensor]], scale: float) -> None:
    """Adds adapters, (A, B) by the name of their layer, to the weights of a model without adapters, in place.

    Raises:
        ValueError: the model has no such linear layer, or one of another shape.
    """
    modules = dict(net.named_modules())
    for name, (first, second) in pairs.items():
        weight = getattr(modules.get(name), "weight", None)
        if weight is None or weight.shape != (second.shape[0], first.shape[1]):
            raise ValueError(f"an adapter is for {name} [{second.shape[0]}, {first.shape[1]}], which the model does "
                             "not have: it was trained beside another model")
        weight.copy_(_sum(weight, first.to(weight.device), second.to(weight.device), scale))


@torch.no_grad()
def _sum(weight: Tensor, first: Tensor, second: Tensor, scale: float) -> Tensor:
    return (weight.to(first.dtype) + scale * (second @ first)).to(weight.dtype)


def pairs_of(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, tuple[Tensor, Tensor]]:
    """(A, B) by the name of their layer, of tensors called {prefix}{layer}.lora_A and .lora_B, or peft's names."""
    named = {name.removeprefix(prefix).removesuffix(".weight"): value for name, value in tensors.items()}
    return {name.removesuffix(".lora_A"): (value, named[name.removesuffix("A") + "B"])
            for name, value in named.items() if name.endswith(".lora_A")}


def save_adapter(net: nn.Module, folder: Path, base: str) -> None:
    """Writes the adapters in peft's format.

    Args:
        base: Folder or hub id of the model beside which they were trained.
    """
    folder.mkdir()
    found = adapters(net)
    tensors = {f"{PREFIX}{name}.lora_{letter}.weight": getattr(module, f"lora_{letter}").detach().contiguous().cpu()
               for name, module in found.items() for letter in "AB"}
    module = next(iter(found.values()))
    rank = module.lora_A.shape[0]
    config = {"peft_type": "LORA", "task_type": None, "base_model_name_or_path": base, "r": rank,
              "lora_alpha": module.scale * rank, "lora_dropout": 0.0, "bias": "none", "inference_mode": True,
              "target_modules": sorted(found)}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def is_adapter(folder: str | Path) -> bool:
    """Whether a folder holds adapters, and no model."""
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: str | Path) -> str:
    """The model beside which the adapters of a folder were trained. Raises ValueError where it is not said."""
    base = _config(Path(folder)).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(f"{folder}/{CONFIG} names no base_model_name_or_path: write the model's folder or hub id "
                         "there")
    return base


def read_adapter(folder: str | Path, net: nn.Module) -> None:
    """Adds the adapters of a folder in peft's format to a model, in place.

    Raises:
        FileNotFoundError: it has no weights.
        ValueError: they are of another kind than plain LoRA, or of another model.
    """
    folder = Path(folder)
    config = _config(folder)
    for name, plain in PLAIN.items():
        if (value := config.get(name, plain)) not in (plain, None):
            raise ValueError(f"{folder}/{CONFIG}: {name} is {value!r}; only plain LoRA is read")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not all(isinstance(value, (int, float)) and value > 0 for value in (rank, alpha)):
        raise ValueError(f"{folder}/{CONFIG}: r is {rank!r} and lora_alpha {alpha!r}; both must be numbers above 0")
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(f"{folder} has no {WEIGHTS}")
    pairs = pairs_of(load_file(folder / WEIGHTS), PREFIX)
    if not pairs:
        raise ValueError(f"{folder}/{WEIGHTS} holds no adapter")
    try:
        add_in(net, pairs, alpha / rank)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error


def _config(folder: Path) -> dict:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {folder}/{CONFIG}: {error}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{folder}/{CONFIG} is no JSON object")
    return config
