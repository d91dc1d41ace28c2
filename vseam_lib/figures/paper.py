"""Figures of the paper's own numbers: what is printed beside what follows from other tables."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vseam_lib.figures.base import COLORS, closed

PRINTED, RECOMPUTED = COLORS[1], COLORS[0]
SIDE_COLOR = {"positive": COLORS[2], "negative": COLORS[1]}
SUBSET_MARKER = {"random": "o", "popular": "s", "adversarial": "^"}
EDIT_COLOR = {"Edit_POPE": COLORS[3], "Edit_GQA": COLORS[1]}
EDIT_LABEL = {"Edit_POPE": "heads from POPE", "Edit_GQA": "heads from GQA"}


def printed_and_recomputed(averages: pd.DataFrame) -> Figure:
    """Table 3's cells and the averages of Table 17 that they should be, one panel per model.

    Args:
        averages: of :func:`vseam_lib.paper.arithmetic.level_averages`.
    """
    models = list(dict.fromkeys(averages["model"]))
    figure, axes = plt.subplots(
        1, len(models), figsize=(4.2 * len(models), 5.0), squeeze=False, sharey=True, sharex=True,
        layout="constrained",
    )  # fmt: skip
    for ax, model in zip(axes[0], models, strict=True):
        part = averages[averages["model"] == model].sort_values("level", kind="stable")
        y = np.arange(len(part))[::-1] - _gaps(part["level"])
        ax.hlines(y, part["lowest"], part["highest"], color="#dddddd", lw=5, zorder=1,
                  label="range of its categories")  # fmt: skip
        ax.hlines(y, part["printed"], part["recomputed"], color="#666666", lw=1, zorder=2)
        ax.plot(part["recomputed"], y, "o", color=RECOMPUTED, ms=5, label="average of Table 17")
        ax.plot(part["printed"], y, "D", color=PRINTED, mfc="white", ms=6, mew=1.5,
                label="printed in Table 3")  # fmt: skip
        ax.set_yticks(y, [f"{lv}, {e}" for lv, e in zip(part["level"], part["edit"], strict=True)])
        ax.set_title(model, fontsize=10)
        ax.set_xlabel("accuracy (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False, fontsize=8)  # fmt: skip
    return closed(figure)


def _gaps(names: pd.Series) -> np.ndarray:
    """Half a row of space before every new name."""
    return 0.6 * (names != names.shift()).cumsum().to_numpy()


def fold_differences(means: pd.DataFrame, spreads: pd.DataFrame) -> Figure:
    """Table 18's means and standard deviations beside what other tables and arithmetic allow.

    Args:
        means: of :func:`vseam_lib.paper.folds.means`.
        spreads: of :func:`vseam_lib.paper.folds.spreads`.
    """
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(8.4, 4.4), sharey=True, layout="constrained", width_ratios=[3, 2]
    )
    y = np.arange(len(means))[::-1] - _gaps(means["level"])
    labels = [f"{lv}, {a}" for lv, a in zip(means["level"], means["against"], strict=True)]
    left.hlines(y, means["lowest"], means["highest"], color=RECOMPUTED, lw=4, alpha=0.35,
                label="differences of its categories in Table 17")  # fmt: skip
    right.plot(spreads["smallest"], y, "|", color=RECOMPUTED, ms=11, mew=2.5,
               label="smallest possible spread")  # fmt: skip
    for ax, frame in ((left, means), (right, spreads)):
        fits = frame["agrees"].to_numpy(bool)
        printed = frame["printed"].to_numpy()
        ax.plot(printed[fits], y[fits], "D", color=PRINTED, mfc="white", mew=1.5, label="printed")
        ax.plot(printed[~fits], y[~fits], "D", color=PRINTED, label="printed, outside it")
        ax.set_xlim(left=0)
    left.set_yticks(y, labels)
    left.set_xlabel("mean difference (points)")
    right.set_xlabel("standard deviation (points)")
    named = {
        label: handle
        for ax in (left, right)
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2, frameon=False,
                  fontsize=8)  # fmt: skip
    return closed(figure)


def entries_by_index(counts: pd.DataFrame) -> Figure:
    """How often a head's index within its layer occurs in Table 13, positive up, negative down.

    Args:
        counts: of :func:`vseam_lib.paper.head_lists.by_index`.
    """
    models = list(dict.fromkeys(counts["model"]))
    figure, axes = plt.subplots(
        len(models), 1, figsize=(7.4, 2.5 * len(models)), squeeze=False, sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for ax, model in zip(axes[:, 0], models, strict=True):
        for side, sign in (("positive", 1), ("negative", -1)):
            part = counts[(counts["model"] == model) & (counts["side"] == side)]
            ax.bar(part["index"], sign * part["entries"], color=SIDE_COLOR[side], width=0.8,
                   label=f"{side} lists")  # fmt: skip
            expected = sign * part["expected"].iloc[0]
            ax.axhline(expected, color="#555555", lw=0.9, ls="--",
                       label="if all indices were alike" if sign > 0 else None)  # fmt: skip
        ax.axhline(0, color="black", lw=0.8)
        ax.set_title(model, fontsize=10)
        ax.set_ylabel("entries")
        ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    axes[-1, 0].set_xlabel("index of the head within its layer")
    axes[-1, 0].set_xticks(range(0, int(counts["index"].max()) + 1, 4))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False, fontsize=8)  # fmt: skip
    return closed(figure)


def implied_rates(results: pd.DataFrame) -> Figure:
    """Recall against the false-positive rate that the POPE tables imply, unedited and edited.

    Args:
        results: of :func:`vseam_lib.paper.pope.results`.
    """
    models = list(dict.fromkeys(results["model"]))
    figure, axes = plt.subplots(
        1, len(models), figsize=(4.2 * len(models), 4.0), squeeze=False, sharex=True, sharey=True,
        layout="constrained",
    )  # fmt: skip
    for ax, model in zip(axes[0], models, strict=True):
        own = results[results["model"] == model].set_index(["subset", "edit"])
        for subset in dict.fromkeys(own.index.get_level_values("subset")):
            old = own.loc[(subset, "Initial")]
            start = (100 * old["false_positive_rate"], 100 * old["recall"])
            ax.plot(*start, SUBSET_MARKER[subset], color="black", mfc="white", ms=7,
                    label=f"{subset}, unedited")  # fmt: skip
            for edit, color in EDIT_COLOR.items():
                new = own.loc[(subset, edit)]
                end = (100 * new["false_positive_rate"], 100 * new["recall"])
                ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": color,
                                                        "lw": 1.2, "shrinkA": 5})  # fmt: skip
                reach = [[end[0] - 100 * new["fpr_low"]], [100 * new["fpr_high"] - end[0]]]
                ax.errorbar(*end, xerr=reach, fmt=SUBSET_MARKER[subset], color=color, ms=5, lw=1,
                            label=EDIT_LABEL[edit] if subset == "random" else None)  # fmt: skip
        ax.set_title(model, fontsize=10)
        ax.set_xlabel("implied false-positive rate (%)")
    axes[0, 0].set_ylabel("recall (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False, fontsize=8)  # fmt: skip
    return closed(figure)
