"""A plan's parts against what a run really holds, counted tensor by tensor; and the command."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import FAMILIES, VISION, net
from torch.profiler import ProfilerActivity, profile

from minigrpo import Group, Policy, Sampling, generate, pack, rollout
from minigrpo.bench.flops import operations
from minigrpo.bench.ours import Ours
from minigrpo.bench.shape import shape_of
from minigrpo.bench.workload import WORKLOADS, build_folder
from minigrpo.optim import clip_and_step, make_optimizer
from minigrpo.plan.__main__ import GPUS, main
from minigrpo.plan.estimate import Load, activations, fits, largest_budget, memory, seconds
from minigrpo.ranks import Ranks
from minigrpo.replica import load_roles
from minigrpo.sections import Config, GrpoConfig, ModelConfig, OptimConfig, RolloutConfig

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared/data/qwen"
CPU = replace(GPUS["a100"], kind="cpu")


def config(checkpointing=False, budget=10**6, beta=0.04, **rollout) -> Config:
    return Config("", None, model=ModelConfig(gradient_checkpointing=checkpointing), grpo=GrpoConfig(beta=beta),
                  optim=OptimConfig(tokens_per_micro_batch=budget), rollout=RolloutConfig(**rollout))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of the benchmark's small model."""
    path = tmp_path_factory.mktemp("plan") / "model"
    build_folder(WORKLOADS["toy"], path)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_are_counted_as_the_model_has_them(family, tmp_path, monkeypatch):
    model = net(family, torch.float32)
    model.config.save_pretrained(tmp_path)
    shape = shape_of(str(tmp_path))
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    layers = shape.text.largest * shape.text.layers
    layers += shape.vision.largest * shape.vision.layers if family in VISION else 0
    assert shape.root == shape.parameters, "blocks as small as these are no units of their own"
    monkeypatch.setattr("minigrpo.bench.shape.UNIT", 0)
    assert shape_of(str(tmp_path)).root == shape.parameters - layers
    assert (shape.vision is not None) == (family in VISION)


def saved_bytes(policy: Policy, packed) -> int:
    """Bytes of all tensors that the backward pass of a forward keeps, each storage once, without weights and logits."""
    weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
    found = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if tensor.shape[-1:] != (policy.vlm.vocabulary,):  # which the plan counts in "head"
            found[storage.data_ptr()] = (storage.nbytes(), tensor)  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy(packed).logps.sum()
    return sum(size for address, (size, _) in found.items() if address not in weights)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(("image", "completion", "group"),
                         [((224, 168), 40, 6), ((448, 336), 10, 2), ((56, 56), 90, 8)])
def test_activations_are_those_that_the_backward_pass_keeps(folder, checkpointing, image, completion, group):
    workload = replace(WORKLOADS["toy"], group_size=group, completion=completion, image=image)
    model = ModelConfig(dtype="float32", gradient_checkpointing=checkpointing)
    policy, *_ = load_roles(str(folder), model, Ranks(), False)
    prompts = [policy.vlm.encode(sample) for sample in workload.samples(0)]
    drawn = [Group(p, [torch.arange(20, 20 + completion) for _ in range(group)]) for p in prompts]
    load = Load(1, 4, 2, workload.text_tokens, workload.image_tokens, workload.grid)
    run = config(checkpointing, group_size=group, max_new_tokens=completion)
    kept, recomputed = activations(shape_of(str(folder)), run, load, CPU)
    assert kept == pytest.approx(saved_bytes(policy.train(), pack(drawn)), rel=0.1)
    assert (recomputed > 0) == checkpointing


@pytest.mark.parametrize("frozen", [{"lora_rank": 4}, {"lora_rank": 4, "lora_targets": "q_proj,down_proj"},
                                    {"freeze_vision": True}], ids=str)
