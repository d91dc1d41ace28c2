"""Figures of attention heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vseam_lib.figures.base import LEVEL_COLOR, closed
from vseam_lib.triples import Category, Level
from vseam_lib.vlm.adapter import Head


def head_maps(
    maps: Mapping[str, np.ndarray], marks: Mapping[str, Sequence[Head]], *, label: str
) -> Figure:
    """Layer x head heat maps, one panel per category, on one colour scale centred at 0.

    The scale ends at 1.5 times the median of the panels' largest values and saturates beyond, so
    that a category whose mean rests on few questions does not wash out the others.

    Args:
        maps: category to ``(n_layers, n_heads)``.
        marks: category to the heads to outline.
    """
    n = len(maps)
    columns = min(4, n)
    rows = -(-n // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.5 * columns + 0.8, 2.5 * rows), squeeze=False,
        layout="constrained", sharex=True, sharey=True,
    )  # fmt: skip
    top = 1.5 * float(np.median([np.abs(m).max() for m in maps.values()])) or 1.0
    drawn = None
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    for ax, (category, values) in zip(axes.flat, maps.items(), strict=False):
        drawn = ax.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top, origin="lower", aspect="auto")
        for head in marks.get(category, ()):
            ax.add_patch(
                Rectangle((head.head - 0.5, head.layer - 0.5), 1, 1, fill=False, ec="k", lw=1.1)
            )
        level = Category(category).level
        ax.set_title(category, color=LEVEL_COLOR[level], fontsize=10)
        ax.tick_params(labelsize=7)
    for ax in axes.flat[max(0, n - columns) : n]:  # nothing below these
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("head")
    for ax in axes[:, 0]:
        ax.set_ylabel("layer")
    figure.colorbar(drawn, ax=axes, shrink=0.7, label=label, extend="both")
    return closed(figure)


def ranked_effects(curves: Mapping[str, np.ndarray], k: int, *, label: str) -> Figure:
    """Effects sorted from largest to smallest, one line per category; a line at rank K."""
    figure, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
    seen: dict[Level, int] = {}
    for category, values in curves.items():
        level = Category(category).level
        style = ("-", "--", ":")[seen.setdefault(level, 0) % 3]
        seen[level] += 1
        ranked = np.sort(values.ravel())[::-1]
        ax.plot(
            np.arange(1, len(ranked) + 1), ranked, style, color=LEVEL_COLOR[level], label=category
        )
    ax.axvline(k, color="#888888", lw=0.8)
    ax.text(k * 1.05, ax.get_ylim()[1] * 0.92, f"K = {k}", color="#666666", fontsize=8)
    ax.axhline(0, color="#cccccc", lw=0.8, zorder=0)
    ax.set_xscale("log")
    ax.set_xlabel("rank of the head")
    ax.set_ylabel(label)
    ax.legend(frameon=False, fontsize=8, ncols=2)
    return closed(figure)


def overlap_maps(overlaps: Mapping[str, pd.DataFrame], chance: float) -> Figure:
    """Jaccard overlap between the categories' head lists, one panel per side; level blocks."""
    figure, axes = plt.subplots(
        1, len(overlaps), figsize=(4.9 * len(overlaps), 4.3), squeeze=False, layout="constrained"
    )
    for ax, (side, frame) in zip(axes.flat, overlaps.items(), strict=True):
        hide = np.eye(len(frame), dtype=bool)
        sns.heatmap(
            frame, ax=ax, annot=True, fmt=".2f", cmap="Blues", vmin=0, vmax=1, mask=hide,
            cbar=False, square=True, annot_kws={"size": 8}, linewidths=0.5,
        )  # fmt: skip
        start = 0
        for level in Level:
            size = sum(Category(c).level is level for c in frame.index)
            color = LEVEL_COLOR[level]
            ax.add_patch(
                Rectangle((start, start), size, size, fill=False, ec=color, lw=2.2, clip_on=False)
            )
            start += size
        ax.set_title(f"{side} heads (chance: {chance:.2f})", fontsize=10)
        ax.tick_params(labelsize=8)
        ax.set_xlabel("")
        ax.set_ylabel("")
    return closed(figure)


def stability_curves(curves: Mapping[str, Mapping[str, np.ndarray]], k: int) -> Figure:
    """How often a head of each rank is in the list of resampled images, one panel per side.

    Args:
        curves: side to (category to the share of draws, heads in the order of the full list).
    """
    figure, axes = plt.subplots(
        1, len(curves), figsize=(4.4 * len(curves), 3.3), squeeze=False, layout="constrained",
        sharey=True,
    )  # fmt: skip
    for ax, (side, by_category) in zip(axes.flat, curves.items(), strict=True):
        seen: dict[Level, int] = {}
        for category, share in by_category.items():
            level = Category(category).level
            style = ("-", "--", ":")[seen.setdefault(level, 0) % 3]
            seen[level] += 1
            shown = share[: 3 * k]
            ax.plot(
                np.arange(1, len(shown) + 1), shown, style, color=LEVEL_COLOR[level], label=category
            )
        ax.axvline(k + 0.5, color="#888888", lw=0.8)
        ax.set_title(f"{side} heads (K = {k})", fontsize=10)
        ax.set_xlabel("rank of the head in the full sample")
        ax.set_ylim(-0.03, 1.05)
    axes[0, 0].set_ylabel("share of resamples that list it")
    axes[0, -1].legend(frameon=False, fontsize=8)
    return closed(figure)
