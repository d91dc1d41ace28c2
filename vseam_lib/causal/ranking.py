"""Positive and negative heads from the effects of masking (paper, section 4.2).

1. Average the effects over the triples that the model answers rightly, and over those it answers
   wrongly (Eq. 7).
2. Positive heads are the K with the largest ``-c_correct``, negative heads the K with the largest
   ``c_incorrect``; their importance is Eq. 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vseam_lib.causal.heads import Effects
from vseam_lib.stats import Band, clustered_band, resampled_clusters
from vseam_lib.vlm.adapter import Head

SCORES = ("signed", "relu")
OVERLAPS = ("drop", "both", "disjoint")


class Scores(NamedTuple):
    """Eq. 7: ``(n_layers, n_heads)`` means over right and wrong triples, and their numbers."""

    c_correct: np.ndarray
    c_incorrect: np.ndarray
    n_correct: int
    n_incorrect: int


def causal_scores(effects: Effects, score: str = "signed") -> Scores:
    """Average the effects over D_correct and D_incorrect (Eq. 7).

    Args:
        score: ``"signed"`` as in the paper; ``"relu"`` clips each triple's effect to the
            direction looked for first, as the released code does.

    Raises:
        ValueError: an unknown score, or a subset without triples.
    """
    good, bad = _subsets(effects, score)
    return Scores(good.mean(0), bad.mean(0), len(good), len(bad))


def _subsets(effects: Effects, score: str) -> tuple[np.ndarray, np.ndarray]:
    """Effects on D_correct and D_incorrect, clipped if asked."""
    if score not in SCORES:
        raise ValueError(f"expected a score in {SCORES}, got {score!r}")
    right = effects.right
    for name, subset in (("D_correct", right), ("D_incorrect", ~right)):
        if not subset.any():
            raise ValueError(
                f"{name} is empty: the model answers all {len(right)} triples "
                f"{'wrongly' if name == 'D_correct' else 'rightly'}, so Eq. 7 has nothing to "
                "average. Use more triples (n), or a category with both kinds of answers"
            )
    good, bad = effects.delta[right], effects.delta[~right]
    if score == "relu":
        good, bad = np.minimum(good, 0), np.maximum(bad, 0)
    return good, bad


def score_bands(
    effects: Effects, clusters: Sequence[str], score: str = "signed"
) -> tuple[Band, Band]:
    """Eq. 7 with 95 % intervals that resample images: for c_correct and for c_incorrect.

    Args:
        clusters: the image of each triple, in the order of ``effects``.

    Raises:
        ValueError: as :func:`causal_scores`, or a subset with fewer than two images.
    """
    good, bad = _subsets(effects, score)
    image = np.asarray(clusters, dtype=str)
    right = effects.right
    return clustered_band(good, image[right]), clustered_band(bad, image[~right])


class Stability(NamedTuple):
    """How far the head lists depend on the images that happened to be drawn.

    Attributes:
        positive, negative: ``(n_layers, n_heads)`` share of bootstrap draws whose list has the
            head.
        jaccard: mean overlap of a draw's list with the full sample's, per side.
    """

    positive: np.ndarray
    negative: np.ndarray
    jaccard: dict[str, float]


def stability(
    effects: Effects,
    clusters: Sequence[str],
    k: int | float = 10,
    score: str = "signed",
    *,
    draws: int = 500,
    seed: int = 0,
) -> Stability:
    """Resample images, rank again, and count how often each head is among the top K (Eq. 7).

    Draws without triples of a side do not count for that side.

    Args:
        clusters: the image of each triple, in the order of ``effects``.
        k: a number of heads, or a share of all heads.

    Raises:
        ValueError: as :func:`causal_scores` and :func:`resolve_k`.
    """
    subsets = _subsets(effects, score)
    names, index = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    counts = resampled_clusters(len(names), draws, seed)
    k = resolve_k(k, effects.delta[0].size)
    found, overlap = [], {}
    sides = (("positive", effects.right, -1), ("negative", ~effects.right, 1))
    for (side, member, sign), values in zip(sides, subsets, strict=True):
        sums = np.zeros((len(names), values[0].size))
        np.add.at(sums, index[member], sign * values.reshape(len(values), -1))
        sizes = np.bincount(index[member], minlength=len(names))
        drawn = counts[counts @ sizes > 0]
        means = drawn @ sums / (drawn @ sizes)[:, None]
        top = np.argsort(-means, axis=1, kind="stable")[:, :k]
        often = np.bincount(top.ravel(), minlength=means.shape[1]) / len(drawn)
        full = set(np.argsort(-sums.sum(0), kind="stable")[:k].tolist())
        shared = np.array([len(full & set(row)) for row in top.tolist()])
        overlap[side] = float((shared / (2 * k - shared)).mean())
        found.append(often.reshape(effects.delta.shape[1:]))
    return Stability(*found, overlap)


def resolve_k(k: int | float, n_heads_total: int) -> int:
    """K as a number of heads; a ``float`` below 1 is a share of all heads, at least one.

    Raises:
        ValueError: K below 1 or above the number of heads.
    """
    n = max(1, round(k * n_heads_total)) if isinstance(k, float) and 0 < k < 1 else k
    if n != int(n) or not 1 <= n <= n_heads_total:
        raise ValueError(
            f"expected K between 1 and the model's {n_heads_total} heads, or a share between 0 "
            f"and 1, got {k!r}"
        )
    return int(n)


class HeadSets(NamedTuple):
    """Positive and negative heads with their Eq. 8 importance, most important first."""

    positive: dict[Head, float]
    negative: dict[Head, float]


def top_heads(scores: Scores, k: int | float = 10, overlap: str = "drop") -> HeadSets:
    """The K positive and K negative heads, with the importance of Eq. 8.

    Args:
        k: a number of heads, or a share of all heads (``0.07``).
        overlap: what becomes of heads in both lists: ``"drop"`` removes them from both,
            ``"both"`` keeps them in both, ``"disjoint"`` leaves each in the list where its
            importance is larger and fills both lists up to K.
    """
    if overlap not in OVERLAPS:
        raise ValueError(f"expected an overlap rule in {OVERLAPS}, got {overlap!r}")
    k = resolve_k(k, scores.c_correct.size)
    gain = {"positive": -scores.c_correct, "negative": scores.c_incorrect}
    if overlap == "disjoint":
        size = {s: np.abs(g) for s, g in gain.items()}
        mine = size["positive"] >= size["negative"]
        gain["positive"] = np.where(mine, gain["positive"], -np.inf)
        gain["negative"] = np.where(mine, -np.inf, gain["negative"])
    sets = {}
    for side, g in gain.items():
        order = np.argsort(-g, axis=None, kind="stable")[:k]
        heads = [Head(*map(int, np.unravel_index(i, g.shape))) for i in order]
        sets[side] = {h: float(abs(g[h])) for h in heads if np.isfinite(g[h])}
    if overlap == "drop":
        shared = sets["positive"].keys() & sets["negative"].keys()
        sets = {s: {h: c for h, c in v.items() if h not in shared} for s, v in sets.items()}
    return HeadSets(sets["positive"], sets["negative"])


def jaccard(a: Sequence[Head], b: Sequence[Head]) -> float:
    """Shared heads over all heads of two lists; 0 for two empty ones."""
    union = set(a) | set(b)
    return len(set(a) & set(b)) / len(union) if union else 0.0


def jaccard_by_chance(k: int, n_heads_total: int, draws: int = 20000, seed: int = 0) -> float:
    """Expected Jaccard overlap of two independent random sets of ``k`` heads."""
    shared = np.random.default_rng(seed).hypergeometric(k, n_heads_total - k, k, draws)
    return float((shared / (2 * k - shared)).mean())
