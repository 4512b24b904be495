"""Export: transformers and this engine load it again with equal logits, and a half-written one never shows."""

import json
import os

import pytest
import tiny
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from minigrpo import generate, load_model
from minigrpo.export import export
from minigrpo.sampling import Sampling


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_transformers_loads_the_export_with_equal_logits(tmp_path, family):
    vlm = tiny.vlm(family, torch.float32, seed=3)
    folder = export(vlm, tmp_path / "model")
    auto = AutoModelForImageTextToText if family in tiny.VISION else AutoModelForCausalLM
    loaded, original = auto.from_pretrained(folder).eval(), tiny.net(family, torch.float32, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), original.parameters(), strict=True))
    inputs = tiny.plain_inputs(vlm, vlm.encode(tiny.samples(family in tiny.VISION)[0]))
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, original(**inputs).logits)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llama"])
def test_the_export_holds_no_pickle_and_no_trace_of_this_engine(tmp_path, family):
    folder = export(tiny.vlm(family, torch.float32), tmp_path / "model")
    files = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= files
    assert all(path.suffix in (".json", ".safetensors", ".jinja") for path in folder.iterdir()), files
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.json")]
    assert not any("minigrpo" in text for text in texts)  # the attention's name would keep others from loading it
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"] == family


def test_tokenizer_and_image_processor_load_again(tmp_path):
    vlm = tiny.vlm("qwen2_5_vl", torch.float32)
    folder = export(vlm, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Ünïcode <|im_start|> and text\n"
    assert tokenizer(text)["input_ids"] == vlm.tokenizer(text)["input_ids"]
    assert tokenizer.chat_template == vlm.tokenizer.chat_template and tokenizer.eos_token == "<|im_end|>"
    picture = tiny.image(100, 60)
    mine = vlm.image_processor(images=[picture], return_tensors="pt")
    theirs = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=[picture], return_tensors="pt")
    assert torch.equal(mine["pixel_values"], theirs["pixel_values"])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_load_model_gives_the_same_policy_back(tmp_path, family):
    vlm = tiny.vlm(family, torch.float32, seed=4)
    again = load_model(export(vlm, tmp_path / "model"))
    assert torch.equal(again.banned_ids, vlm.banned_ids) and again.end_ids == vlm.end_ids
    assert all(torch.equal(a, b) for a, b in zip(again.net.parameters(), vlm.net.parameters(), strict=True))
    for sample in tiny.samples(family in tiny.VISION):
        mine, theirs = vlm.encode(sample), again.encode(sample)
        assert torch.equal(mine.input_ids, theirs.input_ids) and torch.equal(mine.position_ids, theirs.position_ids)
        if mine.pixel_values is not None:
            assert torch.equal(mine.pixel_values, theirs.pixel_values)


def test_tied_weights_stay_tied(tmp_path):
    folder = export(tiny.vlm("qwen2_5_vl", torch.float32), tmp_path / "model")
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    again = load_model(folder)
    assert again.net.lm_head.weight is again.net.get_input_embeddings().weight


def test_half_precision_is_kept(tmp_path):
    folder = export(tiny.vlm("qwen3", torch.bfloat16), tmp_path / "model")
    assert {w.dtype for w in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    again = load_model(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in again.net.parameters()} == {torch.bfloat16}


def test_a_new_export_replaces_the_old_one_altogether(tmp_path):
    folder = export(tiny.vlm("qwen2_5_vl", torch.float32), tmp_path / "deep" / "model")
    second = tiny.vlm("llama", torch.float32)
    assert export(second, folder) == folder
    assert not (folder / "preprocessor_config.json").exists()
    assert all(torch.equal(a, b) for a, b in
               zip(load_model(folder).net.parameters(), second.net.parameters(), strict=True))
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def saved(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_export_that_fails_while_writing_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    folder = export(tiny.vlm("llama", torch.float32), tmp_path / "model")
    before, second = saved(folder), tiny.vlm("llama", torch.float32, seed=1)
    monkeypatch.setattr(second.tokenizer, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        export(second, folder)
    assert saved(folder) == before
    monkeypatch.undo()
    export(second, folder)  # what the failure left behind is no obstacle
    assert saved(folder) != before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_an_export_that_fails_while_replacing_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    folder = export(tiny.vlm("llama", torch.float32), tmp_path / "model")
    before, replace = saved(folder), os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: fail() if target == folder else replace(source, target))
    with pytest.raises(OSError, match="disk full"):
        export(tiny.vlm("llama", torch.float32, seed=1), folder)
    whole = [path for path in tmp_path.iterdir() if path.is_dir() and saved(path) == before]
    assert whole, "the old model is gone before the new one stands in its place"


def test_a_first_export_that_fails_leaves_no_model_folder(tmp_path, monkeypatch):
    vlm = tiny.vlm("llama", torch.float32)
    monkeypatch.setattr(vlm.tokenizer, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        export(vlm, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_the_generation_settings_of_a_model_change_nothing_in_training(tmp_path):
    """Temperature, penalties and top-k of a folder are ignored, its end tokens are not."""
    vlm = tiny.vlm("qwen2", torch.float64)
    prompts = [vlm.encode(tiny.samples(False)[0])]
    plain = generate(vlm, prompts, 4, Sampling(6), seed=1)
    folder = export(vlm, tmp_path / "model")
    settings = {"do_sample": True, "top_k": 1, "temperature": 0.01, "repetition_penalty": 5.0, "eos_token_id": [2, 0]}
    (folder / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    again = load_model(folder, dtype=torch.float64)
    assert again.end_ids == sorted({0, 2, *vlm.end_ids})
    changed = generate(again, prompts, 4, Sampling(6), seed=1)
    for mine, theirs in zip(plain[0].completions, changed[0].completions, strict=True):
        assert torch.equal(mine[: len(theirs)], theirs)
        assert len(theirs) == len(mine) or int(theirs[-1]) in (0, 2)


def fail(*args, **kwargs):
    raise OSError("disk full")


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_all_but_the_weights_of_the_source_is_kept_byte_for_byte(tmp_path, family):
    source = tmp_path / "source"
    tiny.vlm(family, torch.float32, seed=1).save(source)
    kept = {"config.json": json.dumps(json.loads((source / "config.json").read_text()) | {"own": 1}, indent=3),
            "chat_template.json": "{}", "merges.txt": "#version: 0.2\n", "README.md": "ours\r\n"}
    for name, text in kept.items():
        (source / name).write_bytes(text.encode())
    for name in ("pytorch_model.bin", "model.safetensors.index.json", ".hidden"):
        (source / name).write_bytes(b"{}")
    vlm = tiny.vlm(family, torch.float32, seed=2)
    folder = export(vlm, tmp_path / "model", source)
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.suffix != ".safetensors"}
    for name in ("pytorch_model.bin", "model.safetensors.index.json", ".hidden"):
        del files[name]
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix != ".safetensors"} == files
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert all(map(torch.equal, load_model(folder).net.parameters(), vlm.net.parameters()))


def test_the_source_may_be_the_very_folder_that_is_replaced(tmp_path):
    folder = export(tiny.vlm("llama", torch.float32), tmp_path / "model")
    before = saved(folder)
    export(tiny.vlm("llama", torch.float32, seed=1), folder, folder)
    after = saved(folder)
    assert before.keys() == after.keys()
    assert {name for name in before if before[name] != after[name]} == {"model.safetensors"}
