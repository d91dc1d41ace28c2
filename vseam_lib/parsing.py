"""Yes and no, read off what a model wrote, and POPE's metrics.

Which parser is used changes the numbers of POPE: its authors' never says "unknown", so that an
empty or evasive answer counts as yes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vseam_lib.signal_detection import from_draws
from vseam_lib.stats import Interval, resampled_clusters

YES, NO, UNKNOWN = "yes", "no", "unknown"


def official(text: str) -> str:
    """POPE's own evaluation (Li et al., 2023): ``"no"`` if No, not or no is a word, else ``"yes"``.

    Words are what spaces separate in the text before the first full stop, commas dropped.
    """
    words = text.split(".")[0].replace(",", "").split(" ")
    return NO if {"No", "not", "no"} & set(words) else YES


def exact(text: str) -> str:
    """The whole answer must be yes or no, case and surrounding space aside."""
    said = text.strip().lower()
    return said if said in (YES, NO) else UNKNOWN


def strict(text: str) -> str:
    """Exactly one of yes and no must be a word of the answer, in any case and punctuation."""
    found = {YES, NO} & set(re.findall(r"[a-z]+", text.lower()))
    return found.pop() if len(found) == 1 else UNKNOWN


PARSERS: dict[str, Callable[[str], str]] = {"official": official, "exact": exact, "strict": strict}


class PopeMetrics(NamedTuple):
    """POPE's metrics with "yes" as the positive class; shares from 0 to 1.

    ``precision`` is NaN where nothing is answered yes, ``recall`` where nothing should be, and
    ``f1`` where either is. ``yes_rate`` is of the answers, not of the labels; ``unknown`` answers
    are wrong and neither yes nor no.
    """

    accuracy: float
    precision: float
    recall: float
    f1: float
    yes_rate: float
    unknown: float


def pope_metrics(labels: Sequence[str], answers: Sequence[str]) -> PopeMetrics:
    """Metrics of parsed answers.

    Args:
        labels: ``"yes"`` or ``"no"``.
        answers: ``"yes"``, ``"no"`` or ``"unknown"``, as of a parser.

    Raises:
        ValueError: no answers, unequal numbers, or other words.
    """
    return PopeMetrics(*_metrics(_counts(labels, answers).sum(0)).tolist())


def metric_changes(
    labels: Sequence[str],
    before: Sequence[str],
    after: Sequence[str],
    clusters: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Mapping[str, Interval]:
    """Changes of the metrics with 95 % percentile bootstrap intervals that resample images.

    Accuracy and the like are means over questions, but precision and F1 are ratios of counts:
    each draw computes them anew. Draws in which one is undefined do not count for it.

    Args:
        labels, before, after: of the same questions, as for :func:`pope_metrics`.
        clusters: each question's image.

    Returns:
        Per name of :class:`PopeMetrics`, a difference of shares.

    Raises:
        ValueError: as :func:`pope_metrics`; or unequal numbers, or a single image.
    """
    both = [_counts(labels, said) for said in (before, after)]
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if len(index) != len(labels) or len(names) < 2:
        raise ValueError(
            f"expected one image per question and at least two images, got {len(index)} for "
            f"{len(labels)} questions and {len(names)} different ones"
        )
    weights = resampled_clusters(len(names), draws, seed)
    one, two = (_metrics(counts.sum(0)) for counts in both)
    drawn = []
    for counts in both:
        per_image = np.zeros((len(names), counts.shape[1]))
        np.add.at(per_image, index, counts)
        drawn.append(_metrics(weights @ per_image))
    change = np.concatenate([(two - one)[None], drawn[1] - drawn[0]])  # (1 + draws, metrics)
    return {name: from_draws(change[:, k]) for k, name in enumerate(PopeMetrics._fields)}


def _counts(labels: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    """Per question ``(N, 6)``: 1, label yes, said yes, both, right, unknown."""
    gold, said = np.asarray(labels, str), np.asarray(answers, str)
    if len(gold) != len(said) or not len(gold):
        raise ValueError(f"expected one answer per label, got {len(said)} for {len(gold)}")
    bad = sorted(set(gold) - {YES, NO}) + sorted(set(said) - {YES, NO, UNKNOWN})
    if bad:
        raise ValueError(
            f"expected labels 'yes' and 'no' and answers 'yes', 'no' and 'unknown', got "
            f"{', '.join(repr(str(x)) for x in bad[:3])}; parse the answers first"
        )
    yes, says = gold == YES, said == YES
    ones = np.ones(len(gold), bool)
    return np.stack([ones, yes, says, yes & says, gold == said, said == UNKNOWN], 1).astype(float)


def _metrics(counts: np.ndarray) -> np.ndarray:
    """The fields of :class:`PopeMetrics` from sums of :func:`_counts`, ``(..., 6)``."""
    n, yes, says, both, right, unknown = np.moveaxis(counts, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = both / says, both / yes
        f1 = np.where((says > 0) & (yes > 0), 2 * both / (says + yes), np.nan)
        return np.stack([right / n, precision, recall, f1, says / n, unknown / n], -1)
