"""A Hugging Face model, its tokenizer and its image processor behind one door."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
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

from minigrpo import attention
from minigrpo.layout import EncodedPrompt
from minigrpo.task import Sample

VISION_FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


class VLM:
    """A causal language model, with or without a vision tower, and what turns samples into its inputs.

    Attributes:
        net: The HF model, its language model set to minigrpo's attention.
        tokenizer, image_processor: As transformers loads them; no image processor without a vision tower.
        end_ids: Every id that ends a completion.
        banned: bool [V], ids that are never drawn and get no probability when scoring: the multimodal special
            tokens, and embedding rows beyond the tokenizer's vocabulary.
        varlen: The flash kernel of `PackedLayout`; None for SDPA.
    """

    def __init__(self, net: nn.Module, tokenizer, image_processor=None, end_ids: set[int] | None = None,
                 flash: bool = False) -> None:
        check_supported(net)
        self.net, self.tokenizer, self.image_processor = net, tokenizer, image_processor
        self.has_vision = net.config.model_type in VISION_FAMILIES
        if self.has_vision:
            net.set_attn_implementation({"text_config": attention.NAME, "vision_config": "sdpa"})
        else:
            net.set_attn_implementation(attention.NAME)
        self.end_ids = sorted(end_ids if end_ids is not None else _end_ids(net.config, tokenizer))
        self.banned = _banned_ids(net, tokenizer).to(self.device)
        self.varlen = attention.flash_kernel(self.device) if flash else None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.net.get_input_embeddings().weight.device

    @property
    def text_config(self) -> PreTrainedConfig:
        """The language model's configuration."""
        return self.net.config.get_text_config()

    @property
    def decoder(self) -> nn.Module:
        """The language model without its head: embeddings in, normalised hidden states out."""
        return self.net.model.language_model if self.has_vision else self.net.model

    def encode(self, sample: Sample, max_tokens: int | None = None) -> EncodedPrompt:
        """Tokens, positions and image patches of a sample's prompt, through the model's own chat template.

        Raises:
            ValueError: the prompt has more than `max_tokens` tokens (images counted), its text holds an image
                placeholder, the model has no eyes for its images, or the template does not end in a text token.
        """
        if sample.images and not self.has_vision:
            raise ValueError(f"sample {sample.id} has images, but {self.net.config.model_type} is a text-only model")
        ids, pixels, grid = self._placeholders(sample), None, None
        image_positions = None
        if sample.images:
            features = self.image_processor(images=list(sample.images), return_tensors="pt")
            pixels, grid = features["pixel_values"], features["image_grid_thw"]
            counts = grid.prod(-1) // self.image_processor.merge_size**2
            is_image = ids == self.net.config.image_token_id
            ids = ids.repeat_interleave(torch.ones_like(ids).masked_scatter(is_image, counts))
            image_positions = (ids == self.net.config.image_token_id).nonzero()[:, 0]
            if image_positions[-1] == len(ids) - 1:
                raise ValueError(f"sample {sample.id}: the chat template ends in an image; it must end in text")
        if max_tokens is not None and len(ids) > max_tokens:
            raise ValueError(
                f"sample {sample.id}: the prompt has {len(ids)} tokens, more than the limit of {max_tokens}; "
                "raise rollout.max_prompt_tokens or lower model.max_pixels (prompts are never truncated)"
            )
        return EncodedPrompt(sample.id, ids, self._positions(ids, grid), pixels, grid, image_positions)

    def encode_completion(self, text: str, where: str = "completion text") -> Tensor:
        """Token ids int64 [n] of a completion's text, the end token added.

        Raises:
            ValueError: the text holds a banned special token or an end token; `where` opens the message.
        """
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        banned = self.banned.cpu()
        if bad := [i for i in ids if banned[i] or i in self.end_ids]:
            token = self.tokenizer.convert_ids_to_tokens(bad[0])
            raise ValueError(f"{where} holds {token}, which cannot stand within an answer: {text[:80]!r}")
        return torch.tensor([*ids, self.tokenizer.eos_token_id])

    def decode(self, ids: Tensor) -> str:
        """The text of a completion, its end token dropped, everything else kept as it is."""
        ids = ids.tolist()
        if ids and ids[-1] in self.end_ids:
            ids = ids[:-1]
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def save(self, folder: str | Path) -> None:
        """Writes the model in HF format: config, safetensors, tokenizer, image processor."""
        self.net.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)
        if self.image_processor is not None:
            self.image_processor.save_pretrained(folder)

    def _placeholders(self, sample: Sample) -> Tensor:
        """Prompt ids with one placeholder per image, not expanded yet."""
        content = [{"type": "image"} for _ in sample.images] + [{"type": "text", "text": sample.question}]
        messages = [{"role": "user", "content": content if sample.images else sample.question}]
        if sample.system is not None:
            messages.insert(0, {"role": "system", "content": sample.system})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        if self.has_vision:
            found = int((ids == self.net.config.image_token_id).sum())
            if found != len(sample.images):
                raise ValueError(
                    f"sample {sample.id}: {len(sample.images)} images, but {found} image placeholders in its prompt; "
                    "its text must not hold special tokens"
                )
        return ids

    def _positions(self, ids: Tensor, grid: Tensor | None) -> Tensor:
        """Position ids [A, P]; the model itself says how an image moves its three axes."""
        if not self.has_vision:
            return torch.arange(len(ids))[None]
        if grid is None:
            return torch.arange(len(ids)).expand(3, -1)
        kinds = (ids == self.net.config.image_token_id).int()[None]
        positions, _ = self.net.model.get_rope_index(ids[None], mm_token_type_ids=kinds, image_grid_thw=grid)
        return positions[:, 0]


