"""Figures of the logit lens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from vseam_lib.causal.lens import Case
from vseam_lib.figures.base import LEVEL_COLOR, closed
from vseam_lib.stats import Band
from vseam_lib.triples import Category
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.words import KINDS

SITE_STYLE = {  # name, line colour, colour map; the paper's blue and green
    "mlp": ("MLP", "#2a6f97", "Blues"),
    "attn": ("attention", "#3a7d44", "Greens"),
    "block": ("residual stream", "#444444", "Greys"),
}
KIND_COLOR = dict(zip(KINDS, ("#1d3557", "#c1440e", "#e9a23b", "#999999", "#e4e4e4"), strict=True))
KIND_NAME = {
    "answer": "yes or no",
    "question": "word of the question",
    "picture": "other word of the picture",
    "formatting": "formatting",
    "other": "other",
}


def layers_shown(n_layers: int, at_most: int = 8) -> list[int]:
    """Every n-th layer, counted back from the last; of 32 layers the paper's 4th, 8th, ... 32nd."""
    step = -(-n_layers // at_most)
    return list(range(n_layers - 1, -1, -step))[::-1]


def drawable(text: str, width: int = 10) -> str:
    """A token as the figures' font can draw it, cut to ``width`` characters."""
    font = get_font(findfont(FontProperties(family=plt.rcParams["font.family"])))
    seen = "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "□" for c in text)
    return seen if len(seen) <= width else seen[: width - 1] + "…"


def _cells(
    ax: Axes, site: str, words: np.ndarray, values: np.ndarray, gold: str, labels: Sequence[str]
) -> None:
    """Words ``(rows, columns)`` on cells coloured by value, the right answer in bold."""
    name, color, cmap = SITE_STYLE[site]
    image = ax.imshow(values, cmap=cmap, aspect="auto")
    for (r, c), word in np.ndenumerate(words):
        ax.text(
            c, r, drawable(word), ha="center", va="center", fontsize=8.5, parse_math=False,
            color="white" if image.norm(values[r, c]) > 0.6 else "black",
            fontweight="bold" if word == gold else "normal",
        )  # fmt: skip
    ax.set_yticks(range(len(labels)), [drawable(x, 14) for x in labels], parse_math=False)
    ax.tick_params(labelsize=8, length=0)
    ax.set_ylabel(name, color=color, fontsize=10)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.01, aspect=12)
    bar.set_label("logit", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def lens_cases(cases: Sequence[Case], sites: Sequence[str] = ("mlp", "attn")) -> Figure:
    """Figure 5: top tokens (rows) by layer (columns) at the last token, coloured by logit.

    One block per case, with its picture and question. Every n-th layer is shown. Layers count
    from 0. The right answer is bold.
    """
    figure = plt.figure(figsize=(10.2, 3.7 * len(cases)), layout="constrained")
    grid = figure.add_gridspec(len(cases), 2, width_ratios=[1.5, 8.5])
    for k, case in enumerate(cases):
        left = figure.add_subplot(grid[k, 0])
        left.imshow(open_image(case.triple.image), interpolation="nearest")
        left.set_axis_off()
        panels = grid[k, 1].subgridspec(len(sites), 1)
        for r, site in enumerate(sites):
            ax = figure.add_subplot(panels[r])
            shown = layers_shown(len(case.words[site]))
            words, values = (x[site][shown, -1].T for x in (case.words, case.logits))
            _cells(ax, site, words, values, case.gold, [str(i + 1) for i in range(len(words))])
            last = r == len(sites) - 1
            ax.set_xticks(range(len(shown)), shown if last else [""] * len(shown))
            if last:
                ax.set_xlabel("layer", fontsize=9)
            if not r:
                asked = f"{case.triple.question}  {case.triple.answer}."
                ax.set_title(asked, fontsize=10, loc="left", parse_math=False)
    return closed(figure)


def lens_tokens(case: Case, sites: Sequence[str] = ("mlp", "attn")) -> Figure:
    """Top token at every token of the question (rows) by layer (columns), coloured by logit."""
    figure, axes = plt.subplots(
        len(sites), 1, figsize=(10.2, 0.3 * len(sites) * len(case.tokens) + 0.9), sharex=True,
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for ax, site in zip(axes[:, 0], sites, strict=True):
        shown = layers_shown(len(case.words[site]))
        words, values = (x[site][shown, :, 0].T for x in (case.words, case.logits))
        _cells(ax, site, words, values, case.gold, case.tokens)
        ax.set_xticks(range(len(shown)), shown)
    axes[-1, 0].set_xlabel("layer", fontsize=9)
    asked = f"{case.triple.question}  {case.triple.answer}."
    axes[0, 0].set_title(asked, fontsize=10, loc="left", parse_math=False)
    return closed(figure)


def lens_curves(
    curves: Mapping[str, Mapping[str, Band]], *, label: str, log: bool = False
) -> Figure:
    """Mean over layers with its interval, a panel per category and a line per site.

    Args:
        curves: category to site to a band of shape ``(n_layers,)``.
        log: a logarithmic axis with 1 at the top, for ranks.
    """
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.5 * columns + 0.6, 2.3 * rows + 0.4), squeeze=False,
        layout="constrained", sharex=True, sharey=True,
    )  # fmt: skip
    for ax in axes.flat[len(curves) :]:
        ax.set_axis_off()
    for ax in axes.flat[len(curves) - columns : len(curves)]:
        ax.tick_params(labelbottom=True)  # the lowest of its column, maybe above an empty place
    for ax, (category, sites) in zip(axes.flat, curves.items(), strict=False):
        for site, band in sites.items():
            name, color, _ = SITE_STYLE[site]
            x = np.arange(len(band.mean))
            ax.plot(x, band.mean, color=color, label=name, lw=1.6)
            ax.fill_between(x, band.low, band.high, color=color, alpha=0.18, lw=0)
        ax.set_title(category, color=LEVEL_COLOR[Category(category).level], fontsize=10)
        ax.tick_params(labelsize=7)
        ax.xaxis.get_major_locator().set_params(integer=True)
    if log:
        axes[0, 0].set_yscale("log")
        axes[0, 0].invert_yaxis()  # shared: all panels follow
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.supxlabel("layer", fontsize=9)
    figure.supylabel(label, fontsize=9)
    return closed(figure)


