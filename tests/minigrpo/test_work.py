"""What goes through the model in each phase, token for token: nothing that a group shares is computed twice."""

from collections import Counter

import pytest
import tiny
import torch
from running import lines

from minigrpo import Policy, Sampling, generate, pack

G, TOKENS = 4, 5
COUNTED = {"Qwen2_5_VLDecoderLayer": "language", "Qwen2_5_VLVisionBlock": "vision"}


@pytest.fixture
def counted(monkeypatch):
    """Rows that went through a decoder layer (`language`), a vision block (`vision`) and the LM head (`head`)."""
    monkeypatch.setattr("minigrpo.models.probe", lambda *args: None)  # loading's own few tokens are no part of a step
    rows = Counter()

    def look(module, args, output):
        name = COUNTED.get(type(module).__name__)
        if name == "language" and module.self_attn.layer_idx > 0:
            return  # one layer stands for all
        if name is None and isinstance(module, torch.nn.Linear) and module.out_features == tiny.PADDED_VOCABULARY:
            name = "head"
        if name:
            given = output[0] if isinstance(output, tuple) else output
            rows[name] += given.numel() // given.shape[-1]

    handle = torch.nn.modules.module.register_module_forward_hook(look)
    yield rows
    handle.remove()


@pytest.fixture
def vlm():
    model = tiny.vlm(dtype=torch.float32)
    model.end_ids = []  # every completion has the full length
    return model


@pytest.fixture
def prompts(vlm):
    return [vlm.encode(sample) for sample in tiny.samples()]


def shared_work(prompts):
    """Every prompt once but for its last token, which opens each completion; every patch once in each of two blocks."""
    patches = sum(len(p.pixel_values) for p in prompts if p.pixel_values is not None)
    drawn = len(prompts) * G * TOKENS
    return {"language": sum(len(p) - 1 for p in prompts) + drawn, "vision": 2 * patches, "head": drawn}


def test_rollout(counted, vlm, prompts):
    generate(vlm, prompts, G, Sampling(TOKENS))
    assert counted == shared_work(prompts)


def test_reference_and_scoring(counted, vlm, prompts):
    groups = generate(vlm, prompts, G, Sampling(TOKENS))
    counted.clear()
    with torch.no_grad():
        Policy(vlm)(pack(groups))
    assert counted == shared_work(prompts)


def test_update_computes_nothing_twice(counted, vlm, prompts):
    groups = generate(vlm, prompts, G, Sampling(TOKENS))
    counted.clear()
    Policy(vlm)(pack(groups)).logps.sum().backward()
    assert counted == shared_work(prompts), "the head's rows are one chunk, and only earlier ones are recomputed"


def test_a_step_of_training_is_one_rollout_one_reference_pass_and_one_update(counted, run, monkeypatch):
    for name in ("models._end_ids", "loading._generation_end_ids"):
        monkeypatch.setattr(f"minigrpo.{name}", lambda *args: [])  # every completion has the full length
    seen = []
    encode = tiny.VLM.encode
    monkeypatch.setattr(tiny.VLM, "encode", lambda *args: seen.append(encode(*args)) or seen[-1])
    options = {"run.steps": 1, "rollout.group_size": G, "rollout.max_new_tokens": TOKENS, "grpo.beta": 0.04}
    folder = run(task__held_out=0, task__images_every=2, **options)
    assert len(seen) == 6 + 4 and lines(folder)[0]["length"] == TOKENS  # all six are looked at before the first step
    once = shared_work(seen[6:])
    assert counted == {name: 3 * count for name, count in once.items()}
    assert once["vision"] > 0
