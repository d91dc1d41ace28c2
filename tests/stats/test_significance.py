from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats import contingency_tables, multitest

from vseam_lib.stats import (
    Paired,
    bootstrap_test,
    clustered_mean,
    holm,
    mcnemar,
    sign_flip_test,
)
from vseam_lib.stats.significance import flip_p, mcnemar_p

COUNTS = [(12, 3), (3, 12), (7, 7), (1, 0), (0, 9), (40, 25)]


def with_counts(gained, lost, same=20, per_image=1):
    """Pairs with given discordant questions, ``per_image`` side by side in an image."""
    new = np.r_[np.ones(gained), np.zeros(lost), np.ones(same)]
    old = np.r_[np.zeros(gained), np.ones(lost), np.ones(same)]
    return Paired(new, old, [str(k // per_image) for k in range(len(new))])


def random_pairs(seed, *, n=120, images=40, draws=1):
    rng = np.random.default_rng(seed)
    old = rng.integers(2, size=(draws, n)).mean(0)
    return Paired(rng.random(n) < 0.6, old, rng.integers(images, size=n).astype(str))


@pytest.mark.parametrize(("gained", "lost"), COUNTS)
def test_mcnemar_is_a_binomial_test_of_the_discordant_questions(gained, lost):
    found = mcnemar(with_counts(gained, lost))
    n, few = gained + lost, min(gained, lost)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.exact == pytest.approx(stats.binomtest(few, n).pvalue)
    equally_likely = stats.binom.pmf(few, n, 0.5)
    below = sum(stats.binom.pmf(k, n, 0.5) for k in range(few))
    assert found.mid == pytest.approx(2 * below + equally_likely)


@pytest.mark.parametrize(("gained", "lost"), COUNTS)
def test_mcnemar_agrees_with_statsmodels(gained, lost):
    theirs = [contingency_tables.mcnemar([[20, lost], [gained, 5]], exact=True).pvalue]
    theirs.append(
        contingency_tables.mcnemar([[20, lost], [gained, 5]], exact=False, correction=False).pvalue
    )
    found = mcnemar(with_counts(gained, lost))
    assert [found.exact, found.asymptotic] == pytest.approx(theirs)


def test_many_mcnemar_tests_at_once_are_each_one():
    at_once = np.array(mcnemar_p(*np.array(COUNTS).T))
    assert at_once.T == pytest.approx(np.array([mcnemar_p(*counts) for counts in COUNTS]))


@pytest.mark.parametrize("seed", range(6))
def test_the_exact_sign_flip_lists_every_arrangement(seed):
    sums = np.random.default_rng(seed).integers(-4, 5, size=9)
    arrangements = [abs(np.dot(signs, sums)) for signs in product((1, -1), repeat=9)]
    assert flip_p(sums) == pytest.approx(np.mean(np.array(arrangements) >= abs(sums.sum())))


@pytest.mark.parametrize("seed", range(3))
def test_the_sign_flip_agrees_with_scipy(seed):
    pairs = random_pairs(seed, n=30, images=11)
    theirs = stats.permutation_test(
        (pairs.sums,), np.sum, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip_test(pairs).p == pytest.approx(theirs.pvalue)


def test_random_arrangements_come_close_to_all_of_them():
    pairs = random_pairs(7, n=60, images=24, draws=2)
    found = sign_flip_test(pairs, permutations=20_000)
    assert not found.exact
    assert found.p == pytest.approx(flip_p(2 * pairs.sums), abs=0.015)
    assert found.p != sign_flip_test(pairs, permutations=20_000, seed=1).p
    assert found == sign_flip_test(pairs, permutations=20_000)


def test_averages_over_few_images_are_exchanged_in_every_way():
    pairs = random_pairs(7, n=20, images=8, draws=2)
    found = sign_flip_test(pairs, permutations=300)
    assert found.exact
    assert found.p == pytest.approx(flip_p(2 * pairs.sums))


@pytest.mark.parametrize("old", [0, 0.25])
def test_one_image_that_changed_is_no_evidence(old):
    pairs = Paired([1, 1, 1, 0], [old, old, 1, 0], list("aabc"))
    assert sign_flip_test(pairs) == (pairs.change, 1, True)


@pytest.mark.parametrize(("gained", "lost"), COUNTS)
def test_with_one_question_per_image_the_sign_flip_is_mcnemars_exact_test(gained, lost):
    pairs = with_counts(gained, lost)
    assert sign_flip_test(pairs).p == pytest.approx(mcnemar(pairs).exact)


def test_questions_that_change_together_are_less_evidence():
    alone, shared = with_counts(16, 4), with_counts(16, 4, per_image=4)
    assert mcnemar(alone).mid == mcnemar(shared).mid < 0.05
    assert sign_flip_test(alone).p < 0.05 < sign_flip_test(shared).p
    assert bootstrap_test(alone).p < bootstrap_test(shared).p


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_without_a_question_that_changed_there_is_no_evidence(value):
    pairs = Paired(np.full(12, value), np.full(12, value), list("aabbccddeeff"))
    assert mcnemar(pairs) == (0, 0, 1, 1, 1)
    assert sign_flip_test(pairs) == (0, 1, True)
    assert bootstrap_test(pairs) == (0, 0, 0, 1)


def test_all_right_against_all_wrong_is_the_most_evidence_that_the_images_allow():
    pairs = Paired(np.ones(12), np.zeros(12), list("aabbccddeeff"))
    assert mcnemar(pairs).exact == pytest.approx(2 * 0.5**12)
    assert sign_flip_test(pairs).p == pytest.approx(2 * 0.5**6)
    assert bootstrap_test(pairs, draws=999) == (100, 100, 100, pytest.approx(2 / 1000))


@pytest.mark.parametrize("seed", range(5))
def test_the_bootstraps_p_and_interval_say_the_same(seed):
    pairs = random_pairs(seed)
    found = bootstrap_test(pairs, seed=seed)
    values = 100 * pairs.difference
    assert found.interval == pytest.approx(clustered_mean(values, pairs.clusters, seed=seed))
    assert found.interval.excludes_zero == (found.p < 0.05)


def test_averaged_answers_have_no_mcnemar_test():
    with pytest.raises(ValueError, match="use sign_flip_test"):
        mcnemar(random_pairs(0, draws=3))


def test_a_test_of_no_permutations_is_refused():
    with pytest.raises(ValueError, match="at least one permutation"):
        sign_flip_test(random_pairs(0), permutations=0)


def test_sums_that_are_not_whole_have_no_exact_test():
    with pytest.raises(ValueError, match="whole-numbered"):
        flip_p(np.array([1.0, 0.5]))


def stepwise(p, alpha):
    """Holm's procedure as it is told: go up from the smallest until one is not small enough."""
    rejected = set()
    for step, k in enumerate(np.argsort(p)):
        if p[k] > alpha / (len(p) - step):
            break
        rejected.add(int(k))
    return rejected


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_the_step_by_step_procedure_does(seed):
    p = np.random.default_rng(seed).random(12) ** 4
    for alpha in (0.01, 0.05, 0.2):
        assert set(np.flatnonzero(holm(p) <= alpha).tolist()) == stepwise(p, alpha)


def test_holm_agrees_with_statsmodels():
    p = np.random.default_rng(1).random(20) ** 3
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])


def test_holm_of_one_or_no_comparison_changes_nothing():
    assert holm([0.03]).tolist() == [0.03]
    assert holm([]).tolist() == []


@pytest.mark.parametrize("p", [[0.1, np.nan], [0.1, 1.2], [-0.1], [[0.1, 0.2]]])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm(p)
