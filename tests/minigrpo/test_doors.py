"""The doors of a task: closed they are plain GRPO bit for bit; open, each does what it says, in numbers."""

import inspect
import math
import textwrap

import pytest
import torch
from PIL import Image, ImageFilter
from running import SMALL, lines, result, same, untimed, weights, words
from toy_task import NAME, ToyTask, letters

import train
from minigrpo import VLM, Policy, Sample, generate, group_advantages, pack
from minigrpo import task as task_module
from minigrpo.config import parse_config
from minigrpo.layout import Group
from minigrpo.ranks import Ranks
from minigrpo.sampler import Sampler
from minigrpo.sampling import Sampling
from minigrpo.task import Generate, Stage, Task

SHAPES = {"rollout.group_size": 4, "task.prompts": 4, "task.images_every": 2}


@pytest.fixture
def train_on(models, tmp_path, one_thread, monkeypatch):
    """Trains the toy model on a task class in this process; gives the run folder."""
    monkeypatch.setattr("minigrpo.log.draw_curves", lambda path, history: None)

    def start(task_class, name="run", **options):
        options = {"model.path": models / "qwen2_5_vl", "run.dir": tmp_path / name, **SMALL, "task.held_out": 0,
                   **{key.replace("__", "."): value for key, value in options.items()}}
        config, _ = parse_config(words(options), NAME)
        train.train(config, task_class(config.task), Ranks())
        return tmp_path / name

    return start


class Seen(ToyTask):
    """Keeps every context that it is shown after the advantages."""

    def __init__(self, config):
        super().__init__(config)
        self.contexts = []
        type(self).last = self

    def metrics(self, context):
        self.contexts.append(context)
        return {}


class Open(ToyTask):
    """Every door written, each as it is by default."""

    def views(self, sample, step):
        return {}

    def draw_from(self, sample, step):
        return {}

    def slots(self, sample):
        return [] if sample.prior is None else [sample.prior]

    def advantages(self, context):
        return context.advantages

    def token_weights(self, context):
        return torch.ones(context.mask.shape)

    def sampler(self, samples, per_step, seed, resample_rounds):
        class Own(Sampler):
            def learn(self, outcomes):
                assert len(outcomes) == per_step

        return Own(samples, per_step, seed, resample_rounds)

    def extra_loss(self, context):
        return 0 * context.logps.sum()

    def stages(self, config):
        return [Stage("rft", config.run.steps)]

    def metrics(self, context):
        return {}

    def shown_answer(self, sample):
        return None


def test_doors_that_do_nothing_are_plain_grpo_bit_for_bit(train_on):
    options = {"run__steps": 3, "grpo__beta": 0.1, "task__priors": "true", **SHAPES}
    plain, opened = (train_on(cls, cls.__name__, **options) for cls in (ToyTask, Open))
    assert untimed(plain) == untimed(opened)
    assert lines(plain, "completions") == lines(opened, "completions")
    assert same(plain / "model", opened / "model")
    assert not same(plain / "model", train_on(ToyTask, "longer", **options | {"run__steps": 4}) / "model")


# reward


class SeesAll(Seen):
    def reward(self, sample, completions):
        self.seen = getattr(self, "seen", []) + [completions]
        return super().reward(sample, completions)


def test_a_reward_sees_text_tokens_end_log_probability_and_source(train_on):
    train_on(SeesAll, run__steps=1, task__priors="true", **SHAPES)
    task = SeesAll.last
    assert len(task.seen) == 4
    for context, completions in zip(task.contexts, task.seen, strict=True):
        group = context.group
        for i, completion in enumerate(completions):
            assert completion.tokens == len(group.completions[i])
            if group.is_prior[i]:
                assert completion.source == "prior" and completion.text == "words" and math.isnan(completion.logp)
            else:
                assert completion.source == "policy"
                assert completion.logp == pytest.approx(float(group.sampler_logps[i].mean()))
                assert completion.ended is (int(group.completions[i][-1]) == 258)
    assert {c.source for completions in task.seen for c in completions} == {"policy", "prior"}


