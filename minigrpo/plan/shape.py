"""The sizes of a model, counted on its own modules; no weights are read or made."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from minigrpo.loading import read_config
from minigrpo.models import VISION_FAMILIES
from minigrpo.replica import UNIT


@dataclass(frozen=True)
class Tower:
    """A stack of layers, in numbers a row: a token of the language model, a patch of the vision tower.

    Attributes:
        layers: How many.
        width: Numbers between layers, h.
        mlp: Width of the MLP, m.
        kept_mlp: Vectors of width m that the MLP keeps for the backward pass: 4 if gated, 2 if not.
        query, key: Numbers of all query heads, and of all key-value heads.
        weights: Of the matrices that a row meets in all layers.
        largest: Parameters of the largest layer.
    """

    layers: int
    width: int
    mlp: int
    kept_mlp: int
    query: int
    key: int
    weights: int
    largest: int


@dataclass(frozen=True)
class Shape:
    """A model.

    Attributes:
        parameters: All of them, tied ones once.
        root: Those that FSDP gathers together: embeddings, head, patch embedding, mergers, norms, small blocks.
        vocabulary: Rows of the head, V.
        text: The language model.
        vision: The vision tower.
        full_layers, window: How many of its layers attend from every patch to all, and to how many patches the others.
        per_patch, per_image_token: Weights that a patch and an image token meet outside of its layers.
        patch_values: Numbers of a patch.
        kept_by_mergers: Numbers that the mergers keep of an image token for the backward pass.
    """

    parameters: int
    root: int
    vocabulary: int
    text: Tower
    vision: Tower | None = None
    full_layers: int = 0
    window: int = 0
    per_patch: int = 0
    per_image_token: int = 0
    patch_values: int = 0
    kept_by_mergers: int = 0


def shape_of(path: str) -> Shape:
    """Of a model folder (its weights may be missing) or hub id.

    Raises:
        OSError: there is no such model.
        ValueError: not a model that minigrpo trains.
    """
    config, auto = read_config(path)
    seeing = config.model_type in VISION_FAMILIES
    with torch.device("meta"):
        net = auto.from_config(config)
    decoder = net.model.language_model if seeing else net.model
    text_config = config.get_text_config()
    heads = text_config.num_attention_heads
    size = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
    text = _tower(decoder.layers, text_config.hidden_size, heads * size, text_config.num_key_value_heads * size)
    total = _count(net)
    if not seeing:
        return Shape(total, total - _units(decoder.layers), text_config.vocab_size, text)
    eyes, seen = net.model.visual, config.vision_config
    width = getattr(seen, "embed_dim", None) or seen.hidden_size  # Qwen2-VL calls its own width embed_dim
    vision = _tower(eyes.blocks, width, width, width)
    mergers = [eyes.merger, *getattr(eyes, "deepstack_merger_list", ())]
    outside, patch = total - _units(decoder.layers) - _units(eyes.blocks), eyes.patch_embed.proj.weight
    full = len(getattr(seen, "fullatt_block_indexes", range(vision.layers)))
    window = (getattr(seen, "window_size", 0) // seen.patch_size) ** 2
    return Shape(total, outside, text_config.vocab_size, text, vision, full, window, patch.numel(),
                 sum(map(_matrices, mergers)), patch[0].numel(),
                 sum(3 * _linear(merger)[0].in_features for merger in mergers))


def _tower(layers: nn.ModuleList, width: int, query: int, key: int) -> Tower:
    wide = _linear(layers[0].mlp)
    mlp = wide[0].out_features
    return Tower(len(layers), width, mlp, 4 if len(wide) == 3 else 2, query, key, _matrices(layers),
                 max(map(_count, layers)))


def _units(blocks: nn.ModuleList) -> int:
    """Parameters of the blocks that FSDP gathers on their own."""
    return sum(n for n in map(_count, blocks) if n >= UNIT)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _matrices(module: nn.Module) -> int:
    return sum(m.weight.numel() for m in _linear(module))


def _linear(module: nn.Module) -> list[nn.Linear]:
    return [m for m in module.modules() if isinstance(m, nn.Linear)]
