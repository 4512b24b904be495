"""The two layouts against attention computed key by key, the flash path against the SDPA path, and refusals."""

import pytest
import tiny
import torch

from minigrpo import EncodedPrompt, Group, Policy, Sampling, generate, kernels, pack
from minigrpo.attention import PackedLayout, attend
from minigrpo.decode import DecodeLayout, KVCache
from minigrpo.kernels import flash_kernel, windows

HEADS, KV_HEADS, DIM = 6, 2, 8


def dense(query, key, value, allowed, scale):
    """Attention of one query [H, D] over the allowed rows of key, value [H_kv, T, D]: [H, D]."""
    out = []
    for head in range(len(query)):
        k, v = (x[head // (len(query) // len(x))][allowed] for x in (key, value))
        out.append((k @ query[head] * scale).softmax(0) @ v)
    return torch.stack(out)


def allowed_keys(spans):
    """For every row of a packed sequence, the rows that it may see: written out from the layout's definition."""
    allowed = []
    for span in spans:
        prompt = list(range(span.start, span.prompt_end))
        allowed += [prompt[: i + 1] for i in range(len(prompt))]
        row = span.prompt_end
        for n in span.lengths:
            allowed += [prompt + list(range(row, row + i + 1)) for i in range(n)]
            row += n
    return allowed


def varlen(q, k, v, cu_q, cu_k, max_q, max_k, scale):
    """What a variable-length flash kernel computes: every sequence causal, its last query on its last key."""
    assert cu_q.dtype == cu_k.dtype == torch.int32 and q.is_contiguous() and k.is_contiguous() and v.is_contiguous()
    assert (max_q, max_k) == (int(cu_q.diff().max()), int(cu_k.diff().max()))
    assert (cu_q[-1], cu_k[-1]) == (len(q), len(k)) == (len(q), len(v)) and cu_q[0] == cu_k[0] == 0
    out = []
    for a, b, c, d in zip(cu_q[:-1], cu_q[1:], cu_k[:-1], cu_k[1:], strict=True):
        own_q, own_k, own_v = q[a:b], k[c:d], v[c:d]
        own_k, own_v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (own_k, own_v))
        past = torch.ones(len(own_q), len(own_k), dtype=torch.bool).tril(len(own_k) - len(own_q))
        scores = torch.einsum("qhd,khd->hqk", own_q, own_k) * (q.shape[-1] ** -0.5 if scale is None else scale)
        weights = scores.masked_fill(~past, float("-inf")).softmax(-1)
        out.append(torch.einsum("hqk,khd->qhd", weights, own_v))
    return torch.cat(out)


def random_qkv(length, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(1, heads, length, DIM) for heads in (HEADS, KV_HEADS, KV_HEADS)]
    return [torch.randn(s, dtype=torch.float64, generator=g).requires_grad_() for s in shapes]


def packs():
    def group(size, lengths):
        ids = torch.arange(size)
        return Group(EncodedPrompt("p", ids, ids[None]), [torch.arange(n) for n in lengths])

    return {
        "ragged": pack([group(5, (3, 1, 4)), group(2, (2,)), group(9, (1, 1))]),
        "prompt only": pack([group(4, ()), group(3, (2, 2))]),
        "one-token prompt": pack([group(1, (3, 2)), group(4, (1,))]),
    }


@pytest.mark.parametrize("kernel", [None, varlen], ids=["sdpa", "flash"])
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize("case", packs())
def test_packed_attention_is_that_of_the_layouts_definition(case, scale, kernel):
    packed = packs()[case]
    query, key, value = random_qkv(packed.input_ids.shape[1])
    out = PackedLayout(packed, kernel).attend(0, query, key, value, scale)
    rows = [
        dense(query[0, :, i], key[0], value[0], allowed, DIM**-0.5 if scale is None else scale)
        for i, allowed in enumerate(allowed_keys(packed.spans))
    ]
    expected = torch.stack(rows)[None]
    assert out.shape == expected.shape == (1, packed.input_ids.shape[1], HEADS, DIM)
    assert torch.allclose(out, expected, rtol=0, atol=1e-12)
    weights = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours = torch.autograd.grad((out * weights).sum(), (query, key, value))
    theirs = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "llama"])
