"""The side "ours": a GRPO step of minigrpo, the way `train.py` makes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from minigrpo import Sampling, generate, group_advantages, policy_loss
from minigrpo.bench.meter import Meter, memory_rate
from minigrpo.bench.workload import Workload
from minigrpo.config import ModelConfig, OptimConfig
from minigrpo.losses import completion_weights
from minigrpo.optim import clip_and_step, make_optimizer
from minigrpo.ranks import join
from minigrpo.replica import load_roles, precision, refresh
from minigrpo.rollout import Decoding
from minigrpo.step import even_batches

OPTIM = OptimConfig(lr=1e-6)


class Ours:
    """Policy, replica and reference, loaded as a run loads them."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        self.workload, self.meter = workload, Meter(workload.device)
        self.ranks = join(workload.device)
        self.model = ModelConfig(dtype=workload.dtype, gradient_checkpointing=workload.checkpointing,
                                 graphs=workload.graphs)
        roles = load_roles(str(folder), self.model, self.ranks, workload.beta > 0)
        self.policy, self.replica, self.reference = roles
        self.replica.end_ids = []  # every completion has the full length
        self.optimizer = make_optimizer(self.policy, OPTIM)

    def facts(self) -> dict[str, Any]:
        """What was built: parameters, and the tokens of a prompt as the engine encodes it."""
        prompt = self.replica.encode(self.workload.samples(0)[0])
        return {"parameters": sum(p.numel() for p in self.replica.net.parameters()), "prompt_tokens": len(prompt),
                "image_tokens": len(prompt.image_positions)}

    def step(self, number: int) -> dict[str, dict[str, float]]:
        """One whole step; what `Meter.end` gives."""
        workload, samples = self.workload, self.workload.samples(number)
        self.meter.begin()
        with self.meter.phase("rollout"):
            groups = self._rollout(samples, number, workload.completion)
        for i, group in enumerate(groups):
            for completion in group.completions:
                self.replica.decode(completion)  # what a reward would read
            rewards = torch.tensor(workload.rewards(number, i))
            groups[i] = replace(group, advantages=group_advantages(rewards))
        batches, _, vision = even_batches(groups, groups, OPTIM.tokens_per_micro_batch, self.ranks)
        self.policy.train()
        context = precision(self.model.dtype, self.ranks)
        refs = [None] * len(batches)
        if self.reference is not None:
            with self.meter.phase("scoring"), torch.no_grad(), context:
                refs = [self.reference(batch, 1.0, vision, with_entropy=False).logps for batch in batches]
        with self.meter.phase("update"):
            for batch, ref in zip(batches, refs, strict=True):
                weights = completion_weights(batch.lengths, "token", workload.tokens, workload.sequences,
                                             workload.prompts, workload.completion)
                with context:
                    logps = self.policy(batch, 1.0, vision).logps
                result = policy_loss(logps, logps.detach(), batch.advantages[batch.owner], weights[batch.owner],
                                     ref_logps=ref, beta=workload.beta)
                result.loss.backward()
            clip_and_step(self.optimizer, self.policy, OPTIM.lr, OPTIM.max_grad_norm)
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

    def _rollout(self, samples, number: int, tokens: int):
        refresh(self.replica, self.policy)
        prompts = [self.replica.encode(sample) for sample in samples]
        return generate(self.replica, prompts, self.workload.group_size, Sampling(tokens), step=number)

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
