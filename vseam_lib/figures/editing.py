"""Figures of edits: how faithful they are, and how many there are.

The pictures themselves are drawn by :mod:`vseam_lib.figures.edits`; both are imported from here.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from vseam_lib.editing.perturb import METHODS
from vseam_lib.figures.base import LEVEL_COLOR, closed
from vseam_lib.figures.edits import METHOD_LABEL, edit_gallery, need, perturbation_strip
from vseam_lib.triples import Category

__all__ = [
    "acceptance_reasons",
    "cosine_bars",
    "edit_gallery",
    "fidelity_sweep",
    "funnel",
    "perturbation_strip",
]

KIND_COLOR = {
    "gaussian": "#8fb3cc",
    "salt-and-pepper": "#c9a66b",
    "masking": "#8a8a8a",
    "redraw": "#9c89b8",
    "semantic": "#2a6f97",
    "oracle": "#b35900",
}
STAGE_LABEL = {
    "asked": "asked",
    "rewritten": "rewritten",
    "segmented": "segmented",
    "edited": "edited",
    "accepted": "accepted",
    "selected": "Eq. 4",
}
MEASURE_LABEL = {
    "psnr": "PSNR outside (dB)",
    "changed": "pixels changed outside (share)",
    "ssim": "SSIM outside",
    "raw_psnr": "PSNR outside, raw (dB)",
    "raw_changed": "pixels changed outside, raw (share)",
    "raw_ssim": "SSIM outside, raw",
    "inside": "change inside (grey levels)",
    "iou": "IoU of the object",
    "cosine": "cosine in the vision tower",
    "success": "share that shows what was wanted",
    "mask_share": "mask (share of the picture)",
}
REASON_COLOR = {"accepted": "#2a6f97", "several": "#c9c9c9", "a person": "#1b1b1b"}


def cosine_bars(table: pd.DataFrame) -> Figure:
    """Cosine of pictures and their perturbed versions (Tables 10-12), one panel per category.

    Bars with intervals are ours, diamonds are the paper's.

    Args:
        table: ``category, method, mean, low, high, paper``; ``paper`` is NaN where the paper gives
            no number. Methods are those of :data:`vseam_lib.editing.perturb.METHODS` and
            ``"oracle"``, in the order in which they are to be drawn.

    Raises:
        ValueError: missing columns, no rows, an unknown method, or a row twice.
    """
    need(table, "category", "method", "mean", "low", "high", "paper")
    methods = list(dict.fromkeys(table["method"]))
    if unknown := [m for m in methods if m not in METHOD_LABEL]:
        raise ValueError(f"expected methods in {', '.join(METHOD_LABEL)}, got {unknown[0]!r}")
    if table.duplicated(["category", "method"]).any():
        raise ValueError("expected one row per category and method, got several")
    colors = [KIND_COLOR[METHODS[m].kind if m in METHODS else m] for m in methods]
    categories = _categories(table)
    figure, axes = _panels(len(categories), width=2.6, height=0.9 + 0.24 * len(methods))
    y = np.arange(len(methods))
    low = table[["low", "mean", "paper"]].min().min()
    for ax, category in zip(axes.flat, categories, strict=False):
        own = table[table["category"] == category].set_index("method").reindex(methods)
        ax.barh(y, own["mean"], color=colors, height=0.7)
        error = [own["mean"] - own["low"], own["high"] - own["mean"]]
        ax.errorbar(own["mean"], y, xerr=error, fmt="none", ecolor="k", lw=1.1)
        if own["paper"].notna().any():
            ax.plot(own["paper"], y, "D", color="k", mfc="white", ms=5, label="paper")
        ax.set_title(category, fontsize=10)
        ax.set_xlabel("cosine", fontsize=9)
        ax.set_yticks(y, [METHOD_LABEL[m] for m in methods], fontsize=8)
        ax.set_ylim(len(methods) - 0.5, -0.5)
        ax.set_xlim(min(0, 1.1 * low), 1.02)
        ax.tick_params(axis="x", labelsize=8)
    labelled = [ax for ax in axes.flat if ax.get_legend_handles_labels()[0]]
    if labelled:
        handles, names = labelled[0].get_legend_handles_labels()
        figure.legend(handles, names, frameon=False, fontsize=8, loc="outside lower right")
    return closed(figure)


def funnel(counts: pd.DataFrame) -> Figure:
    """How many triples reach each stage, one panel per category.

    Args:
        counts: of :func:`vseam_lib.editing.acceptance.funnel`, with rows of a stage
            ``"selected"`` per model appended (``category, stage, model, n``).

    Raises:
        ValueError: missing columns, no rows, an unknown stage, a row twice, or a stage that more
            triples reach than the one before.
    """
    need(counts, "category", "stage", "model", "n")
    if unknown := set(counts["stage"]) - set(STAGE_LABEL):
        raise ValueError(f"expected stages in {list(STAGE_LABEL)}, got {sorted(unknown)[0]!r}")
    if counts.duplicated(["category", "stage", "model"]).any():
        raise ValueError("expected one count per category, stage and model, got several")
    rank = {stage: k for k, stage in enumerate(STAGE_LABEL)}
    counts = counts.sort_values("stage", key=lambda s: s.map(rank), kind="stable")
    bars = list(dict.fromkeys(zip(counts["stage"], counts["model"], strict=True)))
    categories = _categories(counts)
    by_category = {
        c: counts[counts["category"] == c].set_index(["stage", "model"])["n"] for c in categories
    }
    for category, own in by_category.items():
        _check_shrinks(category, own)
    figure, axes = _panels(len(categories), height=0.5 + 0.24 * len(bars))
    for ax, category in zip(axes.flat, categories, strict=False):
        n = by_category[category].reindex(bars).to_numpy(float)
        color = LEVEL_COLOR[Category(category).level]
        shades = [color if stage != "selected" else "#444444" for stage, _ in bars]
        ax.barh(range(len(bars)), n, color=shades, height=0.74)
        for y, value in enumerate(n):
            if np.isfinite(value):
                ax.text(value, y, f" {value:.0f}", va="center", fontsize=7)
        ax.set_title(category, fontsize=9)
        ax.margins(x=0.2)
        labels = [f"{STAGE_LABEL[s]} {model}".strip() for s, model in bars]
        ax.set_yticks(range(len(bars)), labels, fontsize=7)
        ax.tick_params(axis="x", labelsize=7)
        ax.set_ylim(len(bars) - 0.5, -0.5)
    return closed(figure)


def _check_shrinks(category: str, own: pd.Series) -> None:
    shared = [(stage, n) for (stage, model), n in own.items() if stage != "selected"]
    steps = list(zip(shared, shared[1:], strict=False))
    if shared:
        steps += [(shared[-1], (s, n)) for (s, _), n in own.items() if s == "selected"]
    for (before, many), (after, few) in steps:
        if few > many:
            raise ValueError(
                f"{category}: expected no more triples {after!r} than {before!r}, got {few} after "
                f"{many}; count the same triples at every stage"
            )


def fidelity_sweep(table: pd.DataFrame) -> Figure:
    """Fidelity over denoising steps, one panel per measure and one line per guidance scale.

    Solid lines paste the original back outside the mask, dashed ones do not.

    Args:
        table: ``measure, steps, guidance, composite, mean`` and optionally ``low, high``. Values
            that are infinite are not drawn.

    Raises:
        ValueError: missing columns, no rows, or a setting that occurs twice.
    """
    need(table, "measure", "steps", "guidance", "composite", "mean")
    if table.duplicated(["measure", "steps", "guidance", "composite"]).any():
        raise ValueError("expected one row per measure, steps, guidance and composite, got several")
    measures = list(dict.fromkeys(table["measure"]))
    scales = sorted(set(table["guidance"]))
    colors = dict(zip(scales, sns.color_palette("cividis", len(scales)), strict=True))
    markers = dict(zip(scales, "osD^vPX" * (1 + len(scales) // 7), strict=False))
    figure, axes = _panels(len(measures), width=2.9, height=2.5, most=3, share=False)
    for ax, measure in zip(axes.flat, measures, strict=False):
        own = table[table["measure"] == measure].replace([np.inf, -np.inf], np.nan)
        for (guidance, composite), line in own.groupby(["guidance", "composite"], sort=True):
            line = line.sort_values("steps")
            style = "-" if composite else "--"
            look = {"color": colors[guidance], "marker": markers[guidance], "ms": 4}
            name = f"guidance {guidance:g}{'' if composite else ', not pasted'}"
            ax.plot(line["steps"], line["mean"], style, label=name, **look)
            if "low" in line:
                ax.fill_between(
                    line["steps"],
                    line["low"],
                    line["high"],
                    color=colors[guidance],
                    alpha=0.15,
                    lw=0,
                )
        ax.set_xticks(sorted(set(table["steps"])))
        ax.set_xlabel("denoising steps")
        ax.set_ylabel(MEASURE_LABEL.get(measure, measure), fontsize=9)
    handles, names = axes.flat[0].get_legend_handles_labels()
    figure.legend(
        handles, names, frameon=False, fontsize=8, ncols=len(scales), handlelength=3.5,
        loc="outside lower center",
    )  # fmt: skip
    return closed(figure)


def acceptance_reasons(counts: pd.DataFrame) -> Figure:
    """Share of the edits that are accepted, and why the others are not, one bar per category.

    Args:
        counts: of :func:`vseam_lib.editing.acceptance.reason_counts`: ``category, reason, n``.

    Raises:
        ValueError: missing columns or no rows.
    """
    need(counts, "category", "reason", "n")
    wide = counts.pivot_table(index="category", columns="reason", values="n", aggfunc="sum")
    wide = wide.reindex(_categories(counts)).fillna(0)
    total = wide.sum(axis=1)
    ends = ["several", "a person"]
    middle = [r for r in wide.sum().sort_values(ascending=False).index if r not in REASON_COLOR]
    order = [r for r in ["accepted", *middle, *ends] if r in wide]
    # Neighbours differ in lightness, so that colour blindness does not matter.
    palette = sns.color_palette("YlOrBr", len(middle) + 1)[1:]
    colors = {**dict(zip(middle, palette, strict=True)), **REASON_COLOR}
    figure, ax = plt.subplots(figsize=(6.8, 0.9 + 0.34 * len(wide)), layout="constrained")
    left = np.zeros(len(wide))
    for reason in order:
        share = 100 * (wide[reason] / total).to_numpy()
        name = "accepted" if reason == "accepted" else f"rejected: {reason}"
        ax.barh(
            range(len(wide)), share, left=left, color=colors[reason], label=name, height=0.74,
            ec="white", lw=0.6,
        )  # fmt: skip
        left += share
    labels = [f"{c} (n = {n:.0f})" for c, n in total.items()]
    ax.set_yticks(range(len(wide)), labels, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("edits (%)")
    figure.legend(frameon=False, fontsize=8, ncols=3, loc="outside lower center")
    return closed(figure)


def _categories(table: pd.DataFrame) -> list[str]:
    """Names of the categories that occur, in the paper's order."""
    there = {Category(c) for c in table["category"]}
    return [str(c) for c in Category if c in there]


def _panels(
    n: int, *, width: float = 2.3, height: float, most: int = 4, share: bool = True
) -> tuple[Figure, np.ndarray]:
    """Panels in rows of at most ``most``; those left over are blank."""
    across = min(n, most)
    down = -(-n // across)
    figure, axes = plt.subplots(
        down, across, figsize=(width * across + 0.6, height * down), squeeze=False,
        sharey=share, layout="constrained",
    )  # fmt: skip
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    return figure, axes
