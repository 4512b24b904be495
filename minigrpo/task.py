"""What to train on: a `Task` gives samples, scores completions and evaluates. It is all a user has to write.

A task needs `samples` and `reward`. Every other method is a door: as it stands here it is plain GRPO, bit for bit, and
costs nothing; a subclass that writes its own changes one thing about the step and leaves the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from minigrpo.sampler import Sampler

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from minigrpo.layout import Group, Packed
    from minigrpo.sections import Config


@dataclass(frozen=True)
class Sample:
    """One prompt: the images stand before the question, in the user's turn.

    Attributes:
        id: Unique and stable. Random numbers, caches and error messages are keyed on it.
        question: The user's text.
        images: RGB images, zero or more, in the order in which the model sees them.
        system: System prompt; None leaves it to the model's chat template, and Qwen's adds one of its own.
        prior: An annotated trajectory, as the text the model should have answered; None where there is none.
        data: Whatever `Task.reward` needs, the true answer say. The engine never looks inside.
    """

    id: str
    question: str
    images: tuple[Image.Image, ...] = ()
    system: str | None = None
    prior: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Completion:
    """One answer of a group, as a reward sees it.

    Attributes:
        text: Without its end token.
        tokens: Its length, the end token included.
        ended: Whether it came to an end token; False where `rollout.max_new_tokens` cut it off.
        logp: Mean log-probability of its tokens when it was drawn, in nats; NaN for a text of `Task.slots`.
        source: "policy", the view it was drawn from, or "prior" for a text of `Task.slots`.
        spans: The characters of `text` that each token adds, (begin, end), the end exclusive; empty unless the task
            has `needs_spans`, and for what `Generate` asked for.
    """

    text: str
    tokens: int = 0
    ended: bool = True
    logp: float = float("nan")
    source: str = "policy"
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Generate:
    """What a reward yields to have the policy answer more prompts; see `Task.reward`.

    Attributes:
        samples: The prompts, a list; their ids unlike those of the task's samples, and unlike each other. The same id
            asked again in the same step gives the same answers.
        group_size: Completions of each.
        temperature: 0 is greedy.
        max_new_tokens: Longest completion; 0 takes the rollout's limit.
        learn: Whether the step trains on what is drawn too: each sample becomes a group of the step, of 2 or more
            completions drawn at the rollout's temperature, which `Task.reward` and the other doors are asked about
            like any. It has no views and no slots, and the sampler is not told of it.
    """

    samples: Sequence[Sample]
    group_size: int = 1
    temperature: float = 1.0
    max_new_tokens: int = 0
    learn: bool = False


Terms = Mapping[str, Sequence[float | None]]
"""Named reward terms of a group: a number for each of its completions, None where the term does not apply."""
Answer = Callable[[Sequence[Sample]], list[str]]
"""Greedy completions, one per sample, of the model as it is now; work is shared by all ranks."""


@dataclass(frozen=True)
class GroupContext:
    """One group of a step, as the doors see it: G completions, T tokens in the longest.

    Attributes:
        step: Number of the step in its stage, from 0.
        sample, group: The prompt and its completions as tokens.
        completions: G of them, as the reward saw them.
        terms: What the reward said: term → [G], NaN where a term does not apply.
        rewards: float64 [G], the weighted sums of the terms.
        advantages: float64 [G], those of plain GRPO; `Task.metrics` sees those that are trained with.
        logps, entropies: [G, T], log-probability and entropy of every token by the policy (or the reference, if
            `scored_by` says so) before the update, 0 behind a completion's end; None unless `needs_scores`, or views.
        views: The same log-probabilities under each view of `Task.views`.
        gathered: What `Task.gather` said of all groups of the step: name → numbers, ascending.
        compare: The advantages [G] that plain GRPO, with the run's options, gives to other rewards [G].
        mask: bool [G, T], True where there is a token.
        bad: Whether the reward was no finite number, so that the group is left out; its rewards are then 0.
    """

    step: int
    sample: Sample
    group: Group
    completions: list[Completion]
    terms: Mapping[str, list[float]]
    rewards: Tensor
    mask: Tensor
    advantages: Tensor | None = None
    logps: Tensor | None = None
    entropies: Tensor | None = None
    views: Mapping[str, Tensor] = field(default_factory=dict)
    gathered: Mapping[str, list[float]] = field(default_factory=dict)
    compare: Callable[[Tensor], Tensor] | None = None
    bad: bool = False

    @property
    def varied(self) -> bool:
        """Whether two completions have different rewards."""
        return self.rewards.unique().numel() > 1


@dataclass(frozen=True)
class BatchContext:
    """One micro-batch of the update: B completions with N tokens, one after the other.

    Attributes:
        step: Number of the step in its stage, from 0.
        batch: The packed groups: `rewards`, `advantages`, `is_prior` [B], `owner` [N], the completion of each token.
        logps: [N], log-probabilities by the policy, with gradient.
        entropies: [N], without gradient.
        weights: [N], what a token weighs in the step's mean (`grpo.normalize`): a sum of weighted tokens is the same
            whatever the micro-batches and ranks.
    """

    step: int
    batch: Packed
    logps: Tensor
    entropies: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Stage:
    """A part of a run; the next one starts from the model it made, with a new optimizer and reference.

    Attributes:
        name: Its model is written to `model-{name}`, that of the last stage to `model`.
        steps: How many.
        policy: Weight of the policy loss (GRPO). At 0 nothing is drawn or rewarded.
        sft: Weight of imitation: the mean negative log-probability of the tokens of `Task.slots` (MPCC Eq. 2).
        task: What to train on; None is the run's own task.
    """

    name: str
    steps: int
    policy: float = 1.0
    sft: float = 0.0
    task: Task | None = None


class Task:
    """Base class of every task. `train.py --task package.module:Class` trains on it.

    A subclass may declare its own options as a frozen dataclass named `Config`, a docstring below each field:
    they become `--task.<field>` on the command line and `[task]` in the TOML file, and arrive in `__init__`.
    """

    @dataclass(frozen=True)
    class Config:
        """Options of the task. None by default."""

    default_model: str = ""
    """Model folder or hub id that the task trains where none is named."""
    reward_weights: Mapping[str, float] = {}
    """Weight of each reward term; a term that is not listed weighs 1."""
    scored_by: Literal["policy", "reference"] = "policy"
    """Who scores completions under the views of `views`, and for `needs_scores`; the reference never changes."""
    needs_scores: bool = False
    """Whether `advantages` or `token_weights` read `logps` and `entropies`, which cost a forward pass of all groups."""

    needs_spans: bool = False
    """Whether the doors read `Completion.spans`, for which every completion is decoded token by token."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def samples(self) -> Sequence[Sample]:
        """Training samples. Indexing loads the images, so that a long sequence costs no memory."""
        raise NotImplementedError(f"{type(self).__name__} must define samples()")

    def reward(self, sample: Sample, completions: list[Completion]) -> Terms | Generator[Generate, list, Terms]:
        """Named terms of one group, a number (numpy's too) for each completion, or None where a term does not apply.

        A reward that needs more completions is a generator: it yields `Generate` requests, gets the completions of
        each sample of the request, and returns the terms. The requests of all groups of a step are drawn together.

        Example:
            def reward(self, sample, completions):
                asked = [Sample(f"{sample.id}/{i}", f"Shorten: {c.text}") for i, c in enumerate(completions)]
                shorter = yield Generate(asked, temperature=0)
                return {"short": [float(len(s.text) < len(c.text)) for (s,), c in zip(shorter, completions)],
                        "ended": [c.ended if c.tokens > 1 else None for c in completions]}
        """
        raise NotImplementedError(f"{type(self).__name__} must define reward()")

    def views(self, sample: Sample, step: int) -> Mapping[str, Sequence[Image.Image]]:
        """Other pictures of the sample: name → images. The group's completions are scored under each, `scored_by` says
        by whom; prompt and images of a view are computed once per group. The log-probabilities are `context.views`.

        Example:
            def views(self, sample, step):
                return {"blind": [Image.new("RGB", image.size) for image in sample.images]} if sample.images else {}

            def advantages(self, context):  # what the image says counts double
                gain = (context.logps - context.views["blind"]).sum(1) if context.views else context.rewards
                return context.advantages * (1 + gain.clamp(0, 1))
        """
        return {}

    def draw_from(self, sample: Sample, step: int) -> Mapping[str, int]:
        """How many of the group's completions are drawn from a view instead of the sample: view → number. They stand
        behind the others, before the texts of `slots`; the update has the sample's own images before them.

        Example:
            def views(self, sample, step):
                noise = max(2, 40 - step)
                return {"noisy": [image.filter(ImageFilter.GaussianBlur(noise)) for image in sample.images]}

            def draw_from(self, sample, step):
                return {"noisy": 1}
        """
        return {}

    def slots(self, sample: Sample) -> Sequence[str]:
        """Texts that replace the last completions of the group, one each, so that G stays G; by default the prior.

        Example:
            def slots(self, sample):
                return [] if sample.prior is None else [sample.prior, sample.prior.upper()]
        """
        return [] if sample.prior is None else [sample.prior]

    def gather(self, context: GroupContext) -> Mapping[str, Sequence[float]]:
        """Numbers of a group, by name, that every group of the step is to see, whatever rank it is on: those of all
        stand in `context.gathered` once advantages are asked for.

        Example:
            def gather(self, context):
                return {"tokens": [float(c.tokens) for c in context.completions]}

            def advantages(self, context):  # long ones count less, measured by the longest of the step
                tokens = torch.tensor([c.tokens for c in context.completions])
                return context.advantages * (1 - 0.5 * tokens / context.gathered["tokens"][-1])
        """
        return {}

    def advantages(self, context: GroupContext) -> Tensor:
        """Advantages [G] of a group, from its rewards and scores; by default those of plain GRPO.

        Example:
            needs_scores = True

            def advantages(self, context):  # a bonus for tokens that were not sure, at most a third of the advantage
                entropy = context.entropies.sum(1) / context.mask.sum(1)
                return context.advantages + torch.minimum(0.1 * entropy, context.advantages.abs() / 3)
        """
        return context.advantages

    def token_weights(self, context: GroupContext) -> Tensor | None:
        """What multiplies the advantage at each token, [G, T]; None: 1 everywhere.

        Example:
            def token_weights(self, context):  # the first four tokens of a completion count double
                return 1 + (context.mask.cumsum(1) <= 4)
        """
        return None

    def sampler(self, samples: int, per_step: int, seed: int, resample_rounds: int) -> Sampler:
        """What chooses the samples of each step: shuffled anew each epoch by default (`minigrpo.sampler`).

        Example:
            def sampler(self, samples, per_step, seed, resample_rounds):
                class Unsolved(Sampler):  # samples that were right every time come no more, as long as there are others
                    solved = set()
                    def learn(self, outcomes):
                        super().learn(outcomes)
                        self.solved = self.solved | {o.index for o in outcomes if min(o.rewards) >= 1}
                    def choose(self, step):
                        return sorted(super().choose(step), key=lambda i: i in self.solved)
                return Unsolved(samples, per_step, seed, resample_rounds)
        """
        return Sampler(samples, per_step, seed, resample_rounds)

    def extra_loss(self, context: BatchContext) -> Tensor | None:
        """A loss beside the policy's, as a scalar: a sum of tokens by `context.weights`. None: no other.

        Where a task has written it, groups without variance are part of the update too, and no step is idle. On a rank
        with fewer micro-batches some hold nothing: their `batch.counted` is False, their ids are empty.

        Example:
            def extra_loss(self, context):  # imitate what earned the full reward
                verified = context.batch.rewards[context.batch.owner] >= 1.0
                return -0.1 * (context.logps * context.weights * verified).sum()
        """
        return None

    def stages(self, config: Config) -> list[Stage]:
        """The parts of a run; by default those of `run.stages`: imitation, reinforcement, or one after the other.

        Example:
            def stages(self, config):
                return [Stage("both", steps=2, policy=1.0, sft=0.1), Stage("rft", config.run.steps)]
        """
        made = {"sft": Stage("sft", config.sft.steps, policy=0.0, sft=1.0), "rft": Stage("rft", config.run.steps)}
        return [made[name] for name in config.run.stages.split("+")]

    def metrics(self, context: GroupContext) -> Mapping[str, float]:
        """Figures of a group, which are averaged over the step's and logged under their names.

        Example:
            def metrics(self, context):
                return {"questions": sum(c.text.endswith("?") for c in context.completions) / len(context.completions)}
        """
        return {}

    def shown_answer(self, sample: Sample) -> str | None:
        """What is shown beside logged completions as the true answer; None shows none.

        Example:
            def shown_answer(self, sample):
                return str(sample.data.get("answer"))
        """
        return None

    def evaluate(self, answer: Answer) -> dict[str, float]:
        """Named figures on held-out data; `answer` lets the model respond. Empty: nothing to evaluate."""
        return {}


def uses(task: Task, door: str) -> bool:
    """Whether the task has written this method itself."""
    return getattr(type(task), door) is not getattr(Task, door)
