"""The book's figures, one function each. Each returns a matplotlib figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vseam_lib.triples import Box, Category, Level
from vseam_lib.vlm.adapter import Head

LEVEL_COLOR = {Level.ATTRIBUTE: "#b35900", Level.OBJECT: "#2a6f97", Level.RELATION: "#5f4b8b"}
EDIT_STYLE = {
    "w/o negative": ("#2a9d8f", "o"),
    "w/o positive": ("#c1440e", "s"),
    "random remove": ("#888888", "D"),
    "rescaling": ("#1d3557", "^"),
}


def use_style() -> None:
    """One look for all figures: white paper, readable sizes, no chart junk."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    plt.rcParams.update(
        {
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "figure.dpi": 120,
            "savefig.bbox": "tight",
            "font.family": "DejaVu Sans",
        }
    )


def _closed(figure: Figure) -> Figure:
    """Take a figure out of pyplot's hands: a notebook then shows it once, where it is returned."""
    plt.close(figure)
    return figure


def gallery(
    rows: Sequence[Sequence[np.ndarray | Image.Image | Path]],
    titles: Sequence[Sequence[str]],
    boxes: Sequence[Sequence[Sequence[Box]]] | None = None,
    *,
    columns: Sequence[str] = (),
) -> Figure:
    """A grid of pictures with titles; the first box of each is solid, the others dashed."""
    n, m = len(rows), max(len(r) for r in rows)
    figure, axes = plt.subplots(
        n, m, figsize=(2.35 * m, 2.95 * n), squeeze=False, layout="constrained"
    )
    for r in range(n):
        for c in range(m):
            ax = axes[r, c]
            ax.set_axis_off()
            if c >= len(rows[r]):
                continue
            picture = rows[r][c]
            if isinstance(picture, Path):
                with Image.open(picture) as opened:
                    picture = opened.convert("RGB")
            ax.imshow(picture, interpolation="nearest")
            head = f"{columns[c]}\n" if r == 0 and len(columns) > c else ""
            ax.set_title(head + titles[r][c], fontsize=9)
            for k, box in enumerate(boxes[r][c] if boxes else ()):
                ax.add_patch(
                    Rectangle(
                        (box.x - 0.5, box.y - 0.5), box.w, box.h, fill=False, lw=1.8,
                        ec="#ffd166" if k == 0 else "#ffffff", ls="-" if k == 0 else "--",
                    )
                )  # fmt: skip
    return _closed(figure)


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
    for ax in axes[-1]:
        ax.set_xlabel("head")
    for ax in axes[:, 0]:
        ax.set_ylabel("layer")
    figure.colorbar(drawn, ax=axes, shrink=0.7, label=label, extend="both")
    return _closed(figure)


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
    return _closed(figure)


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
    return _closed(figure)


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
    return _closed(figure)


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
    return _closed(figure)
