"""Memory and seconds of a GRPO step, part by part, from a model's shape and a run's configuration.

Everything is for the rank with the most prompts. Activations are what the backward pass needs: for each row of a layer
the inputs of its products, norms and gates; with gradient checkpointing those of one layer, and the inputs of all. The
attention keeps no scores, but every completion reads a copy of its prompt's keys and values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from minigrpo.bench.flops import completions_after, forward, prompts_once
from minigrpo.bench.shape import Shape, Tower
from minigrpo.policy import HEAD_ELEMENTS
from minigrpo.rollout import MAX_ROWS
from minigrpo.sections import Config, ModelConfig


@dataclass(frozen=True)
class Machine:
    """One of the devices of a run.

    Attributes:
        name: For the printed plan.
        kind: "cuda" or "cpu".
        memory: Bytes.
        rate: Operations per second of matrix products.
        bandwidth: Bytes per second from its memory.
        link: Bytes per second from the other devices.
        host_link: Bytes per second from the host's memory.
        rate_share, bandwidth_share: Share of the two that a step is assumed to reach.
    """

    name: str
    kind: str
    memory: float
    rate: float
    bandwidth: float
    link: float
    host_link: float
    rate_share: float
    bandwidth_share: float


@dataclass(frozen=True)
class Load:
    """What one rank has to do in a step.

    Attributes:
        ranks: Ranks of the run.
        compute: Bytes of a number in matrix products: 2 in bfloat16, 4 in float32.
        prompts: Prompts of this rank.
        text, image: Text tokens and image tokens of a prompt.
        grid: Rows and columns of its image's patches.
    """

    ranks: int
    compute: int
    prompts: int
    text: int
    image: int = 0
    grid: tuple[int, int] = (0, 0)

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""
        return self.text + self.image

    @property
    def patches(self) -> int:
        """Patches of a prompt's image."""
        return self.grid[0] * self.grid[1]


HOST_BANDWIDTH = 1e11
"""Bytes per second that all ranks together are assumed to reach in host memory, where AdamW runs if it is offloaded."""

RESERVE = 0.08
"""Share of a device's memory that is left to the driver and to gaps between tensors."""


def memory(shape: Shape, config: Config, load: Load, machine: Machine) -> dict[str, float]:
    """Bytes of each part; `peak` is the most that is held at once, and `host` what is offloaded to host memory.

    Float32 weights, gradients, AdamW's averages, the replica and the reference are always there. In the update
    activations, working weights and the head's logits come on top, in the rollout cache, logits and prefill. Beside
    adapters the weights are frozen, on one rank in the computing precision, and replica and reference too.
    """
    size, master = shape.parameters, max(4, load.compute)
    half, several, lora = load.compute < 4, load.ranks > 1, config.model.lora_rank > 0
    trained = adapter_parameters(shape, config.model) if lora else size
    if config.model.freeze_vision and shape.vision:
        trained -= shape.eyes
    frozen = (master if several or not lora else load.compute) * (size - trained * (not lora))
    sharded = {
        "weights": (frozen + master * trained) / load.ranks,
        "gradients": master * trained / load.ranks,
        "Adam's averages": 2 * master * trained / load.ranks,
    }
    with_reference = config.grpo.needs_reference and not lora
    stays = {
        **({} if config.model.offload else sharded),
        "replica": load.compute * size + lora * master * trained if several or (half and not lora) else 0.0,
        # FSDP keeps the root gathered after a forward that no backward pass follows
        "reference": load.compute * (shape.root + (size - shape.root) / load.ranks) if with_reference else 0.0,
    }
    largest = max(shape.root, shape.text.largest)
    predicted = _micro_batch(config, load)[1] * config.rollout.max_new_tokens
    kept, recomputed = activations(shape, config, load, machine)
    update = {
        "activations": kept + recomputed,
        # FSDP gathers the root and two layers, and the gradient of the largest until it is scattered; without FSDP
        # autocast keeps a copy of the weights in half precision
        "working weights": load.compute * (shape.root + 2 * shape.text.largest) + (load.compute + 4) * largest
        if several else load.compute * size if half and not lora else 0.0,
        "head": 16.0 * min(HEAD_ELEMENTS[machine.kind], predicted * shape.vocabulary),
    }
    rows = min(MAX_ROWS, load.prompts * config.rollout.group_size)
    turn = math.ceil(rows / config.rollout.group_size)
    rollout = {
        "KV cache": cache(shape, load, turn, rows, config.rollout.max_new_tokens),
        "logits": 16.0 * rows * shape.vocabulary,
        "prefill": load.compute * max(_passing(shape.text, turn * load.prompt),
                                      _passing(shape.vision, turn * load.patches) if shape.vision else 0),
    }
    apart = min(recomputed, update["head"])  # the head's backward pass is over when the first layer is recomputed
    peak = sum(stays.values()) + max(sum(update.values()) - apart, sum(rollout.values()))
    host = {"host": sum(sharded.values())} if config.model.offload else {}
    return {name: n for name, n in {**stays, **update, **rollout}.items() if n} | {"peak": peak} | host


def adapter_parameters(shape: Shape, model: ModelConfig) -> int:
    """Parameters of the adapters: rank times inputs and outputs of every linear layer that has one."""
    text = shape.text
    sides = {"q_proj": (text.width, text.query), "k_proj": (text.width, text.key), "v_proj": (text.width, text.key),
             "o_proj": (text.query, text.width), "gate_proj": (text.width, text.mlp), "up_proj": (text.width, text.mlp),
             "down_proj": (text.mlp, text.width)}
    return model.lora_rank * text.layers * sum(sum(sides.get(name, ())) for name in model.targets)