class SeesSpans(SeesAll):
    needs_spans = True


def test_a_reward_sees_the_characters_of_each_token_where_it_needs_them(train_on):
    train_on(SeesSpans, run__steps=1, task__priors="true", **SHAPES)
    for completion in [c for completions in SeesSpans.last.seen for c in completions]:
        assert len(completion.spans) == completion.tokens and completion.spans[0][0] == 0
        assert "".join(completion.text[start:end] for start, end in completion.spans) == completion.text
        if completion.source == "prior":  # a token for each letter, and the end token
            assert completion.spans == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 5))
    train_on(SeesAll, "without", run__steps=1, **SHAPES)
    assert {c.spans for completions in SeesAll.last.seen for c in completions} == {()}


class Breaks(ToyTask):
    def reward(self, sample, completions):
        return {"right": [sample.data["missing"] for _ in completions]}


class BreaksLate(ToyTask):
    def reward(self, sample, completions):
        yield Generate([Sample(f"{sample.id}/more", "more")])
        return {"right": [1 / 0 for _ in completions]}


@pytest.mark.parametrize(("task", "said"), [(Breaks, "KeyError: 'missing'"), (BreaksLate, "ZeroDivisionError")])
def test_an_error_in_a_reward_names_task_sample_line_and_code(train_on, task, said):
    with pytest.raises(ValueError, match=rf'{task.__name__}.reward, sample toy-\d: {said}.*test_doors.py, line \d+: '
                                         r'return \{"right"'):
        train_on(task)


class Asks(Seen):
    """Has every completion answered twice, and then the first of them once more."""

    reward_weights = {}

    def reward(self, sample, completions):
        asked = [Sample(f"{sample.id}/child/{i}", f"again: {c.tokens}") for i, c in enumerate(completions)]
        children = yield Generate(asked, group_size=2)
        more = yield Generate([asked[0]], temperature=0, max_new_tokens=3)
        self.answers = getattr(self, "answers", []) + [(asked, children, more)]
        return {"letters": [sum(letters(c.text) for c in both) / 2 for both in children]}


def test_a_reward_has_more_completions_drawn_together_for_all_groups(train_on, monkeypatch, models):
    calls = []

    def counted(vlm, prompts, sizes, *args, **options):
        calls.append(len(prompts))
        return generate(vlm, prompts, sizes, *args, **options)

    monkeypatch.setattr("minigrpo.reward.generate", counted)
    train_on(Asks, run__steps=2, **SHAPES)
    assert calls == [16, 4, 16, 4], "one call for the requests of all groups, whatever their number"
    task = Asks.last
    for _, children, more in task.answers:
        assert [len(both) for both in children] == [2] * 4 and len(more) == len(more[0]) == 1
        assert more[0][0].tokens <= 3
    # the very completions that generate draws for the same prompts, seed and step
    from minigrpo import load_model
    vlm, (asked, children, more) = load_model(models / "qwen2_5_vl"), task.answers[0]
    drawn = generate(vlm, [vlm.encode(s) for s in asked], 2, Sampling(6), seed=0, step=0)
    assert [[vlm.decode(c) for c in g.completions] for g in drawn] == [[c.text for c in both] for both in children]
    greedy = generate(vlm, [vlm.encode(asked[0])], 1, Sampling(3, 0.0))
    assert vlm.decode(greedy[0].completions[0]) == more[0][0].text


class Raises(Seen):
    """Has two questions answered for every sample, which are rewarded and trained on as samples are."""

    reward_weights = {}
    learn = True

    def reward(self, sample, completions):
        if "/child/" in sample.id:
            return {"short": [1.0 / c.tokens for c in completions]}
        return self.asking([Sample(f"{sample.id}/child/{i}", f"more, {i}") for i in range(2)], completions)

    def asking(self, asked, completions):
        drawn = yield Generate(asked, group_size=3, temperature=0.5, learn=self.learn)
        self.drawn = [*getattr(self, "drawn", []), *zip(asked, drawn, strict=True)]
        return {"letters": [letters(c.text) for c in completions]}


class RaisesNot(Raises):
    learn = False


