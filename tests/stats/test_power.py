import math

import numpy as np
import pytest

from vseam_lib.stats import (
    Paired,
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
    deff = true_design_effect(SIZES, discordance=12, correlation=correlation)
    change = minimal_detectable(600, 12, design_effect=deff)
    data = simulated_changes(
        SIZES, simulations=600, discordance=12, correlation=correlation, change=change
    )
    rates = error_rates(data, SIZES, folds=[10], size=50, replace=True, draws=500)
    rates = rates.set_index("test")["rate"]
    for test in ("sign flips by image", "bootstrap by image"):
        assert rates[test] == pytest.approx(0.8, abs=0.08)


def test_power_and_minimal_difference_are_inverse():
    for power in (0.5, 0.8, 0.95):
        change = minimal_detectable(400, 15, design_effect=1.4, power=power)
        found = power_to_detect(change, n=400, discordance=15, design_effect=1.4)
        assert found == pytest.approx(power)


def test_power_without_a_difference_is_the_error_rate():
    assert power_to_detect(0, n=400, discordance=15, alpha=0.01) == pytest.approx(0.01)
    assert power_to_detect(-5, n=400, discordance=15) == power_to_detect(5, n=400, discordance=15)
    assert power_to_detect(100, n=400, discordance=100) == pytest.approx(1)


def test_more_questions_show_smaller_differences_and_shared_images_larger_ones():
    assert minimal_detectable(4000, 10) < minimal_detectable(1000, 10)
    assert minimal_detectable(1000, 10, design_effect=2) == minimal_detectable(500, 10)
    assert minimal_detectable(1000, 10, alpha=0.005) > minimal_detectable(1000, 10)


def test_a_sample_that_can_show_nothing_says_so():
    assert minimal_detectable(20, 5) == math.inf
    assert minimal_detectable(1000, 0) == math.inf
    assert power_to_detect(0, n=1000, discordance=0) == 0


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
    ("n", "discordance", "options", "said"),
    [
        (0, 10, {}, "n > 0"),
        (100, 120, {}, "0 to 100 per cent"),
        (100, math.nan, {}, "0 to 100 per cent"),
        (100, 10, {"design_effect": 0}, "design_effect > 0"),
        (100, 10, {"alpha": 1}, "alpha in 0 to 1"),
        (100, 10, {"power": 0.01}, "power between alpha"),
        (100, 10, {"power": 1}, "power between alpha"),
    ],
)
def test_sizes_out_of_range_are_refused(n, discordance, options, said):
    with pytest.raises(ValueError, match=said):
        minimal_detectable(n, discordance, **options)


def test_a_change_larger_than_the_discordance_is_refused():
    with pytest.raises(ValueError, match="at most the discordance"):
        power_to_detect(12, n=100, discordance=10)
