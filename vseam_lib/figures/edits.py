"""Pictures of edits, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vseam_lib.editing.perturb import METHODS
from vseam_lib.figures.base import closed
from vseam_lib.triples import Box
from vseam_lib.vlm.images import open_image

Picture = Image.Image | np.ndarray | Path

METHOD_LABEL = {**{name: m.label for name, m in METHODS.items()}, "oracle": "exact edit"}


def edit_gallery(rows: pd.DataFrame) -> Figure:
    """Edits in rows: the original with boxes and mask, the edit, and the exact edit if known.

    The first box is solid, others are dashed; the mask is outlined in white on black.

    Args:
        rows: one per edit: ``question, counterfactual, before, edited`` (pictures or paths),
            ``mask`` ``(H, W)`` bool, and optionally ``boxes`` (sequences of boxes),
            ``oracle`` (``None`` where there is none) and ``category``, which is written at the
            left.

    Raises:
        ValueError: missing columns, or no rows.
    """
    need(rows, "question", "counterfactual", "before", "edited", "mask")
    columns = ["before", "edited", *(["oracle"] if "oracle" in rows else [])]
    heads = {"before": "original", "edited": "semantic edit", "oracle": "exact edit"}
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(2.5 * len(columns), 2.95 * len(rows)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for line, row in zip(axes, rows.to_dict("records"), strict=True):
        texts = {"before": row["question"], "edited": row["counterfactual"], "oracle": ""}
        for ax, column in zip(line, columns, strict=True):
            first = f"{heads[column]}\n" if ax in axes[0] else ""
            ax.set_title(first + _wrapped(texts[column], 34), fontsize=8)
            _show(ax, row[column])
        if "category" in rows:
            line[0].set_ylabel(str(row["category"]), fontsize=9)
        mask = np.asarray(row["mask"], bool)
        for color, width in (("k", 2.4), ("w", 1.1)):
            # One more pixel all around, so that the outline closes at the picture's border.
            line[0].contour(
                np.arange(-1, mask.shape[1] + 1), np.arange(-1, mask.shape[0] + 1),
                np.pad(mask, 1).astype(float), levels=[0.5], colors=color, linewidths=width,
            )  # fmt: skip
        _draw_boxes(line[0], row.get("boxes") or ())
        line[0].set_xlim(-0.5, mask.shape[1] - 0.5)
        line[0].set_ylim(mask.shape[0] - 0.5, -0.5)
    return closed(figure)


def perturbation_strip(pictures: pd.DataFrame) -> Figure:
    """Perturbations of a picture side by side (Figures 6-8), one row per question.

    Args:
        pictures: ``question, method, picture``, and optionally ``cosine``, which is written under
            its picture. ``method`` is ``"original"``, ``"oracle"`` or a name of
            :data:`vseam_lib.editing.perturb.METHODS`; columns come in the order of first
            occurrence, and a picture may be missing.

    Raises:
        ValueError: missing columns, no rows, an unknown method, or one that a question has twice.
    """
    need(pictures, "question", "method", "picture")
    labels = {"original": "original", **METHOD_LABEL}
    methods = list(dict.fromkeys(pictures["method"]))
    if unknown := [m for m in methods if m not in labels]:
        raise ValueError(f"expected methods in {', '.join(labels)}, got {unknown[0]!r}")
    if pictures.duplicated(["question", "method"]).any():
        raise ValueError("expected one picture per question and method, got several")
    questions = list(dict.fromkeys(pictures["question"]))
    figure, axes = plt.subplots(
        len(questions), len(methods), figsize=(1.55 * len(methods), 2.05 * len(questions)),
        squeeze=False, layout="constrained",
    )  # fmt: skip
    found = pictures.set_index(["question", "method"]).to_dict("index")
    for line, question in zip(axes, questions, strict=True):
        for ax, method in zip(line, methods, strict=True):
            row = found.get((question, method), {"picture": None})
            _show(ax, row["picture"])
            if ax in axes[0]:
                ax.set_title(_wrapped(labels[method], 16), fontsize=8)
            if pd.notna(row.get("cosine", np.nan)):
                ax.set_xlabel(f"cos {row['cosine']:.3f}", fontsize=8)
        line[0].set_ylabel(_wrapped(question, 22), fontsize=8)
    return closed(figure)


def need(table: pd.DataFrame, *columns: str) -> None:
    """Raise unless a table has these columns and at least one row."""
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(
            f"expected the columns {', '.join(columns)}, got {', '.join(map(str, table))}; "
            f"missing: {', '.join(missing)}"
        )
    if table.empty:
        raise ValueError("expected at least one row to draw, got none")


def _show(ax: Axes, picture: Picture | None) -> None:
    """Draw a picture without axes; nothing for none."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if picture is None or (isinstance(picture, float) and np.isnan(picture)):
        return
    picture = picture if isinstance(picture, np.ndarray) else open_image(picture)
    ax.imshow(picture, interpolation="nearest")


def _draw_boxes(ax: Axes, boxes: Sequence[Box]) -> None:
    for k, box in enumerate(boxes):
        ax.add_patch(
            Rectangle(
                (box.x - 0.5, box.y - 0.5), box.w, box.h, fill=False, lw=1.4, ec="#ffd166",
                ls="-" if k == 0 else "--",
            )
        )  # fmt: skip


def _wrapped(text: str, width: int) -> str:
    """A text over several lines; a dollar sign begins no formula."""
    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), width)) if text else ""