def test_a_step_learns_from_what_a_reward_had_drawn(train_on, monkeypatch):
    told = []
    monkeypatch.setattr(Sampler, "learn", lambda self, outcomes: told.append([o.index for o in outcomes]))
    calls = []

    def counted(vlm, prompts, sizes, sampling, **options):
        calls.append((len(prompts), sampling.temperature))
        return generate(vlm, prompts, sizes, sampling, **options)

    monkeypatch.setattr("minigrpo.reward.generate", counted)
    options = {"run__steps": 2, "rollout__temperature": 0.9, "rollout__resample_rounds": 1, "grpo__beta": 0.1,
               "rollout__prompts_per_step": 2, "task__prompts": 2, "rollout__group_size": 4}
    learned = train_on(Raises, "learned", **options)
    task = Raises.last
    assert calls == [(4, 0.9)] * 2, "drawn once, as the rollout draws"
    assert [len(t) for t in told] == [2, 2], "the sampler is told of its own samples alone"
    ids = [c.sample.id for c in task.contexts[:6]]
    assert [i.split("/")[0] for i in ids[2:]] == [ids[0]] * 2 + [ids[1]] * 2 and "/child/" in ids[2]
    for context, (sample, completions) in zip(task.contexts[2:6], task.drawn[:4], strict=True):
        assert context.sample is sample and context.completions == completions and set(context.terms) == {"short"}
        assert torch.equal(context.advantages, group_advantages(context.rewards)) and len(context.advantages) == 3
    plain = train_on(RaisesNot, "plain", **options)
    assert calls[2:] == [(4, 0.5)] * 2 and [c.sample.id for c in RaisesNot.last.contexts[:2]] == ids[:2]
    assert len(RaisesNot.last.contexts) == 4 and not same(learned / "model", plain / "model")
    more = sum(c.tokens for _, completions in task.drawn[:4] for c in completions)
    first = [round(line["tokens_per_second"] * line["seconds"]) for line in (lines(learned)[0], lines(plain)[0])]
    assert first[0] - first[1] == more


class Quotes(ToyTask):
    """Asks about the model's own words, special tokens among them."""

    reward_weights = {}

    def reward(self, sample, completions):
        yield Generate([Sample(f"{sample.id}/q", "<|im_end|>say <|endoftext|>it again")])
        return {"letters": [letters(c.text) for c in completions]}


def test_special_tokens_in_what_a_reward_asks_are_left_out(train_on, monkeypatch):
    asked, encode = [], VLM.encode
    monkeypatch.setattr(VLM, "encode", lambda self, sample, *args: asked.append(sample) or encode(self, sample, *args))
    train_on(Quotes, run__steps=1, **SHAPES)
    assert {s.question for s in asked if s.id.endswith("/q")} == {"say it again"}


# views


def black(sample):
    return [Image.new("RGB", image.size) for image in sample.images]


class Views(Seen):
    def views(self, sample, step):
        return {"black": black(sample)} if sample.images else {}


class ViewsByReference(Views):
    scored_by = "reference"


@pytest.mark.parametrize("task_class", [Views, ViewsByReference])
def test_completions_are_scored_under_each_view(train_on, models, task_class):
    """Against a policy that was loaded apart, on prompts encoded apart, one completion at a time."""
    from minigrpo import load_model
    train_on(task_class, run__steps=2, optim__lr=0.01, **SHAPES)
    vlm, task = load_model(models / "qwen2_5_vl"), task_class.last
    with_image = [c for c in task.contexts if c.sample.images]
    assert len(with_image) == 4
    assert all(not c.views and c.logps is not None for c in task.contexts if not c.sample.images)
    for context in with_image:
        blind = vlm.encode(Sample("x", context.sample.question, tuple(black(context.sample))))
        for prompt, found in ((context.group.prompt, context.logps), (blind, context.views["black"])):
            with torch.no_grad():
                alone = [Policy(vlm)(pack([Group(prompt, [c])])) for c in context.group.completions]
            apart = [float((row[:len(out.logps)] - out.logps).abs().max())
                     for row, out in zip(found, alone, strict=True)]
            frozen = context.step == 0 or task_class is ViewsByReference
            assert (max(apart) < 1e-4) is frozen, "the policy moves after the first step, the reference never"
            assert all(not row[len(out.logps):].any() for row, out in zip(found, alone, strict=True))
        assert (context.logps - context.views["black"]).abs().max() > 1e-2, "the picture makes no difference"


