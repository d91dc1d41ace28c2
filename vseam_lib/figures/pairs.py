"""Figures of heads that are masked in pairs."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vseam_lib.figures.base import COLORS, closed
from vseam_lib.stats import Interval

SIGN = {"positive": "+", "negative": "−"}
SIGN_COLOR = {"positive": "#1b3a5c", "negative": "#c2571a"}
KIND_STYLE = {
    "positive-positive": (COLORS[0], "o"),
    "negative-negative": (COLORS[1], "s"),
    "positive-negative": (COLORS[2], "^"),
    "random": ("#888888", "x"),
}


def interaction_matrix(table: pd.DataFrame, side_of: Mapping[str, str], *, label: str) -> Figure:
    """Interactions of all pairs of heads, ordered by layer, on a scale centred at 0.

    The scale ends at the 98th percentile of their sizes and saturates beyond. Lines separate the
    layers; dots mark pairs that differ from 0 at a false discovery rate of 5 %.

    Args:
        table: of :func:`vseam_lib.causal.interactions.interaction_table`.
        side_of: every head in the order of the axes, and its list: ``"positive"`` or
            ``"negative"``.
        label: of the colour bar, with the unit.
    """
    names = list(side_of)
    at = {name: k for k, name in enumerate(names)}
    values = np.full((len(names), len(names)), np.nan)
    figure, ax = plt.subplots(figsize=(7.2, 6.4), layout="constrained")
    for row in table.itertuples():
        i, j = at[row.first], at[row.second]
        values[i, j] = values[j, i] = row.interaction
        if row.q < 0.05:
            ax.plot([i, j], [j, i], ".", color="k", ms=max(1.5, 90 / len(names)) ** 0.8, lw=0)
    top = float(np.nanquantile(np.abs(values), 0.98)) or 1.0
    drawn = ax.imshow(values, cmap="RdBu_r", vmin=-top, vmax=top, origin="lower")
    layers = [name.split(".")[0] for name in names]
    for k in range(1, len(names)):
        if layers[k] != layers[k - 1]:
            for line in (ax.axhline, ax.axvline):
                line(k - 0.5, color="#bbbbbb", lw=0.7)
    size = float(np.clip(190 / len(names), 4.5, 8))
    written = [f"{name} {SIGN[side]}" for name, side in side_of.items()]
    ax.set_xticks(range(len(names)), written, rotation=90, fontsize=size)
    ax.set_yticks(range(len(names)), written, fontsize=size)
    for ticks in (ax.get_xticklabels(), ax.get_yticklabels()):
        for tick, side in zip(ticks, side_of.values(), strict=True):
            tick.set_color(SIGN_COLOR[side])
    ax.tick_params(length=0)
    figure.colorbar(drawn, ax=ax, shrink=0.75, label=label, extend="both")
    return closed(figure)


def interaction_kinds(
    panels: Mapping[str, tuple[pd.DataFrame, Mapping[str, Interval]]],
) -> Figure:
    """Interactions by kind of pair: every pair's mean, and the mean over pairs with its interval.

    Args:
        panels: label of the axis with its unit, to rows ``kind, interaction`` and the mean per
            kind.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.9 * len(panels) + 0.2, 3.9), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    for ax, (label, (pairs, means)) in zip(axes.flat, panels.items(), strict=True):
        kinds = [kind for kind in KIND_STYLE if kind in means]
        for k, kind in enumerate(kinds):
            color, _ = KIND_STYLE[kind]
            own = pairs.loc[pairs["kind"] == kind, "interaction"]
            x = k + rng.uniform(-0.28, 0.28, len(own))
            ax.plot(x, own, "o", color=color, ms=3, alpha=0.5, mec="none", zorder=1)
            mean = means[kind]
            ax.errorbar(
                k, mean.mean, yerr=[[mean.mean - mean.low], [mean.high - mean.mean]], fmt="D",
                color="k", mfc=color, ms=6, lw=1.6, capsize=3, zorder=3,
            )  # fmt: skip
        ax.axhline(0, color="#999999", lw=0.9, zorder=0)
        ax.set_xticks(range(len(kinds)), [kind.replace("-", "-\n") for kind in kinds], fontsize=8)
        ax.set_ylabel(label)
    return closed(figure)


def joint_against_sum(table: pd.DataFrame, *, unit: str) -> Figure:
    """Effect of masking both heads of a pair against the sum of their single effects.

    Args:
        table: rows ``kind, first_alone, second_alone, joint``.
    """
    figure, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    for kind, (color, marker) in KIND_STYLE.items():
        own = table[table["kind"] == kind]
        if len(own):
            alone, label = own["first_alone"] + own["second_alone"], f"{kind} ({len(own)})"
            ax.plot(
                alone, own["joint"], marker, color=color, ms=4, alpha=0.6, mfc="none", label=label
            )
    ax.axline((0, 0), slope=1, color="#999999", lw=0.9, zorder=0)
    ax.set_xlabel(f"sum of the effects of masking one ({unit})")
    ax.set_ylabel(f"effect of masking both ({unit})")
    ax.legend(frameon=False, fontsize=8)
    return closed(figure)
