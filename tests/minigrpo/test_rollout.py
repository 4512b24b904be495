"""Rollouts: token for token what the plain model gives, whatever the batch, at the promised cost."""

import json
import math

import pytest
import tiny
import torch
from transformers import TopPLogitsWarper

from minigrpo import EncodedPrompt, Group, Policy, Sampling, generate, load_model, pack, rollout
from minigrpo.rollout import ROUND
from minigrpo.sampling import counter_key, draw, nucleus, uniform


def prompts_of(vlm):
    return [vlm.encode(s) for s in tiny.samples(vlm.has_vision)]


def banned_list(vlm):
    return vlm.banned_ids.tolist()


def one_by_one(plain, vlm, prompt, slot, sampling, seed=0, step=0):
    """The completion that the counters of this slot stand for, each token from a full plain forward."""
    key = torch.tensor([counter_key(seed, step, prompt.id, slot)])
    ids = torch.empty(0, dtype=torch.long)
    while len(ids) < sampling.max_new_tokens:
        dummy = torch.cat([ids, torch.zeros(1, dtype=torch.long)])
        logits = tiny.plain_logits(plain, vlm, prompt, dummy, sampling.temperature)[-1:]
        token, _ = draw(logits, uniform(key, len(ids) + 1)[:, -1])
        ids = torch.cat([ids, token])
        if int(token) in vlm.end_ids:
            break
    return ids


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_greedy_rollouts_are_those_of_generate(family):
    vlm, plain = tiny.rolling(family), tiny.plain(family, tied=False)
    sizes, lengths = [2, 0, 3], set()
    groups = generate(vlm, prompts_of(vlm), sizes, Sampling(14, 0.0))
    alone = generate(vlm, prompts_of(vlm)[1:2], 1, Sampling(14, 0.0))
    assert [len(g.completions) for g in groups] == sizes
    for group in [*groups, *alone]:
        prompt = group.prompt
        out = plain.generate(
            **tiny.plain_inputs(vlm, prompt), max_new_tokens=14, do_sample=False, suppress_tokens=banned_list(vlm),
            eos_token_id=vlm.end_ids, pad_token_id=0,
        )[0, len(prompt) :]
        assert all(torch.equal(c, out) for c in group.completions)
        assert all(f == (int(out[-1]) in tiny.ENDS) for f in group.finished)
        lengths.add(len(out))
    assert len(lengths) > 1, "every completion ran to the same length: nothing finished early"


@pytest.mark.parametrize("family", ["qwen3_vl", "llama"])
def test_prompts_of_one_token_only_have_nothing_to_prefill(family):
    vlm, plain = tiny.rolling(family), tiny.plain(family, tied=False)
    prompts = [EncodedPrompt(f"p{i}", torch.tensor([i + 65]), vlm._positions(torch.tensor([0]), None))
               for i in range(3)]
    for group in generate(vlm, prompts, [2, 1, 3], Sampling(9, 1.2)):
        for slot, completion in enumerate(group.completions):
            assert torch.equal(completion, one_by_one(plain, vlm, group.prompt, slot, Sampling(9, 1.2)))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llama"])
