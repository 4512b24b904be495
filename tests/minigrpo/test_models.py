"""Encoding, positions by hand, loading from a folder, and what is refused."""

import json
import re
import shutil

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken

from minigrpo import VLM, Sample, load_model
from minigrpo.bench.untrained import TEMPLATE
from minigrpo.layout import continued_positions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny.vlm("qwen2_5_vl", torch.float32).save(path)
    return path


# Encoding


@pytest.mark.parametrize("family", tiny.VISION)
def test_a_prompt_with_an_image_by_hand(family):
    prompt = tiny.vlm(family).encode(Sample("a", "hi", (tiny.image(84, 56),)))
    # 84 × 56 pixels are 6 × 4 patches of 14, which merge 2 × 2 into 3 × 2 tokens
    start, end, vision, pad, after = 257, 258, 259, 262, 260
    ids = tiny.tokenizer().convert_tokens_to_ids
    head = [start, *ids(list("user")), ids("Ċ"), vision]
    tail = [after, *ids(list("hi")), end, ids("Ċ"), start, *ids(list("assistant")), ids("Ċ")]
    assert prompt.input_ids.tolist() == head + [pad] * 6 + tail
    assert prompt.image_grid_thw.tolist() == [[1, 4, 6]]
    assert prompt.pixel_values.shape == (24, 3 * 2 * 14 * 14)
    assert prompt.image_positions.tolist() == list(range(7, 13))


@pytest.mark.parametrize("family", tiny.VISION)
def test_golden_rotary_positions(family):
    """Text counts up on all axes; an image stands still in time and spans its grid; text goes on after the largest."""
    vlm = tiny.vlm(family)
    one = vlm.encode(Sample("a", "hi", (tiny.image(84, 56),))).position_ids
    head, tail = list(range(7)), list(range(10, 26))
    assert one[0].tolist() == head + [7, 7, 7, 7, 7, 7] + tail  # time
    assert one[1].tolist() == head + [7, 7, 7, 8, 8, 8] + tail  # height
    assert one[2].tolist() == head + [7, 8, 9, 7, 8, 9] + tail  # width
    two = vlm.encode(Sample("a", "", (tiny.image(84, 56), tiny.image(56, 84)))).position_ids
    # after the first image, its end at 10, the second's start at 11, and the second of 2 × 3 tokens from 12 on
    assert two[0, 13:23].tolist() == [10, 11, 12, 12, 12, 12, 12, 12, 15, 16]
    assert two[1, 13:23].tolist() == [10, 11, 12, 12, 13, 13, 14, 14, 15, 16]
    assert two[2, 13:23].tolist() == [10, 11, 12, 13, 12, 13, 12, 13, 15, 16]


@pytest.mark.parametrize("family", tiny.VISION)
def test_completions_continue_as_the_model_itself_would_over_the_whole_sequence(family):
    vlm = tiny.vlm(family)
    for prompt in map(vlm.encode, tiny.samples()):
        inputs = tiny.plain_inputs(vlm, prompt, torch.arange(5))
        whole, _ = vlm.net.model.get_rope_index(
            inputs["input_ids"], mm_token_type_ids=inputs["mm_token_type_ids"],
            image_grid_thw=inputs.get("image_grid_thw"), attention_mask=inputs["attention_mask"],
        )
        assert torch.equal(prompt.position_ids, whole[:, 0, : len(prompt)])
        assert torch.equal(continued_positions(prompt, 6), whole[:, 0, len(prompt) - 1 :])


def test_a_prompt_without_images_counts_up():
    question = Sample("a", "hello", system="be brief")
    seeing, blind = tiny.vlm("qwen2_5_vl").encode(question), tiny.vlm("llama").encode(question)
    assert torch.equal(seeing.input_ids, blind.input_ids)
    assert seeing.position_ids.tolist() == [list(range(len(seeing)))] * 3
    assert blind.position_ids.tolist() == [list(range(len(blind)))]
    assert seeing.pixel_values is None and seeing.image_grid_thw is None and seeing.image_positions is None
    text = tiny.tokenizer().decode(blind.input_ids)
    assert text == "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_each_placeholder_grows_to_its_own_images_size():
    prompt = tiny.vlm().encode(Sample("a", "x", (tiny.image(84, 56), tiny.image(56, 112))))
    assert prompt.image_grid_thw.tolist() == [[1, 4, 6], [1, 8, 4]]
    # 6 tokens from 7 on; its end, the next one's start; 8 tokens
    assert prompt.image_positions.tolist() == [*range(7, 13), *range(15, 23)]


