"""Figures of accuracy, unedited and edited."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vseam_lib.figures.base import LEVEL_COLOR, closed
from vseam_lib.triples import Category

EDIT_STYLE = {
    "w/o negative": ("#2a9d8f", "o"),
    "w/o positive": ("#c1440e", "s"),
    "random remove": ("#888888", "D"),
    "rescaling": ("#1d3557", "^"),
}


def edit_changes(changes: pd.DataFrame) -> Figure:
    """Change of accuracy and of yes-rate by edit, on both sets of images.

    Args:
        changes: rows ``images, category, edit, measure, mean, low, high`` in points against the
            unedited model; ``measure`` is ``accuracy`` or ``yes-rate``.
    """
    measures, sets = ["accuracy", "yes-rate"], list(dict.fromkeys(changes["images"]))
    categories = list(dict.fromkeys(changes["category"]))
    figure, axes = plt.subplots(
        2, len(sets), figsize=(4.7 * len(sets), 6.4), squeeze=False, layout="constrained",
        sharex=True, sharey="row",
    )  # fmt: skip
    for r, measure in enumerate(measures):
        for c, images in enumerate(sets):
            ax = axes[r, c]
            part = changes[(changes["measure"] == measure) & (changes["images"] == images)]
            for k, (edit, (color, marker)) in enumerate(EDIT_STYLE.items()):
                row = part[part["edit"] == edit].set_index("category").reindex(categories)
                x = np.arange(len(categories)) + 0.18 * (k - 1.5)
                error = [row["mean"] - row["low"], row["high"] - row["mean"]]
                ax.errorbar(
                    x, row["mean"], yerr=error, fmt=marker, color=color, label=edit, ms=5,
                    lw=1.1, capsize=0,
                )  # fmt: skip
            ax.axhline(0, color="#999999", lw=0.9, zorder=0)
            ax.set_xticks(range(len(categories)), categories, rotation=35, ha="right")
            if c == 0:
                ax.set_ylabel(f"change of {measure} (points)")
            if r == 0:
                ax.set_title(images, fontsize=10)
    axes[0, 0].legend(frameon=False, fontsize=8)
    return closed(figure)


def accuracy_bars(summary: pd.DataFrame) -> Figure:
    """Accuracy (bars) and yes-rate (diamonds) per category.

    Args:
        summary: of :func:`vseam_lib.evaluate.summary`.
    """
    figure, ax = plt.subplots(figsize=(6.6, 3.1), layout="constrained")
    x = np.arange(len(summary))
    colors = [LEVEL_COLOR[Category(c).level] for c in summary["category"]]
    ax.bar(x, summary["accuracy"], color=colors, width=0.62)
    ax.plot(x, summary["yes_rate"], "D", color="k", mfc="white", ms=6, label="yes-rate")
    ax.axhline(50, color="#999999", lw=0.9, ls=":")
    for at, value in zip(x, summary["accuracy"], strict=True):
        ax.text(at, value + 1.2, f"{value:.1f}", ha="center", fontsize=8)
    ax.set_xticks(x, summary["category"])
    ax.set_ylim(0, 108)
    ax.set_ylabel("per cent")
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    return closed(figure)
