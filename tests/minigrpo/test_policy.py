"""Scoring: the numbers of the plain model, at the promised cost and within the promised memory."""

from dataclasses import replace

import pytest
import tiny
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from minigrpo import EncodedPrompt, Group, Policy, micro_batches, pack, policy
from minigrpo.prefix import with_prompts

EAGER = 1e-5  # transformers' norms and eager softmax go through float32, and log-probabilities here are about 10
VOCABULARY = tiny.PADDED_VOCABULARY


def token_weights(n):
    """Weights of mixed sign, so that no error cancels in a sum."""
    return torch.linspace(-1.0, 1.5, n, dtype=torch.float64)


def assert_same_gradients(net, reference, tolerance):
    """Every parameter: relative to its largest gradient, and a gradient where the reference has one."""
    for (name, ours), theirs in zip(net.named_parameters(), reference.parameters(), strict=True):
        assert theirs.grad is not None and ours.grad is not None, name
        error = (ours.grad - theirs.grad).abs().max() / theirs.grad.abs().max().clamp_min(1e-12)
        assert error < tolerance, f"{name}: {error:.1e}"


def exact_pair(family):
    """The engine's model and the plain one, with norms and attention wholly in float64."""
    vlm = tiny.vlm(family)
    tiny.exact(vlm.net)
    return vlm, tiny.exact(tiny.plain(family, attention="sdpa"))


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_scores_and_gradients_equal_the_plain_models(family):
    vlm, plain = tiny.vlm(family), tiny.plain(family)
    groups = tiny.groups(vlm)
    ours, theirs = Policy(vlm)(pack(groups)).logps, tiny.plain_logps(plain, vlm, groups)
    assert (ours - theirs).abs().max() < EAGER
    (ours * token_weights(27)).sum().backward()
    (theirs * token_weights(27)).sum().backward()
    assert_same_gradients(vlm.net, plain, 1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_scores_and_gradients_are_equal_to_rounding_where_nothing_goes_through_float32(family, temperature):
    vlm, plain = exact_pair(family)
    groups = tiny.groups(vlm)
    # the vision towers rotate in float32 in both models, where a last bit may fall either way
    tolerance = 1e-7 if vlm.has_vision else 1e-11
    out, theirs = Policy(vlm, temperature)(pack(groups)), tiny.plain_logps(plain, vlm, groups, temperature)
    assert (out.logps - theirs).abs().max() < tolerance
    (out.logps * token_weights(27)).sum().backward()
    (theirs * token_weights(27)).sum().backward()
    assert_same_gradients(vlm.net, plain, 10 * tolerance)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llama"])
def test_scores_equal_the_plain_models_in_float32(family):
    vlm, plain = tiny.vlm(family, torch.float32), tiny.plain(family, torch.float32)
    groups = tiny.groups(vlm)
    ours, theirs = Policy(vlm)(pack(groups)).logps, tiny.plain_logps(plain, vlm, groups)
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < 1e-4  # log-probabilities of about 10, two layers of float32


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_entropy_is_that_of_the_exact_distribution_and_has_no_gradient(temperature):
    vlm, plain = exact_pair("qwen3")
    groups = tiny.groups(vlm)
    out = Policy(vlm, temperature)(pack(groups))
    rows = [tiny.plain_logits(plain, vlm, g.prompt, c, temperature) for g in groups for c in g.completions]
    exact = torch.distributions.Categorical(logits=torch.cat(rows)[:, ~tiny.banned(vlm)]).entropy()
    assert torch.allclose(out.entropy, exact, rtol=0, atol=1e-11)
    assert out.logps.requires_grad and not out.entropy.requires_grad
    bare = Policy(vlm, temperature)(pack(groups), with_entropy=False)
    assert bare.entropy is None and torch.equal(bare.logps, out.logps)


def test_where_a_bonus_wants_it_the_entropy_has_its_gradient(monkeypatch):
    vlm, plain = exact_pair("llama")
    groups = tiny.groups(vlm)
    rows = [tiny.plain_logits(plain, vlm, g.prompt, c, 0.7) for g in groups for c in g.completions]
    exact = torch.distributions.Categorical(logits=torch.cat(rows)[:, ~tiny.banned(vlm)]).entropy()
    (exact * token_weights(27)).sum().backward()
    monkeypatch.setattr(policy, "HEAD_ELEMENTS", {"cpu": 9 * VOCABULARY})  # three chunks, two computed anew
    ours = Policy(vlm, 0.7)
    ours.entropy_gradient = True
    out = ours(pack(groups))
    assert torch.allclose(out.entropy, exact, rtol=0, atol=1e-11)
    (out.entropy * token_weights(27)).sum().backward()
    assert_same_gradients(vlm.net, plain, 1e-10)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_gradient_checkpointing_changes_nothing(family):
    plain, checkpointed = tiny.vlm(family), tiny.vlm(family)
    checkpointed.net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    calls = []
    checkpointed.decoder.layers[0].self_attn.register_forward_pre_hook(lambda *a: calls.append(1))
    for vlm in (plain, checkpointed):
        out = Policy(vlm).train()(pack(tiny.groups(vlm)))
        (out.logps * token_weights(27)).sum().backward()
    assert len(calls) == 2, "checkpointing was not active"
    assert_same_gradients(checkpointed.net, plain.net, 1e-12)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_groups_in_parts_have_the_same_gradient_with_each_prompt_computed_once(family, checkpointing):
    whole, split = exact_pair(family)[0], exact_pair(family)[0]
    if checkpointing:
        split.net.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    groups = tiny.groups(whole, [(3, 7, 1), (5,), (14, 19, 12, 16)])
    weights = token_weights(77)
    logps = Policy(whole)(pack(groups)).logps
    (logps * weights).sum().backward()
    batches = micro_batches(groups, len(groups[0].prompt) + 8)
    assert [b.lengths.tolist() for b in batches][:3] == [[3], [7, 1], [5]]
    assert len({id(b.prompt) for b in batches[3:]}) == 1 < len(batches[3:])
    seen, pictures = [], []
    split.decoder.register_forward_hook(lambda m, args, out: seen.append(out.last_hidden_state.shape[1]))
    if split.has_vision:
        split.net.model.visual.register_forward_hook(lambda m, args, out: pictures.append(1))
    policy, parts = Policy(split).train(checkpointing), []
    for (batch, kept), own in zip(with_prompts(policy, batches), weights.split([len(b.targets) for b in batches]),
                                  strict=True):
        parts.append(policy(batch, kept=kept).logps)
        (parts[-1] * own).sum().backward()
    assert (torch.cat(parts) - logps).abs().max() < 1e-11
    assert_same_gradients(split.net, whole.net, 1e-9)
    first, middle, last = (len(g.prompt) - 1 for g in groups)
    assert seen == [first, 3, 8, middle + 5, last, *(len(b.targets) for b in batches[3:])]
    assert len(pictures) == (2 if split.has_vision else 0), "once for each group with a picture"


def test_memory_does_not_grow_with_the_parts_of_a_group():
    """What autograd keeps at one time, in bytes; all of it is let go in the end."""
    kept, peaks = [0], []

    class Saved:
        def __init__(self, tensor):
            self.tensor = tensor
            kept[0] += tensor.nbytes
            peaks[-1] = max(peaks[-1], kept[0])

        def __del__(self):
            kept[0] -= self.tensor.nbytes

    for size in (2, 16):
        vlm = tiny.vlm()
        policy, group = Policy(vlm), tiny.groups(vlm, [(6,) * size, (1,), (1,)])[0]
        peaks.append(0)
        with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
            for batch, prompt in with_prompts(policy, micro_batches([group], len(group.prompt) + 6)):
                policy(batch, kept=prompt).logps.sum().backward()
        assert kept[0] == 0
    assert peaks[0] == peaks[1] > 0


@pytest.mark.parametrize("family", tiny.VISION)
def test_a_rank_without_images_runs_the_tower_and_changes_nothing(family):
    with_tower, without = tiny.vlm(family), tiny.vlm(family)
    packed = pack(tiny.groups(without, images=False))
    a, b = Policy(with_tower)(replace(packed, blank_image=True)), Policy(without)(packed)
    assert torch.equal(a.logps, b.logps) and torch.equal(a.entropy, b.entropy)
    a.logps.sum().backward()
    b.logps.sum().backward()
    tower = dict(with_tower.net.model.visual.named_parameters())
    unused = {n for n, p in tower.items() if p.grad is None}
    assert not unused, f"no gradient, so FSDP would wait for it: {unused}"
    assert not any(p.grad.any() for p in tower.values())
    assert all(p.grad is None for p in without.net.model.visual.parameters())
    assert_same_gradients(with_tower.decoder, without.decoder, 1e-12)


@pytest.mark.parametrize("family", tiny.VISION)
def test_images_matter_and_stay_with_their_prompt(family):
    vlm = tiny.vlm(family)
    groups = tiny.groups(vlm)
    before = Policy(vlm)(pack(groups)).logps
    two = groups[2].prompt
    pixels = two.pixel_values.clone()
    pixels[-1] += 1
    changed = EncodedPrompt(two.id, two.input_ids, two.position_ids, pixels, two.image_grid_thw, two.image_positions)
    after = Policy(vlm)(pack([*groups[:2], Group(changed, groups[2].completions)])).logps
    moved = (after - before).abs()
    assert moved[:16].max() < 1e-6 and moved[16:].min() > 1e-6


def test_banned_ids_get_no_probability_however_large_their_logits():
    vlm, plain = exact_pair("qwen2_5_vl")
    groups = tiny.groups(vlm)
    expected = tiny.plain_logps(plain, vlm, groups)
    vlm.net.lm_head.register_forward_hook(lambda m, args, out: out + 1e4 * tiny.banned(vlm))
    out = Policy(vlm)(pack(groups))
    assert (out.logps - expected).abs().max() < 1e-7
    assert out.entropy.isfinite().all() and (out.entropy >= 0).all()
    special = Group(groups[1].prompt, [torch.tensor([vlm.net.config.image_token_id])])
    assert Policy(vlm)(pack([special])).logps.item() < -1e30


def test_a_sequence_is_its_reasoning_and_its_answer():
    """MPCC Eq. 1: log p(y | x) = log p(y_r | x) + log p(o | x, y_r)."""
    vlm, _ = exact_pair("qwen2_5_vl")
    prompt = vlm.encode(tiny.samples()[0])
    reasoning, answer = vlm.tokenizer("<think>a</think>")["input_ids"], vlm.encode_completion("<answer>b</answer>")
    reasoning = torch.tensor(reasoning)
    whole = pack([Group(prompt, [torch.cat([reasoning, answer])])])
    positions = prompt.position_ids[:, -1:] + torch.arange(1, len(reasoning) + 1)
    longer = EncodedPrompt(
        "longer", torch.cat([prompt.input_ids, reasoning]), torch.cat([prompt.position_ids, positions], dim=1),
        prompt.pixel_values, prompt.image_grid_thw, prompt.image_positions,
    )
    parts = [pack([Group(prompt, [reasoning])]), pack([Group(longer, [answer])])]
    total, *partial = [b.per_completion(Policy(vlm)(b).logps).item() for b in (whole, *parts)]
    assert abs(total - sum(partial)) < 1e-7 and min(abs(p) for p in partial) > 1


# Cost


def test_each_token_image_and_completion_row_is_computed_once_whatever_the_group_size(monkeypatch):
    vlm = tiny.vlm("qwen2_5_vl")
    tokens, patches, heads, states = [], [], [], []
    vlm.decoder.layers[0].register_forward_pre_hook(lambda m, args: tokens.append(args[0].shape[1]))
    vlm.net.model.visual.register_forward_pre_hook(lambda m, args: patches.append(len(args[0])))
    vlm.net.lm_head.register_forward_pre_hook(lambda m, args: heads.append(args[0]))
    vlm.decoder.register_forward_hook(lambda m, args, out: states.append(out.last_hidden_state[0]))
    for lengths in [((4,), (4,), (4,)), ((4,) * 8, (4,) * 8, (4,) * 8)]:
        for seen in (tokens, patches, heads, states):
            seen.clear()
        groups = tiny.groups(vlm, lengths)
        packed = pack(groups)
        Policy(vlm)(packed).logps.sum().backward()
        prompts = sum(len(g.prompt) - 1 for g in groups)
        completions = sum(map(sum, lengths))
        assert tokens == [prompts + completions]
        assert patches == [sum(len(g.prompt.pixel_values) for g in groups if g.prompt.pixel_values is not None)]
        assert [len(h) for h in heads] == [completions], "one chunk is not computed again in backward"
        assert all(torch.equal(h, states[0][packed.rows]) for h in heads), "the head saw something else"
    monkeypatch.setattr(policy, "HEAD_ELEMENTS", {"cpu": completions // 3 * VOCABULARY})
    heads.clear()
    Policy(vlm)(packed).logps.sum().backward()
    assert [len(h) for h in heads] == [completions // 3] * 5, "three chunks, and all but the last once more in backward"


class WatchLogits(TorchDispatchMode):
    """Records every tensor with a vocabulary dimension that any operation makes, weights left out."""

    def __init__(self, width):
        super().__init__()
        self.width, self.rows, self.storages = width, [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(t, torch.Tensor) and VOCABULARY in t.shape and self.width not in t.shape:
                self.rows.append(t.numel() // VOCABULARY)
                self.storages.append(StorageWeakRef(t.untyped_storage()))
        return out


def test_only_the_last_chunk_of_tokens_by_vocabulary_outlives_the_forward_pass(monkeypatch):
    vlm = tiny.vlm("qwen2_5_vl")
    packed = pack(tiny.groups(vlm))
    whole = Policy(vlm)(packed)
    monkeypatch.setattr(policy, "HEAD_ELEMENTS", {"cpu": 5 * VOCABULARY + 1})
    saved = []

    def keep(t):
        saved.append((t.shape, t.data_ptr()))
        return t

    with WatchLogits(width=64) as watch, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = Policy(vlm)(packed)
        logits = [s for s, rows in zip(watch.storages, watch.rows, strict=True) if rows > 1]
        kept = [rows for s, rows in zip(watch.storages, watch.rows, strict=True) if not s.expired()]
        assert len(logits) > 6 and sum(kept) <= 2 * 5, "logits of more than the last chunk live on after forward"
        out.logps.sum().backward()
    assert max(watch.rows) == 5, "a chunk has more rows than allowed"
    wide = {address: shape for shape, address in saved if VOCABULARY in shape and 64 not in shape}
    assert len(saved) > 9 and len(wide) == 1 and next(iter(wide.values()))[0] <= 5
    assert torch.allclose(out.logps, whole.logps, rtol=0, atol=1e-12)
    assert torch.allclose(out.entropy, whole.entropy, rtol=0, atol=1e-12)


def test_a_head_wider_than_a_chunk_is_scored_row_by_row(monkeypatch):
    vlm = tiny.vlm("llama")
    packed = pack(tiny.groups(vlm))
    expected = Policy(vlm)(packed).logps
    monkeypatch.setattr(policy, "HEAD_ELEMENTS", {"cpu": 3})
    assert torch.allclose(Policy(vlm)(packed).logps, expected, rtol=0, atol=1e-12)
