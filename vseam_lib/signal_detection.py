"""Signal detection: what a model tells apart, and how readily it says Yes.

A yes/no question is a detection task (Macmillan and Creelman, Detection Theory, 2005). The signal
is that Yes is right; the evidence is the margin, the logit of Yes minus that of No; the model says
Yes where the margin is positive.

1. d' is how far apart questions with the answers Yes and No lie, the criterion how far from the
   middle between them the threshold is (negative: towards saying Yes). Both follow from the rates
   of Yes. The area under the ROC curve (AUC) is the chance that a Yes question has the larger
   margin; it follows from the margins and knows no threshold.
2. Intervals resample images. Every statistic takes weights, one row per draw, so that draws stay
   aligned over statistics, edits and categories; see :func:`image_weights`.

What a shifted threshold alone can do is in :mod:`vseam_lib.yes_bias`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

from vseam_lib.stats import Interval, resampled_clusters


class Detection(NamedTuple):
    """How one system detects Yes; arrays ``(draws,)``, the first entry the sample itself.

    Attributes:
        d_prime, criterion: in standard deviations of the evidence.
        auc: between 0 and 1; one half is chance.
        accuracy, balanced: per cent; the latter the mean of the next two.
        on_yes, on_no: accuracy on questions whose answer is Yes, and No, per cent.
        yes_rate: per cent.
    """

    d_prime: np.ndarray
    criterion: np.ndarray
    auc: np.ndarray
    accuracy: np.ndarray
    balanced: np.ndarray
    on_yes: np.ndarray
    on_no: np.ndarray
    yes_rate: np.ndarray

    def minus(self, other: Detection) -> Detection:
        """The change of every statistic from ``other`` to this one, draw by draw."""
        return Detection(*(a - b for a, b in zip(self, other, strict=True)))


def image_weights(clusters: Sequence[str], *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """How often each question counts, ``(1 + draws, N)``: once; then as its image is drawn.

    Raises:
        ValueError: fewer than two images.
    """
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"expected at least two images to resample, got {len(names)}")
    drawn = resampled_clusters(len(names), draws, seed)
    return np.concatenate([np.ones((1, len(index))), drawn[:, index]])


def from_draws(values: np.ndarray, *, level: float = 0.95) -> Interval:
    """The sample's value with the percentile interval of its draws.

    Draws in which a statistic is undefined, because they hold one kind of question only, do not
    count. Do not trust the interval below about 30 images.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return Interval(float(values[0]), np.nan, np.nan)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values[0]), float(low), float(high))


def detection(
    margin: Sequence[float], gold_yes: Sequence[bool], weights: np.ndarray | None = None
) -> Detection:
    """All statistics of one system's margins.

    For d' and criterion the rates of Yes are log-linearly corrected: half a Yes and half a No are
    added to the answers of each kind (Hautus, Behavior Research Methods, Instruments, & Computers
    27, 1995), so that both stay finite where all or no answers of a kind are right.

    Args:
        margin: ``(N,)`` logit of Yes minus that of No.
        gold_yes: ``(N,)`` whether Yes is the right answer.
        weights: ``(draws, N)`` of :func:`image_weights`; every question once by default.

    Raises:
        ValueError: margins that are not finite, unequal lengths, or questions of one kind only.
    """
    m, gold, w = checked(margin, gold_yes, weights)
    _both_kinds(gold)
    yes, no = w @ gold, w @ ~gold
    with np.errstate(divide="ignore", invalid="ignore"):
        kinds = (yes > 0) & (no > 0)
        yes, no = np.where(kinds, yes, np.nan), np.where(kinds, no, np.nan)
        hits, alarms = w @ (gold & (m > 0)), w @ (~gold & (m > 0))
        z_hit, z_alarm = (
            norm.ppf((said + 0.5) / (n + 1)) for said, n in ((hits, yes), (alarms, no))
        )
        on_yes, on_no = 100 * hits / yes, 100 - 100 * alarms / no
        return Detection(
            d_prime=z_hit - z_alarm,
            criterion=-(z_hit + z_alarm) / 2,
            auc=_auc(m, gold, w) / (yes * no),
            accuracy=100 * (hits + no - alarms) / (yes + no),
            balanced=(on_yes + on_no) / 2,
            on_yes=on_yes,
            on_no=on_no,
            yes_rate=100 * (hits + alarms) / (yes + no),
        )


def _auc(margin: np.ndarray, gold: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """In how many pairs the Yes question has the larger margin than the No one; ties are half."""
    order, starts = levels(margin)
    own = np.add.reduceat((weights * gold)[:, order], starts, axis=1)
    below = np.add.reduceat((weights * ~gold)[:, order], starts, axis=1)
    above = own.cumsum(1) - own
    return (below * (above + own / 2)).sum(1)


def levels(margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Questions from the largest margin down, and where each different margin begins."""
    order = np.argsort(-margin, kind="stable")
    return order, np.flatnonzero(np.r_[True, np.diff(margin[order]) != 0])


def checked(
    margin: Sequence[float], gold_yes: Sequence[bool], weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arrays of one length, weights 1 by default.

    Raises:
        ValueError: unequal lengths, or margins that are not finite.
    """
    m, gold = np.asarray(margin, float), np.asarray(gold_yes, bool)
    w = np.ones((1, len(m))) if weights is None else np.asarray(weights, float)
    if not len(m) == len(gold) == w.shape[-1]:
        raise ValueError(
            f"expected one margin, answer and weight per question, got {len(m)} margins, "
            f"{len(gold)} answers and {w.shape[-1]} weights"
        )
    if not np.isfinite(m).all():
        raise ValueError(
            f"expected finite margins, got {int((~np.isfinite(m)).sum())} others of {len(m)}; "
            "try dtype='float32'"
        )
    return m, gold, w


def _both_kinds(gold: np.ndarray) -> None:
    if gold.all() or not gold.any():
        kind = "Yes" if len(gold) and gold.all() else "No"
        raise ValueError(
            f"expected questions with the answers Yes and No, got {len(gold)} with {kind} only: "
            "where one answer is always right, accuracy counts how often it is given, and says "
            "nothing of telling the two apart"
        )
