"""PEARL: the checklist of a scene, the perceptual reward, the gate, and what a step draws and learns from."""

import math
from types import SimpleNamespace

import pytest
import torch
from kept_scenes import kept_scenes  # noqa: F401
from running import ROOT, lines, same, untimed

from minigrpo import Completion, generate
from mpcc.neighbours.pearl import SHORT, Config, Pearl, beside
from mpcc.prompts import completion
from mpcc.scenes.world import generate as draw

NAME = "mpcc.neighbours.pearl:Pearl"
TINY = {"model__path": ROOT / "mpcc/scenes/model", "rollout__prompts_per_step": 2, "rollout__max_new_tokens": 20,
        "rollout__group_size": 3, "task__held_out": 0, "task__traces": 0.0}


@pytest.fixture
def pearl():
    return Pearl(Config())


def test_the_checklist_is_what_stands_beside_the_mask(pearl):
    samples, found = pearl.samples(), []
    for i in range(12):
        sample, pair = samples[i], samples.pairs[i]
        scene = draw(f"train2017/{pair.image.id}")
        (item,) = [item for item in scene.items if item.hidden == tuple(map(int, pair.target.box))]
        assert item.category == pair.answer
        wanted = {c.relation: c.name for c in item.evidence + item.misleading if c.name and c.relation != "together"}
        questions = pearl.questions(sample)
        assert {q.data["side"]: q.data["answer"] for q in questions} == wanted
        assert all(q.images == sample.images and q.system is None and q.data["side"] in q.question for q in questions)
        assert len({q.id for q in questions} | {sample.id}) == len(questions) + 1
        found.append(len(questions))
    assert max(found) > 1


def asked(pearl, sample, completions, answer):
    """The terms of a group whose sub-questions are answered by a function of question and number."""
    generator = pearl.reward(sample, completions)
    request = next(generator)
    said = [[Completion(answer(q, n)) for n in range(request.group_size)] for q in request.samples]
    with pytest.raises(StopIteration) as stop:
        generator.send(said)
    return request, stop.value.value


def several(pearl, count=2):
    """A sample with so many sub-questions."""
    return next(s for s in (pearl.samples()[i] for i in range(400)) if len(beside(s.id)) == count)


def test_the_perceptual_reward_is_the_share_of_right_answers(pearl):
    sample = several(pearl)
    said = [Completion(completion("x", sample.data["answer"])), Completion("no")]
    request, terms = asked(pearl, sample, said, lambda q, n: q.data["answer"] if n < 3 else "x")
    assert request.learn and request.group_size == 4 and request.max_new_tokens == SHORT and len(request.samples) == 2
    assert terms == {"format": [1.0, 0.0], "exact": [1.0, 0.0], "levenshtein": [1.0, 0.0], "perception": [0.75] * 2,
                     "seen": [None] * 2}
    first = beside(sample.id)
    once = {next(iter(first)): f"A {next(iter(first.values()))}."}  # one of eight, with article and full stop
    _, terms = asked(pearl, sample, said, lambda q, n: once.get(q.data["side"], "") if n == 0 else "")
    assert terms["perception"] == [1 / 8] * 2
    _, terms = asked(pearl, sample, said, lambda q, n: f"<answer>{q.data['answer']}</answer>")
    assert terms["perception"] == [1.0] * 2


def test_a_sub_question_is_rewarded_for_what_is_seen(pearl):
    child = pearl.questions(several(pearl))[0]
    found = pearl.reward(child, [Completion(child.data["answer"]), Completion("nothing"), Completion("")])
    others = dict.fromkeys(("format", "exact", "levenshtein", "perception"), [None] * 3)
    assert found == others | {"seen": [1.0, 0.0, 0.0]}
    assert pearl.reward_weights == {"format": 1, "exact": 1, "levenshtein": 1, "perception": 0.0, "seen": 1.0}


def context(perceived, data=None):
    return SimpleNamespace(terms={"perception": [perceived] * 3, "exact": [1.0, 0.0, 0.0]}, sample=SimpleNamespace(
        data=data or {}), advantages=torch.tensor([1.0, -0.25, -0.75], dtype=torch.float64),
        group=SimpleNamespace(is_prior=[False] * 3))


