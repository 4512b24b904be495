"""Qwen2.5-VL and its relatives with random weights, of any size: for the benchmark, the tests and the scenes.

What such models have in common is here; sizes and a tokenizer's words come from the caller. `VLM.save` writes a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
            "<|image_pad|>", "<|video_pad|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's turns, without its default system prompt."""


def make_tokenizer(core: Tokenizer, template: str = TEMPLATE, **options: Any) -> PreTrainedTokenizerFast:
    """A tokenizer with Qwen's special tokens, which come after the entries of `core` unless it holds them already."""
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   chat_template=template, **options)


def make_config(ids: Callable[[str], int], text: Mapping[str, Any], vision: Mapping[str, Any],
                family: str = "qwen2_5_vl", theta: float = 10000.0, tied: bool = True) -> PreTrainedConfig:
    """The configuration of a vision-language model.

    Args:
        ids: A special token → its id.
        text, vision: Fields of the language model's and of the vision tower's configuration.
        family: Model type.
        theta: Base of the rotary positions.
        tied: Whether the LM head is the embedding.
    """
    eighth = text["hidden_size"] // text["num_attention_heads"] // 8
    sixteenths = 3 * eighth // 2
    rope = {"rope_type": "default", "rope_theta": theta, "mrope_section": [eighth, sixteenths, sixteenths]}
    text = {"rope_parameters": rope, "tie_word_embeddings": tied, "bos_token_id": None,
            "eos_token_id": ids("<|im_end|>"), "pad_token_id": ids("<|endoftext|>")} | text
    vision = {"patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2,
              "out_hidden_size": text["hidden_size"]} | vision
    markers = {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>",
               "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return AutoConfig.for_model(family, text_config=text, vision_config=vision, tie_word_embeddings=tied,
                                **{name: ids(token) for name, token in markers.items()})


def make_image_processor(shortest: int, longest: int, **options: Any) -> Qwen2VLImageProcessorPil:
    """An image processor that keeps an image's area between these numbers of pixels."""
    return Qwen2VLImageProcessorPil(size={"shortest_edge": shortest, "longest_edge": longest}, **options)
