"""Visionary-R1: the format with a caption, what a caption is worth, what is asked, and what closed is plain."""

from types import SimpleNamespace

import pytest
from kept_scenes import kept_scenes  # noqa: F401
from running import ROOT, lines, same, untimed

from minigrpo import Completion, generate
from mpcc.neighbours.visionary import Config, Visionary, caption_of, info_format, told
from mpcc.prompts import QUESTION, SYSTEM_PROMPT, completion
from mpcc.task import MaskedPrediction

NAME = "mpcc.neighbours.visionary:Visionary"
TINY = {"model__path": ROOT / "mpcc/scenes/model", "rollout__prompts_per_step": 2, "rollout__max_new_tokens": 80,
        "rollout__group_size": 3, "task__held_out": 0}
GOOD = "<info> A dog. </info><think> So. </think><answer>cat</answer>"


@pytest.mark.parametrize(("text", "caption", "good"), [
    (GOOD, "A dog.", 1), (GOOD.replace("</info>", "</info>\n "), "A dog.", 1), (GOOD.replace("A dog.", ""), None, 1),
    (GOOD.replace("</info>", ""), None, 0), (f"So: {GOOD}", None, 0), (f"{GOOD}.", "A dog.", 0),
    (GOOD * 2, "A dog.", 0),
    (GOOD.replace("A dog.", "A <think> dog."), "A <think> dog.", 0), ("", None, 0), ("<info>", None, 0),
    (GOOD.replace("A dog.", "<info> A dog."), "<info> A dog.", 0), ("<info>x</info>", "x", 0),
    (completion("So.", "cat"), None, 0), (f"{completion('So.', 'cat')}<info>x</info>", None, 0),
])
def test_caption_and_format(text, caption, good):
    assert caption_of(text) == caption and info_format(text) == good


def test_a_trace_is_told_with_all_but_its_last_sentence_as_the_caption():
    assert told("A street. A leash is left of the box. So it is a dog.", "dog") == (
        "<info> A street. A leash is left of the box. </info><think> So it is a dog. </think><answer>dog</answer>")
    assert told("It is a dog.", "dog") == "<info> It is a dog. </info><think> It is a dog. </think><answer>dog</answer>"
    for text in (told("A street. So it is a dog.", "dog"), told("It is a dog.", "dog")):
        assert info_format(text) == 1 and caption_of(text)


def test_samples_ask_for_a_caption():
    made = Visionary(Config(held_out=5))
    plain = MaskedPrediction(Config(held_out=5))
    for mine, theirs in ((made.samples(), plain.samples()), (made.held_out(), plain.held_out())):
        sample, base = mine[3], theirs[3]
        assert (sample.id, sample.images, sample.system, sample.data) == (base.id, base.images, base.system, base.data)
        assert sample.question == QUESTION.replace(
            "Reason in", "Describe what you see in <info> </info>, then reason in") != QUESTION
        assert sample.prior is None or info_format(sample.prior)
    assert made.samples()[3].prior and Visionary(Config(traces=0.0)).samples()[3].prior is None


def test_a_caption_is_worth_what_can_be_answered_from_it():
    made = Visionary(Config())
    sample = made.samples()[0]
    name = sample.data["answer"]
    captions = ["seen", "unseen", "seen", None, "seen"]
    texts = [f"<info>{c}</info>{completion('x', 'y')}" if c else completion("x", name) for c in captions]
    generator = made.reward(sample, [Completion(text) for text in texts])
    request = next(generator)
    assert [q.question for q in request.samples] == [f"seen\n{QUESTION}", f"unseen\n{QUESTION}"], "equal ones once"
    assert not any(q.images for q in request.samples) and {q.system for q in request.samples} == {SYSTEM_PROMPT}
    assert (request.temperature, request.group_size, request.learn) == (0, 1, False)
    with pytest.raises(StopIteration) as stop:
        generator.send([[Completion(completion("", f"A {name}."))], [Completion(f"the {name}")]])
    terms = stop.value.value
    assert terms["caption"] == [1.0, 0.0, 1.0, 0.0, 1.0] and terms["format"] == [1.0, 1.0, 1.0, 0.0, 1.0]
    assert terms["exact"] == [0.0, 0.0, 0.0, 1.0, 0.0]
    assert made.reward_weights == {"format": 1, "exact": 1, "levenshtein": 1, "caption": 0.1}
    none = made.reward(sample, [Completion("")])
    assert next(none).samples == []
    with pytest.raises(StopIteration) as stop:
        none.send([])
    assert stop.value.value["caption"] == [0.0]


