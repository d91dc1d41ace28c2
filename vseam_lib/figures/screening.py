"""Figures of the screened head sweep."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vseam_lib.figures.base import LEVEL_COLOR, closed
from vseam_lib.triples import Category

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
BETA_STYLE = {
    "0.0": ("exact sub-sample alone", "#888888", "--"),
    "1.0": ("control variate", "#2a6f97", "-"),
    "fitted": ("control variate, fitted coefficient", "#b35900", ":"),
}
SIDES = {"positive": "rightly answered", "negative": "wrongly answered"}


def estimated_effects(
    points: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
) -> Figure:
    """Estimated against exact mean effect, one dot per head, one panel per side.

    Colours are the concept levels, markers the categories; on the line they agree.

    Args:
        points: side (``"positive"``, ``"negative"``) to category to exact and estimated scores,
            each ``(n_layers, n_heads)``, in probability.
    """
    figure, axes = plt.subplots(
        1, len(points), figsize=(4.9 * len(points), 4.1), squeeze=False, layout="constrained"
    )
    names = list(dict.fromkeys(c for panel in points.values() for c in panel))
    for ax, (side, panel) in zip(axes.flat, points.items(), strict=True):
        for category, (exact, estimated) in panel.items():
            ax.scatter(
                exact.ravel(), estimated.ravel(), s=13, lw=0, alpha=0.7, label=category,
                marker=MARKERS[names.index(category) % len(MARKERS)],
                color=LEVEL_COLOR[Category(category).level],
            )  # fmt: skip
        ax.axline((0, 0), slope=1, color="#888888", lw=0.8, zorder=0)
        ax.set_title(f"{SIDES[side]} questions", fontsize=10)
        ax.set_xlabel("exact change of P(answer)")
        ax.set_ylabel("estimated change of P(answer)")
    axes.flat[0].legend(frameon=False, fontsize=8, markerscale=1.4)
    return closed(figure)


def recall_by_share(curves: pd.DataFrame, screened: Mapping[str, float]) -> Figure:
    """What an exact sweep of some images gives, alone and with the screened effects.

    Top: share of the exact top K that the estimate finds, with the screened sweep on its own as
    a level line. Bottom: mean standard error of these heads' scores (lines) and their root mean
    square error over draws (dots).

    Args:
        curves: of :func:`vseam_lib.causal.control_variate.by_share`, averaged over categories.
        screened: side to the recall of the screened sweep alone, over the same categories.

    Raises:
        ValueError: curves without rows, as :func:`by_share` gives for fewer than two images.
    """
    sides = [s for s in SIDES if s in set(curves["side"])]
    if not sides:
        raise ValueError(
            f"expected curves of a side of {list(SIDES)}, got none; a sub-sample needs at least "
            "two images, use more questions"
        )
    figure, axes = plt.subplots(
        2, len(sides), figsize=(4.4 * len(sides), 5.6), squeeze=False, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for column, side in enumerate(sides):
        top, bottom = axes[:, column]
        for beta, own in curves[curves["side"] == side].groupby("beta", sort=False):
            label, color, line = BETA_STYLE[beta]
            share = 100 * own["share"]
            top.plot(share, own["recall"], line, color=color, marker="o", ms=3.5, label=label)
            bottom.plot(share, own["se"], line, color=color)
            bottom.plot(share, own["error"], "o", color=color, ms=3.5)
        top.axhline(screened[side], color="k", lw=0.8, ls="-.", label="screening alone")
        top.set_title(f"{SIDES[side]} questions", fontsize=10)
        top.set_ylim(0, 1.03)
        bottom.set_ylim(bottom=0)
        bottom.set_xlabel("images swept exactly, per cent")
    axes[0, 0].set_ylabel("recall of the top K")
    axes[1, 0].set_ylabel("standard error (lines)\nand error (dots), probability")
    axes[0, -1].legend(frameon=False, fontsize=8, loc="lower right")
    return closed(figure)