def test_what_is_frozen_keeps_less(folder, frozen):
    workload = replace(WORKLOADS["toy"], group_size=6, completion=40, image=(448, 336))
    model = ModelConfig(dtype="float32", **frozen)
    roles = load_roles(str(folder), model, Ranks(), True)
    policy = roles.policy
    prompts = [policy.vlm.encode(sample) for sample in workload.samples(0)]
    drawn = [Group(p, [torch.arange(20, 60) for _ in range(6)]) for p in prompts]
    load = Load(1, 4, 2, workload.text_tokens, workload.image_tokens, workload.grid)
    run, shape = replace(config(group_size=6, max_new_tokens=40), model=model), shape_of(str(folder))
    kept, _ = activations(shape, run, load, CPU)
    whole, _ = activations(shape, replace(run, model=ModelConfig()), load, CPU)
    assert kept < whole
    if "lora_targets" not in frozen:  # layers without an adapter need not keep their inputs: the plan counts them
        assert kept == pytest.approx(saved_bytes(policy.train(), pack(drawn)), rel=0.1)
    parts, trained = memory(shape, run, load, CPU), sum(p.nbytes for p in policy.parameters() if p.requires_grad)
    assert parts["weights"] == sum(p.nbytes for p in policy.parameters())
    assert (parts["gradients"], parts["Adam's averages"]) == (trained, 2 * trained)
    assert ("reference" in parts) == isinstance(roles.reference, Policy) == ("lora_rank" not in frozen)


