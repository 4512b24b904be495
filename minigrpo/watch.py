"""What goes wrong in a run, said in plain sentences, and when to end it. Knows nothing but the steps' metrics."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Trouble:
    """Something that may go wrong.

    Attributes:
        metric: What tells of it.
        there: Whether a value of the metric does, given its mean in the first steps.
        on_end: For so many steps on end, before it is named.
        text: What that means and what to do.
    """

    metric: str
    there: Callable[[float, float], bool]
    on_end: int
    text: str


TROUBLES = {
    "idle": Trouble("idle", lambda value, began: value > 0.5, 5,
                    "no group had two different rewards, so nothing was learned and the weights stayed as they were. "
                    "Look at the rewards in completions.jsonl. Samples that are neither too easy nor too hard, a "
                    "higher rollout.temperature or a larger rollout.group_size make rewards differ"),
    # A useful policy stays within some tenths of a nat of its reference; at 1, a token of its own is 2.7 times as
    # probable as there, on average. How fast it grew says little: it begins at 0 and soon grows tenfold in any run.
    "kl": Trouble("kl", lambda value, began: value > 1.0, 5,
                  "the KL to the reference is {value:.2g} nats per token: the policy runs away from where it began. "
                  "Lower optim.lr or raise grpo.beta; priors may lie too far from what the model would say"),
    # some models begin high
    "entropy": Trouble("entropy", lambda value, began: value > max(2.0, 2 * began), 5,
                       "the entropy is {value:.2g} nats per token, after {began:.2g} in the first steps: the policy "
                       "turns to noise. Lower optim.lr, read completions.jsonl; priors may lie too far from what the "
                       "model would say"),
    # a group whose completions are all the same teaches nothing; some models begin low, and may stay there
    "entropy_lost": Trouble("entropy", lambda value, began: value < min(0.02, 0.1 * began), 5,
                            "the entropy is {value:.2g} nats per token, after {began:.2g} in the first steps: all "
                            "completions of a group become the same. Raise grpo.beta, grpo.clip_high or "
                            "rollout.temperature, or end here"),
    "cut_off": Trouble("cut_off", lambda value, began: value > 0.5, 5,
                       "{value:.0%} of the completions were cut off at rollout.max_new_tokens, most likely before "
                       "their answer. Raise it, or ask for shorter answers"),
    # bfloat16 has 8 bits: logits of 16 to 32 lie 1/8 apart, and log-probabilities differ by hundredths on average
    "sampler": Trouble("sampler/mean_difference", lambda value, began: value > 0.05, 5,
                       "sampler and policy differ by {value:.2g} nats per token, more than by rounding: the update is "
                       "not of the distribution that was drawn from. Compare with model.dtype float32"),
    "skipped": Trouble("skipped", lambda value, began: value > 0.5, 1,
                       "loss or gradient was not finite, so no update was made; {most} such steps among {among} end "
                       "the run. Lower optim.lr, and look for very large rewards in completions.jsonl"),
    "reward": Trouble("bad_rewards", lambda value, began: value > 0, 1,
                      "{value:.0%} of the groups had a reward that is no finite number; they were left out. Mend the "
                      "reward"),
}
"""By the names that `run.stop_on` takes."""
AWAY = 5
"""After so many steps without it, a trouble that was named is named again when it comes back."""
FIRST_STEPS = 3
"""The mean of these steps is what later ones are held against."""


class Watch:
    """Told of every step, says what goes wrong: each trouble once, until it was gone for a while and has come back.

    Attributes:
        counts: Of each trouble, the steps in which it was there.
    """

    def __init__(self, max_bad_steps: int) -> None:
        self.counts: Counter[str] = Counter()
        self._bad = deque[bool](maxlen=2 * max_bad_steps)
        self._first: dict[str, list[float]] = {}
        self._rows: dict[str, list[int]] = {}  # trouble → the steps on end in which it was there
        self._named: dict[str, int] = {}  # a trouble that was named → the last step in which it was there

    def step(self, step: int, metrics: Mapping[str, float]) -> dict[str, str]:
        """Troubles to name after a step, with what to say. A metric that is missing or NaN tells neither of a trouble
        nor of its end.
        """
        self._bad.append(metrics.get("skipped", 0) > 0)
        named = {}
        for name, trouble in TROUBLES.items():
            value, row = metrics.get(trouble.metric, math.nan), self._rows.setdefault(name, [])
            if math.isnan(value):
                continue
            first = self._first.setdefault(name, [])
            if len(first) < FIRST_STEPS and math.isfinite(value):
                first.append(value)
            began = sum(first) / max(1, len(first))
            if not trouble.there(value, began):
                row.clear()
                if step - self._named.get(name, step) >= AWAY:
                    del self._named[name]
                continue
            row.append(step)
            self.counts[name] += 1
            if name in self._named:
                self._named[name] = step
            elif len(row) >= trouble.on_end:
                self._named[name] = step
                steps = f"steps {row[0]} to {step}" if len(row) > 1 else f"step {step}"
                text = trouble.text.format(value=value, began=began, most=self._bad.maxlen // 2, among=self._bad.maxlen)
                named[name] = f"{steps}: {text}"
        return named

    def state(self) -> dict[str, Any]:
        """What `load` needs to warn as this one would, as JSON can hold it."""
        return deepcopy({"bad": list(self._bad), "first": self._first, "rows": self._rows, "named": self._named,
                         "counts": dict(self.counts)})

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self._bad.extend(state["bad"])
        self._first, self._rows, self._named = state["first"], state["rows"], state["named"]
        self.counts = Counter(state["counts"])

    def too_many_bad_steps(self) -> bool:
        """Whether `max_bad_steps` of the last twice as many made no update, in a row or between good ones.

        They are then forgotten: a run that goes on begins to count anew.
        """
        many = sum(self._bad) >= self._bad.maxlen // 2
        if many:
            self._bad.clear()
        return many
