"""What difference a paired comparison could show at all.

The power of McNemar's test for given discordance (Connor, Biometrics 43, 1987), for as many
independent questions as the clustered ones are worth.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

from vseam_lib.stats.paired import Paired


def design_effect(pairs: Paired) -> float:
    """Variance of the mean difference over images, relative to that of independent questions.

    Above 1, questions about an image change together; N of them are worth N over this. 1 if no
    question changed. Do not trust it where fewer than about 30 images changed.
    """
    d, sizes = pairs.difference, pairs.sizes
    variance = d.var(ddof=1)
    if variance == 0:
        return 1.0
    residuals = pairs.sums - d.mean() * sizes
    images = len(sizes)
    return float((residuals**2).sum() * images / (images - 1) / (len(d) * variance))


def power_to_detect(
    change: float,
    *,
    n: float,
    discordance: float,
    design_effect: float = 1.0,
    alpha: float = 0.05,
) -> float:
    """Chance that a two-sided test finds a true difference, 0 to 1; 0 if nothing is discordant.

    Args:
        change: the true difference of accuracy, points.
        n: questions.
        discordance: questions that exactly one system answers rightly, per cent.

    Raises:
        ValueError: a change larger than the discordance allows, or sizes out of range.
    """
    _check(n, discordance, design_effect, alpha)
    if abs(change) > discordance:
        raise ValueError(
            f"expected a change of at most the discordance ({discordance:g} per cent), got "
            f"{change:g} points"
        )
    if discordance == 0:
        return 0.0
    psi, delta = discordance / 100, abs(change) / 100
    worth = n / design_effect
    spread = math.sqrt(psi - delta**2) or math.ulp(1.0)
    distance = delta * math.sqrt(worth)
    critical = stats.norm.isf(alpha / 2) * math.sqrt(psi)
    far, near = (distance - critical) / spread, (-distance - critical) / spread
    return float(stats.norm.cdf(far) + stats.norm.cdf(near))


def minimal_detectable(
    n: float,
    discordance: float,
    *,
    design_effect: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest true difference in points that a test finds with the given power.

    Infinite if even a discordance that goes all one way would be missed: then the sample can
    show nothing. Do not trust it below about ten discordant questions.

    Args:
        n: questions.
        discordance: questions that exactly one system answers rightly, per cent.
    """
    _check(n, discordance, design_effect, alpha)
    if not alpha < power < 1:
        raise ValueError(f"expected a power between alpha = {alpha} and 1, got {power}")

    def missing(change: float) -> float:
        found = power_to_detect(
            change, n=n, discordance=discordance, design_effect=design_effect, alpha=alpha
        )
        return found - power

    if missing(discordance) < 0:
        return math.inf
    return float(optimize.brentq(missing, 0.0, discordance))


def _check(n: float, discordance: float, design_effect: float, alpha: float) -> None:
    good = n > 0 and 0 <= discordance <= 100 and design_effect > 0 and 0 < alpha < 1
    if not good or not np.isfinite([n, discordance, design_effect, alpha]).all():
        raise ValueError(
            "expected n > 0, discordance in 0 to 100 per cent, design_effect > 0 and alpha in 0 to "
            f"1, got {n}, {discordance}, {design_effect} and {alpha}"
        )
