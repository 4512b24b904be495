"""A Hugging Face model, its tokenizer and its image processor behind one door."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from minigrpo import attention
from minigrpo.graphs import check_graphs
from minigrpo.kernels import flash_kernel
from minigrpo.layout import EncodedPrompt
from minigrpo.supported import check_supported, probe
from minigrpo.task import Sample

VISION_FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")


class VLM:
    """A causal language model, with or without a vision tower, and what turns samples into its inputs.

    Attributes:
        net: The HF model, its language model set to minigrpo's attention.
        tokenizer, image_processor: As transformers loads them; no image processor without a vision tower.
        end_ids: Every id that ends a completion: the tokenizer's, the configuration's, and what the caller adds.
        opening: Text with which the chat template itself opens every answer, "<think>\n" say; usually none.
        banned_ids: int64 [n], never drawn and without probability when scoring: the multimodal special tokens, and
            embedding rows beyond the tokenizer's vocabulary.
        varlen: The flash kernel of `PackedLayout`; None for SDPA.
        graphs: Whether rollouts replay their decode steps from CUDA graphs.
    """

    def __init__(self, net: nn.Module, tokenizer, image_processor=None, end_ids: Sequence[int] = (),
                 flash: bool = False, graphs: bool = False) -> None:
        check_supported(net)
        self.net, self.tokenizer, self.image_processor = net, tokenizer, image_processor
        self.has_vision = net.config.model_type in VISION_FAMILIES
        if self.has_vision:
            net.set_attn_implementation({"text_config": attention.LANGUAGE, "vision_config": attention.VISION})
        else:
            net.set_attn_implementation(attention.LANGUAGE)
        self.specials = re.compile("|".join(map(re.escape, _specials(tokenizer))) or r"(?!)")
        self.opening = _opening(tokenizer, self.specials)
        self.end_ids = sorted({*end_ids, *_end_ids(net.config, tokenizer)})
        self.banned_ids = _banned_ids(net, tokenizer).to(self.device)
        self.varlen = flash_kernel(self.device) if flash else None
        if self.device.type != "meta":
            probe(net, self.decoder, 3 if self.has_vision else 1)
        if graphs:
            check_graphs(self.device)
        self.graphs = graphs

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.net.get_input_embeddings().weight.device

    @property
    def vocabulary(self) -> int:
        """V, the rows of the LM head."""
        return self.net.lm_head.weight.shape[0]

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
            ValueError: the prompt has more than `max_tokens` tokens (images counted), question or system prompt holds a
                special token, the model has no eyes for its images, or the template does not end in a text token.
        """
        if not sample.images:
            ids = _checked_length(self._token_ids(sample), sample, max_tokens)
            return EncodedPrompt(sample.id, ids, self._positions(ids, None))
        if not self.has_vision:
            raise ValueError(f"sample {sample.id} has images, but {self.net.config.model_type} is a text-only model")
        features = self.image_processor(images=list(sample.images), return_tensors="pt")
        pixels, grid = features["pixel_values"], features["image_grid_thw"]
        ids = _checked_length(self._token_ids(sample, grid), sample, max_tokens)
        image_positions = (ids == self.net.config.image_token_id).nonzero()[:, 0]
        if image_positions[-1] == len(ids) - 1:
            raise ValueError(f"sample {sample.id}: the chat template ends in an image; it must end in text")
        return EncodedPrompt(sample.id, ids, self._positions(ids, grid), pixels, grid, image_positions)

    def encode_together(self, samples: Sequence[Sample], max_tokens: int | None = None
                        ) -> tuple[EncodedPrompt, list[Tensor]]:
        """What prompts about the same images have in common, encoded once, and how each goes on.

        Returns:
            The longest common prompt, and for each sample the tokens int64 [n >= 1] that follow it; together they are
            what `encode` gives.

        Raises:
            ValueError: as `encode`, or the samples' images are not the same objects.
        """
        first = samples[0]
        if any(list(map(id, s.images)) != list(map(id, first.images)) for s in samples):
            raise ValueError(f"samples encoded together, {first.id} and others, must hold the same images")
        whole = self.encode(first, max_tokens)
        texts = [_checked_length(self._token_ids(s, whole.image_grid_thw), s, max_tokens) for s in samples]
        shared = len(os.path.commonprefix([ids[:-1].tolist() for ids in texts]))
        if whole.image_positions is not None and shared <= int(whole.image_positions[-1]):
            raise ValueError(f"samples encoded together, {first.id} and others, must share their system prompt")
        common = replace(whole, input_ids=whole.input_ids[:shared], position_ids=whole.position_ids[:, :shared])
        return common, [ids[shared:] for ids in texts]

    def encode_completion(self, text: str, where: str = "completion text") -> Tensor:
        """Token ids int64 [n] of a completion's text, the end token added; what the template opens it with is dropped.

        Raises:
            ValueError: the text holds a special, banned or end token; `where` opens the message.
        """
        self._check_text(text, where)
        opening = self.opening if text.startswith(self.opening) else self.opening.rstrip()
        ids = self.tokenizer(text.removeprefix(opening), add_special_tokens=False)["input_ids"]
        barred = {*self.banned_ids.tolist(), *self.end_ids}
        if bad := [i for i in ids if i in barred]:
            token = self.tokenizer.convert_ids_to_tokens(bad[0])
            raise ValueError(f"{where} holds {token}, which cannot stand within an answer: {text[:80]!r}")
        return torch.tensor([*ids, self.tokenizer.eos_token_id])

    def decode(self, ids: Tensor) -> str:
        """The text of a completion after what the template opens it with, its end token dropped, all else as it is."""
        ids = ids.tolist()
        if ids and ids[-1] in self.end_ids:
            ids = ids[:-1]
        text = self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return self.opening + text

    def token_spans(self, completion: Tensor) -> list[tuple[int, int]]:
        """The characters that each token of a completion, int64 [n], adds to its text: begin and end, exclusive.

        The text so far is decoded token by token, as encoding it anew might give other tokens. Of a character in
        several tokens the last has it, and the others have nothing, like an end token.
        """
        whole, count = self.decode(completion), len(completion)
        ends = [len(os.path.commonprefix([self.decode(completion[:i]), whole])) for i in range(count + 1)]
        return list(zip(ends, ends[1:], strict=False))

    def save(self, folder: str | Path) -> None:
        """Writes the model in HF format: config, safetensors, tokenizer, image processor."""
        self.net.save_pretrained(folder, safe_serialization=True)
        self.tokenizer.save_pretrained(folder)
        if self.image_processor is not None:
            self.image_processor.save_pretrained(folder)

    def _token_ids(self, sample: Sample, grid: Tensor | None = None) -> Tensor:
        """Prompt ids [P], with as many placeholders for each image as its grid makes tokens."""
        self._check_text(sample.question, f"sample {sample.id}: its question")
        self._check_text(sample.system or "", f"sample {sample.id}: its system prompt")
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
                    f"sample {sample.id}: {len(sample.images)} images, but {found} image placeholders in its prompt: "
                    "the chat template must write one for each"
                )
        if grid is not None:
            counts = grid.prod(-1) // self.image_processor.merge_size**2
            is_image = ids == self.net.config.image_token_id
            ids = ids.repeat_interleave(torch.ones_like(ids).masked_scatter(is_image, counts))
        return ids

    def _check_text(self, text: str, where: str) -> None:
        """Refuses text of a sample that would become a control token; `where` opens the message."""
        if found := self.specials.search(text):
            raise ValueError(f"{where} holds {found[0]}, a special token of the tokenizer: take it out of the text")

    def _positions(self, ids: Tensor, grid: Tensor | None) -> Tensor:
        """Position ids [A, P]; the model itself says how an image moves its three axes."""
        if not self.has_vision:
            return torch.arange(len(ids))[None]
        if grid is None:
            return torch.arange(len(ids)).expand(3, -1)
        kinds = (ids == self.net.config.image_token_id).int()[None]
        positions, _ = self.net.model.get_rope_index(ids[None], mm_token_type_ids=kinds, image_grid_thw=grid)
        return positions[:, 0]


