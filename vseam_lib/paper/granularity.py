"""Can a printed accuracy be a share of so many questions?

An accuracy over n questions is k/n for a whole k. With n in the thousands and two decimals, most
printed numbers are no such share, so numbers that are say something about how they came about
(Brown and Heathers, 2017, *The GRIM test*, doi:10.1177/1948550616673876).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vseam_lib.paper import table
from vseam_lib.paper.arithmetic import SHARES


def whole_answers(printed: float, n: int, decimals: int = 2) -> str:
    """How a percentage is the share of a whole number of ``n`` answers.

    Returns:
        ``rounded``, ``truncated`` (only cutting off the digits that follow gives the printed
        number), or ``none``.

    Raises:
        ValueError: a percentage outside 0 to 100, or no questions.
    """
    if n < 1 or not 0 <= printed <= 100:
        raise ValueError(f"expected 0 to 100 % of at least one question, got {printed} % of {n}")
    unit = 10.0**-decimals
    near = round(printed * n / 100)
    shares = 100 * np.arange(max(0, near - 2), min(n, near + 2) + 1) / n
    if (np.abs(shares - printed) <= unit / 2 + 1e-9).any():
        return "rounded"
    above = shares - printed
    return "truncated" if ((above >= -1e-9) & (above < unit - 1e-9)).any() else "none"


def chance_of_whole(n: int, decimals: int = 2) -> float:
    """Share of the numbers from 0 to 100 with so many decimals that round from some k/n."""
    values = np.unique(np.round(100 * np.arange(n + 1) / n * 10**decimals))
    return len(values) / (100 * 10**decimals + 1)


def accuracies() -> pd.DataFrame:
    """Table 17's cells: ``model, edit, category, n, printed, whole, chance``."""
    long = table(17).melt(["model", "edit"], var_name="category", value_name="printed")
    return _checked(long)


def run_averages() -> pd.DataFrame:
    """Cells of Tables 20 and 21 that are averages of ten runs (section 6).

    Such an average is a whole number of answers if the ten runs agree; otherwise two decimals look
    like one about as often as any number does.

    Columns ``model, category, share, n, printed, whole, chance`` and ``as_full``, whether the cell
    is that of all data, as it is once every run finds the same heads.
    """
    long = pd.concat([table(20), table(21)]).melt(
        ["model", "category"], var_name="share", value_name="printed"
    )
    full = long[long["share"] == "full"].rename(columns={"printed": "full"})
    cells = _checked(long[long["share"].isin(SHARES[1:-1])].reset_index(drop=True))
    cells = cells.merge(full[["model", "category", "full"]], on=["model", "category"])
    return cells.assign(as_full=cells["printed"] == cells["full"]).drop(columns="full")


def _checked(long: pd.DataFrame) -> pd.DataFrame:
    size = table(1).set_index("category")["size"]
    n = [int(size[c]) for c in long["category"]]
    long.insert(len(long.columns) - 1, "n", n)
    whole = [whole_answers(p, k) for p, k in zip(long["printed"], n, strict=True)]
    return long.assign(whole=whole, chance=[chance_of_whole(k) for k in n])


def summary(checked: pd.DataFrame) -> pd.Series:
    """How many cells are whole answers, and how many would be by chance.

    Returns:
        ``cells, rounded, truncated, expected`` (whole by chance) and ``p``, the probability that
        chance gives at least as many (Poisson binomial, cells independent).
    """
    rounded = int((checked["whole"] == "rounded").sum())
    return pd.Series(
        {
            "cells": len(checked),
            "rounded": rounded,
            "truncated": int((checked["whole"] == "truncated").sum()),
            "expected": checked["chance"].sum(),
            "p": at_least(rounded, checked["chance"]),
        }
    )


def at_least(count: int, chances: pd.Series) -> float:
    """Probability of at least ``count`` successes in independent trials of unequal chance."""
    masses = np.ones(1)
    for chance in chances:
        masses = np.convolve(masses, [1 - chance, chance])
    return float(masses[count:].sum())
