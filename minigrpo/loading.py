"""Loads a model folder or hub id into a `VLM`, and says clearly what a folder lacks."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from minigrpo.checkpoints import began_with, is_checkpoint, read_weights
from minigrpo.cpu import has_slow_products, use_fast_products, use_linear_patches
from minigrpo.lora import read_adapter
from minigrpo.models import VISION_FAMILIES, VLM


def load_model(path: str | Path, *, dtype: torch.dtype | str = "auto", device: torch.device | str = "cpu",
               attention_kernel: str = "auto", graphs: bool = False, min_pixels: int = 0, max_pixels: int = 0) -> VLM:
    """Loads a folder or hub id: safetensors only, no remote code, nothing of its generation settings but end tokens.

    Args:
        path: A folder in HF format, a hub id, a run's checkpoint, or adapters in peft's format, which are added in.
        dtype: Parameter type; "auto" is float32 on CPU and bfloat16 on CUDA.
        device: Where the parameters go.
        attention_kernel: "sdpa", "flash", or "auto": flash on CUDA in half precision, else SDPA.
        graphs: Whether rollouts replay their decode steps from CUDA graphs.
        min_pixels, max_pixels: Bounds on image area for the image processor; 0 keeps the folder's own.

    Raises:
        FileNotFoundError: the folder, its configuration or its weights are missing.
        ValueError: a model that the engine does not support, with what is missing; a damaged checkpoint; adapters of
            another model.
    """
    if (before := began_with(path)) is not None:
        loaded = load_model(before, dtype=dtype, device=device, attention_kernel=attention_kernel,
                            graphs=graphs, min_pixels=min_pixels, max_pixels=max_pixels)
        (read_weights if is_checkpoint(path) else read_adapter)(path, loaded.net)
        return loaded
    path, device = _checked(path), torch.device(device)
    config, auto = read_config(path)
    vision = config.model_type in VISION_FAMILIES
    if dtype == "auto":
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    net, tokenizer = _net(auto, path, config, dtype), _tokenizer(path)
    if device.type == "cpu":
        (use_fast_products if has_slow_products() else use_linear_patches)(net)
    if tokenizer.chat_template is None:
        raise ValueError(f"{path}: the tokenizer has no chat template (chat_template.jinja or chat_template.json)")
    processor = load_image_processor(path, min_pixels, max_pixels) if vision else None
    half = dtype in (torch.bfloat16, torch.float16)
    flash = attention_kernel == "flash" or (attention_kernel == "auto" and device.type == "cuda" and half)
    return VLM(net.to(device).eval(), tokenizer, processor, _generation_end_ids(path), flash, graphs)


def read_config(path: str | Path) -> tuple[PreTrainedConfig, type]:
    """The configuration of a folder or hub id, and the auto class that makes its model; weights are not needed.

    Raises:
        FileNotFoundError: the folder or its configuration is missing.
        ValueError: a model that the engine does not support.
    """
    path = _checked(path, weights=False)
    with _reading(path, "configuration"):
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if config.model_type in VISION_FAMILIES:
        return config, AutoModelForImageTextToText
    if hasattr(config, "vision_config"):
        raise ValueError(f"{path}: model type {config.model_type} is not supported; vision-language models: "
                         f"{', '.join(VISION_FAMILIES)}")
    return config, AutoModelForCausalLM


def _net(auto: type, path: str, config: PreTrainedConfig, dtype: torch.dtype) -> nn.Module:
    """The HF model with all of its weights: transformers would draw missing ones at random."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # what is missing is said here, in one line, not in a table
    try:
        with _reading(path, "weights"):
            net, report = auto.from_pretrained(
                path, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False,
                ignore_mismatched_sizes=True, output_loading_info=True,
            )
    finally:
        transformers.logging.set_verbosity(verbosity)
    wrong = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    if wrong:
        raise ValueError(f"{path}: {len(wrong)} weights are missing or of another shape, such as {min(wrong)}")
    return net


@contextlib.contextmanager
def _reading(path: str, what: str) -> Iterator[None]:
    """Whatever transformers raises over a broken folder becomes a ValueError of one line that names folder and part."""
    try:
        yield
    except OSError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: cannot read its {what}: {' '.join(str(error).split())}") from error
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path}: cannot read its {what}: {said}") from error


def _tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer, with the chat template of an older release's chat_template.json if it has no other."""
    folder = Path(path)  # transformers would make up an empty one
    if folder.is_dir() and not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json",
                                                                         "tokenizer.model")):
        raise FileNotFoundError(f"model folder {path} has no tokenizer (tokenizer.json)")
    with _reading(path, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        legacy = Path(path) / "chat_template.json"
        if tokenizer.chat_template is None and legacy.is_file():
            tokenizer.chat_template = json.loads(legacy.read_text(encoding="utf-8"))["chat_template"]
    return tokenizer


def _checked(path: str | Path, weights: bool = True) -> str:
    """The path, once it is sure that a local folder has what a model needs."""
    folder = Path(path)
    if not folder.is_dir():
        if folder.is_absolute() or str(path).startswith(".") or str(path).count("/") != 1:
            raise FileNotFoundError(f"model folder {path} does not exist")
        return str(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"model folder {path} has no config.json")
    if weights and not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"model folder {path} has no weights (*.safetensors)")
    return str(path)


def load_image_processor(path: str, min_pixels: int = 0, max_pixels: int = 0):
    """The image processor of a folder or hub id, with bounds on the area of an image; 0 keeps the folder's own."""
    with _reading(path, "image processor"):
        processor = AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
    size = dict(processor.size)
    processor.size = {
        "shortest_edge": min_pixels or size["shortest_edge"],
        "longest_edge": max_pixels or size["longest_edge"],
    }
    return processor


def _generation_end_ids(path: str) -> list[int]:
    """The end tokens of a folder's generation settings, of which nothing else is read; a folder need not have them."""
    there = (Path(path) / "generation_config.json").is_file()
    with _reading(path, "generation settings") if there else contextlib.suppress(OSError):
        stated = GenerationConfig.from_pretrained(path).eos_token_id
        return stated if isinstance(stated, list) else [] if stated is None else [stated]
    return []
