"""What difference a paired comparison could show at all.

The power of McNemar's test (Connor, Biometrics 43, 1987), for as many independent questions as
the clustered ones are worth. Two systems that are right equally often still differ on some
questions, which cancel each other: the *churn*. A true difference comes on top of it.
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


def churn(pairs: Paired) -> float:
    """Questions gained and lost that cancel each other, per cent.

    Raises:
        ValueError: answers averaged over draws.
    """
    return 100 * 2 * min(pairs.discordant) / len(pairs.difference)


def power_to_detect(
    change: float, *, n: float, churn: float, design_effect: float = 1.0, alpha: float = 0.05
) -> float:
    """Chance that a two-sided test finds a true difference, 0 to 1.

    Args:
        change: the true difference of accuracy, points.
        n: questions.
        churn: questions that the systems differ on without one being ahead, per cent.

    Raises:
        ValueError: sizes out of range, or a change and churn of more than all questions.
    """
    good = n > 0 and 0 <= churn <= 100 and design_effect > 0 and 0 < alpha < 1
    if not good or not np.isfinite([change, n, churn, design_effect, alpha]).all():
        raise ValueError(
            "expected n > 0, churn in 0 to 100 per cent, design_effect > 0 and alpha in 0 to 1, "
            f"got {n}, {churn}, {design_effect} and {alpha} for a change of {change}"
        )
    delta, psi = abs(change) / 100, (abs(change) + churn) / 100
    if psi > 1 + 1e-9:
        raise ValueError(
            f"expected a change of at most {100 - churn:g} points beside a churn of {churn:g} per "
            f"cent, got {change:g}"
        )
    if psi == 0:
        return 0.0
    spread = math.sqrt(max(psi - delta**2, 0)) or math.ulp(1.0)
    distance = delta * math.sqrt(n / design_effect)
    critical = stats.norm.isf(alpha / 2) * math.sqrt(psi)
    far, near = (distance - critical) / spread, (-distance - critical) / spread
    return float(stats.norm.cdf(far) + stats.norm.cdf(near))


def minimal_detectable(
    n: float,
    churn: float,
    *,
    design_effect: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest true difference in points that a test finds with the given power.

    Infinite if the sample is too small to find any. Do not trust it where it stands for fewer than
    about ten questions.

    Args:
        n, churn, design_effect, alpha: as for :func:`power_to_detect`.
    """
    if not alpha < power < 1:
        raise ValueError(f"expected a power between alpha = {alpha} and 1, got {power}")

    def missing(change: float) -> float:
        return -power + power_to_detect(
            change, n=n, churn=churn, design_effect=design_effect, alpha=alpha
        )

    least, most = 1e-9, 100.0 - churn
    if missing(most) < 0:
        return math.inf
    return float(optimize.brentq(missing, least, most))