@pytest.mark.parametrize(("threshold", "perceived", "gate"), [
    (0.5, 0.49, 0.0), (0.5, 0.5, 1.0), (0.5, 1.0, 1.0), (0.5, 0.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.99, 0.0),
    (1.0, 1.0, 1.0), (0.5, math.nan, 1.0),
])
def test_the_gate_lets_advantages_through_from_the_threshold_on(threshold, perceived, gate):
    pearl = Pearl(Config(threshold=threshold))
    assert pearl.advantages(context(perceived)).tolist() == [gate * a for a in (1.0, -0.25, -0.75)]
    assert pearl.metrics(context(perceived)) == {"lost": 0.0, "gate": gate}
    assert pearl.metrics(context(math.nan, {"side": "above"})) == {}


def test_without_a_checklist_the_gate_is_open(pearl, monkeypatch):
    monkeypatch.setattr("mpcc.neighbours.pearl.beside", lambda pair_id: {})
    request, terms = asked(pearl, pearl.samples()[0], [Completion("no")], None)
    assert request.samples == [] and terms["perception"] == [None]


def test_a_step_draws_the_checklist_once_and_learns_from_it(run, monkeypatch):
    calls, contexts = [], []

    def counted(vlm, prompts, sizes, sampling, **options):
        drawn = generate(vlm, prompts, sizes, sampling, **options)
        written = sum(len(c) for group in drawn for c in group.completions)
        calls.append((len(prompts), set(sizes), sampling.max_new_tokens, written))
        return drawn

    monkeypatch.setattr("minigrpo.reward.generate", counted)
    metrics = Pearl.metrics
    monkeypatch.setattr(Pearl, "metrics", lambda self, context: contexts.append(context) or metrics(self, context))
    folder = run("on", **TINY, task=NAME, run__steps=2)
    found = lines(folder)
    parents, children = ([c for c in contexts if ("side" in c.sample.data) == kind] for kind in (False, True))
    assert len(calls) == 2, "all checklists of a step are drawn together, and once"
    assert sum(n for n, *_ in calls) == len(children) == sum(len(beside(c.sample.id)) for c in parents)
    assert all(sizes <= {4} and most == SHORT for _, sizes, most, _ in calls)
    tokens = sum(completion.tokens for c in parents for completion in c.completions) + sum(n for *_, n in calls)
    assert sum(round(line["tokens_per_second"] * line["seconds"]) for line in found) == tokens
    for parent in parents:
        own = [c for c in children if c.sample.id.startswith(f"{parent.sample.id}/")]
        seen = [value for c in own for value in c.terms["seen"]]
        perceived = parent.terms["perception"][0]
        assert perceived == (pytest.approx(sum(seen) / len(seen)) if own else perceived)
        assert parent.advantages.any() == (bool(parent.rewards.unique().numel() > 1) and not perceived < 0.5)
    assert all({"reward/seen", "reward/perception", "gate"} <= line.keys() for line in found)


def test_closed_it_is_plain_grpo_bit_for_bit(run):
    options = {**TINY, "run__steps": 2}
    closed = run("closed", **options, task=NAME, task__checklist="false")
    plain = run("plain", **options, task="mpcc.task:MaskedPrediction")
    assert untimed(closed) == untimed(plain) and same(closed / "model", plain / "model")


def test_the_evaluation_says_how_much_is_seen():
    made = Pearl(Config(held_out=6))

    def answer(samples):
        return [s.data["answer"] if s.data.get("side") == "left" else "nothing" for s in samples]

    sides = [side for sample in made.held_out() for side in beside(sample.id)]
    assert made.evaluate(answer)["perception"] == pytest.approx(sides.count("left") / len(sides))
    assert Pearl(Config(held_out=0)).evaluate(answer) == {}


@pytest.mark.parametrize(("options", "said"), [
    ({"rollouts": 1}, "rollouts = 1 must be between 2 and 4096"), ({"threshold": 1.5}, "threshold = 1.5"),
    ({"coco": "tests"}, "checklist: only the embedded scenes have one"), ({"evidence": False}, "checklist: only"),
    ({"held_out": -1}, "held_out = -1"),
])
def test_impossible_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Pearl(Config(**options))
    if said.startswith("checklist"):
        Pearl(Config(checklist=False, **options))
