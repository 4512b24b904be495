"""The tiny model's tokenizer: a byte-level BPE on the words of the scenes, in the form that Qwen2.5-VL's has.

Any text can be encoded and comes back unchanged, since every byte has a token. The tags of the answer format are plain
text that BPE merges into one token each; only Qwen's own markers are special.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from string import ascii_uppercase

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from minigrpo.bench.untrained import SPECIALS, make_tokenizer
from mpcc.prompts import QUESTION, SYSTEM_PROMPT
from mpcc.scenes.categories import NAMES
from mpcc.scenes.curriculum import lesson

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's turns: a default system turn, images before the text, the end token after every turn."""

# a tag; the letter of an option; a word with the blank before it; one digit; other signs; blanks
_PIECES = r"</?(?:think|answer)>| [A-Z]\.(?=\p{L})| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}<>]+|[<>]|\s+"

VOCABULARY = 2000


def _texts() -> Iterator[str]:
    """Everything that the model is going to read or write, in about the right proportions."""
    for index in range(2000):
        taught = lesson(-1, index, 1.0)
        yield from (sample.question for sample in taught.samples)
        yield from taught.completions
    for text in (SYSTEM_PROMPT, QUESTION, "system\nYou are a helpful assistant.\n", "\nuser\n", "\nassistant\n"):
        for _ in range(50):
            yield text
    for name in NAMES:  # each of its words one token, with a blank before it and without
        yield f" a {name} <answer>{name}</answer>" * 50
    for option in ascii_uppercase[:7]:
        yield f"<answer>{option}</answer>" * 50


def train_tokenizer(more: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """Trains the tokenizer; the same texts give the same merges. End token `<|im_end|>`, padding `<|endoftext|>`.

    Args:
        more: Texts beside those of the shipped base.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(chain(_texts(), more), trainer)
    others = [token for token in SPECIALS if token not in ("<|im_end|>", "<|endoftext|>")]
    return make_tokenizer(tokenizer, CHAT_TEMPLATE, additional_special_tokens=others,
                          clean_up_tokenization_spaces=False, model_max_length=2048)
