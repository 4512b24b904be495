"""ViSurf: the label in its slot, and the three controls of its reward, on numbers by hand."""

import pytest
import torch
from kept_scenes import kept_scenes  # noqa: F401
from running import ROOT, lines, same, untimed

from minigrpo.task import Sample
from mpcc.neighbours.visurf import Config, ViSurf, controlled, label_text
from mpcc.rewards import format_reward, parse_answer

NAME = "mpcc.neighbours.visurf:ViSurf"
TINY = {"model__path": ROOT / "mpcc/scenes/model", "rollout__group_size": 4, "rollout__prompts_per_step": 2,
        "rollout__max_new_tokens": 64, "task__held_out": 0, "run__steps": 2}
LABEL = torch.tensor([False, False, False, True])


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("options", "rewards", "formats", "expected"), [
    # as a control the label's format counts as the rollouts' mean: 2 / 3
    (dict(cap=False), (1.0, 1.0, 0.0, 3.0), (1, 1, 0, 1), 3.0 - 1 + 2 / 3),
    (dict(cap=False), (1.0, 1.0, 0.0, 2.0), (1, 1, 0, 0), 2.0 + 2 / 3),
    # while no rollout is as good it teaches; once one is, it stands at their mean
    (dict(no_thinking=False), (1.0, 1.0, 0.0, 3.0), (1, 1, 0, 1), 3.0),
    (dict(no_thinking=False), (3.0, 1.0, 0.0, 3.0), (1, 1, 0, 1), 4 / 3),
    (dict(), (3.0, 1.0, 0.0, 3.0), (1, 1, 0, 1), 4 / 3),
    (dict(cap=False, no_thinking=False), (3.0, 1.0, 0.0, 3.0), (1, 1, 0, 1), 3.0),
])
def test_what_the_label_earns(options, rewards, formats, expected):
    found = controlled(numbers(*rewards), numbers(*formats), LABEL, Config(**options))
    assert found[3].item() == pytest.approx(expected) and found[:3].tolist() == list(rewards[:3])


def test_the_label_is_written_as_the_policy_is_asked_to():
    task = ViSurf(Config())
    sample = task.samples()[0]
    (text,) = task.slots(sample)
    assert parse_answer(text) == sample.data["answer"] and format_reward(text) == 1.0
    assert ViSurf(Config(style=False)).slots(sample) == [sample.data["answer"]]
    assert ViSurf(Config(label=False)).slots(sample) == [sample.prior]
    assert ViSurf(Config(label=False)).slots(Sample("a", "b")) == []
    assert label_text("dog", False) == "dog"


def test_closed_it_is_rft_with_the_annotated_trajectory_bit_for_bit(run):
    closed = run("closed", task=NAME, task__label="false", **TINY)
    plain = run("plain", task="mpcc.task:MaskedPrediction", **TINY)
    assert same(closed / "model", plain / "model") and untimed(closed) == untimed(plain)


def test_a_label_teaches_until_a_rollout_is_as_good(run, monkeypatch):
    seen = []
    inner = ViSurf.advantages

    def advantages(self, context):
        seen.append((context.rewards.tolist(), inner(self, context).tolist(), context.group.sources))
        return torch.tensor(seen[-1][1], dtype=torch.float64)

    monkeypatch.setattr(ViSurf, "advantages", advantages)
    folder = run("open", task=NAME, **{**TINY, "rollout__prompts_per_step": 4})
    assert len(seen) == 8 and all(sources == ["policy"] * 3 + ["prior"] for *_, sources in seen)
    for rewards, found, _ in seen:
        if max(rewards[:3]) >= 3:  # right, and in format
            assert abs(found[3]) < 1e-9
        elif max(rewards[:3]) < 2:
            assert found[3] > 0
    assert all(0 <= line["teaches"] <= 1 for line in lines(folder)) and any(line["teaches"] for line in lines(folder))