def test_an_adapter_leaves_one_copy_of_the_weights_in_half_precision(folder):
    shape = shape_of(str(folder))
    run = replace(config(group_size=4, max_new_tokens=6, prompts_per_step=4), model=ModelConfig(lora_rank=4))
    one, two = (memory(shape, run, Load(n, 2, 4 // n, 20, 12, (6, 8)), GPUS["a100"]) for n in (1, 2))
    trained = one["gradients"] / 4
    assert one["weights"] == 2 * shape.parameters + 4 * trained
    assert not one.keys() & {"replica", "reference", "working weights"}
    assert two["weights"] == 2 * shape.parameters + 2 * trained and two["gradients"] == 2 * trained
    assert two["replica"] == 2 * shape.parameters + 4 * trained


def test_what_stays_and_the_cache_are_counted_to_the_byte(folder):
    ranks = Ranks()
    policy, replica, reference = load_roles(str(folder), ModelConfig(dtype="float32"), ranks, True)
    assert replica is policy.vlm
    load, run = Load(1, 4, 2, 20, 12, (6, 8)), config(group_size=4, max_new_tokens=6)
    parts = memory(shape_of(str(folder)), run, load, CPU)
    size = sum(p.nbytes for p in policy.parameters())
    optimizer = make_optimizer(policy, OptimConfig())
    for p in policy.parameters():
        p.grad = torch.ones_like(p)
    clip_and_step(optimizer, policy, 1e-3, 1.0)
    averages = [v for state in optimizer.state.values() for v in state.values() if v.dim()]
    assert (parts["weights"], parts["gradients"]) == (size, size) and "replica" not in parts
    assert parts["Adam's averages"] == sum(v.nbytes for v in averages)
    assert parts["reference"] == sum(p.nbytes for p in reference.parameters())

    kept, prompts = [], [replica.encode(sample) for sample in WORKLOADS["toy"].samples(0)]

    class Seen(rollout.KVCache):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            kept.append(self)

    replica.end_ids = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "KVCache", Seen)
        generate(replica, prompts, 4, Sampling(6))
    held = [t for layers in (kept[0].prompts, kept[0].own) for pair in layers.values() for t in pair]
    assert parts["KV cache"] == sum(t.nbytes for t in held)


@pytest.mark.parametrize("changes", [
    {}, {"beta": 0.0}, {"checkpointing": True}, {"completion": 200, "image": (112, 84)},
    {"completion": 20, "image": (560, 420)},
], ids=str)
def test_the_peak_is_that_of_a_whole_step(folder, changes):
    """Every tensor that a step allocates and frees, as the allocator reports it."""
    workload = replace(WORKLOADS["toy"], **{"group_size": 8, "completion": 100, "image": (448, 336)} | changes)
    side = Ours(workload, folder)
    side.step(0)  # makes the optimizer's averages
    stays = sum(p.nbytes for p in side.policy.parameters()) * 3
    stays += sum(p.nbytes for p in side.reference.parameters()) if side.reference else 0
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        side.step(1)
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    load = Load(1, 4, workload.prompts, workload.text_tokens, workload.image_tokens, workload.grid)
    run = config(workload.checkpointing, 8192, workload.beta, group_size=8, max_new_tokens=workload.completion)
    planned = memory(shape_of(str(folder)), run, load, CPU)["peak"]
    assert planned == pytest.approx(stays + max(itertools.accumulate(changes)), rel=0.12)


def test_ranks_share_what_is_sharded_and_half_precision_needs_a_replica(folder, monkeypatch):
    monkeypatch.setattr("minigrpo.bench.shape.UNIT", 0)
    shape, run = shape_of(str(folder)), config(group_size=4, max_new_tokens=6, prompts_per_step=4)
    one = memory(shape, run, Load(1, 2, 4, 20, 12, (6, 8)), GPUS["a100"])
    two = memory(shape, run, Load(2, 2, 2, 20, 12, (6, 8)), GPUS["a100"])
    for part in ("weights", "gradients", "Adam's averages"):
        assert two[part] == one[part] / 2
    assert two["reference"] == shape.parameters + shape.root, "of bfloat16: what FSDP does not spread again is whole"
    assert one["weights"] == 4 * shape.parameters and one["replica"] == two["replica"] == 2 * shape.parameters
    stays = sum(two[part] for part in ("weights", "gradients", "Adam's averages", "reference", "replica"))
    assert two["peak"] == pytest.approx(stays + two["activations"] + two["working weights"] + two["head"])
    assert "reference" not in memory(shape, config(beta=0.0), Load(1, 2, 4, 20, 12, (6, 8)), GPUS["a100"])


def test_offloaded_parts_are_in_host_memory_and_cost_their_way_there(folder):
    shape, load, run = shape_of(str(folder)), Load(2, 2, 2, 20, 12, (6, 8)), config(group_size=4, max_new_tokens=6)
    there = replace(run, model=replace(run.model, offload=True))
    whole, rest = (memory(shape, c, load, GPUS["a100"]) for c in (run, there))
    moved = ("weights", "gradients", "Adam's averages")
    assert rest["host"] == sum(whole[part] for part in moved) == 8 * shape.parameters
    assert rest["peak"] == pytest.approx(whole["peak"] - rest["host"]) and not rest.keys() & set(moved)
    split = replace(there, optim=OptimConfig(tokens_per_micro_batch=32 + 6))  # a prompt and one of its completions
    found = [seconds(shape, c, load, GPUS["a100"]) for c in (run, there, split)]
    link, updated = 2 * shape.parameters / 25e9, 28 * shape.parameters / 1e11
    assert "offload" not in found[0]
    assert found[1]["offload"] == pytest.approx(3 * link + updated)
    assert found[2]["offload"] == pytest.approx(3 * 8 * link + updated)


def test_a_smaller_budget_keeps_less_and_the_proposed_one_is_the_last_that_fits(folder):
    shape, load = shape_of(str(folder)), Load(1, 4, 64, 20, 12, (6, 8))
    run = config(group_size=8, max_new_tokens=64)
    kept = [sum(activations(shape, replace(run, optim=OptimConfig(tokens_per_micro_batch=n)), load, CPU))
            for n in (100, 600, 5000, 10**6)]
    assert kept == sorted(kept) and kept[0] < kept[1] < kept[2] < kept[3]
    room = replace(CPU, memory=2e8)
    budget = largest_budget(shape, run, load, room)

    def fitting(tokens: int) -> bool:
        return fits(memory(shape, replace(run, optim=OptimConfig(tokens_per_micro_batch=tokens)), load, room), room)

    assert budget > 1024 and fitting(budget) and not fitting(budget + 1024)
    assert largest_budget(shape, run, load, replace(CPU, memory=2e6)) == 0


def test_operations_are_those_of_the_benchmark(folder):
    workload = WORKLOADS["toy"]
    load = Load(1, 4, workload.prompts, workload.text_tokens, workload.image_tokens, workload.grid)
    run = config(group_size=workload.group_size, max_new_tokens=workload.completion)
    found = seconds(shape_of(str(folder)), run, load, replace(CPU, rate=1.0, rate_share=1.0, bandwidth=1e30))
    counted = operations(workload, shared=True)
    assert found["prefill"] + found["decode"] == counted["rollout"]
    assert all(found[part] == counted[part] for part in ("scoring", "update", "step"))
    again = seconds(shape_of(str(folder)), config(True, group_size=4, max_new_tokens=6), load, CPU)
    once = seconds(shape_of(str(folder)), config(group_size=4, max_new_tokens=6), load, CPU)
    assert again["update"] == pytest.approx(4 / 3 * once["update"])


def test_the_command_says_whether_it_fits(folder, capsys):
    words = ["--model", str(folder), "--image", "112x84", "--rollout.max_new_tokens", "6"]
    assert main([*words, "--memory", "8", "--gpus", "2"]) == 0
    said = capsys.readouterr().out
    assert "12 image and 110 text tokens" in said and "fits" in said and "refresh" in said
    large = ["--rollout.max_new_tokens", "2000", "--optim.tokens_per_micro_batch", "1000000"]
    assert main([*words, *large, "--memory", "1", "--machine", "h100"]) == 1
    assert "does not fit" in capsys.readouterr().out
    assert main([*words, "--machine", "here", "--model.dtype", "float32", "--image", "none"]) == 0
    assert "1 × this machine" in (said := capsys.readouterr().out) and " 0 image" in said


def test_a_model_without_eyes_gets_no_image(tmp_path, capsys):
    net("llama", torch.float32).config.save_pretrained(tmp_path)
    assert main(["--model", str(tmp_path)]) == 0
    assert "of 0 image and 110 text tokens" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "said"), [
    ([], "which model?"),
    (["--model", "nowhere/at/all"], "model folder nowhere/at/all does not exist"),
    (["--model", "{folder}", "--gpus", "20"], "leaves one of 20 ranks idle"),
    (["--model", "{folder}", "--rollout.group", "4"], "rollout.group"),
    (["--model", "{folder}", "--model.offload", "true"], "model.offload needs several ranks"),
])
def test_bad_options_are_one_line(folder, capsys, words, said):
    assert main([word.format(folder=folder) for word in words]) == 2
    found = capsys.readouterr().err
    assert said in found and found.count("\n") == 1