def load_model(path: str | Path, *, dtype: torch.dtype | str = "auto", device: torch.device | str = "cpu",
               attention_kernel: str = "auto", min_pixels: int = 0, max_pixels: int = 0) -> VLM:
    """Loads a folder or hub id: safetensors only, no remote code, nothing of its generation settings but end tokens.

    Args:
        path: A folder in HF format, or a hub id.
        dtype: Parameter type; "auto" is float32 on CPU and bfloat16 on CUDA.
        device: Where the parameters go.
        attention_kernel: "sdpa", "flash", or "auto": flash on CUDA in half precision, else SDPA.
        min_pixels, max_pixels: Bounds on image area for the image processor; 0 keeps the folder's own.

    Raises:
        FileNotFoundError: the folder, its configuration or its weights are missing.
        ValueError: a model that the engine does not support, with what is missing.
    """
    path, device = _checked(path), torch.device(device)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    vision = config.model_type in VISION_FAMILIES
    if not vision and hasattr(config, "vision_config"):
        raise ValueError(f"{path}: model type {config.model_type} is not supported; vision-language models: "
                         f"{', '.join(VISION_FAMILIES)}")
    if dtype == "auto":
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    auto = AutoModelForImageTextToText if vision else AutoModelForCausalLM
    net, tokenizer = _net(auto, path, config, dtype), _tokenizer(path)
    if tokenizer.chat_template is None:
        raise ValueError(f"{path}: the tokenizer has no chat template (chat_template.jinja or chat_template.json)")
    processor = _image_processor(path, min_pixels, max_pixels) if vision else None
    half = dtype in (torch.bfloat16, torch.float16)
    flash = attention_kernel == "flash" or (attention_kernel == "auto" and device.type == "cuda" and half)
    return VLM(net.to(device).eval(), tokenizer, processor, _end_ids(config, tokenizer, path), flash)


def _net(auto: type, path: str, config: PreTrainedConfig, dtype: torch.dtype) -> nn.Module:
    """The HF model with all of its weights: transformers would draw missing ones at random."""
    try:
        net, report = auto.from_pretrained(
            path, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False,
            ignore_mismatched_sizes=True, output_loading_info=True,  # both are refused here, in one line
        )  # fmt: skip
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot read its weights: {error}") from error
    wrong = [*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])]
    if wrong:
        raise ValueError(f"{path}: {len(wrong)} weights are missing or of another shape, such as {min(wrong)}")
    return net


