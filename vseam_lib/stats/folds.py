"""The paper's significance test, a paired t-test over bootstrap folds (appendix H, Table 18).

1. Draw F folds of m questions each from the N questions.
2. Take each fold's mean difference between two systems.
3. Divide the mean over folds by its standard error as if the folds were independent samples:
   ``t = mean / (SD / sqrt(F))``.

They are not: all show the same N questions. With more folds the mean settles at the sample's own
difference, chance or not, and its supposed error goes to zero, so that t grows as ``sqrt(F)`` and
every difference other than 0 becomes significant. :func:`fold_error_rate` gives the rate in closed
form.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from vseam_lib.stats.paired import Paired


class FoldTest(NamedTuple):
    """Table 18's columns: mean and SD over folds in points, t, two-sided p; and the folds."""

    mean: float
    sd: float
    t: float
    p: float
    folds: int


def fold_t_test(
    pairs: Paired, *, folds: int = 1000, size: int = 100, replace: bool, seed: int = 0
) -> FoldTest:
    """The t-test of Table 18. Do not use it for conclusions: its p depends on ``folds``.

    Args:
        folds: samples that are drawn, each from all questions.
        size: questions per fold.
        replace: whether a question can be in a fold twice (a bootstrap sample); the paper does
            not say.
    """
    return t_over_folds(fold_changes(pairs, folds=folds, size=size, replace=replace, seed=seed))


def fold_changes(
    pairs: Paired, *, folds: int, size: int, replace: bool, seed: int = 0
) -> np.ndarray:
    """Mean difference of each fold, ``(folds,)`` points.

    Raises:
        ValueError: fewer than two folds, an empty one, or one of more distinct questions than
            there are.
    """
    _check(len(pairs.difference), folds, size, replace)
    rng = np.random.default_rng(seed)
    return 100 * fold_means(pairs.difference, folds=folds, size=size, replace=replace, rng=rng)


def fold_means(
    values: np.ndarray, *, folds: int, size: int, replace: bool, rng: np.random.Generator
) -> np.ndarray:
    """Means of random folds, drawn by how often each different value occurs in a fold."""
    different, counts = np.unique(values, return_counts=True)
    if replace:
        drawn = rng.multinomial(size, counts / len(values), size=folds)
    else:
        drawn = rng.multivariate_hypergeometric(counts, size, size=folds)
    return drawn @ different / size


def t_over_folds(changes: np.ndarray) -> FoldTest:
    """Student's t-test of fold differences against 0, the folds taken as independent.

    Folds without spread give t = 0 and p = 1 if they are all 0, else an infinite t and p = 0.
    """
    changes = np.asarray(changes, float)
    if changes.ndim != 1 or len(changes) < 2 or not np.isfinite(changes).all():
        raise ValueError(f"expected the finite differences of two folds or more, got {changes[:5]}")
    mean, n = float(changes.mean()), len(changes)
    if np.ptp(changes) == 0:
        t = math.copysign(math.inf, mean) if mean else 0.0
        return FoldTest(mean, 0.0, t, 0.0 if mean else 1.0, n)
    sd = float(changes.std(ddof=1))
    t = mean / (sd / math.sqrt(n))
    return FoldTest(mean, sd, t, float(2 * stats.t.sf(abs(t), n - 1)), n)


def expected_t(pairs: Paired, *, folds: int, size: int, replace: bool) -> float:
    """The t that the questions at hand lead to: ``sqrt(F)`` times a constant of the sample."""
    x = pairs.difference
    _check(len(x), folds, size, replace)
    sd = x.std() * math.sqrt(_variance_factor(len(x), size, replace))
    if sd == 0:
        return math.copysign(math.inf, x.mean()) if x.mean() else 0.0
    return math.sqrt(folds) * float(x.mean() / sd)


def fold_error_rate(
    n: int,
    *,
    folds: int,
    size: int,
    replace: bool,
    alpha: float = 0.05,
    design_effect: float = 1.0,
) -> float:
    """How often the fold test rejects where two systems are alike, 0 to 1.

    With r the variance of the sample's own mean difference over the variance that the test takes
    its mean to have, ``t / sqrt(1 + r)`` follows Student's distribution, so the test rejects as
    often as that exceeds the critical value over ``sqrt(1 + r)``. Drawn with replacement,
    ``r = F m deff / N``: the test counts every question ``F m / N`` times. Normal means assumed.

    Args:
        n: questions N that the folds are drawn from.
        design_effect: how much the questions' sharing of images inflates the variance of their
            mean.
    """
    _check(n, folds, size, replace)
    factor = _variance_factor(n, size, replace)
    ratio = folds * design_effect / (n * factor) if factor else math.inf
    critical = stats.t.isf(alpha / 2, folds - 1)
    return float(2 * stats.t.sf(critical / math.sqrt(1 + ratio), folds - 1))


def _variance_factor(n: int, size: int, replace: bool) -> float:
    """Variance of a fold's mean over that of a single question."""
    return 1 / size if replace else (n - size) / (n - 1) / size


def _check(n: int, folds: int, size: int, replace: bool) -> None:
    if folds < 2 or size < 1:
        raise ValueError(f"expected folds >= 2 and size >= 1, got {folds} and {size}")
    if not replace and size > n:
        raise ValueError(
            f"expected folds of at most the {n} questions there are, got {size} without "
            "replacement; use smaller folds, or draw with replacement"
        )