class HalfNoisy(Views):
    def draw_from(self, sample, step):
        return {"black": 2} if sample.images else {}


def test_completions_are_drawn_from_a_view_and_trained_under_the_samples_own_pictures(train_on, models):
    from minigrpo import load_model
    train_on(HalfNoisy, run__steps=1, task__priors="true", **SHAPES)
    vlm = load_model(models / "qwen2_5_vl")
    for context in HalfNoisy.last.contexts:
        sources = [c.source for c in context.completions]
        if not context.sample.images:
            assert "black" not in sources
            continue
        assert sources == ["policy", "policy", "black", "black"]
        view = vlm.encode(Sample(f"{context.sample.id}/black", context.sample.question, tuple(black(context.sample))))
        drawn = generate(vlm, [view], 2, Sampling(6), seed=0, step=0)[0]
        assert all(torch.equal(a, b) for a, b in zip(context.group.completions[2:], drawn.completions, strict=True))
        assert torch.equal(context.group.prompt.pixel_values, vlm.encode(context.sample).pixel_values)
        known = pack([context.group]).sampler_logps.split([len(c) for c in context.group.completions])
        assert [bool(x.isfinite().all()) for x in known] == [True, True, False, False], "no difference to the policy's"


# advantages and token weights


class Doubled(Seen):
    def advantages(self, context):
        return 2 * group_advantages(context.rewards) + torch.arange(4) / 10


class FirstToken(Seen):
    def token_weights(self, context):
        return torch.zeros(context.mask.shape).index_fill(1, torch.tensor([0]), 1.0)


def test_a_tasks_advantages_are_trained_with(train_on):
    folder = train_on(Doubled, run__steps=1, task__flat_every=2, run__log_completions=9, **SHAPES)
    for context in Doubled.last.contexts:
        expected = 2 * group_advantages(context.rewards) + torch.arange(4) / 10
        assert torch.equal(context.advantages, expected) and context.group.varied
    logged = {round(line["advantage"], 6) for line in lines(folder, "completions")}
    assert logged <= {round(float(a), 6) for c in Doubled.last.contexts for a in c.advantages}
    assert lines(folder)[0]["zero_variance"] == 0, "its own advantages are not zero"


class Compares(Seen):
    def advantages(self, context):
        return context.compare(torch.arange(4.0))


class BadReward(Seen):
    def reward(self, sample, completions):
        return {"exact": [float("nan")] * len(completions)}

    def advantages(self, context):
        return context.advantages + torch.arange(len(context.completions))


def test_a_group_that_is_left_out_is_not_trained_on_whatever_the_door_says(train_on):
    record = lines(train_on(BadReward, run__stop_on="kl", run__steps=1))[0]
    assert record["idle"] == 1 and record["updated"] == 0 and record["bad_rewards"] == 1
    assert not any(context.group.varied for context in BadReward.last.contexts)


def test_a_task_may_compare_other_rewards_as_the_run_does(train_on):
    train_on(Compares, run__steps=1, grpo__scale="none", **SHAPES)
    assert all(context.advantages.tolist() == [-1.5, -0.5, 0.5, 1.5] for context in Compares.last.contexts)


def test_token_weights_multiply_the_advantage_of_each_token(train_on, monkeypatch):
    seen = []
    from minigrpo import step
    policy_loss = step.policy_loss
    monkeypatch.setattr(step, "policy_loss", lambda *a, **k: seen.append(a[2].clone()) or policy_loss(*a, **k))
    train_on(FirstToken, run__steps=1, **SHAPES)
    contexts = FirstToken.last.contexts
    expected = [float(a) if n == 0 else 0.0 for c in contexts if c.group.varied
                for a, tokens in zip(c.advantages, c.group.completions, strict=True) for n in range(len(tokens))]
    assert torch.cat(seen).tolist() == pytest.approx(expected, rel=1e-6)
    assert any(expected)


