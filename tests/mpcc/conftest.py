import pytest
from small_coco import ANNOTATIONS, annotation, write_split


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "coco"
    write_split(path, "train2017", ANNOTATIONS)
    write_split(path, "val2017", [annotation(20 + i, 1, 1 + i % 3, [5 + i, 10, 30, 30]) for i in range(9)])
    return path


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    """A cache folder of its own; scenes would be drawn anew in it."""
    root = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))
    return root / "minigrpo"