def test_the_flash_path_has_the_sdpa_paths_scores_gradients_and_rollouts(family):
    sdpa, flash = tiny.vlm(family), tiny.vlm(family)
    flash.varlen = varlen
    for vlm in (sdpa, flash):
        tiny.exact(vlm.net)
    groups = tiny.groups(sdpa)
    a, b = Policy(sdpa)(pack(groups)), Policy(flash)(pack(groups))
    assert torch.allclose(a.logps, b.logps, rtol=0, atol=1e-11)
    a.logps.sum().backward()
    b.logps.sum().backward()
    for (name, p), q in zip(sdpa.net.named_parameters(), flash.net.parameters(), strict=True):
        assert (p.grad - q.grad).abs().max() <= 1e-9 * p.grad.abs().max().clamp_min(1), name
    drawn = [generate(v, [g.prompt for g in groups], 2, Sampling(5), seed=1) for v in (sdpa, flash)]
    for x, y in zip(*drawn, strict=True):
        assert all(torch.equal(c, d) for c, d in zip(x.completions, y.completions, strict=True))


def test_decode_attention_over_ragged_prompts_and_uneven_groups_as_completions_finish():
    lengths, prompt_of_row = [3, 0, 5, 2], torch.tensor([0, 0, 2, 3, 3, 3])
    packed = pack([Group(EncodedPrompt("p", torch.arange(n + 1), torch.arange(n + 1)[None]), []) for n in lengths])
    _, prompt_k, prompt_v = (x.detach() for x in random_qkv(sum(lengths)))
    cache = KVCache(rows=6, max_new_tokens=4)
    cache.write(7, prompt_k, prompt_v, packed.spans)
    spans = list(packed.spans)
    live, own = torch.arange(6), [([], []) for _ in range(6)]
    prompts = torch.arange(4)
    for token in range(4):
        if token == 2:  # rows 1, 2 and 4 finish, and with row 2 the whole of prompt 2; nobody ever asked prompt 1
            keep = torch.tensor([0, 3, 5])
            live, prompts = live[keep], torch.tensor([0, 3])
            cache.keep(keep, prompts)
        rank = {int(p): i for i, p in enumerate(prompts)}
        of_row = torch.tensor([rank[int(prompt_of_row[r])] for r in live])
        layout = DecodeLayout(cache, of_row, torch.tensor([lengths[p] for p in prompts]))
        q, k, v = (x.detach() for x in random_qkv(len(live), seed=token))
        out = layout.attend(7, q, k, v, 0.4)
        cache.length += 1
        assert out.shape == (1, len(live), HEADS, DIM)
        for i, row in enumerate(live.tolist()):
            own[row][0].append(k[0, :, i])
            own[row][1].append(v[0, :, i])
            span = spans[int(prompt_of_row[row])]
            keys, values = (
                torch.cat([x[0][:, span.start : span.prompt_end], torch.stack(mine, dim=1)], dim=1)
                for x, mine in zip((prompt_k, prompt_v), own[row], strict=True)
            )
            expected = dense(q[0, :, i], keys, values, list(range(keys.shape[1])), 0.4)
            assert torch.allclose(out[0, i], expected, rtol=0, atol=1e-12), (token, row)
    assert cache.own[7][0].shape[0] == 3 and cache.prompts[7][0].shape[0] == 2


def test_a_loaded_net_is_not_called_without_a_layout():
    vlm = tiny.vlm("qwen2")
    with pytest.raises(RuntimeError, match="through Policy or generate"):
        vlm.net(input_ids=torch.tensor([[1, 2, 3]]))


