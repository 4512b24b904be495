"""Samplers from pass rates: weights, filters and attempts in numbers, a resumed run, and what closed is plain."""

import json
import math
from collections import Counter

import pytest
from kept_scenes import kept_scenes  # noqa: F401
from running import ROOT, lines, same, untimed

from minigrpo.sampler import Outcome, Sampler
from mpcc.neighbours.curriculum import Config, Curriculum, CurriculumSampler

TINY = {"model__path": ROOT / "mpcc/scenes/model", "rollout__prompts_per_step": 2, "rollout__max_new_tokens": 12,
        "rollout__group_size": 3, "task__held_out": 0, "task__pool": 4, "task__traces": 0.0}


def sampler(mode, samples=8, per_step=2, seed=0, resample_rounds=0, **options):
    return CurriculumSampler(Config(curriculum=mode, **options), samples, per_step, seed, resample_rounds)


def told(made, **exact):
    """The sampler after these values of `exact`, by sample: i3=[0, 1]."""
    made.learn([Outcome(int(name[1:]), (), len(set(values)) > 1, {"exact": tuple(map(float, values))})
                for name, values in exact.items()])
    return made


def test_what_is_known_of_a_sample():
    made = told(told(sampler("rlcs"), i3=[0, 0, 1, 0], i1=[1, 1]), i3=[1, 1, 0, 0, 1, 1, 1, 1])
    assert made.known == {3: (12, 7, 3, 0.25 + 0.5 * (0.75 - 0.25)), 1: (2, 2, 1, 1.0)}
    made = told(told(sampler("rlcs", newest=1.0), i0=[0, 0]), i0=[0, 1])
    assert made.known == {0: (4, 1, 4, 0.5)}, "attempts are counted on over the steps"
    assert told(sampler("rlcs"), i0=[math.nan, math.nan], i2=[]).known == {}, "what was not scored says nothing"
    assert told(sampler("rlcs"), i0=[1]).known == {0: (1, 1, 1, 1.0)}


def test_rlcs_draws_by_the_weight():
    """The first of a step is sample i with probability w_i / sum w; two of them without replacement."""
    made = told(sampler("rlcs", samples=4, per_step=2, explore=0.01), i0=[0, 1], i1=[0, 0, 0, 1], i2=[0, 0])
    weights = [0.25 + 0.01, 0.1875 + 0.01, 0.01, 0.25 + 0.01]
    steps = 8000
    found = Counter(tuple(made.choose(step)) for step in range(steps))
    for i in range(4):
        for j in range(4):
            share = 0 if i == j else weights[i] / sum(weights) * weights[j] / (sum(weights) - weights[i])
            assert abs(found[i, j] / steps - share) < 4 * math.sqrt(share / steps) + 1e-12
    assert made.choose(5) == made.choose(5), "a choice depends on the step alone, and on what is known"
    first = made.choose(5)
    assert first + made.spare(5, first) == made.drawn(5)


def epoch(made, steps):
    return [i for step in range(steps) for i in made.choose(step)]


@pytest.mark.parametrize("mode", ["variance", "attempts", "rounds"])
def test_the_first_epoch_is_plain(mode):
    assert epoch(sampler(mode, 9), 4) == [i for step in range(4) for i in Sampler(9, 2, 0).choose(step)]


SEEN = {"i0": [0, 0, 0, 0], "i1": [1, 1, 1, 1], "i2": [1, 0, 0, 0], "i3": [0, 1, 1, 1], "i4": [0, 0, 1, 0],
        "i5": [0, 0, 0, 1], "i6": [1, 1, 1, 0], "i7": [0, 1, 0, 0]}


def second_epoch(mode, **options):
    made = sampler(mode, **options)
    epoch(made, 4)
    told(made, **SEEN)
    return made


def test_variance_keeps_what_was_sometimes_right():
    made = second_epoch("variance")
    plain = [i for step in range(4, 8) for i in Sampler(8, 2, 0).choose(step)]
    assert epoch(made, 3) == [i for i in plain if i not in (0, 1)], "in the order of a plain epoch"
    told(made, i0=[1, 0, 0, 0])
    assert 0 in epoch(made, 3), "over all attempts"


