"""What head edits change per question against the unedited model, and averages with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vseam_lib.stats import Interval, clustered_band, clustered_mean

# Measures of a change, in points, and the columns of `evaluate.answers` that they come from.
MEASURES = {"accuracy": "right", "yes-rate": "yes", "probability": "p"}


def per_question(table: pd.DataFrame, *, reference: str = "original") -> pd.DataFrame:
    """Change of every question under every other edit, in points.

    Args:
        table: of :func:`vseam_lib.evaluate.answers`.
        reference: the edit that the others are held against.

    Returns:
        Rows ``id, image_id, category, edit, accuracy, yes-rate, probability``: the change of
        being right, of saying Yes (each -100, 0 or 100) and of the right answer's probability.

    Raises:
        ValueError: a question without exactly one answer under ``reference``.
    """
    base = table[table["edit"] == reference].set_index("id")[list(MEASURES.values())]
    missing = set(table["id"]) - set(base.index)
    if missing or not base.index.is_unique:
        raise ValueError(
            f"expected one answer per question under the edit {reference!r}, got "
            f"{len(missing)} questions without one and {int(base.index.duplicated().sum())} "
            "repeats; answer the same questions under it, too"
        )
    edited = table[table["edit"] != reference]
    out = edited[["id", "image_id", "category", "edit"]].copy()
    for measure, column in MEASURES.items():
        before = base[column].astype(float).reindex(edited["id"]).to_numpy()
        out[measure] = 100 * (edited[column].to_numpy(float) - before)
    return out.reset_index(drop=True)


def mean_of_draws(changes: pd.DataFrame, edit: str) -> pd.DataFrame:
    """Replace the variants ``edit/0``, ``edit/1``, ... by their mean per question, as ``edit``."""
    drawn = changes["edit"].str.fullmatch(rf"{edit}(/\d+)?")
    keys = ["id", "image_id", "category"]
    mean = changes[drawn].groupby(keys, sort=False, as_index=False)[list(MEASURES)].mean()
    return pd.concat([changes[~drawn], mean.assign(edit=edit)], ignore_index=True)


def with_intervals(
    changes: pd.DataFrame,
    by: Sequence[str],
    *,
    measures: Sequence[str] = ("accuracy", "yes-rate"),
    seed: int = 0,
) -> pd.DataFrame:
    """Mean changes per group with 95 % intervals that resample images.

    Args:
        changes: of :func:`per_question`.
        by: columns that group the questions.
        measures: of :data:`MEASURES`.

    Returns:
        Rows ``*by, measure, mean, low, high, n`` in points.

    Raises:
        ValueError: a group whose questions share one image.
    """
    rows = []
    for key, part in changes.groupby(list(by), sort=False):
        values = part[list(measures)].to_numpy(float)
        band = clustered_band(values, list(part["image_id"]), draws=4000, seed=seed)
        rows += [(*key, *row, len(part)) for row in zip(measures, *band, strict=True)]
    return pd.DataFrame(rows, columns=[*by, "measure", "mean", "low", "high", "n"])


def interval(changes: pd.DataFrame, measure: str = "accuracy", *, seed: int = 0) -> Interval:
    """Mean change over all rows with its 95 % interval that resamples images, points."""
    return clustered_mean(changes[measure].to_numpy(float), list(changes["image_id"]), seed=seed)


def contrast(
    changes: pd.DataFrame, inside: Sequence[bool], measure: str = "accuracy", *, seed: int = 0
) -> Interval:
    """Mean change of some rows minus that of the others, with an interval that resamples images.

    The numbers of rows inside and outside are held fixed while images are resampled.

    Raises:
        ValueError: all rows are on one side.
    """
    inside = np.asarray(inside, bool)
    if inside.all() or not inside.any():
        raise ValueError(
            f"expected questions on both sides of a contrast, got {int(inside.sum())} inside and "
            f"{int((~inside).sum())} outside"
        )
    weight = np.where(inside, len(inside) / inside.sum(), -len(inside) / (~inside).sum())
    values = weight * changes[measure].to_numpy(float)
    return clustered_mean(values, list(changes["image_id"]), seed=seed)


def at_least(found: Interval, bound: float) -> bool | None:
    """Whether a mean is at least ``bound``, going by its interval; ``None`` if that holds both."""
    if found.low >= bound:
        return True
    return False if found.high < bound else None
