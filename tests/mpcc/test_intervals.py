"""Intervals over seeds against printed tables and worked examples."""

import pytest

from mpcc.statistics import paired, t_quantile, welch


@pytest.mark.parametrize(("freedom", "value"), [
    (1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042), (120, 1.980), (1e6, 1.960),
])
def test_quantiles_are_those_of_the_printed_table(freedom, value):
    assert t_quantile(freedom) == pytest.approx(value, abs=6e-4)


def test_welch_of_a_worked_example():
    """Variances 2.5 and 10 of 5 values each: 2.5 / 5 + 10 / 5 = 2.5, freedom 2.5² / (0.5² + 2²) · 4 = 5.882."""
    found = welch([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    assert found["difference"] == -3 and 2.447 < t_quantile(5.882) < 2.571
    assert found["high"] == pytest.approx(-3 + t_quantile(5.882353) * 2.5**0.5, abs=1e-4)
    assert found["low"] + found["high"] == pytest.approx(-6)
    assert welch([1, 1], [3, 3]) == {"difference": -2, "low": -2, "high": -2}, "no spread, no width"


def test_pairs_take_out_what_seeds_share():
    ours, theirs = [10.0, 20.0, 30.0], [9.0, 18.0, 27.0]
    found = paired(ours, theirs)  # differences 1, 2, 3: mean 2, deviation 1, t(2) = 4.3027
    assert found == {"difference": 2, "low": pytest.approx(2 - 4.30265 / 3**0.5, abs=1e-4),
                     "high": pytest.approx(2 + 4.30265 / 3**0.5, abs=1e-4)}
    assert welch(ours, theirs)["low"] < found["low"] < 0 < found["high"] < welch(ours, theirs)["high"]


def test_too_few_runs_have_no_interval():
    with pytest.raises(ValueError, match="needs 2 runs of each, and there are 1 and 3"):
        welch([1], [1, 2, 3])
    with pytest.raises(ValueError, match="needs 2 pairs, and there is 1"):
        paired([1], [2])
    with pytest.raises(ValueError):
        paired([1, 2], [1, 2, 3])
