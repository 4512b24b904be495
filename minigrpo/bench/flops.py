"""How much arithmetic a phase is, counted from shapes.

A product of a row with a matrix of m × n weights is 2·m·n operations, so a token costs 2 × the parameters it meets:
those of the language model's layers, of the vision tower for a patch, of the LM head where a token is predicted.
Attention costs 4·(head size)·(heads) operations for each pair of a query and a key it sees. Norms, softmax and
rotations are left out, as are embeddings, which are looked up. A backward pass is twice its forward; what is recomputed
in it does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

from minigrpo.bench.workload import MODELS, SIDE, WINDOW, Workload

PHASES = ("rollout", "scoring", "update")


@dataclass(frozen=True)
class Work:
    """What goes through the model in one forward phase of a step.

    Attributes:
        language: Tokens through the language model's layers.
        pairs: Pairs of a query and a key that it sees, in each of those layers.
        images: Images through the vision tower.
        head: Tokens through the LM head.
    """

    language: int
    pairs: int
    images: int
    head: int


def work(workload: Workload, shared: bool) -> dict[str, Work]:
    """What goes through the model in each phase: prompts once (`shared`), or once for every completion."""
    n, g, c, p = workload.prompts, workload.group_size, workload.completion, workload.prompt_tokens
    if shared:  # the prompt's last token is each completion's first input, and the last drawn token is never fed
        pairs = _triangle(p - 1) + g * (c * (p - 1) + _triangle(c))
        same = Work(n * (p - 1 + g * c), n * pairs, n, n * g * c)
        return dict.fromkeys(PHASES, same)
    scored = Work(n * g * (p + c), n * g * _triangle(p + c), n * g, n * g * c)
    drawn = Work(n * g * (p + c - 1), n * g * _triangle(p + c - 1), n * g, n * g * c)
    return {"rollout": drawn, "scoring": scored, "update": scored}


def operations(workload: Workload, shared: bool) -> dict[str, int]:
    """Floating-point operations of every phase, and of the whole step."""
    found = {}
    for phase, done in work(workload, shared).items():
        passes = 3 if phase == "update" else int(phase == "rollout" or workload.beta > 0)
        found[phase] = passes * forward(workload, done)
    return found | {"step": sum(found.values())}


def forward(workload: Workload, done: Work) -> int:
    """Operations of one forward."""
    text = MODELS[workload.name]["text"]
    layers, head, *_ = _weights(workload)
    attention = 4 * text["hidden_size"] * text["num_hidden_layers"] * done.pairs
    return 2 * layers * done.language + attention + 2 * head * done.head + done.images * vision(workload)


def vision(workload: Workload) -> int:
    """Operations of the vision tower on one image."""
    shape, (rows, columns) = MODELS[workload.name]["vision"], workload.grid
    patches, full = rows * columns, len(shape["fullatt_block_indexes"])
    *_, blocks, merger = _weights(workload)
    pairs = full * patches**2 + (shape["depth"] - full) * _squares(rows) * _squares(columns)
    return 2 * blocks * patches + 2 * merger * patches // 4 + 4 * shape["hidden_size"] * pairs


def parameters(workload: Workload) -> int:
    """Weights of all matrices; embeddings and LM head are one."""
    return sum(_weights(workload))


def _weights(workload: Workload) -> tuple[int, int, int, int]:
    """Of the language model's layers, of the LM head, of what every patch meets, of what every image token meets."""
    text, seen = (MODELS[workload.name][part] for part in ("text", "vision"))
    hidden, mlp, heads = text["hidden_size"], text["intermediate_size"], text["num_attention_heads"]
    layer = 2 * hidden**2 + 2 * hidden * (hidden // heads) * text["num_key_value_heads"] + 3 * hidden * mlp
    width = seen["hidden_size"]
    block = 4 * width**2 + 3 * width * seen["intermediate_size"]
    patch = 3 * 2 * (SIDE // 2) ** 2 * width
    return (text["num_hidden_layers"] * layer, hidden * text["vocab_size"], seen["depth"] * block + patch,
            (4 * width) ** 2 + 4 * width * hidden)


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def _squares(patches: int) -> int:
    """Sum of the squared lengths of the windows along one side of an image."""
    side = WINDOW // (SIDE // 2)
    return patches // side * side**2 + (patches % side) ** 2