def test_two_images_of_equal_grid_are_not_mixed_up():
    vlm = tiny.vlm()
    a, b = tiny.image(56, 56, 1), tiny.image(56, 56, 2)
    prompts = [vlm.encode(Sample(str(i), "x", pair)) for i, pair in enumerate([(a, b), (b, a)])]
    assert torch.equal(prompts[0].input_ids, prompts[1].input_ids)
    assert torch.equal(prompts[0].pixel_values[:16], prompts[1].pixel_values[16:])
    assert not torch.equal(prompts[0].pixel_values, prompts[1].pixel_values)


def test_a_prompt_longer_than_the_limit_is_refused_by_its_processed_length_and_id():
    vlm, sample = tiny.vlm(), Sample("pair-17", "x", (tiny.image(112, 112),))
    length = len(vlm.encode(sample))
    assert len(vlm.encode(sample, length)) == length
    with pytest.raises(ValueError, match=f"sample pair-17: the prompt has {length} tokens, .*limit of {length - 1}"):
        vlm.encode(sample, length - 1)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|image_pad|>", "<|video_pad|>"])
@pytest.mark.parametrize("field, changes", [("question", {}), ("system prompt", {"question": "x"})])
@pytest.mark.parametrize("images", [(), (tiny.image(56, 56),)])
def test_text_that_holds_a_special_token_is_refused_with_sample_field_and_token(images, field, changes, token):
    texts = {"question": f"is {token} red?", "system": f"be {token} brief"} | changes
    sample = Sample("pair-3", **texts, images=images)
    with pytest.raises(ValueError, match=re.escape(f"sample pair-3: its {field} holds {token}, a special token")):
        tiny.vlm().encode(sample)


def test_added_tokens_that_are_not_special_are_ordinary_text():
    vlm, tags = tiny.vlm("llama"), "<think>a</think><tool_call>"
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>", "<tool_call>")])
    assert len(tokenizer("<think>")["input_ids"]) == 1
    vlm = VLM(vlm.net, tokenizer)
    assert tags in tokenizer.decode(vlm.encode(Sample("a", tags, system=tags)).input_ids)
    assert vlm.decode(vlm.encode_completion(tags)) == tags


def test_a_template_that_writes_no_placeholder_for_an_image_is_refused():
    vlm = tiny.vlm()
    vlm.tokenizer.chat_template = "{% for m in messages %}look{% endfor %}"
    with pytest.raises(ValueError, match="sample a: 1 images, but 0 image placeholders"):
        vlm.encode(Sample("a", "x", (tiny.image(56, 56),)))


def test_a_text_only_model_has_no_eyes():
    with pytest.raises(ValueError, match="sample pair-4 has images, but llama is a text-only model"):
        tiny.vlm("llama").encode(Sample("pair-4", "x", (tiny.image(56, 56),)))


def test_a_template_that_ends_in_an_image_is_refused():
    vlm = tiny.vlm()
    vlm.tokenizer.chat_template = "{% for m in messages %}look<|image_pad|>{% endfor %}"
    with pytest.raises(ValueError, match="sample a: the chat template ends in an image"):
        vlm.encode(Sample("a", "x", (tiny.image(56, 56),)))


# Completions


def test_a_completion_ends_with_the_end_token_and_comes_back_as_its_text():
    vlm, text = tiny.vlm(), "<think> ü  a</think>\n<answer>b</answer> "
    ids = vlm.encode_completion(text)
    assert ids[-1] == 258 and ids.dtype == torch.long and (ids == 258).sum() == 1
    assert vlm.decode(ids) == text
    assert vlm.decode(ids[:-1]) == text and vlm.decode(ids[:0]) == ""
    assert vlm.decode(torch.tensor([257, 64, 258])) == "<|im_start|>a", "special tokens show: rewards must see them"


