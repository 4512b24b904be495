"""The benchmark: what it counts is what happens, its sides compute the same thing, and its command says what it did."""

import mmap
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from minigrpo import pack
from minigrpo.bench import flops, memory
from minigrpo.bench.meter import Meter, matrix_rate
from minigrpo.bench.ours import Ours
from minigrpo.bench.plain import Plain
from minigrpo.bench.sides import Side
from minigrpo.bench.trl import load_processor
from minigrpo.bench.workload import MODELS, WORKLOADS, build_folder, with_image_tokens
from minigrpo.step import sample_groups

TOY = WORKLOADS["toy"]
SIDES = {"ours": Ours, "plain": Plain}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    build_folder(TOY, folder)
    return folder


def counting(nets):
    """Rows through the first decoder layer, the first vision block and the LM head of the models."""
    rows = Counter()

    def watch(name, module):
        def look(module, args, output):
            given = output[0] if isinstance(output, tuple) else output
            rows[name] += given.numel() // given.shape[-1]

        module.register_forward_hook(look)

    for net in nets:
        watch("language", net.model.language_model.layers[0])
        watch("patches", net.model.visual.blocks[0])
        watch("head", net.lm_head)
    return rows


@pytest.mark.parametrize("name", ["ours", "plain"])
def test_what_is_counted_is_what_goes_through_the_model(folder, name):
    side = SIDES[name](TOY, folder)
    policy, reference = (role.net if name == "ours" else role for role in (side.policy, side.reference))
    rows, seen = counting([policy, reference]), []
    phase = side.meter.phase
    side.meter.phase = lambda name: seen.append(dict(rows)) or rows.clear() or phase(name)
    side.step(0)
    seen.append(dict(rows))
    patches = TOY.grid[0] * TOY.grid[1]
    for found, (phase, work) in zip(seen[1:], flops.work(TOY, name == "ours").items(), strict=True):
        # plain transformers' LM head computes one row before the completion, too
        extra = TOY.sequences if name == "plain" and phase != "rollout" else 0
        assert found == {"language": work.language, "patches": patches * work.images, "head": work.head + extra}, phase


@pytest.mark.parametrize("image", [(112, 84), (280, 196)], ids=["one window", "six windows"])
def test_operations_are_those_that_torch_counts(folder, image):
    workload = replace(TOY, beta=0, image=image)
    side = Plain(workload, folder)
    inputs, pixels = side.encode(workload.samples(0))
    inputs = side.sample(inputs, pixels)
    side.policy.set_attn_implementation("eager")  # sees every pair, as the counter does
    rows = torch.arange(workload.sequences)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        side.logps(side.policy, inputs, pixels, rows)
    length = workload.prompt_tokens + workload.completion
    done = replace(flops.work(workload, shared=False)["scoring"], pairs=workload.sequences * length**2,
                   head=workload.sequences * (workload.completion + 1))
    assert counter.get_total_flops() == pytest.approx(flops.forward(TOY.shape, done, workload.grid), rel=0.002)


def test_pairs_are_those_of_the_masks():
    p, c, g = TOY.prompt_tokens, TOY.completion, TOY.group_size
    whole = torch.ones(p + c, p + c).tril()
    assert flops.work(TOY, shared=False)["update"].pairs == TOY.sequences * whole.sum()
    # once per group: the prompt without its last token; for each completion, rows from that token on
    packed = whole[: p - 1].sum() + g * whole[p - 1 : -1].sum()
    assert flops.work(TOY, shared=True)["update"].pairs == TOY.prompts * packed
    assert flops.operations(replace(TOY, beta=0), True)["scoring"] == 0


def test_both_sides_score_alike(folder):
    ours, plain = Ours(TOY, folder), Plain(TOY, folder)
    ours.policy.vlm.banned_ids = ours.policy.vlm.banned_ids[:0]  # plain transformers bans no token when it scores
    samples = TOY.samples(0)
    groups = sample_groups(ours.training, samples, 0)
    mine = ours.policy(pack(groups)).logps
    inputs, pixels = plain.encode(samples)
    drawn = torch.stack([c for group in groups for c in group.completions])
    inputs = {"input_ids": torch.cat([inputs["input_ids"], drawn], 1),
              "attention_mask": torch.cat([inputs["attention_mask"], drawn * 0 + 1], 1),
              "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], drawn * 0], 1)}
    theirs = plain.logps(plain.policy, inputs, pixels, torch.arange(TOY.sequences))
    assert (mine - theirs.flatten()).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["ours", "plain"])
def test_no_completion_ends_early_and_every_phase_is_measured(folder, name):
    side = SIDES[name](replace(TOY, micro_batch=4), folder)
    end = side.replica.tokenizer.eos_token_id if name == "ours" else side.tokenizer.eos_token_id
    before = [p.detach().clone() for p in side.policy.parameters()]
    net = side.policy.net if name == "ours" else side.policy

    def favour_the_end(module, args, logits):
        return logits.index_fill(-1, torch.tensor([end]), 100.0)

    handle = net.lm_head.register_forward_hook(favour_the_end)
    lengths = Counter()
    if name == "ours":
        lengths.update(len(c) for g in sample_groups(side.training, TOY.samples(0), 0) for c in g.completions)
        assert lengths == {TOY.completion: TOY.sequences}
    else:
        side.sample(*side.encode(TOY.samples(0)))  # raises where one is shorter
    handle.remove()
    found = side.step(0)
    assert set(found) == {"rollout", "scoring", "update", "step"}
    assert sum(found[phase]["seconds"] for phase in flops.PHASES) <= found["step"]["seconds"]
    assert found["step"]["peak_memory"] >= max(found[phase]["peak_memory"] for phase in flops.PHASES) > 1e8
    assert any(not torch.equal(a, b) for a, b in zip(before, side.policy.parameters(), strict=True))


