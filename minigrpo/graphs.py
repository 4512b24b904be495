"""CUDA graphs of the decode step: its kernels are launched as one, and Python no longer sets the pace."""

from __future__ import annotations

from collections.abc import Callable

import torch


def cuda_graph(step: Callable[[], None], former: torch.cuda.CUDAGraph | None) -> torch.cuda.CUDAGraph:
    """Captures a step in a CUDA graph, after the end of the former one."""
    if former is not None:
        torch.cuda.synchronize()  # it may still be running
        former.reset()  # first: it takes along the stream's cuBLAS workspace (pytorch issue 193402)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # NCCL's own threads ask the device meanwhile
        step()
    return graph


class Graphs:
    """Runs a step whose shapes stay for a while: once as it is, which sets up what it needs, then out of a graph.

    Args:
        capture: Records a step without running it, given the former graph, which is replayed no more.
    """

    def __init__(self, capture: Callable[..., torch.cuda.CUDAGraph] = cuda_graph) -> None:
        self.capture = capture
        self.shapes: tuple[int, ...] | None = None
        self.graph: torch.cuda.CUDAGraph | None = None
        self.ready = False

    def run(self, step: Callable[[], None], shapes: tuple[int, ...]) -> None:
        """Makes the step, or replays it where the last one had the same shapes.

        Args:
            step: The same operations on the same memory each time, as long as `shapes` are the same.
            shapes: Whatever decides about the shapes of its tensors.
        """
        if shapes != self.shapes:
            self.shapes, self.ready = shapes, False
            step()
            return
        if not self.ready:
            self.graph, self.ready = self.capture(step, self.graph), True
        self.graph.replay()


def check_graphs(device: torch.device) -> None:
    """Raises ValueError where the decode step cannot be captured."""
    if device.type != "cuda":
        raise ValueError(f"graphs run on CUDA only, not on {device.type}: leave out model.graphs")
