"""Figures of information flow: curves over layers, and roles x layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from vseam_lib.figures.base import COLORS, LEVEL_COLOR, closed
from vseam_lib.stats import Band
from vseam_lib.triples import Box, Category, Level
from vseam_lib.vlm.spans import ROLES

SITE_CMAP = {"attn": "Greens", "mlp": "Blues", "block": "Purples"}
SITE_NAME = {"attn": "self-attention", "mlp": "MLP", "block": "residual stream"}


def flow_curves(
    panels: Mapping[str, Mapping[str, Band]], *, label: str, reference: float | None = None
) -> Figure:
    """Effect by patched layer, one panel per span, one line per category or level.

    Args:
        panels: span to (category or level to a band over layers).
        reference: a horizontal line, such as the total effect.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.4 * len(panels), 3.5), squeeze=False, layout="constrained",
        sharey=True,
    )  # fmt: skip
    for ax, (span, curves) in zip(axes.flat, panels.items(), strict=True):
        seen: dict[Level, int] = {}
        for name, band in curves.items():
            level = Level(name) if name in set(map(str, Level)) else Category(name).level
            style = ("-", "--", ":")[seen.setdefault(level, 0) % 3]
            seen[level] += 1
            x = np.arange(len(band.mean))
            ax.plot(x, band.mean, style, color=LEVEL_COLOR[level], label=name, lw=1.8)
            ax.fill_between(x, band.low, band.high, color=LEVEL_COLOR[level], alpha=0.1, lw=0)
        ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
        if reference is not None:
            ax.axhline(reference, color="#888888", lw=0.8, ls=":", zorder=0)
        ax.set_title(f"{span} tokens patched", fontsize=10)
        ax.set_xlabel("layer")
        ax.set_xticks(_ticks(len(x)))
    axes[0, 0].set_ylabel(label)
    axes[0, -1].legend(frameon=False, fontsize=8, ncols=2 if len(curves) > 4 else 1)
    return closed(figure)


def corruption_curves(panels: Mapping[str, Mapping[str, Band]], *, label: str) -> Figure:
    """The same curves for several kinds of corrupted pictures, one panel per span.

    Args:
        panels: span to (corruption to a band over layers); the first one is drawn heavier.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.4 * len(panels), 3.5), squeeze=False, layout="constrained",
        sharey=True,
    )  # fmt: skip
    for ax, (span, curves) in zip(axes.flat, panels.items(), strict=True):
        for k, (name, band) in enumerate(curves.items()):
            x, color = np.arange(len(band.mean)), COLORS[k % len(COLORS)]
            style = ("-", "--", ":", "-.")[k % 4]
            ax.plot(x, band.mean, style, color=color, label=name, lw=2.4 if k == 0 else 1.6)
            ax.fill_between(x, band.low, band.high, color=color, alpha=0.1, lw=0)
        for y in (0, 1):
            ax.axhline(y, color="#bbbbbb", lw=0.8, zorder=0)
        ax.set_title(f"{span} tokens patched", fontsize=10)
        ax.set_xlabel("layer")
        ax.set_xticks(_ticks(len(x)))
    axes[0, 0].set_ylabel(label)
    axes[0, -1].legend(frameon=False, fontsize=8)
    return closed(figure)


def role_maps(tables: Mapping[str, pd.DataFrame], site: str, *, label: str) -> Figure:
    """Roles x layers, one panel per category, on one colour scale from 0.

    Args:
        tables: category to a table with roles as index and layers as columns.
        site: ``"attn"``, ``"mlp"`` or ``"block"``; picks the colour.
    """
    columns = min(4, len(tables))
    rows = -(-len(tables) // columns)
    roles = [r for r in ROLES if any(r in t.index for t in tables.values())]
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.35 * columns + 1.4, 1.95 * rows + 0.3), squeeze=False,
        layout="constrained", sharex=True, sharey=True,
    )  # fmt: skip
    top = max(0.0, *(float(t.to_numpy().max()) for t in tables.values())) or 1.0
    low = min(float(t.to_numpy().min()) for t in tables.values())
    for ax in axes.flat[len(tables) :]:
        ax.set_axis_off()
    for ax, (category, table) in zip(axes.flat, tables.items(), strict=False):
        values = table.reindex(roles)
        cmap = plt.get_cmap(SITE_CMAP[site]).with_extremes(bad="#eeeeee")
        drawn = ax.imshow(np.ma.masked_invalid(values), cmap=cmap, vmin=0, vmax=top, aspect="auto")
        ax.set_yticks(range(len(roles)), roles, fontsize=8)
        ax.set_xticks(_ticks(values.shape[1]))
        ax.tick_params(axis="x", labelsize=8)
        ax.set_title(category, color=LEVEL_COLOR[Category(category).level], fontsize=10)
    for ax in axes.flat[max(0, len(tables) - columns) : len(tables)]:  # nothing below these
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("layer")
    figure.colorbar(
        drawn, ax=axes, shrink=0.8, label=label, extend="min" if low < -0.01 * top else "neither"
    )
    return closed(figure)


def token_maps(
    pictures: Sequence[Image.Image],
    boxes: Sequence[Box],
    maps: Mapping[str, np.ndarray],
    tokens: Sequence[str],
    *,
    label: str,
) -> Figure:
    """One case: clean and edited picture, and the effect of every token and layer per site.

    Args:
        pictures: clean and edited.
        boxes: drawn on both.
        maps: site to ``(n_layers, n_tokens)``.
        tokens: as text.
    """
    n = len(maps)
    figure = plt.figure(figsize=(10, max(4.2, 0.21 * len(tokens) + 1.2)), layout="constrained")
    grid = figure.add_gridspec(2, n + 1, width_ratios=[0.85, *[1] * n])
    for row, (name, picture) in enumerate(zip(("clean", "edited"), pictures, strict=True)):
        ax = figure.add_subplot(grid[row, 0])
        ax.imshow(picture, interpolation="nearest")
        for box in boxes:
            ax.add_patch(
                plt.Rectangle((box.x - 0.5, box.y - 0.5), box.w, box.h, fill=False, ec="#ffd166")
            )
        ax.set_axis_off()
        ax.set_title(name, fontsize=10)
    for k, (site, values) in enumerate(maps.items()):
        ax = figure.add_subplot(grid[:, k + 1])
        top = float(np.abs(values).max()) or 1.0
        drawn = ax.imshow(
            values.T, cmap="RdBu", vmin=-top, vmax=top, aspect="auto", interpolation="nearest"
        )
        ax.set_title(SITE_NAME[site], fontsize=10)
        ax.set_xlabel("layer")
        ax.set_xticks(_ticks(len(values)))
        shown = [t.replace("$", r"\$") for t in tokens]
        ax.set_yticks(range(len(tokens)), shown if k == 0 else [""] * len(tokens), fontsize=7.5)
        figure.colorbar(drawn, ax=ax, shrink=0.6, label=label if k == n - 1 else "")
    return closed(figure)


def _ticks(n: int) -> range:
    """Layer ticks: every layer of a small model, every fourth of a large one."""
    return range(0, n, 1 if n <= 12 else 4)
