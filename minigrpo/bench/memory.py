"""How many whole sequences a naive update can hold at once."""

from __future__ import annotations

from minigrpo.bench.meter import free_memory
from minigrpo.bench.workload import Workload

USED = 0.9
"""Share of the free memory that a side may take."""


def sequences_that_fit(workload: Workload, free: int | None = None) -> int:
    """The largest divisor of the step's completions whose forward and backward fit into `free` bytes.

    Call it before a model is loaded: weights, gradients, AdamW's two averages and the reference have to fit, too.
    """
    room = USED * (free_memory(workload.device) if free is None else free)
    room -= (4 + (workload.beta > 0)) * _size(workload) * workload.shape.parameters
    fitting = [n for n in range(1, workload.sequences + 1)
               if workload.sequences % n == 0 and n * bytes_of_sequence(workload) <= room]
    return max(fitting, default=1)


def bytes_of_sequence(workload: Workload) -> int:
    """About what the activations of one prompt, its image and one completion take, kept for the backward pass.

    A layer is assumed to keep 24 vectors of its hidden size and 7 of its MLP's for each token, and with them what the
    allocator does not give back. That makes 0.9 GB on the cpu workload; measured were 0.5 in plain, 0.7 to 1 in TRL.
    """
    text, vision, (rows, columns) = workload.shape.text, workload.shape.vision, workload.grid
    tokens = (workload.prompt_tokens + workload.completion) * (24 * text.width + 7 * text.mlp)
    patches = rows * columns * (24 * vision.width + 7 * vision.mlp)
    layers, blocks = text.layers, vision.layers
    if workload.checkpointing:  # one whole layer, and the inputs of all, a sixteenth of a layer each
        layers, blocks = 1 + layers // 16, 1 + blocks // 16
    logits = 4 * workload.completion * workload.shape.vocabulary
    return _size(workload) * (tokens * layers + patches * blocks) + 4 * logits


def _size(workload: Workload) -> int:
    """Bytes of a number."""
    return 4 if workload.dtype == "float32" else 2