@pytest.mark.parametrize("opening", ["<think>\n", "<think>\n\n</think>\n\n"])
def test_what_the_template_opens_an_answer_with_is_part_of_its_text_and_stands_once(opening):
    """Qwen3's thinking models end their generation prompt so, and leave it out of earlier turns."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE.replace("assistant\n{% endif", f"assistant\n{opening}{{% endif")
    vlm = VLM(tiny.net("llama"), tokenizer)
    assert vlm.opening == opening
    prompt = tokenizer.decode(vlm.encode(Sample("a", "x")).input_ids)
    assert prompt.endswith(f"<|im_start|>assistant\n{opening}")
    for text in (f"{opening}a</think>b", f"{opening}  cut off"):
        ids = vlm.encode_completion(text)
        assert tokenizer.decode(ids) == text.removeprefix(opening) + "<|im_end|>", "it stands in the prompt already"
        assert vlm.decode(ids) == text
    assert vlm.decode(vlm.encode_completion(opening.rstrip() + "a")) == f"{opening}a", "its white space may be missing"
    assert vlm.decode(vlm.encode_completion("a</think>")) == f"{opening}a</think>"
    assert vlm.decode(torch.empty(0, dtype=torch.long)) == opening


@pytest.mark.parametrize("template", [
    TEMPLATE,
    "{% if messages | length > 1 %}{{ raise_exception('one turn only') }}{% endif %}{{ messages[0].content }}<think>",
    TEMPLATE.replace("assistant\n{% endif", "<|im_end|>assistant\n{% endif"),  # its header, not its text
], ids=["as most", "one turn only", "another header"])
def test_a_template_opens_no_answer(template):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = template
    vlm = VLM(tiny.net("llama"), tokenizer)
    assert vlm.decode(vlm.encode_completion("<think>a")) == "<think>a"


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"])
def test_prior_text_with_a_banned_token_is_refused(token):
    with pytest.raises(ValueError, match=f"completion text holds {token}".replace("|", r"\|")):
        tiny.vlm().encode_completion(f"a {token} b")


def test_prior_text_with_an_end_token_in_it_is_refused():
    """A completion is scored up to and including its first end token, so nothing may follow one."""
    with pytest.raises(ValueError, match=r"completion text holds <\|im_end\|>"):
        tiny.vlm().encode_completion("a <|im_end|> b")


def test_banned_are_the_multimodal_tokens_and_the_rows_beyond_the_tokenizer():
    assert tiny.vlm("qwen2_vl").banned_ids.tolist() == [259, 260, 261, 262, 263, *range(264, 280)]
    assert tiny.vlm("llama").banned_ids.tolist() == [259, 260, 261, 262, 263, *range(264, 280)]


# Loading


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen3_vl", "qwen3"])
def test_a_saved_model_loads_with_the_same_weights_and_tokens(family, tmp_path):
    vlm = tiny.vlm(family, torch.float32)
    vlm.save(tmp_path)
    again = load_model(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(vlm.net.parameters(), again.net.parameters(), strict=True))
    assert not again.net.training and again.end_ids == [258] and torch.equal(again.banned_ids, vlm.banned_ids)
    sample = tiny.samples()[0 if vlm.has_vision else 1]
    a, b = vlm.encode(sample), again.encode(sample)
    assert torch.equal(a.input_ids, b.input_ids) and torch.equal(a.position_ids, b.position_ids)
    assert a.pixel_values is None or torch.equal(a.pixel_values, b.pixel_values)


def test_pixel_bounds_and_precision(folder):
    vlm = load_model(folder, dtype=torch.bfloat16, min_pixels=4 * 28 * 28, max_pixels=9 * 28 * 28)
    assert vlm.net.dtype == torch.bfloat16
    large, small = (vlm.encode(Sample("a", "x", (tiny.image(side, side),))) for side in (280, 28))
    assert len(large.image_positions) == 9 and len(small.image_positions) == 4


def test_end_tokens_come_from_everywhere(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "model")
    config = json.loads((path / "config.json").read_text())
    config["text_config"]["eos_token_id"] = [7, 8]
    (path / "config.json").write_text(json.dumps(config))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [256, 8]}))
    assert {7, 8, 256, 258} <= set(load_model(path).end_ids)
    (path / "generation_config.json").unlink()
    assert 258 in load_model(path).end_ids


@pytest.mark.parametrize("file, message", [
    ("model.safetensors", "has no weights"),
    ("config.json", "has no config.json"),
])
def test_a_folder_that_lacks_a_file(folder, tmp_path, file, message):
    path = shutil.copytree(folder, tmp_path / "model")
    (path / file).unlink()
    with pytest.raises(FileNotFoundError, match=message) as error:
        load_model(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_weights_with_a_missing_tensor_are_refused(folder, tmp_path):
    """transformers would fill it with random numbers and go on."""
    path = shutil.copytree(folder, tmp_path / "model")
    weights = load_file(path / "model.safetensors")
    lost = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file({k: v for k, v in weights.items() if k != lost}, path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="layers.1.mlp.up_proj.weight"):
        load_model(path)


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "nowhere", "a/b/c"])
def test_a_folder_that_does_not_exist(name):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_model(name)


def test_a_tokenizer_without_a_chat_template(folder, tmp_path):
    path = shutil.copytree(folder, tmp_path / "model")
    (path / "chat_template.jinja").unlink()
    with pytest.raises(ValueError, match="has no chat template"):
        load_model(path)


def test_flash_needs_a_gpu(folder):
    with pytest.raises(ValueError, match="CUDA only"):
        load_model(folder, attention_kernel="flash")


# Refusals; see test_supported.py for the families that the engine would compute wrongly


def test_another_vision_language_model_is_refused_before_its_weights_are_read(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="model type llava is not supported; .*qwen2_vl, qwen2_5_vl, qwen3_vl"):
        load_model(tmp_path)


def test_a_tokenizer_larger_than_the_head_is_refused():
    with pytest.raises(ValueError, match="the tokenizer has 264 entries, the model's LM head only 200"):
        net = tiny.net("llama")
        net.resize_token_embeddings(200)
        VLM(net, tiny.tokenizer())