def test_prompts_have_the_wanted_length_and_their_own_images(folder):
    side = Ours(TOY, folder)
    samples = [*TOY.samples(0), *TOY.samples(1)]
    prompts = [side.replica.encode(sample) for sample in samples]
    assert {len(p) for p in prompts} == {TOY.prompt_tokens}
    assert {len(p.image_positions) for p in prompts} == {TOY.image_tokens}
    assert len({sample.images[0].tobytes() for sample in samples}) == len({s.question for s in samples}) == 4


def test_the_reference_workloads_are_those_that_are_named():
    cpu, gpu = WORKLOADS["cpu"], WORKLOADS["gpu"]
    assert (cpu.image_tokens, cpu.prompt_tokens, cpu.sequences, cpu.tokens) == (300, 400, 16, 1024)
    assert (gpu.image_tokens, gpu.prompt_tokens, gpu.sequences, gpu.tokens) == (391, 501, 32, 8192)
    assert MODELS["gpu"]["text"]["vocab_size"] == 151936


@pytest.mark.parametrize("tokens", [12, 100, 300, 391, 600, 1200])
def test_an_image_has_the_wanted_tokens_and_is_no_strip(tokens):
    one = with_image_tokens(WORKLOADS["cpu"], tokens)
    width, height = one.image
    assert abs(one.image_tokens - tokens) <= 0.02 * tokens and 0.5 < width / height < 2.5


def test_micro_batches_fill_the_memory_and_no_more():
    cpu = WORKLOADS["cpu"]
    one, model = memory.bytes_of_sequence(cpu), 5 * 4 * cpu.shape.parameters
    assert memory.sequences_that_fit(cpu, free=1000 * one) == 16
    assert memory.sequences_that_fit(cpu, free=(8 * one + model) / memory.USED + 1) == 8
    assert memory.sequences_that_fit(cpu, free=(8 * one + model) / memory.USED - 1e6) == 4
    assert memory.sequences_that_fit(cpu, free=0) == 1
    assert memory.bytes_of_sequence(replace(cpu, checkpointing=True)) < one / 3


def test_a_peak_belongs_to_its_phase():
    meter = Meter("cpu")
    meter.begin()
    with meter.phase("rollout"), mmap.mmap(-1, 200_000_000) as pages:  # not malloc, which may keep what it frees
        for place in range(0, len(pages), mmap.PAGESIZE):
            pages[place] = 1
    for _ in range(2):
        with meter.phase("update"):
            torch.ones(10).sum()
    found = meter.end()
    assert found["rollout"]["peak_memory"] > found["update"]["peak_memory"] + 150e6
    assert found["step"]["peak_memory"] == found["rollout"]["peak_memory"]
    meter.begin()
    assert set(meter.end()) == {"step"}
    assert matrix_rate("cpu", "float32", 0.01) > 1e8


def test_a_decode_step_reads_weights_once_and_the_keys_and_values_in_use(folder, monkeypatch):
    monkeypatch.setattr("minigrpo.bench.meter.COPIED", {"cpu": 2**16})
    found = Ours(TOY, folder).decoding()
    layers, head = TOY.shape.text.weights, TOY.shape.vocabulary * TOY.shape.text.width
    hidden, width, count = 64, 2 * 16, 2  # width of the two key-value heads; layers
    vectors = count * (hidden + 2 * width + 2 * hidden)  # biases and norms
    rows = TOY.prompts * (TOY.prompt_tokens - 1) + TOY.sequences * (1 + TOY.completion) / 2
    assert found["bytes"] == 4 * (layers + head + vectors + count * 2 * width * rows)
    assert 0 < found["bare_seconds"] < found["seconds_per_token"] and found["memory_rate"] > 1e6


def test_shorter_prompts_keep_their_marks_in_front_of_the_completions_when_trl_pads_them(folder):
    processor, _ = load_processor(folder)
    pictures = [[sample.images[0]] for sample in TOY.samples(0)]
    marker = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    text = "<|vision_start|><|image_pad|><|vision_end|>"
    padded = processor(images=pictures, text=[text + " w1 w2 w3", text], padding=True, return_tensors="pt")
    assert padded["attention_mask"][:, -1].all() and not padded["attention_mask"].all()
    # TRL puts these marks over prompts that it pads on the left itself
    prompts = processor.tokenizer.pad({"input_ids": [ids[kept.bool()].tolist() for ids, kept in
                                                     zip(padded["input_ids"], padded["attention_mask"], strict=True)]},
                                      padding_side="left", return_tensors="pt")["input_ids"]
    assert torch.equal(padded["mm_token_type_ids"] == 1, prompts == marker)


@pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed")
def test_trl_makes_the_same_steps(folder):
    workload = replace(TOY, steps=1, micro_batch=4)
    with Side("trl", workload, folder) as side:
        assert side.facts["micro_batch"] == 4
        for _ in range(2):
            assert set(side.ask("step")) == {"rollout", "scoring", "update", "step"}
