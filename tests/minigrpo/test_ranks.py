"""One rank against two: the same completions, losses, gradients and weights, in every case where ranks can differ.

The cases run one after the other in two processes (gloo), and again in this one. In float64 both agree to rounding, so
that a gradient that is scaled, doubled or dropped on one rank shows. A hang is a failure: it runs into the timeout.
"""

import json
from pathlib import Path

import pytest
import tiny
import torch
import toy_task
from running import TIMED, launch, words
from running import lines as metrics
from safetensors.torch import load_file
from torch.distributed.fsdp import CPUOffloadPolicy

from minigrpo import Policy, ranks, replica
from minigrpo.batches import in_step
from minigrpo.ranks import Ranks
from minigrpo.sections import ModelConfig

EXACT, SINGLE = 1e-9, 2e-3  # float32 rounds at 6e-8, and Adam divides by the gradient's own size

COMMON = {"model.dtype": "float64", "rollout.prompts_per_step": 4, "rollout.group_size": 3, "rollout.max_new_tokens": 6,
          "grpo.beta": 0, "optim.lr": 1e-3, "optim.warmup": 0, "run.steps": 2, "task.images_every": 3}
UNEVEN = {"rollout.prompts_per_step": 3}
CASES = {
    "plain": {},
    "uneven": UNEVEN,
    "uneven-small-batches": UNEVEN | {"optim.tokens_per_micro_batch": 70},
    "one-by-one": UNEVEN | {"optim.tokens_per_micro_batch": 1},  # every completion apart from its prompt
    "flat-rank": {"rollout.prompts_per_step": 2, "task.prompts": 2, "task.flat_every": 2, "task.images_every": 0},
    "flat-image-rank": {"rollout.prompts_per_step": 2, "task.prompts": 2, "task.flat_every": 2, "task.images_every": 2},
    "all-flat": {"task.flat_every": 1},
    "images-on-one-rank": {"rollout.prompts_per_step": 2, "task.prompts": 2, "task.images_every": 2},
    "beta": UNEVEN | {"grpo.beta": 0.5, "grpo.updates_per_rollout": 2, "task.flat_every": 2},
    "two-updates": UNEVEN | {"grpo.updates_per_rollout": 2, "grpo.normalize": "sequence"},
    "checkpointing": UNEVEN | {"model.gradient_checkpointing": "true"},
    "reinforce": UNEVEN | {"grpo.objective": "reinforce", "grpo.normalize": "group", "grpo.beta": 0.1},
    "priors": UNEVEN | {"task.priors": "true", "grpo.prior_ratio": "shaped", "grpo.normalize": "constant"},
    "everything": UNEVEN | {"task.priors": "true", "task.flat_every": 4, "grpo.beta": 0.1,
                            "grpo.updates_per_rollout": 2, "model.gradient_checkpointing": "true",
                            "optim.tokens_per_micro_batch": 1},
    "one-unit": UNEVEN | {"grpo.beta": 0.1, "grpo.updates_per_rollout": 2, "optim.tokens_per_micro_batch": 70},
    "offload": UNEVEN | {"grpo.beta": 0.1, "grpo.updates_per_rollout": 2, "optim.tokens_per_micro_batch": 70},
    "gspo": UNEVEN | {"grpo.ratio": "sequence", "grpo.updates_per_rollout": 2, "grpo.scale": "batch",
                      "grpo.terms": "apart", "rollout.overlong": 3, "grpo.normalize": "sequence"},
    "entropies": UNEVEN | {"grpo.objective": "sapo", "grpo.top_entropy": 0.4, "grpo.entropy_bonus": 0.01,
                           "grpo.sampler_cap": 1.01, "task.flat_every": 2},
    "without-cut-off": UNEVEN | {"grpo.objective": "cispo", "grpo.drop_cut_off": "true", "grpo.beta": 0.1},
    "lora": UNEVEN | {"model.lora_rank": 2, "grpo.beta": 0.1, "grpo.updates_per_rollout": 2,
                      "optim.tokens_per_micro_batch": 1},
    "frozen-tower": UNEVEN | {"model.freeze_vision": "true", "task.images_every": 2},
    "float32": UNEVEN | {"model.dtype": "float32"},
    "bfloat16": UNEVEN | {"model.dtype": "bfloat16", "grpo.beta": 0.1},
    "qwen2_vl": {"rollout.prompts_per_step": 2, "task.prompts": 2, "task.images_every": 2},
    "qwen3_vl": {"rollout.prompts_per_step": 2, "task.prompts": 2, "task.images_every": 2},
    "llama": UNEVEN | {"task.images_every": 0},
}

SHARDED = {"offload": {"model.offload": "true"}}
"""Of the runs on two ranks alone."""

