"""How much arithmetic a step is, counted from a model's shape; the benchmark and the plan count with these functions.

Multiplying a row by a matrix of m × n weights is 2·m·n operations, so a token costs 2 × the weights of the layers it
goes through, and a predicted token 2 × those of the LM head. Attention costs 4·(head size)·(heads) operations for each
pair of a query and a key it sees. Norms, softmax and rotations are left out, as are embeddings, which are looked up. A
backward pass is twice its forward; what gradient checkpointing computes again does not count.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from minigrpo.bench.shape import Shape
from minigrpo.bench.workload import Workload

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

    def __add__(self, other: Work) -> Work:
        return Work(*map(sum, zip(astuple(self), astuple(other), strict=True)))


def prompts_once(prompts: int, length: int) -> Work:
    """The prompts of a step without their last tokens, which are the first inputs of their completions."""
    return Work(prompts * (length - 1), prompts * _triangle(length - 1), prompts, 0)


def completions_after(prompts: int, length: int, group_size: int, completion: int) -> Work:
    """All completions, each token attending to its prompt; the last token of a completion is never an input."""
    pairs = completion * (length - 1) + _triangle(completion)
    sequences = prompts * group_size
    return Work(sequences * completion, sequences * pairs, 0, sequences * completion)


def work(workload: Workload, shared: bool) -> dict[str, Work]:
    """What goes through the model in each phase: prompts once (`shared`), or once for every completion."""
    n, g, c, p = workload.prompts, workload.group_size, workload.completion, workload.prompt_tokens
    if shared:
        return dict.fromkeys(PHASES, prompts_once(n, p) + completions_after(n, p, g, c))
    drawn, scored = (Work(n * g * length, n * g * _triangle(length), n * g, n * g * c) for length in (p + c - 1, p + c))
    return {"rollout": drawn, "scoring": scored, "update": scored}


def operations(workload: Workload, shared: bool) -> dict[str, int]:
    """Floating-point operations of every phase, and of the whole step."""
    found = {}
    for phase, done in work(workload, shared).items():
        passes = 3 if phase == "update" else int(phase == "rollout" or workload.beta > 0)
        found[phase] = passes * forward(workload.shape, done, workload.grid)
    return found | {"step": sum(found.values())}


def forward(shape: Shape, done: Work, grid: tuple[int, int]) -> int:
    """Operations of one forward; every image has a grid of so many rows and columns of patches."""
    text = shape.text
    attention = 4 * text.query * text.layers * done.pairs
    head = 2 * shape.vocabulary * text.width * done.head
    return 2 * text.weights * done.language + attention + head + done.images * _vision(shape, grid)


def _vision(shape: Shape, grid: tuple[int, int]) -> int:
    """Operations of the vision tower on one image."""
    if shape.vision is None:
        return 0
    patches, windowed = grid[0] * grid[1], shape.vision.layers - shape.full_layers
    pairs = shape.full_layers * patches**2
    if windowed:
        pairs += windowed * _squares(grid[0], shape.window) * _squares(grid[1], shape.window)
    weights = (shape.vision.weights + shape.per_patch) * patches + shape.per_image_token * patches // shape.merge**2
    return 2 * weights + 4 * shape.vision.query * pairs


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def _squares(length: int, window: int) -> int:
    """Sum of the squared lengths of the windows that cut up a length; the last one may be shorter."""
    return length // window * window**2 + (length % window) ** 2
