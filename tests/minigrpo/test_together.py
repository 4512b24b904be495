"""Several questions about the same images share one prefill, and get the answers that they get alone."""

import pytest
import tiny
import torch

from minigrpo import Sample, Sampling, generate


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_questions_encoded_together_are_those_encoded_apart_and_get_the_same_answers(family):
    vlm = tiny.rolling(family)
    asked = tiny.questions([tiny.image(84, 56, 1), tiny.image(56, 84, 2)] if vlm.has_vision else [])
    apart = [vlm.encode(sample) for sample in asked]
    shared, rests = vlm.encode_together(asked)
    lone, lone_rest = vlm.encode_together(asked[2:3])
    for whole, rest in zip(apart, rests, strict=True):
        assert torch.equal(torch.cat([shared.input_ids, rest]), whole.input_ids) and len(rest) >= 1
        assert torch.equal(shared.position_ids, whole.position_ids[:, : len(shared)])
    assert len(shared) > 20 and len({len(rest) for rest in rests}) > 2
    sampling = Sampling(14, 0.0)
    together = generate(vlm, [shared, lone], [4, 1], sampling, begun=[rests, lone_rest])
    one_by_one = generate(vlm, apart, 1, sampling)
    expected = [group.completions[0].tolist() for group in one_by_one]
    assert tiny.token_lists(together) == [expected, expected[2:3]]
    assert len({len(tokens) for tokens in expected}) > 1, "no completion finished before another"
    logps = torch.cat(together[0].sampler_logps) - torch.cat([g.sampler_logps[0] for g in one_by_one])
    assert logps.abs().max() < 1e-6


def test_the_vision_tower_sees_an_image_once_for_all_questions_about_it():
    vlm, patches = tiny.rolling(), []
    vlm.net.model.visual.register_forward_pre_hook(lambda module, args: patches.append(len(args[0])))
    shared, rests = vlm.encode_together(tiny.questions([tiny.image(84, 56, 1)]))
    generate(vlm, [shared], 4, Sampling(3, 0.0), begun=[rests])
    assert patches == [len(shared.pixel_values)]


def test_questions_that_cannot_share_a_prompt_are_refused():
    vlm, picture, other = tiny.rolling(), tiny.image(84, 56, 1), tiny.image(84, 56, 1)
    with pytest.raises(ValueError, match="a and others, must hold the same images"):
        vlm.encode_together([Sample("a", "x", (picture,)), Sample("b", "y", (other,))])
    with pytest.raises(ValueError, match="a and others, must share their system prompt"):
        vlm.encode_together([Sample("a", "x", (picture,)), Sample("b", "y", (picture,), system="z")])
    shared, rests = vlm.encode_together([Sample("a", "x", (picture,)), Sample("b", "y", (picture,))])
    with pytest.raises(ValueError, match="one beginning for every completion"):
        generate(vlm, [shared], 3, Sampling(3), begun=[rests])
