"""Adapters: the model they stand beside, their gradients, a run that trains them, and peft's format."""

import json
import os
import subprocess
import sys

import pytest
import tiny
import torch
from running import ROOT, lines, weights

from minigrpo import Policy, load_model, pack
from minigrpo.lora import (
    adapters,
    adapters_off,
    add_adapters,
    add_in,
    merged_state,
    pairs_of,
    read_adapter,
    save_adapter,
)

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LORA = {"model__lora_rank": 2, "model__lora_alpha": 4.0, "run__steps": 3, "optim__lr": 1e-2, "grpo__beta": 0.1}


def adapted(family="qwen2_5_vl", targets=ALL, rank=3, alpha=6.0, drawn=True):
    """A model with adapters, that say something where `drawn`."""
    vlm = tiny.vlm(family)
    add_adapters(vlm.net, vlm.decoder, targets, rank, alpha, seed=0)
    if drawn:
        for number, module in enumerate(adapters(vlm.net).values()):
            torch.nn.init.normal_(module.lora_B, std=0.05, generator=torch.Generator().manual_seed(number))
    return vlm


def scores(vlm):
    return Policy(vlm)(pack(tiny.groups(vlm))).logps


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_a_new_adapter_changes_no_bit_and_one_that_is_off_neither(family):
    bare = scores(tiny.vlm(family))
    assert torch.equal(scores(adapted(family, drawn=False)), bare)
    vlm = adapted(family)
    assert (scores(vlm) - bare).abs().max() > 0.01
    with adapters_off(vlm.net):
        assert torch.equal(scores(vlm), bare)
    assert (scores(vlm) - bare).abs().max() > 0.01


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_gradients_are_those_of_the_whole_weights_projected(family):
    """W' = W + s B A: dB = s dW' Aᵀ, dA = s Bᵀ dW'."""
    vlm, whole = adapted(family), tiny.vlm(family)
    whole.net.load_state_dict(merged_state(vlm.net))
    ours, theirs = scores(vlm), scores(whole)
    assert (ours - theirs).abs().max() < 1e-11
    weight = torch.linspace(-1, 1, len(ours), dtype=torch.float64)
    (ours * weight).sum().backward()
    (theirs * weight).sum().backward()
    of = dict(whole.net.named_modules())
    for name, module in adapters(vlm.net).items():
        full = of[name].weight.grad
        for found, expected in ((module.lora_B.grad, 2 * full @ module.lora_A.T),
                                (module.lora_A.grad, 2 * module.lora_B.T @ full)):
            assert (found - expected).abs().max() < 1e-10 * max(1.0, expected.abs().max()), name
            assert expected.abs().max() > 0
    assert len(adapters(vlm.net)) == 7 * len(vlm.decoder.layers)
    assert {n for n, p in vlm.net.named_parameters() if p.grad is not None} == {
        n for n, _ in vlm.net.named_parameters() if ".lora_" in n}


def test_only_what_is_named_gets_an_adapter_and_every_rank_draws_the_same():
    one, two = adapted(targets=["q_proj", "down_proj"]), adapted(targets=["q_proj", "down_proj"])
    assert {name.rpartition(".")[2] for name in adapters(one.net)} == {"q_proj", "down_proj"}
    assert all("language_model" in name for name in adapters(one.net))
    for a, b in zip(one.net.parameters(), two.net.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("options", "message"), [
    (dict(targets=["q_proj", "qkv"]), "model.lora_targets: no linear layer of the language model is called 'qkv', but"),
    (dict(rank=64), "model.lora_rank 64 is not below the smaller side of layers.0.self_attn"),
])
def test_impossible_adapters_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        adapted(**options)


# a run


@pytest.fixture
def trained(run):
    return run("trained", run__save_every=1, **LORA)


def test_a_run_trains_adapters_and_nothing_else(trained, models):
    steps, folder = lines(trained), trained / "model"
    assert steps[0]["kl"] == 0 and steps[-1]["kl"] > 1e-6, "the reference is the model without adapters"
    before, after = weights(models / "qwen2_5_vl"), weights(folder)
    assert before.keys() == after.keys()
    changed = {name.rpartition(".weight")[0].rpartition(".")[2] for name in before
               if not torch.equal(before[name], after[name])}
    assert changed == set(ALL)
    kept = sum(path.stat().st_size for path in (trained / "checkpoints/000003/weights").iterdir())
    assert kept < 0.7 * (folder / "model.safetensors").stat().st_size, "the frozen weights are in no checkpoint"


