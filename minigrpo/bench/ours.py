"""The side "ours": the very step that `train.py` makes, with random rewards."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from minigrpo.bench.meter import Meter, memory_rate
from minigrpo.bench.workload import Workload
from minigrpo.metrics import StepMetrics
from minigrpo.ranks import join
from minigrpo.replica import refresh
from minigrpo.rollout import Decoding
from minigrpo.sampling import Sampling
from minigrpo.sections import Config, GrpoConfig, ModelConfig, OptimConfig, RolloutConfig
from minigrpo.step import compare_groups, reward_groups, sample_groups, update
from minigrpo.task import Sample, Stage, Task
from minigrpo.training import Training

OPTIM = OptimConfig(lr=1e-6, warmup=0, schedule="constant")


class Metered(StepMetrics):
    """Times the parts of a step with the benchmark's own meter."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.phase = meter.phase


class RandomRewards(Task):
    """What is written does not matter here."""

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def reward(self, sample: Sample, completions: list) -> dict[str, list[float]]:
        return {"random": self.workload.rewards(*map(int, sample.id.split("-")))}


class Ours:
    """A stage of training, loaded as a run loads it."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        self.workload, self.meter = workload, Meter(workload.device)
        model = ModelConfig(dtype=workload.dtype, gradient_checkpointing=workload.checkpointing, graphs=workload.graphs)
        rollout = RolloutConfig(workload.group_size, workload.prompts, workload.completion)
        config = Config("", None, model, rollout, GrpoConfig(beta=workload.beta), optim=OPTIM)
        stage = Stage("rft", workload.steps)
        self.training = Training.begin(str(folder), config, RandomRewards(workload), stage, join(workload.device))
        self.policy, self.replica, self.reference = self.training.roles
        self.replica.end_ids = []  # every completion has the full length

    def facts(self) -> dict[str, Any]:
        """What was built: parameters, and the tokens of a prompt as the engine encodes it."""
        prompt = self.replica.encode(self.workload.samples(0)[0])
        return {"parameters": sum(p.numel() for p in self.replica.net.parameters()), "prompt_tokens": len(prompt),
                "image_tokens": len(prompt.image_positions)}

    def step(self, number: int) -> dict[str, dict[str, float]]:
        """One whole step; what `Meter.end` gives."""
        training, samples, metrics = self.training, self.workload.samples(number), Metered(self.meter)
        self.meter.begin()
        with self.meter.phase("rollout"):
            refresh(self.replica, self.policy)
            groups = sample_groups(training, samples, number)
        contexts = compare_groups(training, reward_groups(training, samples, groups, number, metrics), metrics)
        update(training, contexts, [], number, metrics)
        return self.meter.end()

    @torch.no_grad()
    def decoding(self) -> dict[str, float]:
        """Medians of a decode step: `seconds_per_token`, `bare_seconds` of its bare matrix products, `bytes` it reads.

        Steps and products take turns, so that whatever else the machine does meets both alike. Beside them stands
        `memory_rate`, bytes per second.
        """
        workload, steps, bare, read = self.workload, [], [], []
        refresh(self.replica, self.policy)
        self.replica.net.eval()
        for number in range(workload.steps + 1, workload.steps + 4):
            prompts = [self.replica.encode(sample) for sample in workload.samples(number)]
            sampling, sizes = Sampling(workload.completion), [workload.group_size] * workload.prompts
            decoding = Decoding(self.replica, prompts, sizes, None, sampling, 0, number)
            decoding.prefill(prompts, None)
            for token in range(workload.completion):
                steps.append(self.meter.seconds(lambda token=token, decoding=decoding: decoding.step(token)))
                bare.append(self.meter.seconds(self._products(decoding)))
                read.append(self._read(decoding))
        return {"seconds_per_token": median(steps), "bare_seconds": median(bare), "bytes": median(read),
                "memory_rate": memory_rate(workload.device)}

    def _read(self, decoding: Decoding) -> int:
        """Bytes of the weights, keys and values that the step that was just made had to read."""
        cache, vlm = decoding.cache, self.replica
        tensors = [*vlm.decoder.layers.parameters(), vlm.net.lm_head.weight]
        tensors += [x for pair in cache.prompts.values() for x in pair]
        tensors += [x[:, :, : cache.length] for pair in cache.own.values() for x in pair]
        return sum(x.numel() * x.element_size() for x in tensors)

    def _products(self, decoding: Decoding) -> Callable[[], None]:
        """Makes the matrix products of the step that was just made, in their order, and nothing else.

        They read what the step has read, each layer's weights, keys and values: repeated on one layer's, they would
        find them in the CPU's cache.
        """
        cache, layout, text = decoding.cache, decoding.layout, self.replica.text_config
        heads, kv_heads = text.num_attention_heads, text.num_key_value_heads
        size, per_head = text.hidden_size // heads, heads // kv_heads
        head = self.replica.net.lm_head
        layers = [[m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
                  for layer in self.replica.decoder.layers]
        inputs = {m.in_features: head.weight.new_ones(cache.rows, m.in_features) for m in [head, *sum(layers, [])]}
        by_group = head.weight.new_ones(layout.prompts, kv_heads, layout.slots * per_head, size)
        by_row = head.weight.new_ones(cache.rows, kv_heads, per_head, size)
        own = {number: [x[:, :, : cache.length] for x in pair] for number, pair in cache.own.items()}

        def products() -> None:
            for number, linears in enumerate(layers):
                for linear in linears:
                    linear(inputs[linear.in_features])
                for query, (keys, values) in ((by_group, cache.prompts[number]), (by_row, own[number])):
                    (query @ keys.transpose(-1, -2)) @ values
            head(inputs[head.in_features])

        return products


def run(workload: Workload, folder: Path, link) -> None:
    """Makes a step whenever the other end of `link`, a `worker.Link`, asks for one."""
    side = Ours(workload, folder)
    link.answer({"facts": side.facts()})
    for number in itertools.count():
        while (asked := link.wait()) == "decoding":
            link.answer(side.decoding())
        assert asked == "step", asked
        link.answer(side.step(number))