@pytest.mark.parametrize(("door", "answer", "said"), [
    ("advantages", torch.zeros(3), r"advantages, sample toy-\d: gave .*; wanted is one finite number for each of 4 "),
    ("advantages", torch.tensor([0.0, 1.0, math.nan, 0.0]), "one finite number for each of 4"),
    ("token_weights", torch.ones(4), r"token_weights, sample toy-\d: gave .*; wanted is finite numbers of shape \[4"),
    ("advantages", torch.tensor([0.0, 1.0, 1e30, 0.0]), r"advantages, .*; wanted is numbers of a size below 1e\+15"),
    ("extra_loss", torch.tensor(3.0), r"Wrong.extra_loss: gave .*; wanted is a loss with a gradient, made of "),
    ("extra_loss", torch.tensor(3), r"Wrong.extra_loss: gave .*; wanted is a real number with decimals"),
    ("extra_loss", torch.tensor(3j), r"Wrong.extra_loss: gave .*; wanted is a real number with decimals"),
])
def test_impossible_advantages_and_weights_are_refused(train_on, door, answer, said):
    with pytest.raises(ValueError, match=said):
        train_on(type("Wrong", (ToyTask,), {door: lambda self, context: answer}), **SHAPES)


def test_weights_that_are_too_large_are_refused(train_on):
    class Wrong(ToyTask):
        def token_weights(self, context):
            return 1e20 * context.mask

    with pytest.raises(ValueError, match="token_weights, sample .*; wanted is numbers of a size below"):
        train_on(Wrong, **SHAPES)


def test_who_reads_scores_that_are_not_there_is_told_how_to_get_them(train_on):
    class Wrong(ToyTask):
        def advantages(self, context):
            return context.advantages * context.entropies.mean(1)

    with pytest.raises(ValueError, match=r"Wrong.advantages, .*NoneType.*; with needs_scores = True the task gets"):
        train_on(Wrong, **SHAPES)


# slots


class TwoSlots(Seen):
    def slots(self, sample):
        return ["one", "two"] if sample.data["flat"] else []


def test_texts_of_slots_replace_the_last_completions_and_g_stays_g(train_on):
    train_on(TwoSlots, run__steps=1, task__flat_every=2, **SHAPES)
    for context in TwoSlots.last.contexts:
        texts = [c.text for c in context.completions]
        assert len(texts) == 4 == len(context.group.completions)
        assert (texts[2:] == ["one", "two"]) is context.sample.data["flat"]
    with pytest.raises(ValueError, match="5 texts of slots"):
        train_on(type("Five", (ToyTask,), {"slots": lambda self, sample: ["x"] * 5}), "five", **SHAPES)


# sampler


def test_groups_without_variance_are_replaced_within_the_step(train_on):
    options = {"task__prompts": 12, "task__flat_every": 2, "rollout__group_size": 4, "run__steps": 3}
    plain = train_on(Seen, "plain", **options)
    before = [sum(c.varied for c in Seen.last.contexts if c.step == step) for step in range(3)]
    again = train_on(Seen, "again", rollout__resample_rounds=3, **options)
    after = [sum(c.varied for c in Seen.last.contexts if c.step == step) for step in range(3)]
    assert [len([c for c in Seen.last.contexts if c.step == step]) for step in range(3)] == [4, 4, 4]
    assert sum(after) > sum(before) and min(after) == 4, (before, after)
    assert lines(again)[0]["zero_variance"] == 0 < lines(plain)[0]["zero_variance"]


class PriorAlone(Seen):
    """Only the prior earns anything: there is something to learn in every group."""

    def slots(self, sample):
        return ["words"]

    def reward(self, sample, completions):
        super().reward(sample, completions)
        return {"exact": [float(c.source == "prior") for c in completions]}


