"""The pipeline on real COCO images: two local models, one behind a real server, from annotations to a benchmark."""

import importlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import tiny
import torch
from running import ROOT

from mpcc.benchmark import category_names, read_benchmark
from mpcc.build.__main__ import main
from mpcc.build.store import STAGES, stage_path
from mpcc.prompts import QUESTION, SYSTEM_PROMPT

COCO = ROOT.parent / "shared" / "data" / "coco"
SCENES_MODEL = ROOT / "mpcc" / "scenes" / "model"
SERVER_NEEDS = ("openai", "fastapi", "uvicorn", "accelerate")
pytestmark = pytest.mark.skipif(not COCO.is_dir(), reason="needs the real COCO images of the shared data folder")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tiny_llava(folder, says):
    """A LLaVA of two layers that has learned to say one sentence: transformers serves it without torchvision.

    The served processor of Qwen2-VL and its kin has a video part that needs torchvision.
    """
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = tiny.tokenizer()
    text = LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, vocab_size=len(tokenizer), max_position_embeddings=4096,
                       bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
                       pad_token_id=tokenizer.pad_token_id)
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                              image_size=56, patch_size=28, projection_dim=32)
    config = LlavaConfig(vision_config=vision, text_config=text, vision_feature_layer=-1,
                         image_token_index=tokenizer.convert_tokens_to_ids("<|image_pad|>"))
    images = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor = LlavaProcessor(images, tokenizer, patch_size=28, vision_feature_select_strategy="default",
                               image_token="<|image_pad|>", num_additional_image_tokens=1,
                               chat_template=tokenizer.chat_template)
    torch.manual_seed(0)
    net = LlavaForConditionalGeneration(config)
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, user]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + says + "<|im_end|>"
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for step in range(50):
        inputs = processor(images=[tiny.image(80, 60, step)], text=[text], return_tensors="pt")
        labels = inputs["input_ids"].clone()
        labels[:, : -len(says) - 1] = -100  # the tokens are bytes
        net(**inputs, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    net.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`transformers serve` with a small model that sees images; gives its spec."""
    missing = [name for name in SERVER_NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"transformers serve needs {', '.join(missing)}")
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    tiny_llava(folder, "<answer>kite</answer>")
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(folder),
               "--port", str(port), "--host", "127.0.0.1", "--device", "cpu"]
    log = (folder / "log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.2)
        yield f"api:{folder}@http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        log.close()


@pytest.fixture
def local(tmp_path):
    """A second local model: random weights, so that its answers are no names."""
    tiny.vlm("qwen2_5_vl", torch.float32).save(tmp_path / "random")
    return str(tmp_path / "random")


def run(*words):
    return main([*map(str, words)])


def answers(out, name):
    (path,) = (out / "answers").glob(f"{name}.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def stage(out, number):
    return json.loads(next(Path(out).glob(f"{number}-*.json")).read_text(encoding="utf-8"))


def words(out, judge, *respondents):
    """A scripted judge, because tiny models rate nothing."""
    named = [word for who in respondents for word in ("--respondent", who)]
    return ["--coco", COCO, "--out", out, "--judge", judge, *named, "--max-new-tokens", 48, "--per-image", 1,
            "--min-area", 0.05]


def given(pairs):
    """What each pair's respondents contributed."""
    return [set(pair["confusing"]) - set(pair["filled"]) for pair in pairs]


def test_two_local_models_and_a_served_one_make_a_benchmark_that_is_scored(
    endpoint, local, server, tmp_path, capsys, monkeypatch, one_thread
):
    out = tmp_path / "out"
    options = words(out, endpoint.spec, f"local:{SCENES_MODEL}", f"local:{local}", server)
    assert run("all", *options) == 0, capsys.readouterr().err
    pairs = stage(out, 4)["pairs"]
    log = answers(out, "distractors-api-*")
    assert len(log) == len(pairs) >= 15
    assert sum(record["answer"] == "<answer>kite</answer>" for record in log) > len(log) / 2
    assert sum("kite" in names for names in given(pairs)) > len(pairs) / 2
    # the shipped model names what it knows from the scenes
    assert len(set.union(*given(pairs))) > 5
    names = category_names(COCO / "annotations" / "instances_val2017.json")
    assert len(read_benchmark(out / "benchmark.json", COCO / "val2017", names).items) >= 5
    capsys.readouterr()
    assert run("all", *options) == 0
    assert capsys.readouterr().out.count("already done") == 7
    scored = ["eval.py", "--benchmark", out / "benchmark.json", "--images", COCO / "val2017", "--out", out / "eval",
              "--mode", "base", "--no-blind", "--halves", "coco", "--rollout.max_new_tokens", 8]
    monkeypatch.setattr(sys, "argv", [str(word) for word in scored])
    importlib.import_module("eval").main()
    assert "Cho.E" in capsys.readouterr().out and (out / "eval/page.html").is_file()


DIES = """
import os, runpy, signal, sys
from mpcc.build.answers import AnswerLog
keep, replace, name = AnswerLog.keep, os.replace, sys.argv.pop(1)
def last_answer(log, *answer):
    keep(log, *answer)
    if name == "local" and "distractors-local" in log._journal.path.name and len(log.answers) == 20:
        os.kill(os.getpid(), signal.SIGKILL)
def last_file(source, target):
    if str(target).endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
AnswerLog.keep, os.replace = last_answer, last_file
runpy.run_module("mpcc.build", run_name="__main__")
"""
"""A child that dies at the moment at which a file called argv[1] would appear; "local": after 20 answers of a model."""


def test_killed_in_each_stage_and_while_a_local_model_answers(endpoint, tmp_path, capsys, one_thread):
    who = f"local:{SCENES_MODEL}"
    assert run("all", *words(tmp_path / "whole", endpoint.spec, who)) == 0
    out, before = tmp_path / "killed", []
    for name in (*(stage_path(out, stage).name for stage in STAGES[:3]), "local",
                 *(stage_path(out, stage).name for stage in STAGES[3:])):
        command = [sys.executable, "-c", DIES, name, "all", *map(str, words(out, endpoint.spec, who))]
        killed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (out / name).exists()
        if name == "local":
            before = answers(out, "distractors-local-*")
    assert run("all", *words(out, endpoint.spec, who)) == 0
    after = answers(out, "distractors-local-*")
    assert len(before) == 20 and after[:20] == before
    assert len({record["id"] for record in after}) == len(after) > 30
    for path in (tmp_path / "whole").glob("[!.]*.*"):
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


def test_real_candidates(tmp_path, capsys):
    assert run("candidates", "--coco", COCO, "--out", tmp_path / "out", "--per-image", 0) == 0
    content = stage(tmp_path / "out", 1)
    said = capsys.readouterr().out
    assert f"kept {len(content['pairs'])} of 469" in said and "dropped" in said and "crowd" in said
    assert len(content["pairs"]) + len(content["dropped"]) == 469
    assert {pair["truncated"] for pair in content["pairs"]} == {True, False}
    assert {pair["others_visible"] for pair in content["pairs"]} == {True, False}


def test_a_local_judge_alone_is_taken_as_it_is(tmp_path, capsys, one_thread):
    """The shipped model rates nothing: the screening ends with what it said, and no later stage invents anything."""
    options = ["--coco", COCO, "--out", tmp_path / "out", "--min-area", 0.2, "--max-new-tokens", 24]
    assert run("all", *options, "--respondent", f"local:{SCENES_MODEL}") == 1
    captured = capsys.readouterr()
    kept = len(stage(tmp_path / "out", 1)["pairs"])
    assert kept > 5 and not stage_path(tmp_path / "out", "screen").exists()
    assert f"screen: no pair is left ({kept} rating unreadable); about" in captured.err
