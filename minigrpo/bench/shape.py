"""The sizes of a model, counted on its own modules, which hold no weights here: torch's meta device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedConfig

from minigrpo.loading import read_config
from minigrpo.models import VISION_FAMILIES
from minigrpo.replica import UNIT


@dataclass(frozen=True)
class Tower:
    """A stack of layers. A row is a token in the language model, a patch in the vision tower.

    Attributes:
        layers: Number of layers.
        width: Hidden size.
        mlp: Intermediate size of the MLP.
        kept_mlp: Vectors of size `mlp` that the MLP keeps of a row for the backward pass: 4 if gated, 2 if not.
        query, key: Size of a row's queries, all heads together, and of its keys.
        weights: Weights of the matrices that a row is multiplied by in all layers.
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
        parameters: Number of parameters, tied ones once.
        root: Those that FSDP gathers together: embeddings, head, patch embedding, mergers, norms, small blocks.
        vocabulary: Rows of the LM head, V.
        text: The language model.
        vision: The vision tower; None without one.
        full_layers: Its layers in which a patch attends to the whole image.
        window: Patches along a side of the windows that patches attend to in its other layers.
        merge: Patches along a side of an image token.
        per_patch, per_image_token: Weights outside its layers that a patch, and an image token, is multiplied by.
        patch_values: Numbers that make up a patch.
        kept_by_mergers: Numbers that the mergers keep of an image token for the backward pass.
        eyes: Parameters of the vision tower, mergers included.
    """

    parameters: int
    root: int
    vocabulary: int
    text: Tower
    vision: Tower | None = None
    full_layers: int = 0
    window: int = 0
    merge: int = 1
    per_patch: int = 0
    per_image_token: int = 0
    patch_values: int = 0
    kept_by_mergers: int = 0
    eyes: int = 0


def shape_of(model: str | PreTrainedConfig) -> Shape:
    """The shape of a model folder (its weights may be missing), a hub id, or a configuration.

    Raises:
        OSError: there is no such model.
        ValueError: not a model that minigrpo trains.
    """
    config = model if isinstance(model, PreTrainedConfig) else read_config(model)[0]
    has_vision = config.model_type in VISION_FAMILIES
    auto = AutoModelForImageTextToText if has_vision else AutoModelForCausalLM
    with torch.device("meta"):
        net = auto.from_config(config)
    decoder = net.model.language_model if has_vision else net.model
    text_config = config.get_text_config()
    heads = text_config.num_attention_heads
    size = getattr(text_config, "head_dim", None) or text_config.hidden_size // heads
    text = _tower(decoder.layers, text_config.hidden_size, heads * size, text_config.num_key_value_heads * size)
    total = _count(net)
    if not has_vision:
        return Shape(total, total - _units(decoder.layers), text_config.vocab_size, text)
    eyes, seen = net.model.visual, config.vision_config
    width = getattr(seen, "embed_dim", None) or seen.hidden_size  # Qwen2-VL calls its own width embed_dim
    vision, patch = _tower(eyes.blocks, width, width, width), eyes.patch_embed.proj.weight
    mergers = [eyes.merger, *getattr(eyes, "deepstack_merger_list", ())]
    return Shape(
        total, total - _units(decoder.layers) - _units(eyes.blocks), text_config.vocab_size, text, vision,
        full_layers=len(getattr(seen, "fullatt_block_indexes", range(vision.layers))),
        window=getattr(seen, "window_size", 0) // seen.patch_size, merge=seen.spatial_merge_size,
        per_patch=patch.numel(), per_image_token=sum(map(_matrices, mergers)), patch_values=patch[0].numel(),
        kept_by_mergers=sum(3 * _linear(merger)[0].in_features for merger in mergers), eyes=_count(eyes),
    )


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
