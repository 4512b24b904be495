"""The samples of masked prediction, each changed by a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from minigrpo.task import Sample
from mpcc.pairs import Pair
from mpcc.task import MaskedSamples


class Asked(Sequence[Sample]):
    """Indexing masks the image, as `MaskedSamples` does, and then changes the sample by its pair."""

    def __init__(self, masked: MaskedSamples, change: Callable[[Sample, Pair], Sample]) -> None:
        self.masked, self.change = masked, change

    def __len__(self) -> int:
        return len(self.masked)

    def __getitem__(self, index: int) -> Sample:
        return self.change(self.masked[index], self.masked.pairs[index])
