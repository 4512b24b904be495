"""The tiny model before any training: Qwen2.5-VL's own classes, a few million parameters, random weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

PREPROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "max_pixels": 19000,
    "merge_size": 2,
    "min_pixels": 12544,
    "patch_size": 14,
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 12544, "longest_edge": 19000},
    "temporal_patch_size": 2,
}
"""A scene of 240 x 160 becomes 168 x 112: 96 patches, 24 image tokens."""


def tiny_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    """Shape of the tiny model, its marker ids taken from the tokenizer."""
    ids = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": ids("<|im_end|>"),
        "pad_token_id": ids("<|endoftext|>"),
    }
    vision = {
        "depth": 4,
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_heads": 4,
        "out_hidden_size": 192,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 112,
        "fullatt_block_indexes": [0, 1, 2, 3],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=True,
    )


def write_untrained(folder: Path, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Writes a whole model folder with random weights: configuration, tokenizer, preprocessor, safetensors."""
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(tiny_config(tokenizer))
    _prepare_attention(model)
    ids = tokenizer.convert_tokens_to_ids
    model.generation_config = GenerationConfig(
        eos_token_id=[ids("<|im_end|>"), ids("<|endoftext|>")], pad_token_id=ids("<|endoftext|>"), do_sample=False
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def _prepare_attention(model: Qwen2_5_VLForConditionalGeneration) -> None:
    """Attention as trained models have it, to begin with: mimetic initialisation (Trockman and Kolter, 2305.09828).

    Head 0 of the first two layers looks at the token before; after the first layer queries are keys, so that a word
    finds itself. Together they look up the letter before a name (induction heads, Olsson et al., 2209.11895).
    """
    config = model.config.text_config
    size = config.hidden_size // config.num_attention_heads
    shared = config.num_attention_heads // config.num_key_value_heads
    for index, layer in enumerate(model.model.language_model.layers):
        queries, keys = layer.self_attn.q_proj, layer.self_attn.k_proj
        if index < 2:
            for i in range(5):  # the fast rotations, which tell neighbours apart
                angle = config.rope_parameters["rope_theta"] ** (-2 * i / size)
                keys.bias[i] = 5.0
                queries.bias[i], queries.bias[i + size // 2] = 5 * math.cos(angle), -5 * math.sin(angle)
        if index:
            heads = keys.weight.view(config.num_key_value_heads, 1, size, -1)
            queries.weight.copy_(heads.expand(-1, shared, -1, -1).reshape(queries.weight.shape))
