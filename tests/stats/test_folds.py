import math

import numpy as np
import pytest
from scipy import stats

from vseam_lib import paper
from vseam_lib.stats import (
    Paired,
    expected_t,
    fold_changes,
    fold_error_rate,
    fold_t_test,
    t_over_folds,
)


def some_pairs(seed=0, n=200, draws=1):
    rng = np.random.default_rng(seed)
    old = rng.integers(2, size=(draws, n)).mean(0)
    return Paired(rng.random(n) < 0.6, old, np.arange(n).astype(str))


def one_by_one(pairs, folds, size, replace):
    """The slow twin: folds of questions drawn by name."""
    rng = np.random.default_rng(3)
    d = pairs.difference
    drawn = [rng.choice(len(d), size, replace=replace) for _ in range(folds)]
    return np.array([100 * d[rows].mean() for rows in drawn])


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("draws", [1, 3])
def test_folds_are_distributed_as_if_questions_were_drawn_one_by_one(replace, draws):
    pairs = some_pairs(draws=draws)
    fast = fold_changes(pairs, folds=8000, size=100, replace=replace)
    slow = one_by_one(pairs, 8000, 100, replace)
    assert fast.shape == slow.shape
    error = math.hypot(fast.std(), slow.std()) / math.sqrt(8000)
    assert abs(fast.mean() - slow.mean()) < 4 * error
    assert fast.std() == pytest.approx(slow.std(), rel=0.05)
    assert stats.ks_2samp(np.round(fast, 6), np.round(slow, 6)).pvalue > 1e-3


def test_folds_of_all_questions_without_replacement_are_the_sample():
    pairs = some_pairs()
    drawn = fold_changes(pairs, folds=5, size=200, replace=False)
    assert drawn == pytest.approx(np.full(5, pairs.change))


def test_the_fold_test_is_students_t_test_of_the_folds():
    pairs = some_pairs(n=300)
    drawn = fold_changes(pairs, folds=50, size=40, replace=True, seed=2)
    found = fold_t_test(pairs, folds=50, size=40, replace=True, seed=2)
    theirs = stats.ttest_1samp(drawn, 0)
    assert (found.t, found.p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert found == t_over_folds(drawn)
    assert (found.mean, found.sd) == pytest.approx((drawn.mean(), drawn.std(ddof=1)))


@pytest.mark.parametrize("replace", [True, False])
def test_t_grows_as_the_root_of_the_number_of_folds(replace):
    pairs = some_pairs(seed=1)
    folds = 10_000, 160_000
    few, many = (fold_t_test(pairs, folds=f, size=100, replace=replace).t for f in folds)
    expected = [expected_t(pairs, folds=f, size=100, replace=replace) for f in folds]
    assert expected[1] == pytest.approx(4 * expected[0]) and abs(expected[0]) > 50
    assert [few, many] == pytest.approx(expected, abs=4)


@pytest.mark.parametrize("seed", range(5))
def test_enough_folds_make_a_difference_by_chance_significant(seed):
    null = some_pairs().swapped(seed)
    assert null.change != 0
    p = [fold_t_test(null, folds=f, size=100, replace=True).p for f in (10, 200_000)]
    assert p[1] < 1e-6 and p[1] < p[0]


@pytest.mark.parametrize("replace", [True, False])
def test_the_error_rate_goes_to_one_with_the_number_of_folds(replace):
    rates = [
        fold_error_rate(2000, folds=f, size=100, replace=replace)
        for f in (10, 100, 1000, 10_000, 10**8)
    ]
    assert rates == sorted(rates)
    assert rates[0] < 0.25 and 0.7 < rates[2] < 0.9 and rates[-1] > 0.99


def test_few_folds_of_a_huge_sample_are_as_good_as_independent():
    rate = fold_error_rate(10**9, folds=20, size=100, replace=True)
    assert rate == pytest.approx(0.05, abs=1e-4)


def test_sharing_images_adds_to_the_error_rate():
    options = {"folds": 100, "size": 100, "replace": True}
    alone = fold_error_rate(2000, **options)
    assert fold_error_rate(2000, **options, design_effect=3) > alone + 0.1


def test_table_18s_t_is_its_mean_over_its_sd_and_the_root_of_its_folds():
    table = paper.table(18)
    folds = np.where(table["level"] == "overall", 3000, 1000)
    t = table["mean"] / (table["sd"] / np.sqrt(folds))
    assert len(table) == 16
    assert t.to_numpy() == pytest.approx(table["t"].to_numpy(), rel=0.01)


@pytest.mark.parametrize("value", [0, 1])
def test_without_a_changed_question_t_is_zero(value):
    pairs = Paired(np.full(9, value), np.full(9, value), list("aabbccddd"))
    assert fold_t_test(pairs, folds=10, size=5, replace=True) == (0, 0, 0, 1, 10)
    assert expected_t(pairs, folds=10, size=5, replace=True) == 0


def test_questions_that_all_change_alike_leave_no_spread():
    pairs = Paired(np.zeros(9), np.ones(9), list("aabbccddd"))
    found = fold_t_test(pairs, folds=10, size=5, replace=True)
    assert found == (-100, 0, -math.inf, 0, 10)
    assert expected_t(pairs, folds=10, size=5, replace=True) == -math.inf


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"folds": 1, "size": 5, "replace": True}, "folds >= 2"),
        ({"folds": 10, "size": 0, "replace": True}, "size >= 1"),
        ({"folds": 10, "size": 201, "replace": False}, "at most the 200 questions"),
    ],
)
def test_folds_that_cannot_be_drawn_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        fold_changes(some_pairs(), **options)
    with pytest.raises(ValueError, match=said):
        fold_error_rate(200, **options)


@pytest.mark.parametrize("changes", [[1.0], [1.0, np.nan], [[1.0, 2.0]]])
def test_unusable_fold_differences_are_refused(changes):
    with pytest.raises(ValueError, match="two folds or more"):
        t_over_folds(changes)
