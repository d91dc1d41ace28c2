"""How much better one system answers than another, with intervals that respect shared images."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

from vseam_lib.stats.clusters import Interval
from vseam_lib.stats.paired import Paired
from vseam_lib.stats.significance import bootstrap_test


class EffectSizes(NamedTuple):
    """Sizes of a paired difference.

    Attributes:
        change: mean difference of accuracy, points.
        odds_ratio: questions gained per question lost. Without a discordant question nothing is
            known of it: not a number, between 0 and infinity.
        g: share of the gained among the discordant questions minus one half (Cohen, Statistical
            Power Analysis, 1988, ch. 5), between -0.5 and 0.5; not a number likewise.
        gained, lost: discordant questions.
    """

    change: Interval
    odds_ratio: Interval
    g: Interval
    gained: int
    lost: int


def effect_sizes(
    pairs: Paired, *, level: float = 0.95, draws: int = 4000, seed: int = 0
) -> EffectSizes:
    """Difference in points, odds ratio and Cohen's g of two systems' right answers.

    The interval of the difference resamples images
    (:func:`~vseam_lib.stats.significance.bootstrap_test`). Those of odds ratio and g are
    Clopper-Pearson intervals of the share of gained questions, for as many independent questions
    as the clustered ones are worth (Korn and Graubard, Survey Methodology 24, 1998), so that they
    exist where nothing was lost, too.

    Raises:
        ValueError: answers averaged over draws.
    """
    gained, lost = pairs.discordant
    n = gained + lost
    change = bootstrap_test(pairs, level=level, draws=draws, seed=seed).interval
    if n == 0:
        nothing = Interval(math.nan, 0.0, math.inf), Interval(math.nan, -0.5, 0.5)
        return EffectSizes(change, *nothing, 0, 0)
    worth = n / _share_design_effect(pairs, gained / n)
    low, high = clopper_pearson(worth * gained / n, worth, level)
    share = Interval(gained / n, low, high)
    odds = Interval(*(s / (1 - s) if s < 1 else math.inf for s in share))
    return EffectSizes(change, odds, Interval(*(s - 0.5 for s in share)), gained, lost)


def _share_design_effect(pairs: Paired, share: float) -> float:
    """Variance of the share of gained questions over that of independent ones, at least 1."""
    index = np.unique(pairs.clusters, return_inverse=True)[1]
    gained = np.bincount(index, weights=pairs.difference > 0)
    changed = np.bincount(index, weights=pairs.difference != 0)
    images, n = int((changed > 0).sum()), changed.sum()
    if images < 2 or share in (0, 1):
        return 1.0
    clustered = ((gained - share * changed) ** 2).sum() * images / (images - 1) / n**2
    return max(1.0, clustered / (share * (1 - share) / (n - 1)))


def clopper_pearson(successes: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share; ``n`` and ``successes`` need not be whole (effective sizes)."""
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = stats.beta.ppf(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)
