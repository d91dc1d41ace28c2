"""Figures of rescaled heads: how much data, which settings, which heads, which questions."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vseam_lib.figures.base import COLORS, LEVEL_COLOR, closed
from vseam_lib.triples import Category, Level

MEASURE_STYLE = {"accuracy": ("#1d3557", "o", "full"), "yes-rate": ("#c1440e", "D", "none")}
PRINTED = "#777777"


def gain_curves(ours: Mapping[str, pd.DataFrame], printed: pd.DataFrame) -> Figure:
    """Gain of rescaling against the share of images that choose the heads.

    One panel per level in points, and one with the average over categories as a share of the
    gain with all images, where there is such a gain. Bands are one SD over draws.

    Args:
        ours: name of the test images to rows of :func:`vseam_lib.data_dependence.curve`.
        printed: the paper's, of :func:`vseam_lib.data_dependence.printed_curve`.
    """
    groups = set().union(*(frame["group"] for frame in ours.values()))
    levels = [str(level) for level in Level if str(level) in groups]
    columns = min(2, len(levels) + 1)
    figure, axes = plt.subplots(
        -(-(len(levels) + 1) // columns), columns, figsize=(8.4, 6.2 if len(levels) > 1 else 3.2),
        squeeze=False, layout="constrained", sharex=True,
    )  # fmt: skip
    panels = [(level, "mean", f"{level}: change of accuracy (points)") for level in levels]
    panels += [("average", "recovered", "average: share of the full gain (%)")]
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, (group, column, label) in zip(axes.flat, panels, strict=False):
        unit = 100 if column == "recovered" else 1
        for (name, frame), color in zip(ours.items(), COLORS, strict=False):
            own = frame[frame["group"] == group]
            _band(ax, own, own[column] * unit, color, name, sd=column == "mean")
        own = printed[printed["group"] == group]
        ax.plot(
            100 * own["share"], unit * own[column], "--s", color=PRINTED, ms=4, mfc="white",
            lw=1.1, label="paper",
        )  # fmt: skip
        ax.axhline(0, color="#bbbbbb", lw=0.8, zorder=0)
        if column == "recovered":
            ax.axhline(100, color="#bbbbbb", lw=0.8, ls=":", zorder=0)
        ax.set_ylabel(label, fontsize=9)
        ax.set_xlabel("share of the images (%)", fontsize=9)
        ax.tick_params(labelbottom=True)
    figure.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3,
        frameon=False, fontsize=8,
    )  # fmt: skip
    return closed(figure)


def _band(
    ax: Axes, rows: pd.DataFrame, values: pd.Series, color: str, name: str, *, sd: bool
) -> None:
    """A line with markers; with ``sd``, a band of one SD around it."""
    share = 100 * rows["share"]
    ax.plot(share, values, "-o", color=color, ms=4, lw=1.4, label=name)
    if sd:
        spread = rows["sd"].fillna(0)
        ax.fill_between(share, values - spread, values + spread, color=color, alpha=0.16, lw=0)


def setting_changes(changes: pd.DataFrame, own: Mapping[str, object]) -> Figure:
    """Change of accuracy and yes-rate for every setting, one panel per thing that varies.

    Args:
        changes: rows ``what, value, measure, mean, low, high`` in points; values in their order.
        own: ``what`` to the value that the rest of the chapter uses, which a line marks.
    """
    kinds = list(dict.fromkeys(changes["what"]))
    figure, axes = plt.subplots(
        1, len(kinds), figsize=(2.9 * len(kinds), 3.4), squeeze=False, layout="constrained",
        sharey=True,
    )  # fmt: skip
    for ax, kind in zip(axes.flat, kinds, strict=True):
        part = changes[changes["what"] == kind]
        values = list(dict.fromkeys(part["value"]))
        for shift, (measure, (color, marker, fill)) in zip(
            (-0.11, 0.11), MEASURE_STYLE.items(), strict=True
        ):
            row = part[part["measure"] == measure].set_index("value").reindex(values)
            ax.errorbar(
                np.arange(len(values)) + shift, row["mean"],
                yerr=[row["mean"] - row["low"], row["high"] - row["mean"]], fmt=marker,
                color=color, fillstyle=fill, ms=5, lw=1.1, label=measure,
            )  # fmt: skip
        if own.get(kind) in values:
            ax.axvline(values.index(own[kind]), color="#dddddd", lw=7, zorder=0)
        ax.axhline(0, color="#999999", lw=0.9, zorder=0)
        texts = [f"{v:g}" if isinstance(v, int | float) else str(v) for v in values]
        ax.set_xticks(range(len(values)), texts, rotation=30 if kind == "form" else 0)
        ax.set_xlim(-0.5, len(values) - 0.5)
        ax.set_xlabel({"K": "K, heads per set", "form": "form of λ"}.get(kind, f"{kind} of λ"))
    axes[0, 0].set_ylabel("change (points)")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return closed(figure)


def compared(changes: pd.DataFrame) -> Figure:
    """Change of accuracy and of yes-rate by edit, for all questions and per level.

    Args:
        changes: rows ``group, edit, measure, mean, low, high`` in points.
    """
    groups, edits = (list(dict.fromkeys(changes[c])) for c in ("group", "edit"))
    markers = ("o", "s", "^", "D", "v", "P")
    figure, axes = plt.subplots(
        1, len(MEASURE_STYLE), figsize=(8.4, 0.9 + 0.26 * len(groups) * len(edits)),
        layout="constrained", sharey=True,
    )  # fmt: skip
    for ax, measure in zip(axes.flat, MEASURE_STYLE, strict=True):
        part = changes[changes["measure"] == measure]
        for k, edit in enumerate(edits):
            row = part[part["edit"] == edit].set_index("group").reindex(groups)
            y = np.arange(len(groups)) + 0.8 * ((k + 0.5) / len(edits) - 0.5)
            ax.errorbar(
                row["mean"], y, xerr=[row["mean"] - row["low"], row["high"] - row["mean"]],
                fmt=markers[k % len(markers)], color=COLORS[k % len(COLORS)], ms=5, lw=1.2,
                label=edit,
            )  # fmt: skip
        ax.axvline(0, color="#999999", lw=0.9, zorder=0)
        for between in np.arange(len(groups) - 1) + 0.5:
            ax.axhline(between, color="#e5e5e5", lw=0.8, zorder=0)
        ax.set_yticks(range(len(groups)), groups)
        ax.set_xlabel(f"change of {measure} (points)")
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False,
        fontsize=8,
    )  # fmt: skip
    return closed(figure)


def transfer_map(changes: pd.DataFrame) -> Figure:
    """Change of accuracy by whose heads are rescaled (rows) and who answers (columns).

    Bold with an asterisk: the interval excludes 0. Frames are the concept levels.

    Args:
        changes: rows ``heads_of, category, mean, low, high`` in points.
    """
    known = [str(c) for c in Category]
    rows = [c for c in known if c in set(changes["heads_of"])]
    columns = [c for c in known if c in set(changes["category"])]
    cells = changes.set_index(["heads_of", "category"])
    means = cells["mean"].unstack().reindex(index=rows, columns=columns)
    figure, ax = plt.subplots(
        figsize=(1.6 + 0.85 * len(columns), 1.4 + 0.55 * len(rows)), layout="constrained"
    )
    top = max(1.0, float(np.nanmax(np.abs(means.to_numpy()))))
    drawn = ax.imshow(means, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
    for (r, source), (c, target) in ((a, b) for a in enumerate(rows) for b in enumerate(columns)):
        if (source, target) not in cells.index:
            continue
        cell = cells.loc[(source, target)]
        sure = cell["low"] > 0 or cell["high"] < 0
        ax.text(
            c, r, f"{cell['mean']:+.1f}" + ("*" if sure else ""), ha="center", va="center",
            fontsize=8.5, weight="bold" if sure else "normal",
            color="white" if abs(cell["mean"]) > 0.65 * top else "#222222",
        )  # fmt: skip
    for level in Level:
        inside = [
            [k for k, n in enumerate(names) if Category(n).level is level]
            for names in (rows, columns)
        ]
        if all(inside):
            (y, *_), (x, *_) = inside
            ax.add_patch(
                Rectangle(
                    (x - 0.5, y - 0.5), len(inside[1]), len(inside[0]), fill=False,
                    ec=LEVEL_COLOR[level], lw=2.2, clip_on=False,
                )
            )  # fmt: skip
    ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    ax.set_yticks(range(len(rows)), rows)
    ax.set_xlabel("questions about")
    ax.set_ylabel("heads of")
    figure.colorbar(drawn, ax=ax, shrink=0.8, label="change of accuracy (points)")
    return closed(figure)
