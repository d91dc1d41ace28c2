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
from vseam_lib.editing.pictures import check_rgb
from vseam_lib.editing.review import open_mask
from vseam_lib.figures.base import closed
from vseam_lib.triples import Box
from vseam_lib.vlm.images import open_image

Picture = Image.Image | np.ndarray | Path

METHOD_LABEL = {**{name: m.label for name, m in METHODS.items()}, "oracle": "exact edit"}


def edit_gallery(rows: pd.DataFrame | Sequence[Mapping[str, object]]) -> Figure:
    """Edits in rows: the original with boxes and mask, the edit, and the exact edit if known.

    The first box is solid, others are dashed; the mask is outlined in white on black.

    Args:
        rows: one per edit: ``question, counterfactual``; ``before, edited``, pictures or their
            files; ``mask``, ``(H, W)`` bool or a file of it; and optionally ``boxes`` (a sequence
            of boxes), ``oracle`` (a picture, or ``None`` where there is none) and ``category``,
            which is written at the left.

    Raises:
        ValueError: missing columns, no rows, a row without a ``before``, or a mask of another size
            than its picture.
        FileNotFoundError: a picture that is missing.
    """
    rows = pd.DataFrame(rows)
    need(rows, "question", "counterfactual", "before", "edited", "mask")
    if rows["before"].isna().any():
        raise ValueError("expected an original picture in every row, got a row without one")
    exact = "oracle" in rows and rows["oracle"].notna().any()
    columns = ["before", "edited", *(["oracle"] if exact else [])]
    heads = {"before": "original", "edited": "semantic edit", "oracle": "exact edit"}
    records = rows.to_dict("records")
    pictures = [[_opened(row[c]) for c in columns] for row in records]
    masks = [
        open_mask(row["mask"], first.shape[1::-1])
        for row, (first, *_) in zip(records, pictures, strict=True)
    ]
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(2.5 * len(columns), 2.8 * len(rows)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for line, row, shown, mask in zip(axes, records, pictures, masks, strict=True):
        texts = {"before": row["question"], "edited": row["counterfactual"], "oracle": ""}
        for ax, column, picture in zip(line, columns, shown, strict=True):
            first = f"{heads[column]}\n" if ax in axes[0] else ""
            ax.set_title(first + _wrapped(texts[column], 34), fontsize=8)
            _show(ax, picture)
        if "category" in rows:
            line[0].set_ylabel(str(row["category"]), fontsize=9)
        _outline(line[0], mask)
        _draw_boxes(line[0], row["boxes"] if "boxes" in rows else ())
    return closed(figure)


def _outline(ax: Axes, mask: np.ndarray) -> None:
    padded = np.pad(mask, 1).astype(float)  # so that the outline closes at the picture's border
    x, y = (np.arange(-1, n + 1) for n in mask.shape[::-1])
    for color, width in (("k", 2.4), ("w", 1.1)):
        ax.contour(x, y, padded, levels=[0.5], colors=color, linewidths=width)
    ax.set_xlim(-0.5, mask.shape[1] - 0.5)
    ax.set_ylim(mask.shape[0] - 0.5, -0.5)


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
    found = pictures.assign(picture=[_opened(p) for p in pictures["picture"]])
    found = found.set_index(["question", "method"]).to_dict("index")
    figure, axes = plt.subplots(
        len(questions), len(methods), figsize=(1.55 * len(methods), 2.05 * len(questions)),
        squeeze=False, layout="constrained",
    )  # fmt: skip
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


def _opened(picture: Picture | None) -> np.ndarray | None:
    """The pixels of a picture; ``None`` where a table has none."""
    if picture is None or (isinstance(picture, float) and np.isnan(picture)):
        return None
    return check_rgb(picture if isinstance(picture, np.ndarray) else open_image(picture))


def _show(ax: Axes, picture: np.ndarray | None) -> None:
    """Draw a picture without axes; nothing for none."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if picture is not None:
        ax.imshow(picture, interpolation="nearest")


def _draw_boxes(ax: Axes, boxes: Sequence[Box]) -> None:
    for k, box in enumerate(boxes):
        ax.add_patch(
            Rectangle(
                (box.x - 0.5, box.y - 0.5), box.w, box.h, fill=False, lw=1.4, ec="#ffd166",
                ls="-" if k == 0 else "--", zorder=3,
            )
        )  # fmt: skip


def _wrapped(text: str, width: int) -> str:
    """A text over several lines; a dollar sign begins no formula."""
    return "\n".join(textwrap.wrap(text.replace("$", r"\$"), width)) if text else ""
