"""Tests of whether two systems that answered the same questions are equally accurate.

They differ in what they take to be independent, and so in what they exchange.

- :func:`mcnemar` takes the questions to be (McNemar, Psychometrika 12, 1947). Where several
  questions share an image it can reject too often.
- :func:`sign_flip_test` exchanges the two systems' answers within an image, all its questions
  together, and nothing between images.
- :func:`bootstrap_test` resamples images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from vseam_lib.stats.clusters import Interval, resampled_means
from vseam_lib.stats.paired import Paired


class McNemar(NamedTuple):
    """McNemar's test: discordant questions, and three p-values (all 1 if there are none)."""

    gained: int
    lost: int
    exact: float
    mid: float
    asymptotic: float


def mcnemar(pairs: Paired) -> McNemar:
    """McNemar's test of equal accuracy; a gained and a lost question are exchanged, one by one.

    The mid-p form is the recommended one (Fagerland, Lydersen and Laake, BMC Medical Research
    Methodology 13:91, 2013): the exact one is conservative. All three assume questions that are
    independent: do not trust them where several ask about one image.

    Raises:
        ValueError: answers averaged over draws.
    """
    gained, lost = pairs.discordant
    exact, mid, asymptotic = (float(p) for p in mcnemar_p(gained, lost))
    return McNemar(gained, lost, exact, mid, asymptotic)


def mcnemar_p(
    gained: np.ndarray | int, lost: np.ndarray | int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exact, mid-p and asymptotic two-sided p-values of McNemar's test, elementwise.

    The asymptotic one is the chi-squared test without continuity correction.
    """
    gained, lost = np.broadcast_arrays(gained, lost)
    n, few = gained + lost, np.minimum(gained, lost)
    below = 2 * stats.binom.cdf(few, n, 0.5)
    chi2 = (gained - lost) ** 2 / np.maximum(n, 1)
    none = n == 0
    exact = np.where(none, 1.0, np.minimum(below, 1.0))
    mid = np.where(none, 1.0, below - stats.binom.pmf(few, n, 0.5))
    return exact, mid, np.where(none, 1.0, stats.chi2.sf(chi2, 1))


class SignFlip(NamedTuple):
    """A sign-flip test: the mean difference in points, its p, and whether p is exact.

    p that is not exact was counted on random exchanges, itself included, and so is never 0.
    """

    change: float
    p: float
    exact: bool


def sign_flip_test(pairs: Paired, *, permutations: int = 10_000, seed: int = 0) -> SignFlip:
    """Two-sided permutation test that exchanges the systems' answers within whole images.

    If the systems are alike, which of the two gave which set of answers to an image's questions
    is chance. All arrangements are counted where the answers are right or wrong, and where there
    are few; else random ones by ``scipy.stats.permutation_test`` (p counts the observed one:
    Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 9:39, 2010).
    Without a question that changed p is 1. An average over draws and a single answer are not
    exchangeable even where they are right equally often: there the test takes an image's
    difference to be as likely to fall on either side of 0.

    Args:
        permutations: random arrangements, for answers averaged over draws.
    """
    if permutations < 1:
        raise ValueError(f"expected at least one permutation, got {permutations}")
    sums = pairs.sums[np.abs(pairs.sums) > 1e-9]
    if len(sums) < 2:  # either arrangement of one image is as far from zero
        return SignFlip(pairs.change, 1.0, True)
    if pairs.is_binary:
        return SignFlip(pairs.change, flip_p(sums), True)
    found = stats.permutation_test(
        (sums,), np.sum, permutation_type="samples", vectorized=True, n_resamples=permutations,
        batch=2000, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return SignFlip(pairs.change, float(found.pvalue), len(sums) <= math.log2(permutations))


def flip_p(sums: np.ndarray) -> float:
    """Exact two-sided p of a sum under random signs of whole-numbered summands.

    The distribution of the sum is the convolution, over the summands' sizes, of the binomial
    distributions of how many keep their sign, so that no arrangement need be listed.

    Raises:
        ValueError: summands that are not whole.
    """
    whole = np.rint(sums).astype(int)
    if not np.allclose(whole, sums, atol=1e-6):
        raise ValueError(f"expected whole-numbered sums, got {sums[:5]}")
    pmf = np.ones(1)
    for size, count in zip(*np.unique(np.abs(whole[whole != 0]), return_counts=True), strict=True):
        part = np.zeros(2 * size * count + 1)
        part[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        pmf = np.convolve(pmf, part)
    support = np.arange(len(pmf)) - len(pmf) // 2
    return min(1.0, float(pmf[np.abs(support) >= abs(whole.sum())].sum()))


class BootstrapTest(NamedTuple):
    """A mean difference with its interval, both in points, and the p that belongs to it."""

    change: float
    low: float
    high: float
    p: float

    @property
    def interval(self) -> Interval:
        return Interval(self.change, self.low, self.high)


def bootstrap_test(
    pairs: Paired, *, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> BootstrapTest:
    """Percentile bootstrap over images: the interval, and the p at which it would touch 0.

    Do not trust it below about 30 images, or where few of them hold a question that changed.
    p is at least ``2 / (draws + 1)``, and 1 if no question changed.
    """
    means = 100 * resampled_means(pairs.difference, pairs.clusters, draws=draws, seed=seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return BootstrapTest(pairs.change, float(low), float(high), float(tail_p(means)))


def tail_p(means: np.ndarray) -> np.ndarray:
    """Twice the smaller share of bootstrap draws, along the first axis, on a side of 0."""
    less = np.minimum((means <= 0).sum(0), (means >= 0).sum(0))
    return np.minimum(1.0, 2 * (1 + less) / (1 + len(means)))


def holm(p: Sequence[float]) -> np.ndarray:
    """P-values adjusted for the number of comparisons (Holm, Scand. J. Statistics 6, 1979).

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection
    below alpha, whatever the dependence between the tests.

    Raises:
        ValueError: values that are no p-values.
    """
    p = np.asarray(p, float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected a list of p-values between 0 and 1, got {p}")
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty(len(p))
    out[order] = np.minimum(adjusted, 1.0)
    return out
