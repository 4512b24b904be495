"""Seconds and peak memory of the phases of a step, in the process that runs it; and the machine's rates."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from minigrpo.cpu import has_slow_products, product

MATRIX = {"cpu": 1536, "cuda": 8192}
"""Side of the square matrices whose product is timed."""
COPIED = {"cpu": 2**28, "cuda": 2**31}
"""Bytes that are copied to time the memory: far more than a cache holds."""


class Meter:
    """Measures the phases of a step; what lies between `begin` and `end` is the phase "step".

    A phase that is entered several times in a step is added up. On a GPU memory is what torch has allocated. On a
    CPU it is all that the process holds, which includes what an earlier phase freed and the allocator kept
    (`cpu.keep_freed_memory`), so that there only the step's peak is exact.
    """

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.found: dict[str, dict[str, float]] = {}
        self.opened: tuple[str, float] | None = None
        self.began = self.peak = 0.0

    def begin(self) -> None:
        """Starts a step."""
        self.found, self.peak = {}, 0.0
        _reset_peak(self.device)
        self.began = self._clock()

    def end(self) -> dict[str, dict[str, float]]:
        """Ends it: phase → `seconds`, and `peak_memory` in bytes."""
        self.stop()
        seconds = self._clock() - self.began
        self._look()
        return self.found | {"step": {"seconds": seconds, "peak_memory": self.peak}}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures a phase of the step."""
        self.start(name)
        yield
        self.stop()

    def start(self, name: str) -> None:
        """Opens a phase, which the next `stop` or `end` closes."""
        self._look()
        _reset_peak(self.device)
        self.opened = name, self._clock()

    def stop(self) -> None:
        """Closes the open phase, if there is one."""
        if self.opened is None:
            return
        (name, since), self.opened = self.opened, None
        seconds, peak = self._clock() - since, self._look()
        before = self.found.get(name, {"seconds": 0.0, "peak_memory": 0.0})
        self.found[name] = {"seconds": before["seconds"] + seconds, "peak_memory": max(before["peak_memory"], peak)}

    def seconds(self, run: Callable[[], object]) -> float:
        """What one call takes."""
        began = self._clock()
        run()
        return self._clock() - began

    def _clock(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _look(self) -> float:
        """The peak since the last reset; the step's peak is the largest of them."""
        peak = _peak(self.device)
        self.peak = max(self.peak, peak)
        return peak


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # a system that has no such file, or does not let us
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM becomes what the process holds now


def _peak(device: torch.device) -> float:
    """Peak bytes since the last reset; on systems whose peak cannot be reset, since the process began."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def matrix_rate(device: str, dtype: str, seconds: float = 1.0) -> float:
    """Operations per second of products of large square matrices, computed as the engine does; the best of many."""
    side = MATRIX[device]
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, dtype)) for _ in range(2))
    fast = device == "cpu" and dtype == "float32" and has_slow_products()
    return 2 * side**3 / fastest(lambda: product(a, b) if fast else a @ b, device, seconds)


def memory_rate(device: str, seconds: float = 1.0) -> float:
    """Bytes per second read and written by large copies, the best of many."""
    source, target = (torch.zeros(COPIED[device], device=device, dtype=torch.uint8) for _ in range(2))
    return 2 * COPIED[device] / fastest(lambda: target.copy_(source), device, seconds)


def fastest(run: Callable[[], object], device: str, seconds: float = 1.0) -> float:
    """Seconds of the fastest call of `run`, which is repeated for about `seconds`."""
    best, until = float("inf"), time.perf_counter() + seconds
    run()
    while best == float("inf") or time.perf_counter() < until:
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return best


def free_memory(device: str) -> int:
    """Bytes that can still be allocated."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    file = Path("/proc/meminfo")
    if not file.exists():  # not Linux: half of the machine's memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    line = next(line for line in file.read_text().splitlines() if line.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024