@pytest.mark.parametrize("kind", ["sliding_window", "softcap", "s_aux"])
def test_a_layer_with_another_kind_of_attention_is_refused(kind):
    packed = packs()["ragged"]
    qkv = random_qkv(packed.input_ids.shape[1])
    layer = type("SomeAttention", (), {"layer_idx": 0})()
    with pytest.raises(ValueError, match=f"SomeAttention asks for {kind}"):
        attend(layer, *qkv, None, layout=PackedLayout(packed), **{kind: 4})
    out, weights = attend(layer, *qkv, None, layout=PackedLayout(packed), **{kind: None})
    assert out.shape[1] == packed.input_ids.shape[1] and weights is None


def test_flash_attention_needs_a_gpu():
    with pytest.raises(ValueError, match="CUDA only, not on cpu: set model.attention to sdpa"):
        flash_kernel(torch.device("cpu"))


def test_a_mask_that_a_model_hands_over_is_refused():
    """The layout is the mask: a model that adds a bias to it (Doge does) would be computed without."""
    packed = packs()["ragged"]
    qkv = random_qkv(packed.input_ids.shape[1])
    layer = type("SomeAttention", (), {"layer_idx": 0})()
    with pytest.raises(ValueError, match="SomeAttention .*mask"):
        attend(layer, *qkv, torch.zeros(1, 1, 3, 3), layout=PackedLayout(packed))


@pytest.mark.parametrize("lengths", [(6, 6, 6), (4, 9, 4, 2, 9), (5,)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_windows_attend_to_all_of_themselves_and_to_nothing_else(lengths, dtype):
    g = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, HEADS, sum(lengths), DIM, dtype=torch.float64, generator=g) for _ in range(3))
    query, key, value = (x.to(dtype).requires_grad_() for x in (query, key, value))
    out = windows(query, key, value, torch.tensor([0, *lengths]).cumsum(0), 0.5)
    rows, start = [], 0
    for n in lengths:
        own = list(range(start, start + n))
        rows += [dense(query[0, :, i].double(), key[0].double(), value[0].double(), own, 0.5) for i in own]
        start += n
    expected = torch.stack(rows)[None]
    tolerance = 1e-12 if dtype == torch.float64 else 0.02
    assert out.shape == expected.shape and torch.allclose(out.double(), expected, rtol=0, atol=tolerance)
    ours, theirs = (torch.autograd.grad(o.double().square().sum(), query)[0] for o in (out, expected))
    assert torch.allclose(ours.double(), theirs.double(), rtol=0, atol=4 * tolerance)


def test_a_bucket_in_half_precision_is_computed_by_hand_and_agrees_with_float(monkeypatch):
    packed = packs()["ragged"]
    query, key, value = random_qkv(packed.input_ids.shape[1])
    exact = PackedLayout(packed).attend(0, query, key, value, None)
    fused = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(kernels.F, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or real(*a, **k))
    halves = [x.bfloat16() for x in (query, key, value)]
    by_hand = PackedLayout(packed).attend(0, *halves, None)
    assert not fused and (by_hand.double() - exact).abs().max() < 0.03
    monkeypatch.setattr(kernels, "BY_HAND", 0)
    assert (PackedLayout(packed).attend(0, *halves, None).double() - exact).abs().max() < 0.03 and fused


def test_sequences_of_like_length_share_a_bucket_and_padding_stays_small():
    def group(size, lengths):
        ids = torch.arange(size)
        return Group(EncodedPrompt("p", ids, ids[None]), [torch.arange(n) for n in lengths])

    packed = pack([group(101, (40, 38, 30, 8)), group(91, (39, 6))])
    shapes = [(tuple(queries.shape), tuple(keys.shape)) for queries, keys, _ in PackedLayout(packed).buckets.buckets]
    assert shapes == [((4, 40), (4, 140)), ((2, 8), (2, 108)), ((2, 100), (2, 100))]
