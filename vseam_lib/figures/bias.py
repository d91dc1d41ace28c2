"""Figures of the threshold between Yes and No."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vseam_lib.figures.base import COLORS, LEVEL_COLOR, closed
from vseam_lib.triples import Category

MARKERS = ("o", "s", "^")
MEAN = "mean"  # of the categories, drawn apart from them
GOLD_STYLE = {"all": (COLORS[0], "o"), "Yes": (COLORS[2], "^"), "No": (COLORS[1], "v")}


def threshold_arrows(moves: pd.DataFrame) -> Figure:
    """Criterion and d' of every category, an arrow from the unedited to the edited model.

    Args:
        moves: rows ``images, category, c0, d0, c1, d1``, in standard deviations: criterion and d'
            before and after; one panel per ``images``.
    """
    panels = list(dict.fromkeys(moves["images"]))
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.1 * len(panels) + 0.3, 4.0), squeeze=False,
        layout="constrained", sharex=True, sharey=True,
    )  # fmt: skip
    for ax, images in zip(axes.flat, panels, strict=True):
        for row in moves[moves["images"] == images].itertuples():
            color, marker = _look(Category(row.category))
            ax.annotate(
                "", (row.c1, row.d1), (row.c0, row.d0),
                arrowprops={"arrowstyle": "-|>", "color": color, "lw": 1.5,
                            "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8},
            )  # fmt: skip
            ax.plot(row.c0, row.d0, marker, color=color, ms=6, mfc="white", label=row.category)
            ax.plot(row.c1, row.d1, ".", color=color, ms=3)
        ax.axvline(0, color="#999999", lw=0.9, zorder=0)
        ax.margins(0.08)
        ax.set_title(images, fontsize=10)
        ax.set_xlabel("criterion (left: says Yes more readily)")
    axes[0, 0].set_ylabel("d′ (up: tells Yes and No apart better)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return closed(figure)


def _look(category: Category) -> tuple[str, str]:
    """Colour of the level, and a marker of its own within the level."""
    alike = [c for c in Category if c.level is category.level]
    return LEVEL_COLOR[category.level], MARKERS[alike.index(category) % 3]


def offset_gains(gains: pd.DataFrame) -> Figure:
    """Change of accuracy by an edit and by offsets of the logit of Yes, per category.

    Args:
        gains: rows ``category, what, mean, low, high`` in points; ``what`` names the edit first,
            and the category :data:`MEAN` their mean.
    """
    categories, whats = (list(dict.fromkeys(gains[c])) for c in ("category", "what"))
    figure, ax = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
    for k, what in enumerate(whats):
        row = gains[gains["what"] == what].set_index("category").reindex(categories)
        x = np.arange(len(categories)) + 0.2 * (k - (len(whats) - 1) / 2)
        error = np.abs([row["mean"] - row["low"], row["high"] - row["mean"]])
        ax.errorbar(
            x, row["mean"], yerr=error, fmt="os^D"[k % 4], color=COLORS[k], ms=5, lw=1.2,
            capsize=0, label=what,
        )  # fmt: skip
    _finish(ax, categories)
    ax.set_ylabel("change of accuracy (points)")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return closed(figure)


def gains_by_answer(gains: pd.DataFrame) -> Figure:
    """The same edits on all questions, on those whose answer is Yes, and on those whose is No.

    Args:
        gains: rows ``edit, category, gold, mean, low, high`` in points; ``gold`` is ``"all"``,
            ``"Yes"`` or ``"No"``; one panel per ``edit``; :data:`MEAN` as above.
    """
    edits, categories = (list(dict.fromkeys(gains[c])) for c in ("edit", "category"))
    columns = min(2, len(edits))
    rows = -(-len(edits) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.9 * columns + 0.3, 2.7 * rows + 0.6), squeeze=False,
        layout="constrained", sharex=True, sharey="row",
    )  # fmt: skip
    for ax in axes.flat[len(edits) :]:
        ax.set_axis_off()
    for ax, edit in zip(axes.flat, edits, strict=False):
        for k, (gold, (color, marker)) in enumerate(GOLD_STYLE.items()):
            part = gains[(gains["edit"] == edit) & (gains["gold"] == gold)]
            row = part.set_index("category").reindex(categories)
            x = np.arange(len(categories)) + 0.2 * (k - 1)
            error = np.abs([row["mean"] - row["low"], row["high"] - row["mean"]])
            label = "all questions" if gold == "all" else f"answer {gold} only"
            ax.errorbar(
                x, row["mean"], yerr=error, fmt=marker, color=color, ms=4.5, lw=1.1, capsize=0,
                label=label,
            )  # fmt: skip
        _finish(ax, categories)
        ax.tick_params(labelbottom=True)
        ax.set_title(edit, fontsize=10)
    for ax in axes[:, 0]:
        ax.set_ylabel("change of accuracy (points)", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return closed(figure)


def _finish(ax, categories) -> None:
    ax.axhline(0, color="#999999", lw=0.9, zorder=0)
    if MEAN in categories:
        ax.axvline(categories.index(MEAN) - 0.5, color="#cccccc", lw=0.8, ls=":", zorder=0)
    ax.set_xticks(range(len(categories)), categories, rotation=35, ha="right")
