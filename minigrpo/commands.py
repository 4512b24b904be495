"""The commands `minigrpo-train` and `minigrpo-eval`: train.py and eval.py, which an installation keeps together."""

import runpy


def train() -> None:
    """As `python train.py`. On several ranks: torchrun --nproc_per_node 2 -m minigrpo_commands.train"""
    runpy.run_module("minigrpo_commands.train", run_name="__main__", alter_sys=True)


def evaluate() -> None:
    """As `python eval.py`."""
    runpy.run_module("minigrpo_commands.eval", run_name="__main__", alter_sys=True)