def lens_kinds(shares: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """What kind of token the lens shows, stacked by layer; a row per measure, a column per site.

    Args:
        shares: name of a measure to site to ``(n_layers, 5)``, adding up to 1 over the kinds.
    """
    sites = list(next(iter(shares.values())))
    figure, axes = plt.subplots(
        len(shares), len(sites), figsize=(3.2 * len(sites), 2.3 * len(shares) + 0.5),
        squeeze=False, layout="constrained", sharex=True, sharey=True,
    )  # fmt: skip
    for row, (measure, by_site) in zip(axes, shares.items(), strict=True):
        for ax, site in zip(row, sites, strict=True):
            values = by_site[site]  # (n_layers, kinds)
            floor = np.cumsum(values, 1) - values
            for k, kind in enumerate(KINDS):
                ax.bar(
                    np.arange(len(values)), values[:, k], 0.86, floor[:, k],
                    color=KIND_COLOR[kind], label=KIND_NAME[kind],
                )  # fmt: skip
            ax.set_ylim(0, 1)
            ax.tick_params(labelsize=8)
            ax.xaxis.get_major_locator().set_params(integer=True)
        row[0].set_ylabel(measure, fontsize=9)
    for ax, site in zip(axes[0], sites, strict=True):
        ax.set_title(SITE_STYLE[site][0], color=SITE_STYLE[site][1], fontsize=10)
    for ax in axes[-1]:
        ax.set_xlabel("layer", fontsize=9)
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=5, frameon=False, fontsize=8.5)
    return closed(figure)
