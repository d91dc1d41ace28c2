"""Uncertainty of averages whose samples share images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """A mean with a confidence interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


class Band(NamedTuple):
    """Means with confidence intervals, arrays of one shape in the unit of the values."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@lru_cache(maxsize=2)  # several measures of one sample resample it alike
def resampled_clusters(n: int, draws: int, seed: int) -> np.ndarray:
    """How often each of ``n`` clusters occurs in each bootstrap draw, ``(draws, n)``, read-only."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=draws).astype(float)
    counts.setflags(write=False)
    return counts


def resampled_means(
    values: np.ndarray, clusters: Sequence[str], *, draws: int, seed: int
) -> np.ndarray:
    """Means over samples in each bootstrap draw of whole clusters, ``(draws, ...)``.

    Args:
        values: ``(N, ...)``, one array per sample.
        clusters: the sample's image.

    Raises:
        ValueError: unequal lengths, non-finite values, or fewer than two clusters.
    """
    x = np.asarray(values, float)
    if len(x) != len(clusters):
        raise ValueError(f"expected one cluster per value, got {len(clusters)} for {len(x)}")
    if not np.isfinite(x).all():
        raise ValueError(f"expected finite values, got {int((~np.isfinite(x)).sum())} others")
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise ValueError("expected at least two clusters to resample, got one image")
    flat = x.reshape(len(x), -1)
    sums = np.zeros((len(names), flat.shape[1]))
    np.add.at(sums, index, flat)
    counts = resampled_clusters(len(names), draws, seed)
    means = counts @ sums / (counts @ np.bincount(index))[:, None]
    return means.reshape(draws, *x.shape[1:])


def clustered_band(
    values: np.ndarray,
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Band:
    """Means over samples with percentile bootstrap intervals that resample whole clusters.

    Args:
        values: ``(N, ...)``, one array per sample; intervals are pointwise.
        clusters: the sample's image; questions about one image rise and fall together.

    Raises:
        ValueError: unequal lengths, non-finite values, or fewer than two clusters. Do not trust
            the intervals below about 30 clusters.
    """
    means = resampled_means(values, clusters, draws=draws, seed=seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Band(np.asarray(values, float).mean(0), low, high)


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Mean of one number per sample with its interval; see :func:`clustered_band`."""
    band = clustered_band(np.asarray(values, float), clusters, level=level, draws=draws, seed=seed)
    return Interval(*(float(v) for v in band))
