"""Teacher-forced attribution: exact where nothing changes, right where a dependency is planted, at its cost."""

import pytest
import tiny
import torch

from minigrpo import Policy, Sample
from mpcc.crm.attribution import differences, encode_views, over_tokens, score_views

PICTURES = [tiny.image(84, 56, seed) for seed in (1, 2, 3)]


@pytest.fixture
def policy():
    return Policy(tiny.vlm())


def sample(name="one"):
    return Sample(name, "what is here?", (PICTURES[0],))


def completion(*ids):
    return torch.tensor(ids)


def test_each_view_is_scored_as_the_plain_model_scores_it_alone(policy):
    prompts, tokens = encode_views(policy, sample(), PICTURES), completion(40, 41, 42, 43)
    other = encode_views(policy, sample("two"), PICTURES[:2])
    scored = score_views(policy, [(prompts, tokens), (other, completion(50, 51))])
    assert [tuple(found.shape) for found in scored] == [(3, 4), (2, 2)]
    plain = tiny.plain("qwen2_5_vl")
    for prompt, row in zip(prompts, scored[0], strict=True):
        logits = tiny.plain_logits(plain, policy.vlm, prompt, tokens)
        expected = logits.log_softmax(-1).gather(-1, tokens[:, None])[:, 0]
        assert (row - expected).abs().max() < 1e-5
    assert differences(scored[0]).abs().min() > 1e-6, "other pictures, other numbers"


def test_the_empty_mask_gives_exactly_nothing(policy):
    prompts = encode_views(policy, sample(), [PICTURES[0], PICTURES[1], PICTURES[0].copy()])
    assert prompts[2] is prompts[0] and prompts[1] is not prompts[0]
    (scored,) = score_views(policy, [(prompts, completion(40, 41, 42))])
    deltas = differences(scored)
    assert (deltas[1] == 0).all() and (deltas[0] != 0).all()


def test_a_step_has_the_mean_over_its_tokens_and_none_without_a_token():
    deltas = torch.tensor([[1.0, 2.0, 3.0, 6.0], [0.0, 0.0, -1.0, 1.0]])
    assert over_tokens(deltas, [(0, 2), (2, 4), (0, 0)]) == [[1.5, 0.0], [4.5, 0.0], [None, None]]


def test_a_planted_dependency_is_largest_at_its_own_step_and_region(policy, monkeypatch):
    """A model whose token 2 is sure only while the left of the picture is there, and token 5 only with the right."""
    deltas = {0: (2, 3.0), 1: (5, 4.0)}

    def planted(self, packed, with_entropy=True):
        logps = torch.full((packed.targets.numel(),), -1.0)
        for place, name in enumerate(packed.ids):
            region = int(name.rpartition("/")[2]) - 1 if "/" in name else None
            if region in deltas:
                token, loss = deltas[region]
                logps[packed.lengths[:place].sum() + token] -= loss
        return type("Out", (), {"logps": logps})

    monkeypatch.setattr(Policy, "forward", planted)
    (scored,) = score_views(policy, [(encode_views(policy, sample(), PICTURES), completion(*range(40, 48)))])
    steps = over_tokens(differences(scored), [(0, 2), (2, 4), (4, 8)])
    assert steps == [[0, 0], [1.5, 0], [0, 1.0]]


def test_nothing_asked_scores_nothing(policy):
    assert score_views(policy, []) == []