def test_model_checkpoint_and_adapter_are_the_same_model(trained):
    whole = load_model(trained / "model", dtype=torch.float32)
    for path in (trained / "model/adapter", trained / "checkpoints/000003"):
        other = load_model(path, dtype=torch.float32)
        for (name, a), b in zip(whole.net.named_parameters(), other.net.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("start", ["model/adapter", "checkpoints/000003", "model"])
def test_a_second_run_stands_on_the_first(trained, run, start):
    idle = run("idle", model__path=trained / start, **{**LORA, "run__steps": 0})
    second = run("second", model__path=trained / start, run__save_every=1, **LORA)
    for name, value in weights(trained / "model").items():
        torch.testing.assert_close(weights(idle / "model")[name], value, rtol=0, atol=1e-7)
    for path in (second / "checkpoints/000003", second / "model/adapter"):
        found = load_model(path, dtype=torch.float32).net.state_dict()
        for name, value in load_model(second / "model", dtype=torch.float32).net.state_dict().items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6)


def test_a_frozen_tower_stays_to_the_bit(run, models):
    folder = run("frozen", model__freeze_vision="true", run__steps=2, task__images_every=2, optim__lr=1e-2)
    before, after = weights(models / "qwen2_5_vl"), weights(folder / "model")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and not any("visual" in name for name in moved) and any("visual" in name for name in before)


# peft's format


def test_adapters_survive_peft_s_format(tmp_path):
    vlm = adapted()
    save_adapter(vlm.net, tmp_path / "adapter", "somewhere/base")
    other = tiny.vlm()
    read_adapter(tmp_path / "adapter", other.net)
    assert (scores(vlm) - scores(other)).abs().max() < 1e-11
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["base_model_name_or_path"]) == (3, 6.0, "somewhere/base")


PEFT = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base, adapter, out = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64), adapter).double()
torch.save(model(torch.arange(5, 15)[None]).logits, out)
"""


@pytest.mark.skipif("PEFT" not in os.environ, reason="PEFT names no folder that holds peft")
def test_peft_itself_reads_it(tmp_path):
    vlm = adapted("llama")
    with adapters_off(vlm.net):
        tiny.vlm("llama").save(tmp_path / "base")
    save_adapter(vlm.net, tmp_path / "adapter", str(tmp_path / "base"))
    subprocess.run([sys.executable, "-c", PEFT, tmp_path / "base", tmp_path / "adapter", tmp_path / "logits.pt"],
                   env=os.environ | {"PYTHONPATH": os.environ["PEFT"]}, cwd=ROOT, check=True)
    plain = tiny.plain("llama")
    plain.load_state_dict(merged_state(vlm.net))
    apart = torch.load(tmp_path / "logits.pt") - plain(torch.arange(5, 15)[None]).logits
    assert apart.abs().max() < 1e-5, "peft holds adapters in float32"


@pytest.mark.parametrize(("change", "message"), [
    ({"use_dora": True}, "adapter_config.json: use_dora is True; only plain LoRA is read"),
    ({"peft_type": "IA3"}, "peft_type is 'IA3'; only plain LoRA is read"),
    ({"r": 0}, "adapter_config.json: r is 0 and lora_alpha 6.0; both must be numbers above 0"),
    ({"lora_alpha": None}, "adapter_config.json: r is 3 and lora_alpha None; both must be numbers above 0"),
])
def test_other_kinds_of_adapters_are_refused(tmp_path, change, message):
    save_adapter(adapted().net, tmp_path / "adapter", "base")
    file = tmp_path / "adapter/adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        read_adapter(tmp_path / "adapter", tiny.vlm().net)


def test_adapters_of_another_model_are_refused():
    with pytest.raises(ValueError, match=r"an adapter is for a.b \[4, 5\], which the model does not have"):
        add_in(tiny.vlm().net, {"a.b": (torch.zeros(2, 5), torch.zeros(4, 2))}, 1.0)
    assert pairs_of({"x.a.lora_A.weight": 1, "x.a.lora_B.weight": 2, "x.b": 3}, "x.") == {"a": (1, 2)}
