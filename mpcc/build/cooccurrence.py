"""Which categories appear together in a COCO folder: one bit per image and category."""

from __future__ import annotations

from collections.abc import Iterable

from mpcc.coco import Coco


class Cooccurrence:
    """Counts over all images of a split, crowds included.

    Attributes:
        names: Every category of the annotation file that some image shows, in alphabetical order.
        supercategory: Category → supercategory.
    """

    def __init__(self, coco: Coco) -> None:
        self.supercategory: dict[str, str] = {}
        self._images: dict[str, int] = {}
        bit = {id: 1 << place for place, id in enumerate(coco.images)}
        for instance in coco.instances.values():
            self.supercategory[instance.category] = instance.supercategory
            self._images[instance.category] = self._images.get(instance.category, 0) | bit[instance.image_id]
        self.names = sorted(self._images)

    def images(self, name: str) -> int:
        """Number of images that show the category."""
        return self._images.get(name, 0).bit_count()

    def given(self, name: str, seen: str) -> float:
        """Share of the images with `seen` that show `name` too."""
        return (self._images[name] & self._images[seen]).bit_count() / self.images(seen)

    def with_any(self, name: str, seen: Iterable[str]) -> float:
        """Share of the images with `name` that show any of `seen` too; 0 where they never meet."""
        together = 0
        for other in seen:
            together |= self._images.get(other, 0)
        return (self._images[name] & together).bit_count() / self.images(name)
