"""The scenes' files, read once for all tests of a module that imports the fixture."""

from functools import lru_cache

import pytest

from mpcc import task

KEPT = {name: lru_cache(getattr(task, name)) for name in ("Coco", "file_pairs")}


@pytest.fixture(autouse=True)
def kept_scenes(monkeypatch):
    for name, function in KEPT.items():
        monkeypatch.setattr(task, name, function)
