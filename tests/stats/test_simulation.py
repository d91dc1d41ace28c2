import numpy as np
import pytest
from scipy import stats

from vseam_lib.stats import (
    Paired,
    effect_sizes,
    error_rates,
    fold_error_rate,
    simulated_changes,
    true_design_effect,
)

SIZES = np.tile([2, 4, 6], 34)  # 408 questions about 102 images
FOLDS = [10, 100, 1000]
RUNS = 600


def rates_of(correlation, change=0.0, replace=True):
    data = simulated_changes(
        SIZES, simulations=RUNS, discordance=15, correlation=correlation, change=change
    )
    table = error_rates(data, SIZES, folds=FOLDS, size=100, replace=replace, draws=500, level=0.999)
    return table.set_index(["test", "folds"])


@pytest.fixture(scope="module")
def shared():
    return rates_of(0.5)


@pytest.fixture(scope="module")
def alone():
    return rates_of(0.0)


@pytest.mark.parametrize("data", ["shared", "alone"])
@pytest.mark.parametrize("test", ["sign flips by image", "bootstrap by image"])
def test_tests_by_image_keep_their_level(data, test, request):
    found = request.getfixturevalue(data).loc[(test, 0)]
    assert found["low"] <= 0.05 <= found["high"]


def test_mcnemar_keeps_its_level_only_where_questions_are_independent(shared, alone):
    assert alone.loc[("McNemar (mid-p)", 0), "low"] <= 0.05
    assert alone.loc[("McNemar (mid-p)", 0), "high"] >= 0.05
    assert shared.loc[("McNemar (mid-p)", 0), "low"] > 0.05


@pytest.mark.parametrize(("data", "correlation"), [("shared", 0.5), ("alone", 0.0)])
def test_the_fold_tests_error_grows_with_its_folds_as_the_formula_says(data, correlation, request):
    found = request.getfixturevalue(data).loc["fold t-test"]
    assert list(found.index) == FOLDS
    assert found["rate"].is_monotonic_increasing and found["rate"].iloc[-1] > 0.85
    deff = true_design_effect(SIZES, discordance=15, correlation=correlation)
    for folds, row in found.iterrows():
        expected = fold_error_rate(408, folds=folds, size=100, replace=True, design_effect=deff)
        assert row["low"] - 0.02 <= expected <= row["high"] + 0.02


def test_the_formula_holds_for_folds_without_replacement():
    found = rates_of(0.0, replace=False).loc["fold t-test"]
    for folds, row in found.iterrows():
        expected = fold_error_rate(408, folds=folds, size=100, replace=False)
        assert row["low"] - 0.02 <= expected <= row["high"] + 0.02


def test_a_true_difference_is_found():
    found = rates_of(0.5, change=9)["rate"]
    assert (found > 0.8).all()


def test_the_intervals_cover_the_truth():
    change = 4.0
    data = simulated_changes(
        SIZES, simulations=200, discordance=15, correlation=0.5, change=change, seed=1
    )
    images = np.repeat(np.arange(len(SIZES)), SIZES).astype(str)
    odds = (1 + change / 15) / (1 - change / 15)
    covered = np.zeros(2)
    for row in data:
        found = effect_sizes(Paired(row > 0, row < 0, images), draws=400)
        covered += [
            found.change.low <= change <= found.change.high,
            found.odds_ratio.low <= odds <= found.odds_ratio.high,
        ]
    for hits in covered:
        interval = stats.binomtest(int(hits), len(data)).proportion_ci(0.999, "wilson")
        assert interval.low <= 0.95 <= interval.high


def test_simulated_questions_have_the_traits_asked_for():
    options = {"simulations": 400, "discordance": 15, "correlation": 0.4, "change": 3}
    data = simulated_changes(SIZES, **options)
    assert set(np.unique(data)) == {-1, 0, 1} and data.shape == (400, 408)
    assert 100 * (data != 0).mean() == pytest.approx(15, abs=0.4)
    assert 100 * data.mean() == pytest.approx(3, abs=0.4)
    assert np.array_equal(data, simulated_changes(SIZES, **options))
    assert not np.array_equal(data, simulated_changes(SIZES, **options, seed=1))


def test_questions_correlate_within_an_image_and_not_between_images():
    pairs = simulated_changes([2] * 50, simulations=800, discordance=30, correlation=0.6) != 0
    first, second = pairs[:, ::2].ravel(), pairs[:, 1::2].ravel()
    assert np.corrcoef(first, second)[0, 1] == pytest.approx(0.6, abs=0.03)
    assert np.corrcoef(first, np.roll(second, 1))[0, 1] == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"sizes": [5]}, "at least two images"),
        ({"sizes": [5, 0]}, "at least two images"),
        ({"simulations": 0}, "one simulation"),
        ({"discordance": 0}, "discordance between"),
        ({"change": 20}, "smaller change"),
        ({"correlation": 1}, "correlation"),
    ],
)
def test_impossible_simulations_are_refused(changed, said):
    options = {"sizes": [2, 2], "simulations": 3, "discordance": 15, "correlation": 0.1} | changed
    with pytest.raises(ValueError, match=said):
        simulated_changes(**options)


def test_changes_of_other_images_are_refused():
    data = simulated_changes([2, 2], simulations=3, discordance=15, correlation=0)
    with pytest.raises(ValueError, match="expected 5 questions per simulation"):
        error_rates(data, [2, 3], folds=[10], size=2, replace=True)
