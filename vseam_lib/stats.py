"""Uncertainty of averages whose samples share images."""

from __future__ import annotations

from collections.abc import Sequence
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


def clustered_mean(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float = 0.95,
    draws: int = 4000,
    seed: int = 0,
) -> Interval:
    """Mean with a percentile bootstrap interval that resamples whole clusters.

    Args:
        values: one number per sample, such as the change of ``right`` between two edits.
        clusters: the sample's image; questions about one image rise and fall together.

    Raises:
        ValueError: unequal lengths, non-finite values, or fewer than two clusters. Do not trust
            the interval below about 30 clusters.
    """
    x = np.asarray(values, float)
    if len(x) != len(clusters):
        raise ValueError(f"expected one cluster per value, got {len(clusters)} for {len(x)}")
    if not np.isfinite(x).all():
        raise ValueError(f"expected finite values, got {int((~np.isfinite(x)).sum())} others")
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise ValueError("expected at least two clusters to resample, got one image")
    sums = np.bincount(index, weights=x)
    sizes = np.bincount(index)
    picks = np.random.default_rng(seed).integers(len(names), size=(draws, len(names)))
    means = sums[picks].sum(1) / sizes[picks].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(x.mean()), float(low), float(high))
