"""Fixtures for the tests of train.py, and of the pages."""

import sys
from pathlib import Path

import pytest
import tiny
import torch
from browser import Browser
from hypothesis import settings
from properties import PROFILE
from running import SMALL, words
from small_coco import annotation, write_split
from toy_task import NAME

import train

settings.register_profile("short", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, derandomize=False)
settings.load_profile(PROFILE)


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A folder with a small model of two families."""
    base = tmp_path_factory.mktemp("models")
    for family in ("qwen2_5_vl", "qwen2"):
        tiny.vlm(family, torch.float32).save(base / family)
    return base


@pytest.fixture
def run(monkeypatch, models, tmp_path, one_thread):
    """Runs train.py on the toy task in this process, without curves unless asked; gives the run folder."""

    def start(name="run", curves=False, **options) -> Path:
        options = {"task": NAME, "model.path": models / "qwen2_5_vl", "run.dir": tmp_path / name, **SMALL,
                   **{key.replace("__", "."): value for key, value in options.items()}}
        monkeypatch.setattr(sys, "argv", ["train.py", *words(options)])
        if not curves:
            monkeypatch.setattr("minigrpo.log.draw_curves", lambda path, history: None)
        train.main()
        return Path(options["run.dir"])

    return start


@pytest.fixture
def coco(tmp_path) -> Path:
    """A COCO folder with three images and an object in each, for training and for evaluation."""
    folder = tmp_path / "coco"
    write_split(folder, "train2017", [annotation(10 + i, i, i, [20, 20, 40, 40]) for i in (1, 2, 3)])
    write_split(folder, "val2017", [annotation(20 + i, i, i, [20, 20, 40, 40]) for i in (1, 2, 3)])
    return folder


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    """A browser; a module's tests share it."""
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(window, page):
    """The browser with the module's `page` open; its console must stay silent."""
    window.open(page)
    yield window
    assert window.complaints() == []
