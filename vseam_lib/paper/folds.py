"""Table 18 against itself and against Table 17.

The paper draws 1,000 folds of 100 questions per concept level, takes the difference of accuracy
between rescaling and a baseline in each fold, and divides the mean of the differences by their
standard deviation over the square root of the number of folds (appendix H).

Three things follow whatever the answers were.

1. ``t`` is fixed by the printed mean, standard deviation and number of folds.
2. Folds drawn from a level's questions have, in the mean, a difference between the smallest and the
   largest difference of the level's categories, however the categories are weighted.
3. A question's difference is -1, 0 or 1. With mean m its variance is at least m(1 - m), which
   bounds the standard deviation of a fold's mean from below.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vseam_lib.paper import stated, table
from vseam_lib.paper.arithmetic import HALF, agree, categories_of

NEAR = 0.1  # per cent by which a recomputed t may be off beyond rounding
SURE = 3.0  # standard errors that drawing the folds may be off by


def _folds(level: str) -> int:
    """Folds behind a row: those of one level, or of all three for ``overall``."""
    return int(stated("folds")) * (3 if level == "overall" else 1)


def t_values() -> pd.DataFrame:
    """``t`` from the printed mean and standard deviation.

    Columns ``level, against, printed, recomputed, low, high`` (what rounding allows), ``off`` (per
    cent by which the printed one leaves that range) and ``agrees`` (by at most :data:`NEAR`).
    """
    rows = []
    for _, row in table(18).iterrows():
        root = np.sqrt(_folds(row["level"]))
        low = (row["mean"] - HALF) / (row["sd"] + HALF) * root - HALF
        high = (row["mean"] + HALF) / (row["sd"] - HALF) * root + HALF
        off = 100 * max(0.0, low - row["t"], row["t"] - high) / row["t"]
        t = row["mean"] / row["sd"] * root
        rows.append((row["level"], row["against"], row["t"], t, low, high, off))
    frame = pd.DataFrame(
        rows, columns=["level", "against", "printed", "recomputed", "low", "high", "off"]
    )
    return frame.assign(agrees=frame["off"] <= NEAR)


def means() -> pd.DataFrame:
    """Table 18's means beside the differences in Table 17 (LLaVA) that they average.

    Columns ``level, against, printed, lowest, highest`` (difference of a category of the level),
    ``beyond`` (points by which the mean leaves that range, after rounding), ``errors`` (the same in
    standard errors of a mean over the folds) and ``agrees`` (at most :data:`SURE` of them).
    """
    accuracy = table(17).set_index(["model", "edit"]).loc["LLaVA"]
    rows = []
    for _, row in _of_levels().iterrows():
        own = (accuracy.loc["rescaling"] - accuracy.loc[row["against"]])[
            categories_of(row["level"])
        ]
        rounding = 3 * HALF  # of the mean, and of the two accuracies of a difference
        below, above = own.min() - row["mean"], row["mean"] - own.max()
        beyond = max(0.0, below - rounding, above - rounding)
        errors = beyond / (row["sd"] / np.sqrt(_folds(row["level"])))
        rows.append(
            (row["level"], row["against"], row["mean"], own.min(), own.max(), beyond, errors)
        )
    frame = pd.DataFrame(
        rows, columns=["level", "against", "printed", "lowest", "highest", "beyond", "errors"]
    )
    return frame.assign(agrees=frame["errors"] <= SURE)


def spreads() -> pd.DataFrame:
    """Table 18's standard deviations beside the smallest that folds of its size can have.

    Columns ``level, against, printed, smallest`` (points; folds drawn without replacement from the
    level's questions of Table 1, which makes it smaller), ``agrees`` (the printed one is at least
    that, less what estimating it from the folds may miss) and ``pool``: from how many questions
    folds without replacement could have the printed one; NaN where it is not below the bound.
    """
    size, cases = table(1).groupby("level")["size"].sum(), stated("cases per fold")
    rows = []
    for _, row in _of_levels().iterrows():
        m = (row["mean"] - HALF) / 100
        bound = 100 * np.sqrt(m * (1 - m) / cases)
        finite = np.sqrt((size[row["level"]] - cases) / (size[row["level"]] - 1))
        slack = 1 - SURE / np.sqrt(2 * (_folds(row["level"]) - 1))
        ratio = ((row["sd"] + HALF) / bound) ** 2
        pool = (cases - ratio) / (1 - ratio) if ratio < 1 else np.nan
        fits = row["sd"] + HALF >= bound * finite * slack
        rows.append((row["level"], row["against"], row["sd"], bound * finite, fits, pool))
    return pd.DataFrame(rows, columns=["level", "against", "printed", "smallest", "agrees", "pool"])


def overall() -> pd.DataFrame:
    """The rows ``overall``, which pool the folds of the three levels.

    With equally many folds per level the pooled mean is the mean of the three, and the pooled
    variance the mean of the variances plus the variance of the means.

    Columns ``against, what, printed, recomputed, agrees``.
    """
    rows = []
    for against, part in table(18).groupby("against", sort=False):
        own, whole = part[part["level"] != "overall"], part[part["level"] == "overall"].iloc[0]
        sd = np.sqrt((own["sd"] ** 2).mean() + own["mean"].var(ddof=0))
        rows.append((against, "mean", whole["mean"], own["mean"].mean()))
        rows.append((against, "sd", whole["sd"], sd))
    frame = pd.DataFrame(rows, columns=["against", "what", "printed", "recomputed"])
    return frame.assign(agrees=agree(frame["printed"], frame["recomputed"]))


def _of_levels() -> pd.DataFrame:
    printed = table(18)
    return printed[printed["level"] != "overall"]
