"""Small models of every family with random weights, and a byte-level tokenizer: built here, nothing downloaded."""

from __future__ import annotations

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedTokenizerFast

from minigrpo import VLM, Group, Sample
from minigrpo.bench.untrained import make_config, make_image_processor, make_tokenizer

VISION = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
TEXT = ("llama", "qwen2", "qwen3")
FAMILIES = VISION + TEXT
ENDS = set(range(30)) | {258}  # many end tokens, so that completions finish early and at different times
PADDED_VOCABULARY = 280  # 264 entries and 16 rows beyond the tokenizer, as Qwen has


def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and the Qwen special tokens, 264 entries."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return make_tokenizer(core)


def net(family: str, dtype: torch.dtype = torch.float64, seed: int = 0, tied: bool = True):
    """An HF model of the family: 2 layers, grouped-query heads, weights large enough for a peaked softmax.

    A vision model's head is tied to its embeddings, which makes it repeat itself when greedy; `tied=False` does not.
    """
    ids = tokenizer().convert_tokens_to_ids
    text = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
                intermediate_size=96, vocab_size=PADDED_VOCABULARY, max_position_embeddings=4096, pad_token_id=None)
    if family in TEXT:
        config = AutoConfig.for_model(family, **text, bos_token_id=None, eos_token_id=ids("<|im_end|>"),
                                      tie_word_embeddings=False)
    else:
        vision = dict(depth=2, hidden_size=32, num_heads=2, intermediate_size=48)
        if family == "qwen2_5_vl":
            vision |= dict(window_size=56, fullatt_block_indexes=[1])
        elif family == "qwen2_vl":  # whose hidden_size is that of the language model
            vision = dict(depth=2, embed_dim=32, num_heads=2, mlp_ratio=2, hidden_size=64)
        else:
            vision |= dict(deepstack_visual_indexes=[0, 1], num_position_embeddings=64, hidden_act="gelu_pytorch_tanh")
        config = make_config(ids, text, vision, family, tied=tied)
    cls = AutoModelForCausalLM if family in TEXT else AutoModelForImageTextToText
    torch.manual_seed(seed)
    model = cls.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 0.3 if "embed_tokens" in name or "lm_head" in name else p.shape[-1] ** -0.5)
    return model.to(dtype).eval()


def vlm(family: str = "qwen2_5_vl", dtype: torch.dtype = torch.float64, seed: int = 0, tied: bool = True) -> VLM:
    """The same model as a `VLM`."""
    processor = make_image_processor(28**2, 112**2) if family in VISION else None
    return VLM(net(family, dtype, seed, tied), tokenizer(), processor)


def rolling(family: str = "qwen2_5_vl", end_ids=ENDS, dtype: torch.dtype = torch.float64) -> VLM:
    """A model for rollouts, its head apart from its embedding, that stops at any of `end_ids`."""
    made = vlm(family, dtype, tied=False)
    made.end_ids = sorted(end_ids)
    return made


def token_lists(groups: list[Group]) -> list[list[list[int]]]:
    """The completions of groups, as lists that can be compared."""
    return [[completion.tolist() for completion in group.completions] for group in groups]


def image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise, the same for the same seed."""
    values = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed))
    return Image.fromarray(values.to(torch.uint8).numpy())


def samples(images: bool = True) -> list[Sample]:
    """Prompts of different lengths: one image, none, two."""
    pictures = [image(84, 56, 1), image(56, 112, 2), image(84, 84, 3)]
    return [
        Sample("one", "what is here?", (pictures[0],) if images else (), system="be brief"),
        Sample("none", "no picture in this one, only some text"),
        Sample("two", "compare them", tuple(pictures[1:]) if images else ()),
    ]


def questions(pictures=()):
    """Questions of different lengths about the same images; the second goes on where the first ends."""
    texts = ("what is here?", "what is here? and why", "is it red, or is it blue, or another colour still?", "name it")
    return [Sample(f"q{i}", text, tuple(pictures), system="be brief") for i, text in enumerate(texts)]


def plain_inputs(vlm: VLM, prompt, completion=None) -> dict:
    """Keyword arguments of the plain HF model for one prompt, a completion appended."""
    ids = prompt.input_ids if completion is None else torch.cat([prompt.input_ids, completion])
    inputs = {"input_ids": ids[None], "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if vlm.has_vision:
        kinds = torch.zeros(1, len(ids), dtype=torch.int)
        if prompt.image_positions is not None:
            kinds[0, prompt.image_positions] = 1
            dtype = next(vlm.net.parameters()).dtype
            inputs |= {"pixel_values": prompt.pixel_values.to(dtype), "image_grid_thw": prompt.image_grid_thw}
        inputs["mm_token_type_ids"] = kinds
    return inputs


def plain(family: str, dtype: torch.dtype = torch.float64, attention: str = "eager", tied: bool = True):
    """The same weights as `vlm`, as transformers runs them by itself."""
    model = net(family, dtype, tied=tied)
    model.set_attn_implementation(attention)
    return model


def exact(model):
    """Makes every RMS norm compute in the model's own dtype; transformers' own go through float32."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = _exact_norm.__get__(module)
    return model


def _exact_norm(self, x: torch.Tensor) -> torch.Tensor:
    eps = getattr(self, "variance_epsilon", None) or self.eps
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)


def groups(vlm: VLM, lengths=((3, 7, 1), (5,), (2, 9)), images: bool = True) -> list[Group]:
    """Ragged groups of the `samples`, the completions random bytes."""
    generator = torch.Generator().manual_seed(0)
    prompts = [vlm.encode(s) for s in samples(images and vlm.has_vision)]
    draw = [[torch.randint(0, 250, (n,), generator=generator) for n in ns] for ns in lengths]
    return [Group(p, completions) for p, completions in zip(prompts, draw, strict=True)]


def banned(vlm: VLM) -> torch.Tensor:
    """bool [V], True for the ids that are banned."""
    return torch.zeros(vlm.vocabulary, dtype=torch.bool).index_fill(0, vlm.banned_ids, True)


def plain_logits(model, vlm: VLM, prompt, completion, temperature: float = 1.0) -> torch.Tensor:
    """[n, V] logits of one completion from the plain model on the whole sequence, banned ids left out."""
    logits = model(**plain_inputs(vlm, prompt, completion)).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.index_fill(-1, vlm.banned_ids, float("-inf"))


def plain_logps(model, vlm: VLM, groups, temperature: float = 1.0) -> torch.Tensor:
    """[N] log-probabilities of all completion tokens, one completion at a time."""
    pairs = [(g.prompt, c) for g in groups for c in g.completions]
    rows = [plain_logits(model, vlm, p, c, temperature).log_softmax(-1).gather(-1, c[:, None])[:, 0] for p, c in pairs]
    return torch.cat(rows)
