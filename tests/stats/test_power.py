import math

import numpy as np
import pytest

from vseam_lib.stats import (
    Paired,
    churn,
    design_effect,
    error_rates,
    minimal_detectable,
    power_to_detect,
    simulated_changes,
    true_design_effect,
)

SIZES = np.tile([1, 3, 6], 60)  # 600 questions about 180 images


def paired(changes, sizes):
    """Pairs with these differences."""
    images = np.repeat(np.arange(len(sizes)), sizes).astype(str)
    return Paired(changes > 0, changes < 0, images)


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_the_minimal_detectable_difference_is_found_as_often_as_asked(correlation):
    deff = true_design_effect(SIZES, discordance=15, correlation=correlation)
    change = minimal_detectable(600, 9, design_effect=deff)
    data = simulated_changes(
        SIZES, simulations=600, discordance=9 + change, correlation=correlation, change=change
    )
    rates = error_rates(data, SIZES, folds=[10], size=50, replace=True, draws=500)
    rates = rates.set_index("test")["rate"]
    for test in ("sign flips by image", "bootstrap by image"):
        assert rates[test] == pytest.approx(0.8, abs=0.08)


def test_power_and_minimal_difference_are_inverse():
    for power in (0.5, 0.8, 0.95):
        change = minimal_detectable(400, 10, design_effect=1.4, power=power)
        assert power_to_detect(change, n=400, churn=10, design_effect=1.4) == pytest.approx(power)


def test_power_without_a_difference_is_the_error_rate():
    assert power_to_detect(0, n=400, churn=15, alpha=0.01) == pytest.approx(0.01)
    assert power_to_detect(0, n=400, churn=0) == 0
    assert power_to_detect(-5, n=400, churn=15) == power_to_detect(5, n=400, churn=15)
    assert power_to_detect(100, n=400, churn=0) == pytest.approx(1)


def test_more_questions_show_smaller_differences_and_shared_images_or_churn_hide_them():
    least = minimal_detectable(1000, 10)
    assert minimal_detectable(4000, 10) < least
    assert minimal_detectable(1000, 10, design_effect=2) == minimal_detectable(500, 10) > least
    assert minimal_detectable(1000, 20) > least and minimal_detectable(1000, 0) < least
    assert minimal_detectable(1000, 10, alpha=0.005) > least


def test_a_sample_that_can_show_nothing_says_so():
    assert minimal_detectable(3, 0) == math.inf
    assert minimal_detectable(20, 90) == math.inf


def test_churn_is_what_cancels():
    assert churn(Paired([1, 1, 0, 1, 0], [0, 0, 1, 1, 0], list("aabbc"))) == pytest.approx(40)
    assert churn(Paired([1, 1, 0], [0, 0, 0], list("abc"))) == 0
    with pytest.raises(ValueError, match="averages over draws"):
        churn(Paired([1, 0], [0.5, 0], ["a", "b"]))


@pytest.mark.parametrize("correlation", [0.0, 0.3, 0.7])
def test_the_design_effect_is_the_variance_that_sharing_images_adds(correlation):
    data = simulated_changes(SIZES, simulations=3000, discordance=20, correlation=correlation)
    independent = data.var() / SIZES.sum()
    true = true_design_effect(SIZES, discordance=20, correlation=correlation)
    assert data.mean(1).var() / independent == pytest.approx(true, rel=0.1)
    estimated = [design_effect(paired(row, SIZES)) for row in data[:200]]
    assert np.mean(estimated) == pytest.approx(true, rel=0.1)


def test_the_design_effect_of_nothing_that_changed_is_one():
    assert design_effect(Paired(np.ones(6), np.ones(6), list("aabbcc"))) == 1


@pytest.mark.parametrize(
    ("n", "lost", "options", "said"),
    [
        (0, 10, {}, "n > 0"),
        (100, 120, {}, "0 to 100 per cent"),
        (100, math.nan, {}, "0 to 100 per cent"),
        (100, 10, {"design_effect": 0}, "design_effect > 0"),
        (100, 10, {"alpha": 1, "power": 0.8}, "power between alpha"),
        (100, 10, {"alpha": 0}, "alpha in 0 to 1"),
        (100, 10, {"power": 0.01}, "power between alpha"),
        (100, 10, {"power": 1}, "power between alpha"),
    ],
)
def test_sizes_out_of_range_are_refused(n, lost, options, said):
    with pytest.raises(ValueError, match=said):
        minimal_detectable(n, lost, **options)


def test_a_change_beside_which_there_is_no_room_is_refused():
    with pytest.raises(ValueError, match="at most 90 points beside a churn of 10"):
        power_to_detect(91, n=100, churn=10)
    with pytest.raises(ValueError, match="a change of nan"):
        power_to_detect(math.nan, n=100, churn=10)