def test_attempts_keep_what_took_as_many_or_is_unsolved():
    assert set(epoch(second_epoch("attempts"), 2)) < {0, 4, 5}, "an epoch of three has one step of two"
    assert [i for i in range(8) if second_epoch("attempts").drops(i)] == [1, 2, 3, 6, 7]
    assert [i for i in range(8) if second_epoch("attempts", attempts=2).drops(i)] == [1, 2, 6]
    assert not any(second_epoch("attempts", attempts=1).drops(i) for i in range(8))


def test_rounds_go_from_easy_to_hard_within_the_margin():
    made = second_epoch("rounds")
    chosen = epoch(made, 3)
    assert set(chosen[:2]) == {3, 6} and set(chosen[2:]) == {2, 4, 5, 7}, "pass rates 3/4, then 1/4"
    assert set(range(8)) == {i for i in range(8) if not second_epoch("rounds", margin=0).drops(i)}, "0 keeps all"


def test_where_too_few_are_kept_dropped_ones_fill_the_step():
    made = sampler("variance", 4, 3)
    made.choose(0)
    told(made, i0=[0, 1], i1=[0, 0], i2=[1, 1], i3=[0])
    chosen = made.choose(1)
    assert len(set(chosen)) == 3 and (chosen[0] == 0 or 0 not in Sampler(4, 3, 0).choose(1))


def test_replacements_are_kept_ones_first():
    made = second_epoch("variance", resample_rounds=2)
    found = []
    for chosen in made.rounds(9):
        found.append(chosen)
        made.flat = 2
    assert len(found) == 3 and len({i for r in found for i in r}) == 6
    assert not {0, 1} & {i for r in found for i in r}


@pytest.mark.parametrize("mode", ["rlcs", "variance", "attempts", "rounds"])
def test_its_state_goes_through_json(mode):
    made = second_epoch(mode)
    made.choose(4)
    again = sampler(mode)
    again.load(json.loads(json.dumps(made.state())))
    for step in range(5, 15):
        assert again.choose(step) == made.choose(step) and again.known == made.known
        for one in (again, made):
            told(one, i2=[0, step % 2], i5=[1, 1])


@pytest.mark.parametrize("mode", ["rlcs", "rounds"])
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(run, tmp_path, mode):
    options = {**TINY, "task": "mpcc.neighbours.curriculum:Curriculum", "task__curriculum": mode, "run__steps": 3,
               "run__save_every": 2, "run__keep": 9}
    whole = run("whole", **options)
    kept = whole / "checkpoints" / "000002"
    assert json.loads((kept / "progress.json").read_text())["sampler"]["known"], "the checkpoint holds what it knows"
    again = run("again", **options, run__resume=kept)
    assert untimed(whole) == untimed(again) and same(whole / "model", again / "model")
    assert lines(whole, "completions") == lines(again, "completions")


def test_closed_it_is_plain_grpo_bit_for_bit(run, tmp_path):
    options = {**TINY, "run__steps": 2, "task__pool": 0}
    closed = run("closed", **options, task="mpcc.neighbours.curriculum:Curriculum", task__curriculum="off")
    del options["task__pool"]
    plain = run("plain", **options, task="mpcc.task:MaskedPrediction")
    assert untimed(closed) == untimed(plain) and same(closed / "model", plain / "model")


def test_the_pool_is_the_first_pairs():
    every, few = Curriculum(Config(pool=0)).samples(), Curriculum(Config(pool=5)).samples()
    assert [s.id for s in few] == [s.id for s in every[:5]] and len(every) == 2400


@pytest.mark.parametrize(("options", "said"), [
    ({"curriculum": "hard"}, "curriculum"), ({"pool": -1}, "pool = -1 must be between 0 and 1e"),
    ({"newest": 0.0}, "newest = 0.0 must be between 0.01 and 1"), ({"explore": 0.0}, "explore = 0.0"),
    ({"attempts": 0}, "attempts = 0"), ({"margin": 0.5}, "margin = 0.5 must be between 0 and 0.49"),
    ({"held_out": -1}, "held_out = -1"),
])
def test_impossible_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        Curriculum(Config(**options))