def test_a_caption_that_names_the_answer_is_counted():
    said = [GOOD, GOOD.replace("dog", "cat"), completion("a cat", "cat"), ""]
    context = SimpleNamespace(sample=SimpleNamespace(data={"answer": "cat"}), completions=[Completion(t) for t in said],
                              terms={"exact": [1.0] * 4}, group=SimpleNamespace(is_prior=[False] * 4))
    assert Visionary(Config()).metrics(context) == {"lost": 0.0, "caption_names": 0.25}


class Plain(MaskedPrediction):
    """The same questions and terms, no door but the reward."""

    Config = Config

    def samples(self):
        made = Visionary(self.config)
        return [made.samples()[i] for i in range(64)]

    def reward(self, sample, completions):
        texts = [c.text for c in completions]
        return super().reward(sample, completions) | {"format": list(map(info_format, texts))}

    def metrics(self, context):
        return super().metrics(context) | {"caption_names": sum(
            context.sample.data["answer"] in (caption_of(c.text) or "") for c in context.completions) / 3}


class First(Visionary):
    """Of the first samples alone."""

    def samples(self):
        return [super(First, self).samples()[i] for i in range(64)]


def test_closed_it_is_plain_grpo_on_its_format_bit_for_bit(run):
    options = {**TINY, "run__steps": 1}
    folders = [run(name, **options, task=f"{__name__}:{name}", task__caption="false") for name in ("First", "Plain")]
    assert untimed(folders[0]) == untimed(folders[1]) and same(folders[0] / "model", folders[1] / "model")
    assert "reward/caption" not in lines(folders[0])[0]


def test_a_step_answers_each_different_caption_once(run, monkeypatch):
    calls = []

    def counted(vlm, prompts, sizes, sampling, **options):
        calls.append((len(prompts), sizes, sampling.temperature))
        return generate(vlm, prompts, sizes, sampling, **options)

    monkeypatch.setattr("minigrpo.reward.generate", counted)
    folder = run("on", **TINY, task=NAME, run__steps=2, grpo__beta=0.04,
                 grpo__beta_schedule="cosine")
    # the base has never seen the tag: the captions are those of the trajectories, one for each group
    assert calls == [(2, [1, 1], 0)] * 2
    assert all(line["reward/caption"] == 0 and line["reward/format"] == 0 for line in lines(folder))


def test_the_evaluation_answers_from_the_captions():
    made = Visionary(Config(held_out=8))

    def answer(samples):
        found = [samples[i] for i in range(len(samples))]
        if not found[0].images:
            return [completion("", s.question.split("\n")[0]) for s in found]  # repeats the caption
        right = [s.data["answer"] if i % 2 else "thing" for i, s in enumerate(found)]
        return [f"<info>{name}</info>{completion('', s.data['answer'])}" if i != 1 else "no"
                for i, (s, name) in enumerate(zip(found, right, strict=True))]

    found = made.evaluate(answer)
    assert found["exact_match_caption"] == 3 / 8 and found["exact_match"] == found["format"] == 7 / 8
    assert Visionary(Config(held_out=0)).evaluate(answer) == {}


@pytest.mark.parametrize(("options", "said"), [
    ({"caption_weight": -1.0}, "caption_weight = -1.0 must be between 0 and 100"), ({"held_out": -1}, "held_out = -1"),
])
def test_impossible_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Visionary(Config(**options))