COMPARED = [name for name in CASES if name != "bfloat16"]  # which rounds too coarsely for equal draws


def case(name: str, where: Path, models: Path) -> tuple[list[str], int, int]:
    """Command line of a run, and `replica.UNIT` and `.BUCKET`: but for one case every block is a unit of FSDP, and the
    replica is refreshed in many gathers."""
    family = name if name in tiny.FAMILIES else "qwen2_5_vl"
    sharded = SHARDED.get(name, {}) if where.name == "2" else {}
    options = COMMON | CASES[name] | sharded | {"model.path": models / family, "run.dir": where / name,
                                      "task.record": where / name / "asked"}
    return words(options), *((replica.UNIT, replica.BUCKET) if name == "one-unit" else (0, 1000))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[int, Path]:
    """Folders of the runs, one per number of ranks."""
    base = tmp_path_factory.mktemp("ranks")
    for family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llama"):
        tiny.vlm(family, torch.float32).save(base / "models" / family)
    folders = {size: base / str(size) for size in (1, 2)}
    cases = base / "cases.json"
    cases.write_text(json.dumps([case(name, folders[2], base / "models") for name in CASES]), encoding="utf-8")
    two = launch(base, str(cases), program="tests/toy_task.py", timeout=300)
    assert two.returncode == 0, f"two ranks failed:\n{two.stderr[-4000:]}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = [case(name, folders[1], base / "models") for name in CASES]
    with pytest.MonkeyPatch.context() as patch:
        for replaced in ("minigrpo.log.draw_curves", "minigrpo.replica.UNIT", "minigrpo.replica.BUCKET"):
            patch.setattr(replaced, None)  # by run_cases; this puts it back
        toy_task.run_cases(alone)
    torch.set_num_threads(threads)
    return folders


def asked(folder: Path, size: int, per_step: int) -> dict[tuple[int, str], dict]:
    """What was rewarded, by (step, sample id), with the rank that did."""
    found = {}
    for rank in range(size):
        own = len(range(rank, per_step, size))
        lines = (folder / "asked" / f"{rank}.jsonl").read_text(encoding="utf-8").splitlines()
        for place, line in enumerate(map(json.loads, lines)):
            found[place // own, line["id"]] = line | {"rank": rank}
    return found


def pair(runs, name) -> tuple[dict, dict]:
    per_step = (COMMON | CASES[name])["rollout.prompts_per_step"]
    return tuple(asked(runs[size] / name, size, per_step) for size in (1, 2))


@pytest.mark.parametrize("name", COMPARED)
def test_the_same_completions_on_any_number_of_ranks(runs, name):
    one, two = pair(runs, name)
    assert one.keys() == two.keys()
    assert {call["rank"] for call in two.values()} == {0, 1}
    steps = {0} if name == "float32" else {0, 1}  # rounding may turn a draw once the weights have moved apart by 1e-7
    compared = [key for key in one if key[0] in steps]
    assert len(compared) == len(steps) * (COMMON | CASES[name])["rollout.prompts_per_step"]
    for key in compared:
        assert one[key]["texts"] == two[key]["texts"]


@pytest.mark.parametrize("name", COMPARED)
def test_the_same_loss_gradient_norm_and_metrics(runs, name):
    single = name == "float32"
    relative, absolute = (SINGLE, 1e-6) if single else (EXACT, 1e-12)
    one, two = (metrics(runs[size] / name) for size in (1, 2))
    assert len(one) == len(two) == 2
    for first, second in list(zip(one, two, strict=True))[: 1 if single else 2]:
        assert first.keys() == second.keys()
        for key in first.keys() - set(TIMED):
            if first[key] is None:  # a mean of nothing, such as the prior's where there is none
                assert second[key] is None, key
            else:
                assert second[key] == pytest.approx(first[key], rel=relative, abs=absolute), key


@pytest.mark.parametrize("name", [name for name in COMPARED if name != "float32"])  # see the draws above
def test_the_same_weights_after_two_steps(runs, name):
    one, two = (load_file(runs[size] / name / "model" / "model.safetensors") for size in (1, 2))
    assert one.keys() == two.keys()
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=EXACT, atol=1e-10, msg=lambda m, key=key: f"{key}: {m}")


@pytest.mark.parametrize("name", [name for name in CASES if name != "all-flat"])
def test_training_moved_the_weights(runs, name):
    family = name if name in tiny.FAMILIES else "qwen2_5_vl"
    start = load_file(runs[1].parent / "models" / family / "model.safetensors")
    trained = load_file(runs[2] / name / "model" / "model.safetensors")
    assert max(float((trained[key] - start[key].to(trained[key].dtype)).abs().max()) for key in start) > 5e-4


