"""Sums over everything that any rank adds, divided once."""

import json
import math

import pytest
import torch
import torch.distributed as dist

from minigrpo.metrics import StepMetrics
from minigrpo.ranks import Ranks


def test_a_mean_divides_the_sum_by_the_count_once():
    sums = StepMetrics()
    sums.mean("length", 10.0, 1)
    sums.mean("length", torch.tensor(2.0, requires_grad=True), torch.tensor(3))
    sums.total("tokens", 5)
    sums.total("tokens", torch.tensor(7))
    sums.max("memory", 3)
    sums.max("memory", -2)
    assert sums.reduce(Ranks()) == {"length": 3.0, "tokens": 12.0, "memory": 3.0}


def test_a_mean_of_nothing_is_nan_and_no_figures_are_no_error():
    sums = StepMetrics()
    assert sums.reduce(Ranks()) == {}
    sums.mean("kl", 0.0, 0)
    assert math.isnan(sums.reduce(Ranks())["kl"])


def test_many_small_numbers_add_up_in_double_precision():
    sums = StepMetrics()
    sums.mean("x", torch.tensor(2.0**24), 1)
    sums.mean("x", torch.tensor(1.0), 1)
    assert sums.reduce(Ranks())["x"] == (2**24 + 1) / 2


def test_the_largest_of_numbers_that_are_none_is_none():
    for values in ([1.0, math.nan, 2.0], [math.nan, 3.0], [4.0, math.nan]):
        metrics = StepMetrics()
        for value in values:
            metrics.max("grad_norm", value)
        assert math.isnan(metrics.reduce(Ranks())["grad_norm"])


def test_a_name_means_one_thing():
    sums = StepMetrics()
    sums.total("x", 1)
    sums.max("x", 1)
    with pytest.raises(ValueError, match="'x' is both a sum and a largest value"):
        sums.reduce(Ranks())


def rank_main(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    sums = StepMetrics()
    for name in (["b", "a"], ["a", "b"])[rank]:  # the order in which names turn up differs
        sums.mean(name, [10.0, 2.0][rank], [1, 3][rank])
    if rank == 1:
        sums.mean("only on rank 1", 4.0, 2)
        sums.max("memory", 9.0)
    (folder / f"{rank}.json").write_text(json.dumps(sums.reduce(Ranks(rank, 2))))
    dist.destroy_process_group()


def test_two_ranks_share_their_figures(tmp_path):
    torch.multiprocessing.spawn(rank_main, (tmp_path,), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second == {"a": 3.0, "b": 3.0, "only on rank 1": 2.0, "memory": 9.0}