def _checked_length(ids: Tensor, sample: Sample, max_tokens: int | None) -> Tensor:
    if max_tokens is not None and len(ids) > max_tokens:
        raise ValueError(
            f"sample {sample.id}: the prompt has {len(ids)} tokens, more than the limit of {max_tokens}; "
            "raise rollout.max_prompt_tokens or lower model.max_pixels (prompts are never truncated)"
        )
    return ids


def _specials(tokenizer) -> list[str]:
    """Every special token's text, longest first; added tokens that are not special, <think> say, are ordinary text."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    known = set(_VISION_TOKENS) & set(tokenizer.get_vocab())
    return sorted({*added, *tokenizer.all_special_tokens, *known} - {""}, key=len, reverse=True)


def _opening(tokenizer, specials: re.Pattern) -> str:
    """The text that the generation prompt has beyond the header which an answer has as an earlier turn."""
    asked, answered = {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}
    try:
        text, earlier = (tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                         for messages in ([asked], [asked, answered, asked]))
    except Exception:  # a template may refuse whatever it likes; a broken one is named when it is used
        return ""
    opening = text[len(os.path.commonprefix([text, earlier])) :]
    return "" if specials.search(opening) or not opening.strip() else opening


def _end_ids(config: PreTrainedConfig, tokenizer) -> list[int]:
    """Ids that end a completion, as tokenizer and configuration state them."""
    stated = [tokenizer.eos_token_id, *(getattr(c, "eos_token_id", None) for c in (config, config.get_text_config()))]
    return [i for s in stated for i in (s if isinstance(s, list) else [s]) if i is not None]


def _banned_ids(net: nn.Module, tokenizer) -> Tensor:
    """int64 [n], ascending; see `VLM.banned_ids`."""
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
    return banned.nonzero()[:, 0]