def activations(shape: Shape, config: Config, load: Load, machine: Machine) -> tuple[float, float]:
    """Bytes that a micro-batch keeps for its backward pass, and those of the one layer that is recomputed at a time."""
    prompts, completions = _micro_batch(config, load)
    length, prompt = config.rollout.max_new_tokens, load.prompt - 1
    tokens = prompts * prompt + completions * length
    layer = _layer(shape.text, tokens, prompts * prompt + completions * (prompt + length))
    if machine.kind == "cpu" or config.model.attention == "sdpa":  # masks, in the scores' precision
        layer += prompts * prompt**2 + completions * length * (prompt + length)
    towers = [(shape.text, tokens, layer)]
    kept = 2.0 * tokens * shape.text.width + completions * length * shape.text.width  # last norm, and the head's inputs
    if config.model.lora_rank:  # what goes from A to B; frozen norms need not keep what their weights multiply
        layer += tokens * (config.model.lora_rank * len(config.model.targets) - 2 * shape.text.width)
        towers = [(shape.text, tokens, layer)]
    if shape.vision and not (config.model.lora_rank or config.model.freeze_vision):
        patches = prompts * load.patches
        towers.append((shape.vision, patches, _layer(shape.vision, patches, patches)))
        kept += prompts * (load.patches * shape.patch_values + load.image * shape.kept_by_mergers)
    if config.model.gradient_checkpointing:
        kept += sum(tower.layers * rows * tower.width for tower, rows, _ in towers)
        return load.compute * kept, load.compute * max(layer for *_, layer in towers)
    return load.compute * (kept + sum(tower.layers * layer for tower, _, layer in towers)), 0.0


def cache(shape: Shape, load: Load, prompts: int, rows: int, length: int) -> float:
    """Bytes of the keys and values of prompts, once each, and of `rows` completions of `length` tokens."""
    tokens = prompts * (load.prompt - 1) + rows * length
    return load.compute * 2.0 * shape.text.layers * shape.text.key * tokens


def largest_budget(shape: Shape, config: Config, load: Load, machine: Machine) -> int:
    """The largest `optim.tokens_per_micro_batch` that fits, a multiple of 1,024 below 102,400; 0 if none does."""
    fitting = 0
    for budget in range(1024, 100 * 1024, 1024):
        tried = replace(config, optim=replace(config.optim, tokens_per_micro_batch=budget))
        if not fits(memory(shape, tried, load, machine), machine):
            break
        fitting = budget
    return fitting


def fits(parts: dict[str, float], machine: Machine) -> bool:
    """Whether the peak leaves the reserve free."""
    return parts["peak"] <= (1 - RESERVE) * machine.memory


def seconds(shape: Shape, config: Config, load: Load, machine: Machine) -> dict[str, float]:
    """Seconds of each part of a step, and of the whole `step`; every completion is assumed to have its full length."""
    group, length = config.rollout.group_size, config.rollout.max_new_tokens
    rate, bandwidth = machine.rate * machine.rate_share, machine.bandwidth * machine.bandwidth_share
    prefill = forward(shape, prompts_once(load.prompts, load.prompt), load.grid)
    drawn = forward(shape, completions_after(load.prompts, load.prompt, group, length), load.grid)
    turns = math.ceil(load.prompts * group / MAX_ROWS)
    read = load.compute * (shape.text.weights + shape.vocabulary * shape.text.width) * length * turns
    read += cache(shape, load, load.prompts, load.prompts * group, length // 2) * length
    scored = prefill + drawn
    with_reference = config.grpo.needs_reference
    passes = 2 if config.model.lora_rank else 3  # forward, and backward by inputs and by weights, which may be frozen
    updates = config.grpo.updates_per_rollout
    master = max(4, load.compute) * shape.parameters / load.ranks
    batches = math.ceil(load.prompts * group / _micro_batch(config, load)[1])
    # for every micro-batch weights come twice, for forward and backward pass, and gradients go back; AdamW reads
    # weights, gradients and both averages, and writes all but the gradients
    offloaded = 3 * batches * master / machine.host_link + 7 * master * load.ranks / HOST_BANDWIDTH
    found = {
        "refresh": load.compute * shape.parameters * (1 - 1 / load.ranks) / machine.link,
        "prefill": prefill / rate,
        "decode": max(read / bandwidth, drawn / rate),
        "scoring": scored / rate * (with_reference + (updates > 1)),
        "update": scored / rate * updates * (passes + config.model.gradient_checkpointing),
        "offload": updates * offloaded if config.model.offload else 0.0,
    }
    return {name: n for name, n in found.items() if n} | {"step": sum(found.values())}


def _micro_batch(config: Config, load: Load) -> tuple[int, int]:
    """Prompts and completions in the fullest micro-batch."""
    group, length = config.rollout.group_size, config.rollout.max_new_tokens
    budget, whole = config.optim.tokens_per_micro_batch, load.prompt - 1 + group * length
    if budget >= whole:
        prompts = min(load.prompts, budget // whole)
        return prompts, prompts * group
    return 1, max(1, (budget - load.prompt + 1) // length)


def _layer(tower: Tower, rows: int, read: int) -> float:
    """Numbers that a layer keeps of its rows for the backward pass, and of the `read` rows of keys and values."""
    # norms and products keep 6 vectors of the width; queries and attention's output are kept once each, and once packed
    return rows * (6.0 * tower.width + tower.kept_mlp * tower.mlp + 3 * tower.query) + 2 * read * tower.key


def _passing(tower: Tower, rows: int) -> float:
    """Numbers that exist at once while rows pass a layer without a backward pass."""
    return rows * (3.0 * tower.width + 3.0 * tower.mlp)