def test_a_group_whose_prior_alone_is_right_is_kept_and_not_replaced(train_on):
    train_on(PriorAlone, task__prompts=12, rollout__resample_rounds=2, run__steps=1)
    assert len(PriorAlone.last.contexts) == 4 and all(c.varied for c in PriorAlone.last.contexts)


class OneBad(Seen):
    """The reward of every third sample is no number."""

    def reward(self, sample, completions):
        terms = super().reward(sample, completions)
        return {"exact": [float("nan")] * len(completions)} if int(sample.id[4:]) % 3 == 0 else terms


def test_a_bad_reward_is_counted_where_its_group_is_replaced(train_on):
    options = {"task__prompts": 12, "run__stop_on": "kl", "run__steps": 3}
    plain = [r["bad_rewards"] for r in lines(train_on(OneBad, "plain", **options))]
    again = [r["bad_rewards"] for r in lines(train_on(OneBad, "again", rollout__resample_rounds=2, **options))]
    assert sum(plain) > 0 and all(a > 0 for a, p in zip(again, plain, strict=True) if p > 0)


class Favourite(Seen):
    """Takes the samples whose rewards were best so far."""

    def sampler(self, samples, per_step, seed, resample_rounds):
        class Best(Sampler):
            best: dict = {}

            def learn(self, outcomes):
                self.best = self.best | {o.index: max(o.rewards) for o in outcomes}

            def choose(self, step):
                if step < 2:
                    return super().choose(step)
                return sorted(self.best, key=lambda i: (-self.best[i], i))[: self.per_step]

            def state(self):
                return {"best": sorted(self.best.items())}

            def load(self, state):
                self.best = dict(state["best"])

        self.made = Best(samples, per_step, seed)
        return self.made


def test_a_sampler_learns_from_rewards_and_its_state_can_be_taken_over(train_on):
    train_on(Favourite, task__prompts=8, rollout__prompts_per_step=4, run__steps=3)
    task = Favourite.last
    rewards = {c.sample.id: float(c.rewards.max()) for c in task.contexts if c.step < 2}
    chosen = {c.sample.id for c in task.contexts if c.step == 2}
    assert chosen == set(sorted(rewards, key=lambda name: -rewards[name])[:4])
    made, other = task.made, task.sampler(8, 4, 0, 0)
    other.load(made.state())
    assert len(made.best) == 8 and set(other.choose(2)) == set(made.choose(2)) != set(other.choose(0))


# extra losses and stages


class Imitates(ToyTask):
    """Adds the loss that imitation has: all tokens of what was drawn, weighed alike."""

    def extra_loss(self, context):
        return -(context.logps * context.weights).sum()


def test_an_extra_loss_is_added_to_the_policys(train_on):
    flat = {"task__flat_every": 1, "run__steps": 1, **SHAPES}
    still, moved = train_on(ToyTask, "still", **flat), train_on(Imitates, "moved", **flat)
    assert lines(still)[0]["idle"] == 1 and "loss" not in lines(still)[0]
    mean = lines(moved)[0]
    assert mean["loss"] > 0.5 and mean["idle"] == 0, "minus the mean log-probability, as no advantage is there"
    assert not same(still / "model", moved / "model")


class Stages(ToyTask):
    def stages(self, config):
        return [Stage("imitate", 2, policy=0.0, sft=1.0), Stage("both", 1, policy=1.0, sft=0.5),
                Stage("other", 1, task=Flat(self.config))]


class Flat(ToyTask):
    reward_weights = {}

    def reward(self, sample, completions):
        return {"nothing": [0.0] * len(completions)}


def test_the_progress_line_counts_the_steps_of_the_tasks_own_stages(train_on, capsys):
    train_on(Stages, task__priors="true", sft__prompts_per_step=4, run__steps=1, **SHAPES)
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in shown] == ["1/4", "2/4", "3/4", "4/4"] and "0:00 left" in shown[-1]