def _tokenizer(path: str) -> PreTrainedTokenizerBase:
    """The tokenizer, with the chat template of an older release's chat_template.json if it has no other."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        legacy = Path(path) / "chat_template.json"
        if tokenizer.chat_template is None and legacy.is_file():
            tokenizer.chat_template = json.loads(legacy.read_text(encoding="utf-8"))["chat_template"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: cannot read its tokenizer: {error}") from error
    return tokenizer


def check_supported(net: nn.Module) -> None:
    """Refuses a model that the engine would compute wrongly.

    Raises:
        ValueError: names what is missing.
    """
    config, text = net.config, net.config.get_text_config()
    problems = []
    if not getattr(net, "_supports_attention_backend", False):
        problems.append("its attention does not go through transformers' attention interface")
    if not hasattr(net, "lm_head") or not hasattr(net, "model"):
        problems.append("it is not a decoder (.model) with an LM head (.lm_head)")
    if "sliding_attention" in (getattr(text, "layer_types", None) or ()):
        problems.append("it has sliding-window layers")
    if other := set(getattr(text, "layer_types", None) or ()) - {"sliding_attention", "full_attention"}:
        problems.append(f"it has layers of type {', '.join(sorted(other))}")
    for name in ("attn_logit_softcapping", "final_logit_softcapping", "logits_scaling", "logit_scale"):
        if getattr(text, name, None) not in (None, 1, 1.0):
            problems.append(f"it uses {name}")
    if any(name.endswith(".sinks") for name, _ in net.named_parameters()):
        problems.append("it has attention sinks")
    rates = [getattr(text, f"{kind}dropout", 0) for kind in ("", "attention_", "hidden_", "activation_")]
    if any(rates) or any(m.p > 0 for m in net.modules() if isinstance(m, nn.Dropout)):
        problems.append("it has dropout, with which rollout and training disagree: set it to 0 in its config.json")
    if problems:
        raise ValueError(f"model type {config.model_type} is not supported: {'; '.join(problems)}")


def _checked(path: str | Path) -> str:
    """The path, once it is sure that a local folder has what a model needs."""
    folder = Path(path)
    if not folder.is_dir():
        if folder.is_absolute() or str(path).startswith(".") or str(path).count("/") != 1:
            raise FileNotFoundError(f"model folder {path} does not exist")
        return str(path)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"model folder {path} has no config.json")
    if not any(folder.glob("*.safetensors")):
        raise FileNotFoundError(f"model folder {path} has no weights (*.safetensors)")
    return str(path)


def _image_processor(path: str, min_pixels: int, max_pixels: int):
    processor = AutoImageProcessor.from_pretrained(path, backend="pil", trust_remote_code=False)
    size = dict(processor.size)
    processor.size = {
        "shortest_edge": min_pixels or size["shortest_edge"],
        "longest_edge": max_pixels or size["longest_edge"],
    }
    return processor


def _end_ids(config: PreTrainedConfig, tokenizer, path: str | None = None) -> set[int]:
    """Ids that end a completion, from everywhere a model folder may state them."""
    configs = (config, config.get_text_config())
    sources = [tokenizer.eos_token_id, *(getattr(c, "eos_token_id", None) for c in configs)]
    if path is not None:
        with contextlib.suppress(OSError):  # a folder need not have generation settings
            sources.append(GenerationConfig.from_pretrained(path).eos_token_id)
    flat = [i for s in sources for i in (s if isinstance(s, list) else [s])]
    return {i for i in flat if i is not None}


def _banned_ids(net: nn.Module, tokenizer) -> Tensor:
    """bool [V]; see `VLM.banned`."""
    rows = net.lm_head.weight.shape[0]
    if len(tokenizer) > rows:
        raise ValueError(f"the tokenizer has {len(tokenizer)} entries, the model's LM head only {rows}")
    banned = torch.arange(rows) >= len(tokenizer)
    vocabulary = tokenizer.get_vocab()
    for name in _VISION_TOKENS:
        if name in vocabulary:
            banned[vocabulary[name]] = True
    for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        if (token := getattr(net.config, name, None)) is not None and token < rows:
            banned[token] = True
    return banned
