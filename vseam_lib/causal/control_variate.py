"""Eq. 7 from an exact sweep of some images and a screened one of all: control variates.

The screened effects (:mod:`~vseam_lib.causal.screening`) are cheap and slightly wrong, the exact
ones (:func:`heads.sweep`) right and dear. The mean of the cheap ones over all questions, plus the
mean of their errors over the few questions swept exactly, is right on average, and varies only as
much as the errors do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from vseam_lib.causal.heads import Effects
from vseam_lib.causal.ranking import Scores, causal_scores, resolve_k

Beta = float | Literal["fitted"]


class Estimate(NamedTuple):
    """A mean with its standard error, ``(n_layers, n_heads)``, and the coefficient used."""

    mean: np.ndarray
    se: np.ndarray
    beta: float


def difference_estimate(
    exact: np.ndarray,
    estimated: np.ndarray,
    clusters: Sequence[str],
    sampled: np.ndarray,
    beta: Beta = 1.0,
) -> Estimate:
    """Mean of the exact values over all ``N`` samples, from the ``m`` of some clusters (Eq. 7).

    ``mean(exact over m) + beta * (mean(estimated over N) - mean(estimated over m))``: the
    difference estimator of survey sampling; with ``beta = 1`` it is the mean of the estimates
    plus the mean of their errors. Clusters of unequal size make the means over ``m`` ratios,
    whose bias vanishes as ``1 / m``; with equal clusters and a fixed ``beta`` it is unbiased.

    Args:
        exact: ``(m, ...)``, of the sampled ones, in the order of ``estimated``.
        estimated: ``(N, ...)``.
        clusters: the image of each of the ``N`` samples.
        sampled: ``(N,)`` bool, whole clusters drawn at random.
        beta: a number (0 ignores the estimates), or ``"fitted"``: least squares over the ``m``
            samples, one for all heads, for a coefficient per head would be noise at small ``m``.

    Returns:
        Mean, and its standard error for a draw of clusters from those given: 0 when all are
        sampled. Too small where few clusters are sampled, or few samples carry the effect;
        :func:`by_share` shows by how much.

    Raises:
        ValueError: shapes that do not fit, a cluster sampled in part, or only one sampled
            cluster of several.
    """
    f, g = np.asarray(exact, float), np.asarray(estimated, float)
    sampled = np.asarray(sampled, bool)
    names, index = np.unique(np.asarray(clusters, str), return_inverse=True)
    if not len(g) == len(index) == len(sampled) or f.shape != (int(sampled.sum()), *g.shape[1:]):
        raise ValueError(
            f"expected N estimates with their clusters and sampling, and exact values of the "
            f"{int(sampled.sum())} sampled, got {g.shape}, {len(index)}, {len(sampled)}, {f.shape}"
        )
    taken = np.bincount(index, sampled) / np.bincount(index)
    if ((taken > 0) & (taken < 1)).any():
        part = names[(taken > 0) & (taken < 1)]
        raise ValueError(
            f"expected whole images in the sub-sample, got some questions of {len(part)} images "
            f"only ({', '.join(part[:3])}); draw it with triples.split_by_image"
        )
    n, N = int(taken.sum()), len(names)
    if n < 2 and n < N:
        raise ValueError(
            f"expected at least two of {N} images in the sub-sample, got {n}; a standard error "
            "needs two. Draw a larger share, or use more questions"
        )
    mine = g[sampled]
    f0, g0 = f.mean(0), mine.mean(0)
    if beta == "fitted":
        spread = float(((mine - g0) ** 2).sum())
        beta = float(((f - f0) * (mine - g0)).sum()) / spread if spread else 0.0
    rest = (f - f0) - beta * (mine - g0)  # what the estimates do not explain
    totals = np.zeros((N, *g.shape[1:]))
    np.add.at(totals, index[sampled], rest)
    variance = (1 - n / N) * n / max(n - 1, 1) * (totals**2).sum(0) / len(f) ** 2
    return Estimate(f0 + beta * (g.mean(0) - g0), np.sqrt(variance), float(beta))


class Controlled(NamedTuple):
    """Eq. 7 with standard errors, and the coefficients used.

    Attributes:
        scores: as of :func:`heads.causal_scores`; numbers are those of all questions.
        se_correct, se_incorrect: ``(n_layers, n_heads)`` standard errors, clustered by image.
        beta_correct, beta_incorrect: see :func:`difference_estimate`.
    """

    scores: Scores
    se_correct: np.ndarray
    se_incorrect: np.ndarray
    beta_correct: float
    beta_incorrect: float


def control_variate(
    exact: Effects, screened: Effects, clusters: Sequence[str], beta: Beta = 1.0
) -> Controlled:
    """Estimate Eq. 7 over all screened questions from those swept exactly.

    Args:
        exact: of the ``m`` questions about some images, drawn at random.
        screened: of all ``N`` questions.
        clusters: the image of each screened question, in their order.
        beta: see :func:`difference_estimate`.

    Raises:
        ValueError: exact effects of questions that were not screened, or by another model;
            otherwise as :func:`heads.causal_scores` and :func:`difference_estimate`.
    """
    at = {i: k for k, i in enumerate(screened.ids)}
    unknown = [i for i in exact.ids if i not in at]
    if unknown:
        raise ValueError(
            f"expected exact effects of screened questions, got {len(unknown)} others "
            f"({', '.join(unknown[:3])}); screen them too"
        )
    rows = np.array([at[i] for i in exact.ids], int)
    apart = np.abs(screened.p[rows] - exact.p)
    if len(apart) and apart.max() > 0.05:
        raise ValueError(
            "expected one model and prompt behind exact and screened effects, but P(answer) "
            f"differs by up to {apart.max():.2f}; compute both with the same adapter"
        )
    sampled = np.zeros(len(screened.ids), bool)
    sampled[rows] = True
    delta = exact.delta[np.argsort(rows)]
    overall = causal_scores(screened)  # raises if a subset is empty
    found = []
    for subset in (screened.right, ~screened.right):
        own = np.asarray(clusters, str)[subset]
        values = delta[subset[sampled]]
        found.append(
            difference_estimate(values, screened.delta[subset], own, sampled[subset], beta)
        )
    good, bad = found
    scores = overall._replace(c_correct=good.mean, c_incorrect=bad.mean)
    return Controlled(scores, good.se, bad.se, good.beta, bad.beta)


def by_share(
    exact: Effects,
    screened: Effects,
    clusters: Sequence[str],
    shares: Iterable[float],
    betas: Iterable[Beta] = (0.0, 1.0, "fitted"),
    *,
    k: int | float = 10,
    draws: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """What a sub-sample would have given, where the exact effects of all questions are known.

    Images are drawn at random, separately among those of rightly and of wrongly answered
    questions.

    Args:
        shares: of the images, 0 to 1; at least two images are drawn.
        betas: 0 is the sub-sample on its own.

    Returns:
        Columns ``side, share, images, beta`` (as asked), ``recall`` (of the exact top K),
        ``se`` (mean standard error of the exact top K heads), ``error`` (their root mean square
        error) and ``covered`` (share of them within 1.96 standard errors), means over draws. A
        side with fewer than two images has no rows.

    Raises:
        ValueError: a share that is not in (0, 1]; otherwise as :func:`heads.causal_scores`.
    """
    shares, betas = list(shares), list(betas)
    if not all(0 < share <= 1 for share in shares):
        raise ValueError(f"expected shares of the images above 0 and up to 1, got {shares}")
    truth = causal_scores(exact)
    k = resolve_k(k, truth.c_correct.size)
    image, rng, rows = np.asarray(clusters, str), np.random.default_rng(seed), []
    sides = (
        ("positive", exact.right, truth.c_correct, -1),
        ("negative", ~exact.right, truth.c_incorrect, 1),
    )
    for side, subset, mean, sign in sides:
        f, g, own = exact.delta[subset], screened.delta[subset], image[subset]
        names = np.unique(own)
        if len(names) < 2:
            continue
        best = np.argsort(-sign * mean, axis=None, kind="stable")[:k]
        for share in shares:
            n = max(2, round(share * len(names)))
            for _ in range(draws):
                drawn = np.isin(own, rng.choice(names, n, replace=False))
                for beta in betas:
                    e = difference_estimate(f[drawn], g, own, drawn, beta)
                    found = np.argsort(-sign * e.mean, axis=None, kind="stable")[:k]
                    off, se = (e.mean - mean).ravel()[best], e.se.ravel()[best]
                    rows.append(
                        {
                            "side": side, "share": share, "images": n, "beta": str(beta),
                            "recall": len({*best} & {*found}) / k, "se": se.mean(),
                            "error": (off**2).mean(),
                            "covered": (np.abs(off) <= 1.96 * se + 1e-12).mean(),
                        }
                    )  # fmt: skip
    columns = ["side", "share", "images", "beta", "recall", "se", "error", "covered"]
    table = pd.DataFrame(rows, columns=columns)
    table = table.groupby(columns[:4], sort=False, as_index=False).mean()
    return table.assign(error=np.sqrt(table["error"]))
