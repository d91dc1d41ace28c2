"""How often tests reject where the truth is known.

1. Draw comparisons of two systems with a given true difference, questions grouped by image.
2. Test each; the share of rejections is a test's error rate where the true difference is 0, and
   its power elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from vseam_lib.stats.clusters import resampled_clusters
from vseam_lib.stats.folds import fold_means, t_over_folds
from vseam_lib.stats.significance import flip_p, mcnemar_p, tail_p

TESTS = ("fold t-test", "McNemar (mid-p)", "sign flips by image", "bootstrap by image")


def simulated_changes(
    sizes: Sequence[int],
    *,
    simulations: int,
    discordance: float,
    correlation: float,
    change: float = 0.0,
    seed: int = 0,
) -> np.ndarray:
    """Differences of two systems on simulated questions, ``(simulations, N)`` of -1, 0 and 1.

    Each image draws from beta distributions how likely its questions are to differ between the
    systems, and how likely such a question is gained rather than lost.

    Args:
        sizes: questions of each image; they sum to N and lie side by side.
        discordance: questions that exactly one system answers rightly, per cent on average.
        correlation: of either trait between two questions about an image; 0 makes all questions
            independent.
        change: true mean difference, points.

    Raises:
        ValueError: sizes or rates out of range.
    """
    sizes = np.asarray(sizes)
    if len(sizes) < 2 or sizes.min() < 1 or simulations < 1:
        raise ValueError("expected at least two images with questions, and one simulation")
    if not 0 < discordance < 100 or abs(change) >= discordance or not 0 <= correlation < 1:
        raise ValueError(
            "expected a discordance between 0 and 100 per cent, a smaller change and a correlation "
            f"from 0 to below 1, got {discordance}, {change} and {correlation}"
        )
    rng = np.random.default_rng(seed)
    shape = (simulations, len(sizes))

    def per_question(mean: float) -> np.ndarray:
        if correlation == 0:
            return np.full((simulations, sizes.sum()), mean)
        strength = 1 / correlation - 1
        drawn = rng.beta(mean * strength, (1 - mean) * strength, shape)
        return np.repeat(drawn, sizes, axis=1)

    differs = rng.random((simulations, sizes.sum())) < per_question(discordance / 100)
    gained = rng.random(differs.shape) < per_question((1 + change / discordance) / 2)
    return np.where(differs, np.where(gained, 1, -1), 0).astype(np.int8)


def true_design_effect(sizes: Sequence[int], *, discordance: float, correlation: float) -> float:
    """Design effect of :func:`simulated_changes` without a true difference."""
    sizes, psi = np.asarray(sizes), discordance / 100
    within = correlation * (psi + correlation * (1 - psi))  # of two differences in an image
    return float(1 + within * ((sizes**2).sum() / sizes.sum() - 1))


def error_rates(
    changes: np.ndarray,
    sizes: Sequence[int],
    *,
    folds: Sequence[int],
    size: int,
    replace: bool,
    alpha: float = 0.05,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How often each test rejects on simulated comparisons.

    Args:
        changes: ``(simulations, N)`` of :func:`simulated_changes`, for these ``sizes``.
        folds: numbers of folds of the fold test, which draws ``size`` questions per fold.
        draws: of the bootstrap over images.
        level: of the Wilson interval of each rate, which is the simulation's own uncertainty.

    Returns:
        Rows ``test, folds, rate, low, high`` (0 to 1); ``folds`` is 0 where a test has none.
    """
    sizes = np.asarray(sizes)
    if changes.ndim != 2 or changes.shape[1] != sizes.sum():
        raise ValueError(f"expected {sizes.sum()} questions per simulation, got {changes.shape}")
    rejects = {
        (TESTS[0], f): p < alpha
        for f, p in _fold_p(changes, sorted(folds), size, replace, seed).items()
    }
    sums = np.add.reduceat(changes, np.r_[0, np.cumsum(sizes)[:-1]], axis=1, dtype=float)
    mid = mcnemar_p((changes > 0).sum(1), (changes < 0).sum(1))[1]
    rejects[TESTS[1], 0] = mid < alpha
    rejects[TESTS[2], 0] = np.array([flip_p(s) for s in sums]) < alpha
    rejects[TESTS[3], 0] = _bootstrap_p(sums, sizes, draws, seed) < alpha
    rows = []
    for (test, f), hits in rejects.items():
        interval = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(level, "wilson")
        rows.append((test, f, float(hits.mean()), interval.low, interval.high))
    return pd.DataFrame(rows, columns=["test", "folds", "rate", "low", "high"])


def _fold_p(
    changes: np.ndarray, folds: Sequence[int], size: int, replace: bool, seed: int
) -> dict[int, np.ndarray]:
    """P-values of the fold test, ``(simulations,)`` per number of folds; the folds are nested."""
    rng = np.random.default_rng(seed)
    p: dict[int, list[float]] = {f: [] for f in folds}
    for values in changes:
        drawn = fold_means(values, folds=folds[-1], size=size, replace=replace, rng=rng)
        for f in folds:
            p[f].append(t_over_folds(drawn[:f]).p)
    return {f: np.array(values) for f, values in p.items()}


def _bootstrap_p(sums: np.ndarray, sizes: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """P-values of the bootstrap over images, ``(simulations,)``; all share their draws."""
    counts = resampled_clusters(len(sizes), draws, seed)
    return tail_p(counts @ sums.T / (counts @ sizes)[:, None])
