"""Figures of frozen heads on other questions: what changes, per kind of question."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vseam_lib.figures.base import COLORS, closed

MARKERS = ("o", "s", "^", "v", "P")
RANDOM_COLOR = "#8a8a8a"


def changes_by(
    changes: pd.DataFrame,
    by: str,
    *,
    panels: str = "",
    random: str = "random heads",
    label: str = "change (points)",
) -> Figure:
    """Changes per kind of question and edit; the range of random heads as a grey bar behind.

    Args:
        changes: rows ``{by}, edit, mean, low, high``; values and edits in their order.
        by: column with the kinds, along the x axis.
        panels: column that splits the rows into panels, at most two abreast; ``""`` for one.
        random: the edit drawn as bars from ``low`` to ``high`` with a line at the mean.
        label: of the y axis; with panels, ``{}`` is the panel's name.
    """
    names = list(dict.fromkeys(changes[panels])) if panels else [""]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    width = 8.4 if columns > 1 else max(6.4, 1.1 * changes[by].nunique() + 1.4)
    figure, axes = plt.subplots(
        rows, columns, figsize=(width, 0.5 + 2.9 * rows), squeeze=False, layout="constrained",
        sharex=True,
    )  # fmt: skip
    for ax in axes.flat[len(names) :]:
        ax.set_axis_off()
    styles = {
        edit: (COLORS[k % len(COLORS)], MARKERS[k % len(MARKERS)])
        for k, edit in enumerate(e for e in dict.fromkeys(changes["edit"]) if e != random)
    }
    shown = {}
    for ax, name in zip(axes.flat, names, strict=False):
        part = changes[changes[panels] == name] if panels else changes
        _panel(ax, part, by, random, styles)
        ax.set_ylabel(label.format(name))
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.legend(
        shown.values(), shown, loc="outside upper center", ncols=min(4, len(shown)), frameon=False,
        fontsize=9,
    )  # fmt: skip
    return closed(figure)


def _panel(
    ax: Axes, part: pd.DataFrame, by: str, random: str, styles: Mapping[str, tuple[str, str]]
) -> None:
    kinds = list(dict.fromkeys(part[by]))
    edits = [e for e in dict.fromkeys(part["edit"]) if e != random]
    x = np.arange(len(kinds))
    chance = part[part["edit"] == random].set_index(by).reindex(kinds)
    if chance["mean"].notna().any():
        ax.bar(
            x, chance["high"] - chance["low"], bottom=chance["low"], width=0.8, color="#dddddd",
            label=f"{random} (range of draws)", zorder=0,
        )  # fmt: skip
        ax.hlines(chance["mean"], x - 0.4, x + 0.4, color=RANDOM_COLOR, lw=1.2, zorder=1)
    for k, edit in enumerate(edits):
        row = part[part["edit"] == edit].set_index(by).reindex(kinds)
        at = x + 0.7 * ((k + 0.5) / len(edits) - 0.5)
        ax.errorbar(
            at, row["mean"], yerr=[row["mean"] - row["low"], row["high"] - row["mean"]],
            fmt=styles[edit][1], color=styles[edit][0], ms=5, lw=1.3, label=edit,
        )  # fmt: skip
    ax.axhline(0, color="#777777", lw=0.9, zorder=1)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, -1), max(high, 1))  # no change at all should not fill the panel
    ax.set_xticks(x, kinds, rotation=25 if len(kinds) > 4 else 0)
    ax.set_xlim(-0.5, len(kinds) - 0.5)
    ax.tick_params(labelbottom=True)


def change_map(changes: pd.DataFrame, rows: str, columns: str, *, label: str) -> Figure:
    """Changes as a heat map; bold with an asterisk where the interval excludes 0.

    Args:
        changes: rows ``{rows}, {columns}, mean, low, high``, one per cell, in their order.
        rows, columns: names of columns, which also label the axes (underscores as spaces).
        label: of the colour bar.
    """
    down, across = (list(dict.fromkeys(changes[c])) for c in (rows, columns))
    cells = changes.set_index([rows, columns])
    means = cells["mean"].unstack().reindex(index=down, columns=across)
    figure, ax = plt.subplots(
        figsize=(2.4 + 0.85 * len(across), 1.3 + 0.45 * len(down)), layout="constrained"
    )
    top = max(1.0, float(np.nanmax(np.abs(means.to_numpy()))))
    drawn = ax.imshow(means, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
    for at, cell in cells.iterrows():
        sure = cell["low"] > 0 or cell["high"] < 0
        ax.text(
            across.index(at[1]), down.index(at[0]), f"{cell['mean']:+.1f}" + ("*" if sure else ""),
            ha="center", va="center", fontsize=9, weight="bold" if sure else "normal",
            color="white" if abs(cell["mean"]) > 0.65 * top else "#222222",
        )  # fmt: skip
    ax.set_xticks(range(len(across)), across, rotation=30, ha="right")
    ax.set_yticks(range(len(down)), down)
    ax.set_xlabel(columns.replace("_", " "))
    ax.set_ylabel(rows.replace("_", " "))
    for spine in ax.spines.values():
        spine.set_visible(False)
    figure.colorbar(drawn, ax=ax, shrink=0.85, label=label)
    return closed(figure)