def test_a_step_without_any_variance_trains_nothing(runs):
    start = load_file(runs[1].parent / "models" / "qwen2_5_vl" / "model.safetensors")
    for size in (1, 2):
        for key, weight in load_file(runs[size] / "all-flat" / "model" / "model.safetensors").items():
            assert torch.equal(weight, start[key].double()), key
        assert [line["zero_variance"] for line in metrics(runs[size] / "all-flat")] == [1.0, 1.0]


def test_the_cases_are_what_they_are_called(runs):
    def by_rank(name, key):
        return [{call[key] for (step, _), call in pair(runs, name)[1].items() if step == 0 and call["rank"] == rank}
                for rank in (0, 1)]

    assert {frozenset(values) for values in by_rank("flat-rank", "flat")} == {frozenset({True}), frozenset({False})}
    for name in ("images-on-one-rank", "flat-image-rank", "qwen2_vl", "qwen3_vl"):
        assert {frozenset(values) for values in by_rank(name, "images")} == {frozenset({0}), frozenset({1})}, name
    assert metrics(runs[2] / "beta")[1]["kl"] > 1e-6
    assert metrics(runs[2] / "priors")[0]["logprob/prior"] < metrics(runs[2] / "priors")[0]["logprob/sampled"]


def test_micro_batches_and_checkpointing_change_nothing(runs):
    """Gradient accumulation: a different split of the same tokens is the same step."""
    plain = runs[1] / "uneven"
    for size in (1, 2):
        for name in ("uneven-small-batches", "one-by-one", "checkpointing"):
            for first, second in zip(metrics(plain), metrics(runs[size] / name), strict=True):
                for key in ("loss", "grad_norm", "entropy", "logprob/sampled"):
                    assert second[key] == pytest.approx(first[key], rel=EXACT), (size, name, key)
            one, two = (load_file(folder / "model" / "model.safetensors") for folder in (plain, runs[size] / name))
            for key, weight in one.items():
                torch.testing.assert_close(two[key], weight, rtol=EXACT, atol=1e-10)


def test_ranks_run_the_same_passes_and_each_of_theirs_once_in_order():
    assert list(in_step([[0, 3, 0], [2]], 0)) == [(2, None), (0, 0), (3, 1), (0, 2)]
    assert list(in_step([[0, 3, 0], [2]], 1)) == [(2, 0), (0, None), (3, None), (0, None)]
    assert list(in_step([[3, 2], [0, 0], []], 2)) == [(3, None), (2, None), (0, None), (0, None)]
    assert list(in_step([[0, 0, 4]], 0)) == [(0, 0), (0, 1), (4, 2)]
    assert not list(in_step([[], []], 0))


@pytest.mark.parametrize(("items", "size"), [(0, 2), (1, 2), (3, 2), (8, 2), (7, 3)])
def test_shares_cover_every_item_once_and_differ_by_one_at_most(items, size):
    shares = [Ranks(rank, size, torch.device("cpu")).share(range(items)) for rank in range(size)]
    assert sorted(i for own in shares for i in own) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("items", [0, 1, 3, 8])
def test_gather_undoes_share(items, monkeypatch):
    both = [Ranks(rank, 2) for rank in range(2)]
    shares = [one.share(range(items)) for one in both]
    monkeypatch.setattr(ranks.dist, "all_gather_object", lambda parts, own: parts.__setitem__(slice(None), shares))
    assert both[0].gather(shares[0]) == list(range(items))


def test_one_rank_needs_no_process_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    one = ranks.join("cpu")
    assert (one.rank, one.size, one.first) == (0, 1, True)
    assert not ranks.dist.is_initialized()
    assert one.sum([1.5, 2]) == [1.5, 2]
    assert one.gather([1, 2]) == [1, 2]


def test_one_rank_has_nothing_to_offload(tmp_path):
    one = Ranks(0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"model\.offload needs several ranks.*torchrun --nproc_per_node 2"):
        replica.load_roles(str(tmp_path), ModelConfig(offload=True), one, with_reference=False)


def test_offloaded_weights_are_kept_by_fsdp_in_host_memory(monkeypatch):
    model, seen = tiny.vlm("llama", torch.float32), []
    monkeypatch.setattr(replica, "UNIT", 0)
    monkeypatch.setattr(replica, "fully_shard", lambda module, **kept: seen.append(kept["offload_policy"]))
    for offload in (False, True):
        replica.shard(Policy(model), torch.float32, offload)
    half = len(seen) // 2
    assert half == len(model.decoder.layers) + 1
    assert not any(isinstance(policy, CPUOffloadPolicy) for policy in seen[:half])
    assert all(isinstance(policy, CPUOffloadPolicy) and not policy.pin_memory for policy in seen[half:])


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(ValueError, match="no GPU.*set run.device to cpu"):
        ranks.join("cuda")
