"""Figures of significance tests."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from vseam_lib.figures.base import COLORS, LEVEL_COLOR, closed
from vseam_lib.triples import Category, Level

SMALLEST_P = 1e-12  # smaller ones are drawn here
SMALLEST_T, LARGEST_T = 0.1, 1e4  # likewise, and an infinite one
FOLD_TEST = "fold t-test"


def fold_growth(growth: pd.DataFrame, valid: Mapping[str, float]) -> Figure:
    """Size of t, and p, of the fold test against its number of folds.

    Args:
        growth: rows ``comparison, draw, folds, t, p``; comparisons that are not in ``valid`` (by
            chance alone) are thin.
        valid: comparison to its p by a test without folds, a level line of the same colour.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 4.1), layout="constrained")
    colors = dict(zip(valid, COLORS, strict=False))
    for (comparison, _), own in growth.groupby(["comparison", "draw"], sort=False):
        thin = {"color": "#b0b0b0", "lw": 0.8, "zorder": 1}
        bold = {"color": colors.get(comparison), "lw": 2.2, "zorder": 3}
        style = (bold if comparison in colors else thin) | {"label": comparison}
        own = own.sort_values("folds")
        axes[0].plot(own["folds"], own["t"].abs().clip(SMALLEST_T, LARGEST_T), **style)
        axes[1].plot(own["folds"], own["p"].clip(lower=SMALLEST_P), **style)
    for comparison, color in colors.items():
        p = max(valid[comparison], SMALLEST_P)
        axes[1].axhline(p, color=color, ls="--", lw=1.8, zorder=4)
    axes[0].axhline(1.96, color="k", lw=0.9, ls=":")
    axes[1].axhline(0.05, color="k", lw=0.9, ls=":")
    axes[0].set_ylabel("|t| of the fold test")
    axes[1].set_ylabel("p-value")
    axes[1].set_ylim(SMALLEST_P / 2, 2)
    for ax in axes:
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("number of folds")
    named = dict(zip(*axes[1].get_legend_handles_labels()[::-1], strict=True))  # each once
    named["permutation test, same comparison"] = Line2D([], [], color="#444444", ls="--", lw=1.8)
    named["5 % level"] = Line2D([], [], color="k", ls=":", lw=0.9)
    figure.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=3, frameon=False, fontsize=8
    )
    return closed(figure)


def rejection_rates(
    panels: Mapping[str, pd.DataFrame], expected: Mapping[str, pd.Series], alpha: float = 0.05
) -> Figure:
    """Share of comparisons between equal systems that each test calls different.

    Args:
        panels: panel title to rows ``test, folds, rate, low, high`` (0 to 1) of
            :func:`vseam_lib.stats.simulation.error_rates`.
        expected: panel title to the fold test's expected rate by number of folds.
        alpha: the rate that a test promises.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.2 * len(panels), 4.0), squeeze=False, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for ax, (title, rows) in zip(axes.flat, panels.items(), strict=True):
        folds = rows[rows["test"] == FOLD_TEST].sort_values("folds")
        others = rows[rows["test"] != FOLD_TEST]
        x = np.arange(len(folds))
        ax.plot(x, expected[title].reindex(folds["folds"]), color=COLORS[0], lw=1, label="expected")
        _rates(ax, x, folds, COLORS[0])
        beside = len(folds) + 0.5 + np.arange(len(others))
        for at, (_, row), color in zip(beside, others.iterrows(), COLORS[1:], strict=False):
            _rates(ax, np.array([at]), row.to_frame().T, color)
        ax.axhline(alpha, color="k", lw=0.8, ls="--", label=f"promised: {100 * alpha:g} %")
        names = [f"{count:,}" for count in folds["folds"]] + list(others["test"])
        ax.set_xticks([*x, *beside], names, rotation=40, ha="right", fontsize=8)
        ax.set_ylim(-0.02, 1)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("folds of the fold t-test, and other tests")
    axes[0, 0].set_ylabel("called different, though equal")
    axes[0, 0].legend(frameon=False, fontsize=8, loc="upper left")
    return closed(figure)


def _rates(ax: Axes, x: np.ndarray, rows: pd.DataFrame, color: str) -> None:
    """Rates with their intervals as points with bars."""
    rate, low, high = (rows[name].to_numpy(float) for name in ("rate", "low", "high"))
    ax.errorbar(x, rate, yerr=[rate - low, high - rate], fmt="o", ms=5, lw=1.4, color=color)


def forest(effects: pd.DataFrame) -> Figure:
    """Differences of accuracy with intervals, one panel per system compared with.

    Args:
        effects: rows ``group, against, mean, low, high, yes_rate, significant`` in points;
            ``group`` is a category, a level or ``overall``; a filled marker is significant, a
            grey diamond the change of the yes-rate.
    """
    panels = list(dict.fromkeys(effects["against"]))
    groups = list(dict.fromkeys(effects["group"]))
    height = 0.7 + 0.24 * len(groups)
    columns = min(2, len(panels))
    figure, axes = plt.subplots(
        -(-len(panels) // columns), columns, figsize=(8.2, height * -(-len(panels) // columns)),
        squeeze=False, sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    for ax, against in zip(axes.flat, panels, strict=False):
        rows = effects[effects["against"] == against].set_index("group").reindex(groups)
        for y, (group, row) in enumerate(rows.iterrows()):
            if y and groups[y] not in set(Category) and groups[y - 1] in set(Category):
                ax.axhline(y - 0.4, color="#dddddd", lw=0.8, zorder=0)
            color, marker = _look(str(group))
            ax.plot([row["low"], row["high"]], [y, y], color=color, lw=1.6)
            fill = color if row["significant"] else "white"
            ax.plot(row["mean"], y, marker, color=color, mfc=fill, ms=6)
            ax.plot(row["yes_rate"], y + 0.3, "d", color="#9a9a9a", ms=4)
        ax.axvline(0, color="#999999", lw=0.9, zorder=0)
        ax.set_title(f"rescaling minus {against}", fontsize=10)
        ax.set_yticks(np.arange(len(groups)), groups)
    for ax in axes.flat[len(panels) :]:
        ax.axis("off")
    axes[0, 0].invert_yaxis()
    for ax in axes[-1]:
        ax.set_xlabel("points")
    figure.legend(
        handles=_forest_keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=8
    )
    return closed(figure)


def _look(group: str) -> tuple[str, str]:
    """Colour and marker of a row: circles are categories, squares levels and all together."""
    if group in set(Level):
        return LEVEL_COLOR[Level(group)], "s"
    if group in set(Category):
        return LEVEL_COLOR[Category(group).level], "o"
    return "k", "s"


def _forest_keys() -> list[Line2D]:
    style = {"ls": "", "color": "#444444"}
    return [
        Line2D([], [], marker="o", label="category", mfc="white", **style),
        Line2D([], [], marker="s", label="level, all", mfc="white", **style),
        Line2D([], [], marker="o", label="filled: significant", **style),
        Line2D([], [], marker="d", ls="", color="#9a9a9a", label="change of the yes-rate"),
    ]
