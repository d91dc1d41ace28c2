"""Figures of where heads look."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vseam_lib.figures.base import closed
from vseam_lib.triples import Box

SIDE_STYLE = {"positive": ("#1d3557", "o"), "negative": ("#c1440e", "s")}


def overlap_points(summary: pd.DataFrame, *, label: str = "attention inside the box") -> Figure:
    """Overlap of attention and box per category and set of heads, each beside its references.

    Points with 95 % intervals are the heads; grey bars the central 95 % with boxes of other
    images; thin brackets the central 95 % of random heads of the same layers.

    Args:
        summary: of :func:`vseam_lib.causal.chance.summarise`, with a column ``category``.
        label: what is measured, for the axis.
    """
    categories = list(dict.fromkeys(summary["category"]))
    figure, ax = plt.subplots(figsize=(1.05 * len(categories) + 1.6, 3.6), layout="constrained")
    for k, (side, (color, marker)) in enumerate(SIDE_STYLE.items()):
        row = summary[summary["set"] == side].set_index("category").reindex(categories)
        x = np.arange(len(categories)) + 0.36 * (k - 0.5)
        ax.vlines(
            x, row["permuted_low"], row["permuted_high"], color="#bdbdbd", lw=9,
            label="boxes of other images" if not k else None,
        )  # fmt: skip
        ax.errorbar(
            x + 0.12, row["random"],
            yerr=[row["random"] - row["random_low"], row["random_high"] - row["random"]],
            fmt="none", ecolor="#6b6b6b", lw=0.9, capsize=2.5,
            label="random heads of the same layers" if not k else None,
        )  # fmt: skip
        ax.errorbar(
            x, row["overlap"], yerr=[row["overlap"] - row["low"], row["high"] - row["overlap"]],
            fmt=marker, color=color, ms=5, lw=1.4, label=f"{side} heads",
        )  # fmt: skip
    area = summary.groupby("category", sort=False)["area"].first().reindex(categories)
    at = np.arange(len(categories))
    ax.hlines(area, at - 0.4, at + 0.4, color="k", lw=0.8, ls=":", label="area of the box")
    ax.set_xticks(at, categories)
    ax.set_ylim(bottom=0)
    ax.set_ylabel(f"{label} (%)", fontsize=10)
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return closed(figure)


def attention_example(
    picture: Image.Image,
    box: Box,
    maps: Mapping[str, np.ndarray],
    cells: np.ndarray,
) -> Figure:
    """A picture with its box, and beside it attention over the cells, on one colour scale.

    Args:
        maps: title to ``(n_cells,)``, per cent.
        cells: ``(n_cells, 4)`` x, y, width and height in pixels, a square grid in reading order.
    """
    n = round(len(cells) ** 0.5)
    (left, top, _, _), (x, y, w, h) = cells[0], cells[-1]
    extent = np.array([left, x + w, y + h, top]) - 0.5
    figure, axes = plt.subplots(
        1, 1 + len(maps), figsize=(2.5 * (1 + len(maps)) + 0.5, 2.8), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    most = max(float(np.max(m)) for m in maps.values())
    drawn = None
    for ax, (title, values) in zip(axes[0], {"": None, **maps}.items(), strict=True):
        ax.imshow(picture, interpolation="nearest", alpha=1 if values is None else 0.35)
        if values is not None:
            drawn = ax.imshow(
                np.reshape(values, (n, n)), extent=extent, cmap="magma", vmin=0, vmax=most,
                alpha=0.75, interpolation="nearest",
            )  # fmt: skip
        ax.add_patch(
            Rectangle((box.x - 0.5, box.y - 0.5), box.w, box.h, fill=False, ec="#2ec4b6", lw=1.8)
        )
        ax.set_xlim(-0.5, picture.width - 0.5)
        ax.set_ylim(picture.height - 0.5, -0.5)
        ax.set_axis_off()
        ax.set_title(title, fontsize=9)
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="% of the attention")
    return closed(figure)