def test_stages_are_trained_one_after_the_other(train_on):
    folder = train_on(Stages, task__priors="true", sft__prompts_per_step=4, **SHAPES)
    found = lines(folder)
    assert [line["step"] for line in found] == [1, 2, 3, 4]
    assert ["reward" in line for line in found] == [False, False, True, True]
    assert found[3]["reward/nothing"] == 0 and found[3]["idle"] == 1
    assert {path.name for path in folder.iterdir()} >= {"model-imitate", "model-both", "model"}
    assert not same(folder / "model-imitate", folder / "model-both")
    assert same(folder / "model-both", folder / "model"), "its last stage had nothing to learn"
    assert result(folder)["steps"] == 4


def test_a_mixed_stage_adds_both_gradients(train_on, monkeypatch):
    """One step of SGD: the change of the weights is the sum of those of its parts."""
    sgd = lambda policy, config: torch.optim.SGD(policy.parameters(), 1)  # noqa: E731
    monkeypatch.setattr("minigrpo.training.make_optimizer", sgd)
    options = {"run__steps": 1, "task__priors": "true", "model__dtype": "float64", "sft__prompts_per_step": 4,
               "optim__max_grad_norm": 1e9, "optim__lr": 1e-3, "sft__lr": 1e-3, **SHAPES}

    def moved(name, **mix):
        one = type("One", (ToyTask,), {"stages": lambda self, config: [Stage("x", 1, **mix)]})
        return weights(train_on(one, name, **options) / "model")

    start = moved("start", policy=1e-300)
    policy, sft, both = moved("p"), moved("s", policy=0.0, sft=1.0), moved("b", policy=1.0, sft=0.5)
    change = 0.0
    for key in start:
        expected = (policy[key] - start[key]) + 0.5 * (sft[key] - start[key])
        torch.testing.assert_close(both[key] - start[key], expected, rtol=1e-6, atol=1e-12)
        change = max(change, float(expected.abs().max()))
    assert change > 1e-6


# metrics and shown answers


class Figures(ToyTask):
    def metrics(self, context):
        return {"own/size": len(context.completions), "own/flat": context.sample.data["flat"]}

    def shown_answer(self, sample):
        return f"of {sample.id}"


def test_a_tasks_own_figures_and_answers_are_logged(train_on):
    folder = train_on(Figures, run__steps=1, task__flat_every=2, **SHAPES)
    assert lines(folder)[0]["own/size"] == 4 and lines(folder)[0]["own/flat"] == 0.5
    assert all(line["answer"] == f"of {line['id']}" for line in lines(folder, "completions"))


class Unmarked(ToyTask):
    def _sample(self, i):
        return task_module.Sample(f"toy-{i}", "write", data={"answer": 7, "flat": False})


def test_the_engine_never_looks_into_data(train_on):
    assert all(line["answer"] is None for line in lines(train_on(Unmarked), "completions"))


# ids, and the examples of the docstrings


class Twins(ToyTask):
    def _sample(self, i):
        return task_module.Sample("twin", f"write {i}", data={"flat": False})


def test_two_samples_with_one_id_are_refused(train_on):
    with pytest.raises(ValueError, match=r"samples \d and \d of the task have one id, 'twin'"):
        train_on(Twins)


DOORS = [name for name, door in vars(Task).items() if inspect.isfunction(door) and "Example:" in (door.__doc__ or "")]


def test_every_door_has_an_example():
    assert DOORS == ["reward", "views", "draw_from", "slots", "gather", "advantages", "token_weights", "sampler",
                     "extra_loss", "stages", "metrics", "shown_answer"]


@pytest.mark.parametrize("door", DOORS)
def test_the_example_of_a_docstring_trains(train_on, door):
    code = textwrap.dedent(inspect.getdoc(getattr(Task, door)).partition("Example:\n")[2])
    assert len(code.splitlines()) <= 10
    scope = {"Task": Task, "Sample": Sample, "Generate": Generate, "Stage": Stage, "Sampler": Sampler, "torch": torch,
             "Image": Image, "ImageFilter": ImageFilter, "ToyTask": ToyTask}
    exec("class Example(ToyTask):\n    reward_weights = {}\n" + textwrap.indent(code, "    "), scope)
    folder = train_on(scope["Example"], task__priors="true", **SHAPES)
    assert lines(folder) and len(lines(folder)) >= 2
