"""The tiny model before any training: Qwen2.5-VL's own classes, a few million parameters, random weights."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from minigrpo import VLM
from minigrpo.bench.untrained import make_config, make_image_processor

TEXT = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 5, "num_attention_heads": 6,
        "num_key_value_heads": 2, "max_position_embeddings": 2048}
VISION = {"depth": 4, "hidden_size": 128, "intermediate_size": 384, "num_heads": 4,
          "fullatt_block_indexes": [0, 1, 2, 3]}
REACH = (1, 1, 2)
"""How many patches away the heads of the tower's first layers look."""
PIXELS = (12544, 38000)
"""Bounds on the area of a picture. A scene of 224 x 168 stays as it is: 192 patches, 48 image tokens."""


def write_untrained(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Writes a whole model folder with random weights: configuration, tokenizer, preprocessor, safetensors."""
    ids = tokenizer.convert_tokens_to_ids
    torch.manual_seed(seed)
    net = Qwen2_5_VLForConditionalGeneration(make_config(ids, TEXT | {"vocab_size": len(tokenizer)}, VISION))
    _prepare_attention(net)
    _prepare_tower(net)
    net.generation_config = GenerationConfig(
        eos_token_id=[ids("<|im_end|>"), ids("<|endoftext|>")], pad_token_id=ids("<|endoftext|>"), do_sample=False
    )
    images = make_image_processor(*PIXELS, image_mean=[0.5] * 3, image_std=[0.5] * 3, resample=2)
    VLM(net, tokenizer, images).save(folder)


@torch.no_grad()
def _prepare_attention(net: Qwen2_5_VLForConditionalGeneration) -> None:
    """Attention as trained models have it, to begin with: mimetic initialisation (Trockman and Kolter, 2305.09828).

    Head 0 of the first two layers looks at the token before; after the first layer queries are keys, so that a word
    finds itself. Together they look up the letter before a name (induction heads, Olsson et al., 2209.11895).
    """
    config = net.config.text_config
    size = config.hidden_size // config.num_attention_heads
    shared = config.num_attention_heads // config.num_key_value_heads
    for index, layer in enumerate(net.model.language_model.layers):
        queries, keys = layer.self_attn.q_proj, layer.self_attn.k_proj
        if index < 2:
            for i in range(5):  # the fast rotations, which tell neighbours apart
                angle = config.rope_parameters["rope_theta"] ** (-2 * i / size)
                keys.bias[i] = 5.0
                queries.bias[i], queries.bias[i + size // 2] = 5 * math.cos(angle), -5 * math.sin(angle)
        if index:
            heads = keys.weight.view(config.num_key_value_heads, 1, size, -1)
            queries.weight.copy_(heads.expand(-1, shared, -1, -1).reshape(queries.weight.shape))


@torch.no_grad()
def _prepare_tower(net: Qwen2_5_VLForConditionalGeneration) -> None:
    """The heads of the first layers look up, down, left and right, as a convolution does (Cordonnier, 1911.03584).

    After 250 steps of learning to see, one run each, 49 % of the props' tokens were named and 69 % of what is left of
    the mask known to be there; without this 36 and 7 %.
    """
    heads = VISION["num_heads"]
    size = VISION["hidden_size"] // heads
    for block, reach in zip(net.model.visual.blocks, REACH, strict=False):
        queries, keys, _ = block.attn.qkv.bias.view(3, heads, size)
        for head, direction in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
            for axis, steps in enumerate(direction):  # a quarter of the size are the rotations of an axis
                for i in range(4):
                    pair, angle = axis * size // 4 + i, 10000 ** (-4 * i / size) * reach * steps
                    keys[head, pair] = 5.0
                    queries[head, pair], queries[head, pair + size // 2] = 5 * math.cos(angle), 5 * math.sin(angle)