@pytest.mark.parametrize(("words", "said"), [(["--image", "wide"], "WIDTHxHEIGHT"), (["--gpus", "0"], "positive")])
def test_numbers_that_are_none_are_refused(words, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert said in capsys.readouterr().err


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real configurations of the shared data folder")
@pytest.mark.parametrize(("size", "millions"), [("3B", "3,754.6M"), ("7B", "8,292.2M")])
@pytest.mark.parametrize("image", ["640x480", "1120x896"])  # 391 and 1,280 tokens
def test_the_configurations_fit_their_two_gpus(size, millions, image, capsys):
    for config in sorted((ROOT / "mpcc/configs").glob(f"qwen2.5-vl-{size.lower()}-rft*.toml")):
        words = ["--gpus", "2", "--memory", "80", "--image", image, "--config", str(config)]
        assert main([*words, "--model", str(REAL / f"Qwen2.5-VL-{size}-Instruct")]) == 0
        assert f"{millions} parameters, bfloat16, 2 × A100" in capsys.readouterr().out


@pytest.mark.skipif(not REAL.is_dir(), reason="no configurations of real models")
def test_adapters_of_3b_fit_a_card_of_24_gb(capsys):
    words = ["--model", str(REAL / "Qwen2.5-VL-3B-Instruct"), "--memory", "24", "--model.lora_rank", "16",
             "--rollout.prompts_per_step", "4", "--rollout.max_new_tokens", "256"]
    assert main([*words, "--optim.tokens_per_micro_batch", "4096"]) == 0
    peak = float(re.search(r"peak +([\d.]+)", capsys.readouterr().out)[1])
    assert peak < 22
    assert main(words) == 1, "three groups in a micro-batch do not fit"
