"""What the interactions of :mod:`vseam_lib.causal.pairs` mean, and which exceed chance.

1. A pair is positive-positive, negative-negative or positive-negative by the lists that its heads
   come from, or random. What its interaction means depends on what its heads do by themselves
   (:data:`READINGS`).
2. A pair's interaction is tested by flipping the signs of whole images, and the pairs' p-values
   are adjusted for their number (:func:`interaction_table`).
3. How nearly effects add up is one number over all pairs (:func:`additivity`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from vseam_lib.causal.pairs import Pair, PairEffects
from vseam_lib.stats import Interval, clustered_band, clustered_mean, resampled_clusters
from vseam_lib.vlm.adapter import Head

KINDS = ("positive-positive", "negative-negative", "positive-negative")
RANDOM = "random"

# By what masking either does to the right answer: what it means that masking both leaves it less
# likely, and more likely, than the sum says.
READINGS = {
    "both lower it": ("one stands in for the other", "one needs the other"),
    "both raise it": ("one needs the other to harm", "one stands in for the other's harm"),
    "one lowers, one raises it": (
        "the harmful one undoes the helpful one",
        "the helpful one makes up for the harmful one",
    ),
}


def reading(first: float, second: float, interaction: float) -> str:
    """What an interaction means, a text of :data:`READINGS`.

    Args:
        first, second: the changes ``D(a)`` and ``D(b)`` on the same questions. They, not the list
            that a head is in, say whether it helps here.
    """
    raised = (first > 0) + (second > 0)
    return list(READINGS.values())[[0, 2, 1][raised]][int(interaction > 0)]


def kinds_of(
    pairs: Sequence[Pair], positive: Collection[Head], negative: Collection[Head]
) -> list[str]:
    """The kind of every pair, a name of :data:`KINDS`.

    Raises:
        ValueError: a head in both lists or in neither.
    """
    heads = {h for pair in pairs for h in pair}
    wrong = sorted(h for h in heads if (h in positive) == (h in negative))
    if wrong:
        raise ValueError(
            f"expected every head in one list, got {', '.join(map(str, wrong[:5]))} in both or in "
            "neither; choose heads with overlap='disjoint'"
        )
    return [KINDS[[0, 2, 1][sum(h in negative for h in pair)]] for pair in pairs]


def sign_flip_p(
    values: np.ndarray, clusters: Sequence[str], *, flips: int = 10_000, seed: int = 0
) -> np.ndarray:
    """Two-sided p-values of column means against 0, ``(P,)``, by flipping signs of whole images.

    Exchanged are an image's values and their negatives, all its questions and columns together:
    if a mean is 0 because effects are symmetric around 0, both are as likely. The observed signs
    count as one arrangement, so that no p is 0.

    Args:
        values: ``(N, P)``, one row per question.
        clusters: the image of each question.

    Raises:
        ValueError: unequal lengths, non-finite values, or fewer than one flip.
    """
    x = np.asarray(values, float)
    if len(x) != len(clusters) or not np.isfinite(x).all() or flips < 1:
        raise ValueError(
            f"expected finite values, one image per row and at least one flip, got {len(x)} rows, "
            f"{len(clusters)} images, {int((~np.isfinite(x)).sum())} non-finite values and "
            f"{flips} flips"
        )
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, index, x)
    observed = np.abs(sums.sum(0)) * (1 - 1e-9)
    rng, reached = np.random.default_rng(seed), np.zeros(x.shape[1])
    for start in range(0, flips, 1000):
        signs = rng.choice([-1.0, 1.0], size=(min(1000, flips - start), len(names)))
        reached += (np.abs(signs @ sums) >= observed).sum(0)
    return (1 + reached) / (1 + flips)


def interaction_table(
    effects: PairEffects,
    clusters: Sequence[str],
    kinds: Sequence[str],
    *,
    unit: str = "probability",
    flips: int = 10_000,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """One row per pair: what masking does alone, together and beyond the sum.

    Args:
        clusters: the image of each triple, in the order of ``effects``.
        kinds: of the pairs, see :func:`kinds_of`.
        unit: see :meth:`~vseam_lib.causal.pairs.PairEffects.interaction`.

    Returns:
        Columns ``first, second`` (names of heads), ``kind, apart`` (layers between them),
        ``first_alone, second_alone, joint`` (means of ``D(a)``, ``D(b)`` and ``D(a, b)``),
        ``interaction, low, high`` (95 %, images resampled), ``p`` (:func:`sign_flip_p`) and
        ``q``: the least false discovery rate at which the pair would be among the discoveries
        (Benjamini and Hochberg, J. Royal Statistical Society B 57, 1995), over this table.
    """
    values, (first, second) = effects.interaction(unit), effects.single_changes(unit)
    band = clustered_band(values, clusters, draws=draws, seed=seed)
    p = sign_flip_p(values, clusters, flips=flips, seed=seed)
    return pd.DataFrame(
        {
            "first": [str(a) for a, _ in effects.pairs],
            "second": [str(b) for _, b in effects.pairs],
            "kind": list(kinds),
            "apart": [b.layer - a.layer for a, b in effects.pairs],
            "first_alone": first.mean(0),
            "second_alone": second.mean(0),
            "joint": effects.joint_change(unit).mean(0),
            "interaction": band.mean,
            "low": band.low,
            "high": band.high,
            "p": p,
            "q": false_discovery_control(p, method="bh"),
        }
    )


def mean_interactions(
    effects: PairEffects,
    clusters: Sequence[str],
    kinds: Sequence[str],
    *,
    unit: str = "probability",
    seed: int = 0,
) -> dict[str, Interval]:
    """Mean interaction of the pairs of each kind that occurs; intervals resample images."""
    values, kinds = effects.interaction(unit), np.asarray(kinds)
    return {
        kind: clustered_mean(values[:, kinds == kind].mean(1), clusters, seed=seed)
        for kind in dict.fromkeys(kinds.tolist())
    }


def additivity(
    effects: PairEffects,
    clusters: Sequence[str],
    *,
    unit: str = "probability",
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Share of the variance between pairs' mean joint effects that the sums of the single ones
    explain, 1 where effects add up exactly; nothing keeps it from falling below 0.

    The interval resamples images.

    Raises:
        ValueError: fewer than two pairs or images.
    """
    joint, summed = effects.joint_change(unit), sum(effects.single_changes(unit))
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    if joint.shape[1] < 2 or len(names) < 2:
        raise ValueError(
            f"expected at least two pairs and two images, got {joint.shape[1]} and {len(names)}"
        )
    counts = np.concatenate([np.ones((1, len(names))), resampled_clusters(len(names), draws, seed)])
    weights = counts[:, index] / counts[:, index].sum(1, keepdims=True)
    together, sums = weights @ joint, weights @ summed  # (1 + draws, pairs)
    missed = ((together - sums) ** 2).sum(1)
    share = 1 - missed / ((together - together.mean(1, keepdims=True)) ** 2).sum(1)
    low, high = np.quantile(share[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(share[0]), float(low), float(high))
