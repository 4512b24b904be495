"""Which models load: each computes what transformers computes, packed and decoded, or is refused in one clear line."""

import pytest
import tiny
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from minigrpo import VLM, Policy, Sampling, generate, load_model, pack, supported
from minigrpo.attention import LANGUAGE, VISION

SMALL = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
             intermediate_size=96, vocab_size=280, max_position_embeddings=512, bos_token_id=None, eos_token_id=258,
             pad_token_id=None)
ROPE = {"rope_theta": 10000.0}
EXPERTS = dict(moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2)


def text_model(family, seed=0, **changes):
    """A text model whose weights are large enough for a peaked softmax."""
    torch.manual_seed(seed)
    net = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SMALL | changes), dtype=torch.float32)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 0.3 if "embed" in name or "lm_head" in name else p.shape[-1] ** -0.5)
    return net.eval()


@pytest.mark.parametrize("family, changes", [
    ("llama", {}), ("qwen2", {}), ("qwen3", {}), ("mistral", dict(sliding_window=None)), ("ministral3", {}),
    ("gemma", {}), ("phi", {}), ("phi3", {}), ("olmo", {}), ("olmo2", {}), ("granite", {}), ("smollm3", {}),
    ("starcoder2", {}), ("persimmon", {}), ("glm4", {}), ("helium", {}), ("hunyuan_v1_dense", {}), ("ernie4_5", {}),
    ("mixtral", dict(num_local_experts=4)), ("olmoe", dict(num_experts=4, num_experts_per_tok=2)),
    ("qwen2_moe", EXPERTS | dict(shared_expert_intermediate_size=32)), ("qwen3_moe", EXPERTS),
    ("llama", dict(rope_parameters=ROPE | dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32))),
    ("llama", dict(rope_parameters=ROPE | dict(rope_type="linear", factor=4.0))),
])
def test_a_model_that_loads_computes_what_transformers_computes(family, changes):
    net = text_model(family, **changes)
    vlm = VLM(net, tiny.tokenizer())
    groups = tiny.groups(vlm)
    scored = Policy(vlm)(pack(groups)).logps
    drawn = generate(vlm, [g.prompt for g in groups], [2, 1, 3], Sampling(6), seed=1)
    net.set_attn_implementation("eager")
    with torch.no_grad():
        assert (scored - tiny.plain_logps(net, vlm, groups)).abs().max() < 1e-4
        sampled = torch.cat([logps for g in drawn for logps in g.sampler_logps])
        assert (sampled - tiny.plain_logps(net, vlm, drawn)).abs().max() < 1e-4


@pytest.mark.parametrize("family, changes, message", [
    ("gemma2", {}, "sliding-window layers; it uses attn_logit_softcapping; it uses final_logit_softcapping"),
    ("gemma3_text", {}, "sliding-window layers"),
    ("qwen2", dict(use_sliding_window=True, sliding_window=4, max_window_layers=1), "sliding-window layers"),
    ("llama4_text", dict(num_local_experts=2), "layers of type chunked_attention"),
    ("gpt_oss", dict(num_local_experts=2, num_experts_per_tok=1), "attention sinks"),
    ("cohere", {}, "logit_scale"),
    ("bloom", {}, "does not go through transformers' attention interface"),
    ("gpt2", dict(n_embd=64, n_layer=1, n_head=4), "not a decoder"),
    ("gpt_neox", {}, "not a decoder"),
    ("gpt2", dict(n_embd=64, n_layer=1, n_head=4), "dropout"),
    ("llama", dict(attention_dropout=0.1), "dropout"),
    ("opt", dict(dropout=0.1), "dropout"),  # by a function call, not a module
    ("recurrent_gemma", {}, "linear_attention"),
    ("llama", dict(rope_parameters=ROPE | dict(rope_type="dynamic", factor=4.0)), "rotary .* type dynamic"),
    ("phi3", dict(original_max_position_embeddings=64, rope_parameters=ROPE | dict(
        rope_type="longrope", short_factor=[1.0] * 8, long_factor=[4.0] * 8, original_max_position_embeddings=64)),
     "rotary .* type longrope"),
    ("mistral", dict(sliding_window=8), "MistralAttention asks for sliding_window attention"),
    ("doge", {}, "DogeAttention brings its own attention mask"),
    ("nemotron", {}, "no layout reached NemotronAttention"),
    ("diffllama", {}, "its layer 0 calls attention 2 times, not once"),
])
def test_other_models_are_refused_when_they_load_in_one_line(family, changes, message):
    with pytest.raises(ValueError, match=f"^model type {family} is not supported: .*{message}") as error:
        VLM(text_model(family, **changes), tiny.tokenizer())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part, wrong", [
    ("model.layers.1.self_attn", lambda module, args, out: (out[0] + 2 * out[0].roll(1, 1), out[1])),
    ("model.layers.0.mlp", lambda module, args, out: out.flip(1)),
    ("lm_head", None),
])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_no_name_tells_is_found_by_its_numbers(part, wrong, dtype):
    """A look at the token before, tokens in another order, and logits that the whole model scales after its head."""
    net = text_model("llama").to(dtype)
    if part == "lm_head":
        net.register_forward_hook(lambda module, args, out: out.__setitem__("logits", out.logits * 0.5))
    else:
        net.get_submodule(part).register_forward_hook(wrong)
    with pytest.raises(ValueError, match="model type llama is not supported: packed, its logits differ .* by [0-9.]+%"):
        VLM(net, tiny.tokenizer())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_probe_passes_every_family_in_every_precision_and_leaves_no_trace(family, dtype):
    net = tiny.net(family, dtype).train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    buffers = {name: t.clone() for name, t in net.named_buffers()}
    seen = [{k for k in vars(m) if k != "_is_hf_initialized"} for m in net.modules()]
    torch.manual_seed(0)
    vlm = VLM(net, tiny.tokenizer())
    assert torch.rand(1) == torch.rand(1, generator=torch.Generator().manual_seed(0)), "it drew random numbers"
    assert net.training and all(p.grad is None for p in net.parameters())
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert all(torch.equal(t, buffers[name]) for name, t in net.named_buffers())
    assert seen == [{k for k in vars(m) if k != "_is_hf_initialized"} for m in net.modules()]
    assert vlm.text_config._attn_implementation == LANGUAGE
    assert not vlm.has_vision or net.config.vision_config._attn_implementation == VISION
    assert not vlm.has_vision or net.model.rope_deltas is None


def test_a_model_without_values_is_not_run(monkeypatch):
    monkeypatch.setattr(supported, "Counted", None)
    assert VLM(tiny.net("llama").to("meta"), tiny.tokenizer()).device.type == "meta"


def test_memory_that_runs_out_is_not_taken_for_the_models_fault(monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(supported.Counted, "attend", full)
    with pytest.raises(torch.OutOfMemoryError):
        VLM(tiny.net("llama"), tiny.tokenizer())


def test_a_folder_is_refused_when_it_loads(tmp_path):
    net, tokenizer = text_model("diffllama"), tiny.tokenizer()
    net.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model type diffllama is not supported"):
        load_model(tmp_path)
