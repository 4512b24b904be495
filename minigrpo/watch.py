"""What goes wrong in a run, said in plain sentences, and when to end it. Knows nothing but the steps' metrics."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

TROUBLES = (
    # metric, too much is above, for so many steps on end, what that means and what to do
    ("idle", 0.5, 5, "no group had two different rewards, so nothing was learned and the weights stayed as they were. "
     "Look at the rewards in completions.jsonl. Samples that are neither too easy nor too hard, a higher "
     "rollout.temperature or a larger rollout.group_size make rewards differ"),
    # A useful policy stays within some tenths of a nat of its reference; at 1, a token of its own is 2.7 times as
    # probable as there, on average. How fast it grew says little: it begins at 0 and soon grows tenfold in any run.
    ("kl", 1.0, 5, "the KL to the reference is {value:.2g} nats per token: the policy runs away from where it began. "
     "Lower optim.lr or raise grpo.beta; priors may lie too far from what the model would say"),
    # also above twice that of the first steps, as some models begin high
    ("entropy", 2.0, 5, "the entropy is {value:.2g} nats per token, after {began:.2g} in the first steps: the policy "
     "turns to noise. Lower optim.lr, read completions.jsonl; priors may lie too far from what the model would say"),
    ("cut_off", 0.5, 5, "{value:.0%} of the completions were cut off at rollout.max_new_tokens, most likely before "
     "their answer. Raise it, or ask for shorter answers"),
    # bfloat16 has 8 bits: logits of 16 to 32 lie 1/8 apart, and log-probabilities differ by hundredths on average
    ("sampler/mean_difference", 0.05, 5, "sampler and policy differ by {value:.2g} nats per token, more than by "
     "rounding: the update is not of the distribution that was drawn from. Compare with model.dtype float32"),
    ("skipped", 0.5, 1, "loss or gradient was not finite, so no update was made; {most} such steps among {among} end "
     "the run. Lower optim.lr, and look for very large rewards in completions.jsonl"),
)
AWAY = 5
"""After so many steps without it, a trouble that was named is named again when it comes back."""
FIRST_STEPS = 3
"""The entropy of these steps, on average, is what later ones are held against."""


class Watch:
    """Told of every step, says what goes wrong: each trouble once, until it was gone for a while and has come back."""

    def __init__(self, max_bad_steps: int) -> None:
        self._bad = deque[bool](maxlen=2 * max_bad_steps)
        self._entropies: list[float] = []
        self._rows: dict[str, list[int]] = {}  # trouble → the steps on end in which it was there
        self._named: dict[str, int] = {}  # a trouble that was named → the last step in which it was there

    def step(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Warnings after a step. A metric that is missing or NaN tells neither of a trouble nor of its end."""
        self._bad.append(metrics.get("skipped", 0) > 0)
        if len(self._entropies) < FIRST_STEPS and math.isfinite(metrics.get("entropy", math.nan)):
            self._entropies.append(metrics["entropy"])
        began, warnings = sum(self._entropies) / max(1, len(self._entropies)), []
        for name, limit, on_end, text in TROUBLES:
            value, row = metrics.get(name, math.nan), self._rows.setdefault(name, [])
            if math.isnan(value):
                continue
            if value <= (max(limit, 2 * began) if name == "entropy" else limit):
                row.clear()
                if step - self._named.get(name, step) >= AWAY:
                    del self._named[name]
                continue
            row.append(step)
            if name in self._named:
                self._named[name] = step
            elif len(row) >= on_end:
                self._named[name] = step
                steps = f"steps {row[0]} to {step}" if len(row) > 1 else f"step {step}"
                said = text.format(value=value, began=began, most=self._bad.maxlen // 2, among=self._bad.maxlen)
                warnings.append(f"{steps}: {said}")
        return warnings

    def state(self) -> dict[str, Any]:
        """What `load` needs to warn as this one would, as JSON can hold it."""
        return {"bad": list(self._bad), "entropies": list(self._entropies), "rows": deepcopy(self._rows),
                "named": dict(self._named)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self._bad.extend(state["bad"])
        self._entropies, self._rows, self._named = state["entropies"], state["rows"], state["named"]

    def too_many_bad_steps(self) -> bool:
        """Whether `max_bad_steps` of the last twice as many made no update, in a row or between good ones."""
        return sum(self._bad) >= self._bad.maxlen // 2
