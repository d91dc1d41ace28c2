"""What chance gives for an overlap of attention and boxes: two references, and the summary.

Permuted boxes say whether heads follow the object or merely prefer a part of the picture in which
objects tend to be. Random heads of the same layers say whether that is special to the chosen
heads or common at their depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from vseam_lib.causal.attention import Regions
from vseam_lib.stats import clustered_mean
from vseam_lib.vlm.adapter import Head


class Chance(NamedTuple):
    """Distribution of a mean under chance, and how often chance gives what was observed.

    Attributes:
        mean, low, high: of the distribution, with the central 95 %.
        p_more, p_less: one-sided p-values of the observed mean being larger, smaller.
    """

    mean: float
    low: float
    high: float
    p_more: float
    p_less: float

    @classmethod
    def of(cls, draws: np.ndarray, observed: float) -> Chance:
        """Summarise draws; the observed value counts as one of them, so no p-value is 0."""
        low, high = np.quantile(draws, [0.025, 0.975])
        slack = 1e-9 * max(1.0, abs(observed))
        more = (1 + (draws >= observed - slack).sum()) / (1 + len(draws))
        less = (1 + (draws <= observed + slack).sum()) / (1 + len(draws))
        return cls(float(draws.mean()), float(low), float(high), float(more), float(less))


def permuted_boxes(
    maps: np.ndarray,
    covers: np.ndarray,
    images: Sequence[str],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Chance:
    """Mean overlap when every image gets the boxes of another one.

    Boxes move with their image, because questions about one image rise and fall together, and
    between images with equally many questions, so that every draw holds the same boxes. A box
    keeps its place relative to what the model sees of a picture.

    Args:
        maps: ``(N, n_cells)`` attention, per cent, as of :func:`attention.set_maps`.
        covers: ``(N, n_cells)``, as of :class:`attention.Regions`.
        images: the triples' image ids.

    Raises:
        ValueError: unequal lengths, or no two images with equally many questions. With few images
            the p-value cannot be small: N images have N! orders.
    """
    if not len(maps) == len(covers) == len(images):
        raise ValueError(
            "expected a map, a box and an image per triple, got "
            f"{len(maps)}, {len(covers)} and {len(images)}"
        )
    names, index, sizes = np.unique(
        np.asarray(images, str), return_inverse=True, return_counts=True
    )
    alike = [np.flatnonzero(sizes == n) for n in np.unique(sizes)]
    if max(map(len, alike), default=0) < 2:
        raise ValueError(
            "expected images with equally many questions to exchange boxes between, got images "
            f"with {', '.join(map(str, sizes)) or 'no'} questions; use more images"
        )
    triple = np.zeros((len(names), sizes.max()), int)  # of each image, in turn
    turn = np.empty(len(index), int)
    for k in range(len(names)):
        own = np.flatnonzero(index == k)
        triple[k, : len(own)], turn[own] = own, np.arange(len(own))
    overlap = maps @ covers.T  # (N, N): attention of one triple in the box of another
    rng, rows, found = np.random.default_rng(seed), np.arange(len(index)), []
    for _ in range(draws):
        other = np.arange(len(names))
        for images_alike in alike:
            other[images_alike] = rng.permutation(images_alike)
        found.append(overlap[rows, triple[other[index], turn]].mean())
    return Chance.of(np.array(found), float(overlap[rows, rows].mean()))


def random_heads(
    overlap: np.ndarray, heads: Sequence[Head], *, draws: int = 2000, seed: int = 0
) -> Chance:
    """Mean overlap of random heads, as many in each layer as ``heads`` has there.

    Args:
        overlap: ``(N, n_layers, n_heads)``, as of :func:`attention.overlap`.

    Raises:
        ValueError: no heads.
    """
    if not heads:
        raise ValueError("expected at least one head to match, got none")
    mean, rng = overlap.mean(0), np.random.default_rng(seed)  # (n_layers, n_heads)
    total = np.zeros(draws)
    layers, counts = np.unique([h[0] for h in heads], return_counts=True)
    for layer, count in zip(layers, counts, strict=True):
        total += rng.permuted(np.tile(mean[layer], (draws, 1)), axis=1)[:, :count].sum(1)
    observed = sum(mean[h[0], h[1]] for h in heads) / len(heads)
    return Chance.of(total / len(heads), float(observed))


def summarise(
    regions: Regions,
    overlap: np.ndarray,
    maps: Mapping[str, np.ndarray],
    sets: Mapping[str, Sequence[Head]],
    *,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Table 14 with its references, one row per set of heads.

    Args:
        regions: of the ``N`` triples.
        overlap: ``(N, n_layers, n_heads)``.
        maps: per set, ``(N, n_cells)``.

    Returns:
        Columns ``set, heads, triples, images`` (numbers); ``overlap, low, high`` (per cent, 95 %
        interval that resamples images); ``area`` (mean share of the seen area in the box, per
        cent); ``enrichment`` (overlap over area); ``permuted, permuted_low, permuted_high,
        p_more, p_less`` (boxes of other images); ``random, random_low, random_high, p_random``
        (random heads of the same layers, p-value of more).
    """
    images = [t.image_id for t in regions.triples]
    rows = []
    for name, heads in sets.items():
        own = (maps[name] * regions.covers).sum(1)
        mean, low, high = clustered_mean(own, images, seed=seed)
        boxes = permuted_boxes(maps[name], regions.covers, images, draws=draws, seed=seed)
        others = random_heads(overlap, heads, draws=draws, seed=seed)
        rows.append(
            {
                "set": name, "heads": len(heads), "triples": len(own), "images": len(set(images)),
                "overlap": mean, "low": low, "high": high, "area": float(regions.area.mean()),
                "enrichment": mean / float(regions.area.mean()),
                "permuted": boxes.mean, "permuted_low": boxes.low, "permuted_high": boxes.high,
                "p_more": boxes.p_more, "p_less": boxes.p_less,
                "random": others.mean, "random_low": others.low, "random_high": others.high,
                "p_random": others.p_more,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)
