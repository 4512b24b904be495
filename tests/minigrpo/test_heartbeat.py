"""Signs of life of ranks, as far as one process can show them; `tests/test_ranks_fail.py` ends real ones."""

import threading
import time

import pytest
import torch.distributed as dist

from minigrpo import heartbeat
from minigrpo.heartbeat import Heartbeat
from minigrpo.ranks import Ranks
from minigrpo.standing import Standing, here


@pytest.fixture
def fresh(monkeypatch):
    """This process stands as one that has just begun."""
    before = dict(vars(here))
    vars(here).update(vars(Standing()))
    yield here
    vars(here).update(before)


def test_one_rank_names_a_reward_that_takes_too_long_once(fresh, capfd):
    fresh.longest = 0.2
    watch = Heartbeat("train.py", Ranks(), 0.5)
    with fresh.at(phase="reward", sample="toy-1"):
        time.sleep(2.5)
    watch.leave(0)
    assert capfd.readouterr().err == "train.py: warning: rank 0 stands still for 1 s, in phase reward, sample toy-1\n"


@pytest.mark.parametrize("timeout", [0.0, 5.0])
def test_one_rank_says_nothing_of_a_reward_that_is_in_time(fresh, capfd, timeout):
    watch = Heartbeat("train.py", Ranks(), timeout)
    with fresh.at(phase="reward", sample="toy-1"):
        time.sleep(2.0)
    watch.leave(0)
    assert capfd.readouterr().err == ""


def test_a_thread_ends_with_its_program(fresh):
    watch = Heartbeat("train.py", Ranks(), 60)
    watch.leave(0)
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_a_rank_that_said_that_it_ends_has_not_died(fresh):
    store = dist.HashStore()
    one, two = (Heartbeat("train.py", Ranks(rank, 2, store=store), 0) for rank in (0, 1))
    two.leave(7)
    assert one.lost() == 7
    assert one.dead() == []
    one.leave(0)


def test_a_rank_without_a_sign_of_life_ends_this_one_and_is_named_where_it_stood(fresh, capfd, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(heartbeat.os, "_exit", lambda code: (ended.set(), threading.Event().wait()))  # for ever
    monkeypatch.setattr(heartbeat.signal, "pidfd_send_signal", lambda process, number: None)
    store = dist.HashStore()
    with fresh.at(phase="evaluation"):
        silent = Heartbeat("train.py", Ranks(1, 2, store=store), 0)
        time.sleep(0.5)
        monkeypatch.setattr(silent, "_tell", lambda: None)
        Heartbeat("train.py", Ranks(0, 2, store=store), 1.0)
        assert ended.wait(20)
    assert " has given no sign of life for 1 s, last seen in phase evaluation\n" in capfd.readouterr().err
    silent.leave(0)


def test_a_place_is_told_with_step_phase_and_sample_and_restored():
    place = Standing()
    place.step_begins(3)
    with place.at(phase="reward"), place.at(sample="toy-1"):
        assert str(place) == "step 3, phase reward, sample toy-1"
    assert str(place) == "step 3, phase choosing samples" and place.moves == 5
    place.step_ends()
    assert str(place) == "phase between steps" and place.longest > 0
