"""Shares of the attention, against the maps that transformers itself can give."""

import pytest
import tiny
import torch

from minigrpo import Policy, pack
from minigrpo.attention import PackedLayout
from minigrpo.policy import decode_states
from minigrpo.shares import SharesLayout, attention_shares, upper_middle


@pytest.mark.parametrize("family", tiny.VISION)
def test_the_share_on_an_image_is_that_of_transformers_own_maps(family):
    """Of every token of every completion, each as a sequence of its own, in both layers."""
    vlm, plain = tiny.vlm(family, torch.float32), tiny.plain(family, torch.float32)
    (group,) = tiny.groups(vlm)[:1]
    packed = pack([group])
    prompt, (span,) = group.prompt, packed.spans
    for layers in ((0,), (1,), (0, 1)):
        found, row = attention_shares(vlm, packed, layers=layers), span.prompt_end
        assert float(found.min()) >= 0 and float(found.max()) <= 1 + 1e-6
        for completion in group.completions:
            inputs = tiny.plain_inputs(vlm, prompt, completion)
            with torch.no_grad():
                maps = plain(**inputs, output_attentions=True).attentions  # of each layer [1, H, P + C, P + C]
            on_image = torch.stack([maps[i][0, :, :, prompt.image_positions].sum(-1).mean(0) for i in layers]).mean(0)
            expected = on_image[len(prompt) - 1 : -1]  # the prompt's last token, and the completion but for its last
            torch.testing.assert_close(found[row : row + len(completion)], expected, rtol=0, atol=1e-5)
            row += len(completion)
        torch.testing.assert_close(found[: len(prompt) - 1], on_image[: len(prompt) - 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_all_of_the_attention_lies_on_all_tokens_and_none_on_none(family):
    vlm = tiny.vlm(family, torch.float32)
    packed = pack(tiny.groups(vlm))
    every = torch.arange(packed.input_ids.shape[1])
    torch.testing.assert_close(attention_shares(vlm, packed, every, (0, 1)), torch.ones(len(every)), rtol=0, atol=1e-5)
    assert not attention_shares(vlm, packed, every[:0], (0, 1)).any()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_what_is_computed_stays_as_it_was_to_the_bit(family):
    vlm = tiny.vlm(family, torch.float32)
    packed = pack(tiny.groups(vlm))
    with torch.no_grad():
        plain = decode_states(vlm, packed, PackedLayout(packed))
        watched = decode_states(vlm, packed, SharesLayout(packed, torch.arange(5), (0, 1)))
        assert torch.equal(plain, watched)
    assert torch.isfinite(Policy(vlm)(packed).logps).all()


def test_attention_that_is_forced_onto_the_image_has_a_share_of_one():
    """Where keys of the image are far better than all others, nothing else is looked at."""
    packed = pack(tiny.groups(tiny.vlm("qwen2_5_vl", torch.float32))[:1])
    tokens, rows = packed.input_ids.shape[1], packed.image_positions
    key = torch.zeros(1, 2, tokens, 16)
    key[:, :, rows] = 100.0
    layout = SharesLayout(packed, rows, (0,))
    layout.attend(0, torch.ones(1, 4, tokens, 16), key, torch.randn(1, 2, tokens, 16), None)
    behind = torch.arange(tokens) >= rows[-1]
    torch.testing.assert_close(layout.found[0][behind], torch.ones(int(behind.sum())))
    assert not layout.found[0][: rows[0]].any()  # which see no image yet


def test_the_default_layers_are_the_third_above_the_middle():
    assert upper_middle(36) == range(18, 30) and upper_middle(2) == range(1, 2) and upper_middle(1) == range(0, 1)


def test_without_an_image_there_is_nothing_to_tell():
    vlm = tiny.vlm("llama", torch.float32)
    with pytest.raises(ValueError, match="there is no image"):
        attention_shares(vlm, pack(tiny.groups(vlm)))
