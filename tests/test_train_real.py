"""Real input: COCO images, and Qwen2.5-VL's own tokenizer, configuration and preprocessor settings."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image
from running import ROOT, SMALL, TIMED, launch, lines, same, words
from safetensors.torch import load_file, save_file
from small_coco import pair, pairs_file
from transformers import AutoConfig, AutoModelForImageTextToText

from minigrpo import Sample, load_model

DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not (DATA / "coco").is_dir() or not (DATA / "qwen").is_dir(),
                          reason="needs the real COCO images and Qwen files of the shared data folder")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """A model folder as Qwen2.5-VL is published, file for file and name for name, but 2 layers of width 64."""
    folder = tmp_path_factory.mktemp("qwen")
    sources = [*(DATA / "qwen" / "Qwen2.5-VL-tokenizer").iterdir(),
               DATA / "qwen" / "Qwen2.5-VL-3B-Instruct" / "preprocessor_config.json"]
    for path in sources:
        (folder / path.name).write_bytes(path.read_bytes())
    published = DATA / "qwen" / "Qwen2.5-VL-3B-Instruct" / "config.json"
    config = json.loads(published.read_text(encoding="utf-8"))
    config |= {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config["rope_scaling"]["mrope_section"] = [2, 3, 3]
    config["vision_config"] |= {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2,
                                "out_hidden_size": 64, "fullatt_block_indexes": [1]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    torch.manual_seed(0)
    net = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder))
    tensors = {name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value.contiguous()
               for name, value in net.state_dict().items() if name != "lm_head.weight"}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_folder_as_qwen_is_published_loads(qwen):
    vlm = load_model(qwen, max_pixels=50176)
    assert (len(vlm.tokenizer), vlm.vocabulary, vlm.end_ids) == (151665, 151936, [151643, 151645])
    assert torch.equal(vlm.net.lm_head.weight, load_file(qwen / "model.safetensors")["model.embed_tokens.weight"])
    width, height = Image.open(next((DATA / "coco" / "train2017").iterdir())).size
    prompt = vlm.encode(Sample("one", "Hello, world!", (tiny.image(width, height),)))
    assert 10 < len(prompt.image_positions) <= 50176 // 28**2
    assert len(prompt) == len(prompt.image_positions) + len(vlm.encode(Sample("two", "Hello, world!"))) + 2


def test_a_chat_template_in_its_own_json_file_is_read(qwen, tmp_path):
    for path in qwen.iterdir():
        (tmp_path / path.name).symlink_to(path)
    config = json.loads((qwen / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = config.pop("chat_template")
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert load_model(tmp_path).tokenizer.chat_template == template


def test_two_ranks_train_on_real_images_with_the_real_tokenizer_as_one_does(qwen, run, tmp_path):
    instances = json.loads((DATA / "coco" / "annotations" / "instances_train2017.json").read_text(encoding="utf-8"))
    names = {c["id"]: c["name"] for c in instances["categories"]}
    files = {i["id"]: i["file_name"] for i in instances["images"]}
    chosen = [a for a in instances["annotations"] if not a["iscrowd"] and min(a["bbox"][2:]) > 60][:12]
    records = [pair(file_name=files[a["image_id"]], bbox=a["bbox"], category_name=names[a["category_id"]],
                    cot_data="The things around it leave no other choice.") for a in chosen]
    options = SMALL | {"task.coco": DATA / "coco", "task.pairs": pairs_file(tmp_path / "pairs.json", *records),
                       "task.held_out": 3, "model.path": qwen, "model.max_pixels": 50176, "grpo.beta": 0.04,
                       "rollout.prompts_per_step": 3, "rollout.max_new_tokens": 24}
    ended = launch(tmp_path, *words(options | {"run.dir": "two"}))
    assert ended.returncode == 0, ended.stderr[-3000:]
    one = run("one", task="mpcc.task:MaskedPrediction", **{key.replace(".", "__"): v for key, v in options.items()})
    two = tmp_path / "two"
    first, again = lines(one)[0], lines(two)[0]
    assert first["prior_advantage"] > 1 and first["zero_variance"] == 0
    for key in first.keys() - set(TIMED) - {"kl"}:  # the kl of the first step is rounding noise around 0
        assert again[key] == pytest.approx(first[key], rel=1e-4, abs=1e-6), key
    assert load_model(two / "model").text_config.vocab_size == 151936
    assert not same(two / "model", qwen)
    assert (two / "curves.png").stat().st_size > 10_000
    assert ended.stderr == ""
