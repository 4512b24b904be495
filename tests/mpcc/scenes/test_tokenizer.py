"""The tiny model's tokenizer: Qwen's markers and turns, every text encodable, short prompts."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from minigrpo.bench.untrained import SPECIALS
from mpcc.prompts import QUESTION, SYSTEM_PROMPT
from mpcc.scenes.categories import NAMES
from mpcc.task import MaskedPrediction

SHIPPED = Path(MaskedPrediction.default_model)

tokenizer = AutoTokenizer.from_pretrained(SHIPPED)


def ids(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_comes_back_unchanged(text):
    assert tokenizer.decode(ids(text), clean_up_tokenization_spaces=False) == text


def test_every_byte_has_a_token():
    text = bytes(range(256)).decode("latin-1") + "é e\u0301 漢字 🦓 \u0000\u200d"
    assert tokenizer.decode(ids(text), clean_up_tokenization_spaces=False) == text


def test_the_markers_are_qwens_and_special():
    assert tokenizer.eos_token == "<|im_end|>" and tokenizer.pad_token == "<|endoftext|>"
    assert set(SPECIALS) == set(tokenizer.all_special_tokens)
    for token in SPECIALS:
        assert ids(token) == [tokenizer.convert_tokens_to_ids(token)]


def test_the_tags_are_plain_text():
    text = "<think> a </think><answer>b</answer>"
    assert tokenizer.decode(ids(text), skip_special_tokens=True) == text


def test_prompts_and_names_are_short():
    assert len(ids(SYSTEM_PROMPT)) + len(ids(QUESTION)) <= 130
    assert all(len(ids(f" {name}")) <= len(name.split()) + 1 for name in NAMES)


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_the_chat_template_writes_qwens_turns(system):
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]})
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert text == (
        f"<|im_start|>system\n{system or 'You are a helpful assistant.'}<|im_end|>\n"
        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