def test_penalty_and_nucleus_are_those_of_transformers(family):
    vlm, plain = tiny.rolling(family, end_ids={258}), tiny.plain(family, tied=False)
    prompts = prompts_of(vlm)
    greedy = generate(vlm, prompts, 1, Sampling(12, 0.0, repetition_penalty=1.4))
    free = generate(vlm, prompts, 1, Sampling(12, 0.0))
    for group in greedy:
        out = plain.generate(
            **tiny.plain_inputs(vlm, group.prompt), max_new_tokens=12, do_sample=False, repetition_penalty=1.4,
            suppress_tokens=banned_list(vlm), eos_token_id=vlm.end_ids, pad_token_id=0,
        )[0, len(group.prompt) :]
        assert torch.equal(group.completions[0], out)
    assert tiny.token_lists(greedy) != tiny.token_lists(free), "the penalty changed nothing"
    logits = torch.randn(5, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    kept = nucleus(logits, 0.8) > torch.finfo(logits.dtype).min
    theirs = TopPLogitsWarper(0.8)(None, logits.clone()) > float("-inf")
    assert torch.equal(kept, theirs) and 5 < kept.sum() < 200
    assert (nucleus(logits, 1e-9) > torch.finfo(logits.dtype).min).sum(-1).tolist() == [1] * 5


def test_the_nucleus_never_draws_what_lies_outside_of_it():
    vlm = tiny.rolling(end_ids={258})
    prompt = prompts_of(vlm)[1]
    first = generate(vlm, [prompt], 400, Sampling(1, 3.0, top_p=0.5))[0]
    logits = tiny.plain_logits(tiny.plain("qwen2_5_vl", tied=False), vlm, prompt, torch.zeros(1, dtype=torch.long), 3.0)
    inside = (nucleus(logits, 0.5)[0] > torch.finfo(logits.dtype).min).nonzero()[:, 0].tolist()
    drawn = {int(c[0]) for c in first.completions}
    assert drawn <= set(inside) and len(drawn) > 1


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_sampled_rollouts_are_those_of_the_plain_model_and_the_same_counters(family):
    vlm, plain = tiny.rolling(family), tiny.plain(family, tied=False)
    sampling = Sampling(9, 1.3)
    groups = generate(vlm, prompts_of(vlm), [4, 1, 3], sampling, seed=5, step=2)
    expected = [
        [one_by_one(plain, vlm, g.prompt, slot, sampling, 5, 2).tolist() for slot in range(len(g.completions))]
        for g in groups
    ]
    assert tiny.token_lists(groups) == expected
    assert len({len(c) for g in groups for c in g.completions}) > 2


def test_a_completion_does_not_depend_on_its_batch(monkeypatch):
    vlm = tiny.rolling()
    prompts, sampling = prompts_of(vlm), Sampling(12, 1.3)
    together = tiny.token_lists(generate(vlm, prompts, [3, 5, 2], sampling, seed=1))
    for i, size in enumerate([3, 5, 2]):
        assert tiny.token_lists(generate(vlm, [prompts[i]], size, sampling, seed=1)) == [together[i]]
    backwards = tiny.token_lists(generate(vlm, prompts[::-1], [2, 5, 3], sampling, seed=1))
    assert backwards == together[::-1]
    fewer = tiny.token_lists(generate(vlm, prompts, [2, 4, 1], sampling, seed=1))
    assert fewer == [group[:-1] for group in together]
    prefills = []
    vlm.net.model.visual.register_forward_hook(lambda *a: prefills.append(1))
    monkeypatch.setattr(rollout, "MAX_ROWS", 4)  # turns of 3, 5 and 2 completions
    assert tiny.token_lists(generate(vlm, prompts, [3, 5, 2], sampling, seed=1)) == together
    assert len(prefills) == 2, "two of the three turns have images"


def test_turns_take_prompts_in_order_up_to_the_limit(monkeypatch):
    monkeypatch.setattr(rollout, "MAX_ROWS", 4)
    assert rollout._turns([2, 2, 1, 0, 3, 9, 1]) == [[0, 1], [2, 3, 4], [5], [6]]
    assert rollout._turns([]) == []


def test_counters_decide_what_is_drawn():
    vlm = tiny.rolling()
    prompts = prompts_of(vlm)[:2]

    def texts(seed=0, step=0):
        return tiny.token_lists(generate(vlm, prompts, 4, Sampling(8, 1.5), seed=seed, step=step))

    assert texts() == texts()
    assert texts(seed=1) != texts() and texts(step=1) != texts() and texts(seed=1) != texts(step=1)
    first = texts()[0]
    assert len({tuple(c) for c in first}) > 1, "all slots drew the same"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_samplers_log_probabilities_are_the_scored_ones(family, temperature):
    vlm = tiny.rolling(family)
    groups = generate(vlm, prompts_of(vlm), [3, 1, 2], Sampling(20, temperature), seed=3)
    scored = Policy(vlm, temperature)(pack(groups)).logps
    logged = torch.cat([p for g in groups for p in g.sampler_logps])
    assert scored.shape == logged.shape
    assert (scored - logged).abs().max() < 5e-6  # both go through float32 norms, and are logged in float32
    assert (Policy(vlm, 1.2)(pack(groups)).logps - logged).abs().max() > 0.05


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_first_token_has_the_exact_distribution(temperature):
    vlm, plain, draws = tiny.rolling(end_ids={258}), tiny.plain("qwen2_5_vl", tied=False), 4000
    prompt = prompts_of(vlm)[0]
    groups = generate(vlm, [prompt], draws, Sampling(1, temperature), seed=11)
    p = tiny.plain_logits(plain, vlm, prompt, torch.tensor([0]), temperature)[0].softmax(-1)
    counts = torch.bincount(torch.cat(groups[0].completions), minlength=len(p)).double()
    assert not counts[vlm.banned_ids].any()
    common = p * draws >= 5  # the usual condition for a chi-square test; the rest is one bin
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = draws * torch.cat([p[common], p[~common].sum()[None]])
    chi_square, freedom = ((observed - expected) ** 2 / expected).sum(), len(observed) - 1
    assert freedom > 10
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5  # 4 standard deviations; the draw is fixed by its seed
    assert chi_square > freedom - 4 * (2 * freedom) ** 0.5


def test_completions_stop_at_any_end_token_and_are_scored_up_to_and_including_it():
    vlm = tiny.rolling()
    groups = generate(vlm, prompts_of(vlm), 12, Sampling(10, 1.5), seed=2)
    ends = set()
    for group in groups:
        for c, finished, logps in zip(group.completions, group.finished, group.sampler_logps, strict=True):
            assert not tiny.ENDS & set(c[:-1].tolist()) and 1 <= len(c) <= 10 and len(logps) == len(c)
            assert finished == (int(c[-1]) in tiny.ENDS) and (finished or len(c) == 10)
            ends |= tiny.ENDS & {int(c[-1])}
    assert len(ends) > 3 and {True, False} == {f for g in groups for f in g.finished}
    packed = pack(groups)
    assert packed.targets.tolist() == [t for g in groups for c in g.completions for t in c.tolist()]


def test_an_end_token_on_the_last_allowed_place_counts_as_finished():
    vlm = tiny.rolling(end_ids=range(264))
    groups = generate(vlm, prompts_of(vlm), 4, Sampling(1), seed=0)
    assert all(g.finished == [True] * 4 and all(len(c) == 1 for c in g.completions) for g in groups)


def test_stopping_is_trained_where_pad_is_the_end_token():
    vlm = tiny.vlm("llama")
    vlm.tokenizer.pad_token = vlm.tokenizer.eos_token
    vlm.net.config.pad_token_id = vlm.tokenizer.eos_token_id
    prompt = vlm.encode(tiny.samples(False)[0])
    packed = pack([Group(prompt, [vlm.encode_completion("ab"), vlm.encode_completion("c")])])
    assert packed.lengths.tolist() == [3, 2] and packed.targets[[2, 4]].tolist() == [vlm.tokenizer.eos_token_id] * 2
    logps = Policy(vlm)(packed).logps
    assert len(logps) == 5
    logps[[2, 4]].sum().backward()
    assert vlm.net.lm_head.weight.grad[vlm.tokenizer.eos_token_id].abs().max() > 1e-3


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_banned_ids_are_never_drawn_however_large_their_logits(temperature):
    vlm = tiny.rolling()
    expected = tiny.token_lists(generate(vlm, prompts_of(vlm), 3, Sampling(8, temperature), seed=4))
    vlm.net.lm_head.register_forward_hook(lambda m, args, out: out + 1e4 * tiny.banned(vlm))
    groups = generate(vlm, prompts_of(vlm), 3, Sampling(8, temperature), seed=4)
    assert tiny.token_lists(groups) == expected
    drawn = torch.cat([c for g in groups for c in g.completions])
    assert not torch.isin(drawn, vlm.banned_ids).any()
    assert all(p.isfinite().all() for g in groups for p in g.sampler_logps)


def test_the_folders_generation_settings_change_nothing_but_the_end_tokens(tmp_path):
    plain, configured = tmp_path / "plain", tmp_path / "configured"
    for folder in (plain, configured):
        tiny.vlm("qwen2_5_vl", torch.float32).save(folder)
    settings = {"do_sample": True, "temperature": 0.01, "top_k": 1, "top_p": 0.01, "repetition_penalty": 5.0,
                "max_new_tokens": 2, "suppress_tokens": [1, 2], "eos_token_id": [258, 256, 40]}
    (configured / "generation_config.json").write_text(json.dumps(settings))
    a, b = load_model(plain), load_model(configured)
    assert a.end_ids == [258] and b.end_ids == [40, 256, 258]
    b.end_ids = a.end_ids
    drawn = [generate(v, prompts_of(v), 3, Sampling(12), seed=6) for v in (a, b)]
    assert tiny.token_lists(drawn[0]) == tiny.token_lists(drawn[1])
    assert len({tuple(c) for group in tiny.token_lists(drawn[0]) for c in group}) > 3


def test_rollouts_of_a_model_in_training_with_gradient_checkpointing():
    vlm = tiny.rolling()
    expected = tiny.token_lists(generate(vlm, prompts_of(vlm), 3, Sampling(8), seed=7))
    assert not vlm.net.training
    vlm.net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    vlm.net.train()
    modes = set()
    vlm.decoder.register_forward_pre_hook(lambda m, args: modes.update(x.training for x in vlm.net.modules()))
    assert tiny.token_lists(generate(vlm, prompts_of(vlm), 3, Sampling(8), seed=7)) == expected
    assert modes == {False}, "rollouts run in eval mode"
    assert vlm.net.training and all(m.training for m in vlm.net.modules())
    vlm.net.lm_head.register_forward_hook(lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        generate(vlm, prompts_of(vlm), 3, Sampling(8))
    assert vlm.net.training, "training mode must come back after an error, too"


def test_what_is_returned_can_be_used_in_autograd():
    vlm = tiny.rolling()
    groups = generate(vlm, prompts_of(vlm), 2, Sampling(4))
    logged = torch.cat([p for g in groups for p in g.sampler_logps])
    returned = [t for g in groups for t in (*g.completions, *g.sampler_logps)]
    assert not any(t.requires_grad or t.is_inference() for t in returned), "inference tensors break autograd later"
    ((Policy(vlm)(pack(groups)).logps - logged).exp() * logged).sum().backward()
    assert all(p.grad is not None for p in vlm.decoder.parameters())


def test_another_number_of_sizes_than_prompts_is_refused():
    vlm = tiny.rolling()
    with pytest.raises(ValueError, match="2 group sizes for 3 prompts"):
        generate(vlm, prompts_of(vlm), [1, 2], Sampling(4))
    assert generate(vlm, [], 3, Sampling(4)) == []


@pytest.mark.parametrize("size", [1, 8])
def test_prompts_are_prefilled_once_and_finished_completions_stop_costing(size):
    vlm = tiny.rolling()
    tokens, patches, heads = [], [], []
    vlm.decoder.layers[0].register_forward_pre_hook(lambda m, args: tokens.append(args[0].shape[1]))
    vlm.net.model.visual.register_forward_pre_hook(lambda m, args: patches.append(len(args[0])))
    vlm.net.lm_head.register_forward_pre_hook(lambda m, args: heads.append(args[0].shape[:-1].numel()))
    prompts = prompts_of(vlm)
    groups = generate(vlm, prompts, size, Sampling(30, 1.5), seed=8)
    lengths = torch.tensor([len(c) for g in groups for c in g.completions])
    live = [int((lengths > t).sum()) for t in range(int(lengths.max()))]
    rows = [min(len(lengths), math.ceil(n / ROUND) * ROUND) for n in live]
    assert rows[-1] < rows[0] or size == 1
    assert tokens == [sum(len(p) - 1 for p in prompts), *rows]
    assert heads == rows
    assert patches == [sum(len(p.pixel_values) for p in prompts if p.pixel_values is not None)]
