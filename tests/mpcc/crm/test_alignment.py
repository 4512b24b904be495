"""Alignment of two traces."""

from itertools import combinations
from random import Random

import pytest

from mpcc.crm.alignment import GAP, align, aligned_share
from mpcc.crm.clues import content, token_f1

STEPS = ["This is a farm.", "A saddle is left of the box.", "A milk can is above the box.", "It must be a cow."]


def test_a_trace_is_aligned_to_itself_and_an_empty_one_to_nothing():
    assert align(STEPS, STEPS) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert align(STEPS, []) == align([], STEPS) == align([], []) == []
    assert aligned_share([], 4, 0) == 0 and aligned_share([], 0, 0) == 1


def test_a_step_that_is_left_out_or_added_shifts_the_others():
    assert align(STEPS, [STEPS[0], *STEPS[2:]]) == [(0, 0), (2, 1), (3, 2)]
    assert align(STEPS, [*STEPS[:2], "Snow lies on roofs.", *STEPS[2:]]) == [(0, 0), (1, 1), (2, 3), (3, 4)]
    assert aligned_share(align(STEPS, STEPS[1:]), 4, 3) == pytest.approx(6 / 7)


def test_order_is_kept_though_exchanged_steps_are_equal():
    assert align(["red saddle", "blue bucket"], ["blue bucket", "red saddle"]) in ([(0, 1)], [(1, 0)])


def test_a_step_of_the_same_form_about_another_thing_is_a_partner_only_if_alike_enough():
    assert align(["A milk can is above the box."], ["A milk churn is above the box."]) == [(0, 0)]
    assert align(["It must be a cow."], ["Snow lies on roofs."]) == []


def test_no_other_monotonic_alignment_is_cheaper():
    rng = Random(0)
    for _ in range(40):
        one, two = ([" ".join(rng.choices(["cup", "saddle", "bucket", "hay"], k=rng.randint(1, 3)))
                     for _ in range(rng.randint(0, 4))] for _ in range(2))

        def cost(pairs, one=one, two=two):
            return sum(1 - token_f1(content(one[i]), content(two[j])) for i, j in pairs) + GAP * (
                len(one) + len(two) - 2 * len(pairs))

        every = [list(zip(a, b, strict=True)) for count in range(min(len(one), len(two)) + 1)
                 for a in combinations(range(len(one)), count) for b in combinations(range(len(two)), count)]
        assert cost(align(one, two)) == pytest.approx(min(map(cost, every)))
