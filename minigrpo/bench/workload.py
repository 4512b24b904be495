"""Reference workloads: model shapes, prompts, images, and a model folder with random weights."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from minigrpo.bench.shape import Shape, shape_of
from minigrpo.bench.untrained import SPECIALS, make_config, make_image_processor, make_tokenizer
from minigrpo.models import VLM
from minigrpo.task import Sample

MAX_TOKENS = 32768
TEMPLATE_TOKENS = 7
"""Text tokens that the template adds to a question about one image."""
TOKEN_PIXELS = 28
"""Pixels along a side of an image token: two patches of 14."""

MODELS = {
    "cpu": {
        "text": {"num_hidden_layers": 8, "hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2,
                 "intermediate_size": 1408, "vocab_size": 32000},
        "vision": {"depth": 8, "hidden_size": 320, "num_heads": 8, "intermediate_size": 864,
                   "fullatt_block_indexes": [3, 7]},
    },
    "gpu": {  # Qwen2.5-VL-3B
        "text": {"num_hidden_layers": 36, "hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 2,
                 "intermediate_size": 11008, "vocab_size": 151936},
        "vision": {"depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420,
                   "fullatt_block_indexes": [7, 15, 23, 31]},
        "theta": 1e6,
    },
    "toy": {
        "text": {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2,
                 "intermediate_size": 96, "vocab_size": 400},
        "vision": {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48,
                   "fullatt_block_indexes": [1]},
    },
}
"""What the models' configurations say beyond their class's own values."""


@dataclass(frozen=True)
class Workload:
    """What one benchmark measures.

    Attributes:
        name: The reference workload and its model: cpu, gpu or toy.
        prompts: Prompts of a step, each with one image of its own.
        image: Width and height of an image in pixels.
        text_tokens: Tokens of a prompt beside those of its image.
        group_size: Completions of a prompt, G.
        completion: Tokens of every completion; none ends early.
        dtype, device: Computing precision, and where.
        threads: Threads of each side's process.
        beta: Weight of the KL to the reference; at 0 nothing is scored.
        steps: Measured steps, after one that is not.
        micro_batch: Whole sequences in one forward of the update in plain and TRL; 0: as many as fit in memory.
        checkpointing: Whether activations are recomputed in the backward pass, on every side.
        graphs: Whether minigrpo replays its decode steps from CUDA graphs.
    """

    name: str
    prompts: int
    image: tuple[int, int]
    text_tokens: int
    group_size: int
    completion: int
    dtype: str
    device: str
    threads: int = 2
    beta: float = 0.04
    steps: int = 3
    micro_batch: int = 0
    checkpointing: bool = False
    graphs: bool = False

    @property
    def sequences(self) -> int:
        """Completions of a step."""
        return self.prompts * self.group_size

    @property
    def tokens(self) -> int:
        """Completion tokens of a step."""
        return self.sequences * self.completion

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches of an image, as the image processor rounds its size."""
        width, height = self.image
        return 2 * max(1, round(height / TOKEN_PIXELS)), 2 * max(1, round(width / TOKEN_PIXELS))

    @property
    def image_tokens(self) -> int:
        """Tokens of an image."""
        return self.grid[0] * self.grid[1] // 4

    @property
    def prompt_tokens(self) -> int:
        """Tokens of a prompt."""
        return self.image_tokens + self.text_tokens

    @property
    def shape(self) -> Shape:
        """The model's sizes."""
        return _shape(self.name)

    def samples(self, step: int) -> list[Sample]:
        """The prompts of a step: random words, and an image of noise that no other prompt has."""
        words = MODELS[self.name]["text"]["vocab_size"] - len(SPECIALS) - 4
        width, height = self.image
        made = []
        for i in range(self.prompts):
            draw = random.Random(f"{step}/{i}")
            question = " ".join(f"w{draw.randrange(words)}" for _ in range(self.text_tokens - TEMPLATE_TOKENS))
            noise = np.random.default_rng((step, i)).integers(0, 256, (height, width, 3), dtype=np.uint8)
            made.append(Sample(f"{step}-{i}", question, (Image.fromarray(noise),)))
        return made

    def rewards(self, step: int, prompt: int) -> list[float]:
        """Rewards [G] of a group: random, since what is written does not matter here."""
        draw = random.Random(f"reward {step}/{prompt}")
        return [draw.random() for _ in range(self.group_size)]


WORKLOADS = {
    "cpu": Workload("cpu", 2, (560, 420), 100, 8, 64, "float32", "cpu"),
    "gpu": Workload("gpu", 4, (640, 480), 110, 8, 256, "bfloat16", "cuda"),
    "toy": Workload("toy", 2, (112, 84), 20, 4, 6, "float32", "cpu", threads=1),
}


def with_image_tokens(workload: Workload, tokens: int) -> Workload:
    """The workload with images of about so many tokens, width to height about 4 : 3."""
    def badness(rows: int) -> tuple[int, float]:
        columns = max(1, round(tokens / rows))
        return abs(rows * columns - tokens), abs(np.log(columns / rows * 3 / 4))

    # among shapes that are not far from 4 : 3 the one with the closest number of tokens
    near = [rows for rows in range(1, tokens + 1) if 0.5 <= rows / (tokens * 3 / 4) ** 0.5 <= 1.6] or [1]
    rows = min(near, key=badness)
    return replace(workload, image=(max(1, round(tokens / rows)) * TOKEN_PIXELS, rows * TOKEN_PIXELS))


def tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """One token a word, `vocabulary` entries in all, Qwen's special tokens first."""
    words = [*SPECIALS, "<unk>", "user", "assistant", "system"]
    words += [f"w{i}" for i in range(vocabulary - len(words))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.decoder = decoders.Fuse()
    return make_tokenizer(core, unk_token="<unk>", model_max_length=MAX_TOKENS)


def model_config(name: str) -> PreTrainedConfig:
    """Configuration of a workload's model."""
    numbers = MODELS[name]
    text = numbers["text"] | {"max_position_embeddings": MAX_TOKENS}
    return make_config(SPECIALS.index, text, numbers["vision"], theta=numbers.get("theta", 1e4))


@cache
def _shape(name: str) -> Shape:
    return shape_of(model_config(name))


def build_folder(workload: Workload, folder: Path) -> None:
    """Writes the workload's model in HF format: configuration, random weights, tokenizer, image processor."""
    torch.manual_seed(0)
    config, dtype = model_config(workload.name), getattr(torch, workload.dtype)
    net = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype)
    net.generation_config = GenerationConfig(pad_token_id=SPECIALS.index("<|endoftext|>"))  # no end: lengths are fixed
    images = make_image_processor(56**2, 3584**2, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    VLM(net, tokenizer(config.text_config.vocab_size), images).save(folder)
