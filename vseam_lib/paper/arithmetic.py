"""The paper's sums and averages, recomputed from its own tables.

Every function returns a tidy frame with what is ``printed``, what is ``recomputed``, whether the
two agree, and how it was recomputed. A printed number stands for all numbers that round to it; so
does each number that goes into an average. Two numbers agree if some such numbers are equal.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd

from vseam_lib.paper import stated, table
from vseam_lib.triples import Category, Level

LEVELS = tuple(map(str, Level))
SHARES = ("initial", "10", "20", "30", "50", "full")
HALF = 0.005  # half a unit of the last digit printed, for numbers with two decimals


def agree(printed, recomputed, *, half: float = HALF, slack: float = HALF):
    """Whether numbers agree up to rounding.

    Args:
        half: half a unit of the printed number's last digit.
        slack: how far the recomputed number may be off because its inputs are rounded.
    """
    return np.abs(np.asarray(printed) - np.asarray(recomputed)) <= half + slack + 1e-9


def categories_of(level: str) -> list[str]:
    """Categories of a concept level."""
    return [str(c) for c in Category if str(c.level) == level]


def totals() -> pd.DataFrame:
    """Sums and percentages: Tables 1 and 16.

    Columns ``table, what, printed, recomputed, agrees, reason``.
    """
    sizes, types = table(1)["size"], table(16)
    types = types[types["type"] != "total"]
    total = types["size"].sum()
    rows = [
        ("1", "questions", stated("questions"), sizes.sum(), 0.0, "sum of the seven sizes"),
        ("16", "question-answer pairs", stated("question-answer pairs of COCO-QA"), total, 0.0,
         "sum of the four types"),
    ]  # fmt: skip
    for _, row in types.iterrows():
        share = 100 * row["size"] / total
        rows.append(("16", f"{row['type']} (%)", row["share"], share, 0.05, "size over the total"))
    frame = pd.DataFrame(rows, columns=["table", "what", "printed", "recomputed", "half", "reason"])
    frame["agrees"] = agree(frame["printed"], frame["recomputed"], half=frame["half"], slack=0)
    return frame.drop(columns="half")


def level_averages() -> pd.DataFrame:
    """Table 3's level columns as averages over the categories of Table 17.

    Columns ``model, edit, level, printed, recomputed`` (plain mean over all categories of the
    level), ``agrees, lowest, highest`` (of these categories) and ``reproduced_by``: every selection
    of the level's categories whose mean, plain or weighted by the sizes of Table 1, is the printed
    number; ``none`` where there is no such selection.
    """
    accuracy = table(17).set_index(["model", "edit"])
    size = table(1).set_index("category")["size"]
    rows = []
    for _, row in table(3).iterrows():
        for level in LEVELS:
            cells = accuracy.loc[(row["model"], row["edit"]), categories_of(level)].astype(float)
            found = [n for n, v in _means(cells, size).items() if agree(row[level], v)]
            rows.append(
                (row["model"], row["edit"], level, row[level], cells.mean(), cells.min(),
                 cells.max(), ", ".join(found) or "none")
            )  # fmt: skip
    frame = pd.DataFrame(
        rows,
        columns=["model", "edit", "level", "printed", "recomputed", "lowest", "highest"]
        + ["reproduced_by"],
    )
    frame.insert(5, "agrees", agree(frame["printed"], frame["recomputed"]))
    return frame


def _means(cells: pd.Series, size: pd.Series) -> dict[str, float]:
    """Means of every selection of cells, plain and weighted by size."""
    out = {}
    for k in range(1, len(cells) + 1):
        for chosen in combinations(cells.index, k):
            some = cells[list(chosen)]
            name = "all" if k == len(cells) else " + ".join(chosen)
            out[name] = some.mean()
            if k > 1:
                out[f"{name} by size"] = float(np.average(some, weights=size[list(chosen)]))
    return out


def table3_averages() -> pd.DataFrame:
    """Table 3's last column: from its own cells, and from Table 17.

    Columns ``model, edit, printed, recomputed`` (mean of the three printed cells), ``agrees`` and
    ``from_table_17`` (mean of the three level means of all categories).
    """
    printed = table(3)
    levels = level_averages().groupby(["model", "edit"], sort=False)["recomputed"].mean()
    frame = printed[["model", "edit"]].assign(
        printed=printed["average"], recomputed=printed[list(LEVELS)].mean(axis=1)
    )
    frame["agrees"] = agree(frame["printed"], frame["recomputed"])
    frame["from_table_17"] = levels.loc[list(map(tuple, printed[["model", "edit"]].values))].values
    return frame


def gains() -> pd.DataFrame:
    """What rescaling adds to the unedited model, in points.

    Columns ``model, level`` (the last one is ``average``), ``printed`` (Table 3), ``recomputed``
    (Table 17, means over all categories of a level) and ``by_size`` (Table 17, weighted by the
    sizes of Table 1).
    """
    three, seventeen = (table(k).set_index(["model", "edit"]) for k in (3, 17))
    size = table(1).set_index("category")["size"]
    rows = []
    for model in dict.fromkeys(table(3)["model"]):
        printed = three.loc[(model, "rescaling")] - three.loc[(model, "original")]
        cells = seventeen.loc[(model, "rescaling")] - seventeen.loc[(model, "original")]
        means = []
        for level in LEVELS:
            own = categories_of(level)
            means.append(cells[own].mean())
            weighted = np.average(cells[own], weights=size[own])
            rows.append((model, level, printed[level], means[-1], weighted))
        weighted = np.average(cells[size.index], weights=size)
        rows.append((model, "average", printed["average"], np.mean(means), weighted))
    return pd.DataFrame(rows, columns=["model", "level", "printed", "recomputed", "by_size"])


def grouped_averages() -> pd.DataFrame:
    """Tables 4 and 19 as averages over the categories of Tables 21 and 20.

    Columns ``table, model, level, share, printed, recomputed, agrees, reason``.
    """
    rows = []
    for grouped, parts in ((4, 21), (19, 20)):
        printed = table(grouped).set_index("level")
        cells = table(parts).set_index("category")[list(SHARES)]
        own = pd.DataFrame({lv: cells.loc[categories_of(lv)].mean() for lv in LEVELS}).T
        own.loc["average"] = own.mean()
        for level in own.index:
            what = "levels" if level == "average" else f"categories of Table {parts}"
            for share in SHARES:
                numbers = printed.loc[level, share], own.loc[level, share]
                model = printed.loc[level, "model"]
                rows.append((grouped, model, level, share, *numbers, f"mean over the {what}"))
    frame = pd.DataFrame(
        rows, columns=["table", "model", "level", "share", "printed", "recomputed", "reason"]
    )
    frame.insert(6, "agrees", agree(frame["printed"], frame["recomputed"]))
    return frame


def same_systems() -> pd.DataFrame:
    """The unedited and the fully rescaled model, which the paper prints more than once.

    Columns ``model, what`` (a category or level), ``edit, first, first_table, second,
    second_table, agrees``: Tables 20 and 21 beside Table 17, Tables 4 and 19 beside Table 3.
    """
    rows = []
    edits = {"initial": "original", "full": "rescaling"}
    for here, there, key in ((21, 17, "category"), (20, 17, "category"), (4, 3, "level"),
                             (19, 3, "level")):  # fmt: skip
        other = table(there).set_index(["model", "edit"])
        for _, row in table(here).iterrows():
            for share, edit in edits.items():
                again = other.loc[(row["model"], edit), row[key]]
                rows.append((row["model"], row[key], edit, row[share], here, again, there))
    frame = pd.DataFrame(
        rows,
        columns=["model", "what", "edit", "first", "first_table", "second", "second_table"],
    )
    frame["agrees"] = frame["first"] == frame["second"]
    return frame


def implied_counts() -> pd.DataFrame:
    """Numbers of questions behind Table 17, with the sizes of Table 1.

    Columns ``model, category, questions, wrong`` (of the unedited model: what negative heads rest
    on), ``rescaling, without_negative`` (net right answers gained) and ``share`` (per cent of the
    gain of rescaling that removing the negative heads alone has).
    """
    size = table(1).set_index("category")["size"]
    accuracy = table(17).set_index(["model", "edit"])
    rows = []
    for model in dict.fromkeys(table(17)["model"]):
        right = {
            edit: (accuracy.loc[(model, edit)] * size[accuracy.columns] / 100).round().astype(int)
            for edit in ("original", "rescaling", "w/o negative")
        }
        for category in accuracy.columns:
            base = right["original"][category]
            rescaled, without = (right[e][category] - base for e in ("rescaling", "w/o negative"))
            wrong = size[category] - base
            share = 100 * without / rescaled
            rows.append((model, category, size[category], wrong, rescaled, without, share))
    columns = ["model", "category", "questions", "wrong", "rescaling", "without_negative", "share"]
    return pd.DataFrame(rows, columns=columns)


def coco_qa_gains() -> pd.DataFrame:
    """Table 23 with the gain in points: ``model, type, initial, edited, gain``."""
    printed = table(23).pivot(index=["model", "type"], columns="edit", values="accuracy")
    frame = printed.rename(columns={"Initial": "initial", "Edit_GQA": "edited"}).reset_index()
    frame = frame[["model", "type", "initial", "edited"]].rename_axis(columns=None)
    return frame.assign(gain=frame["edited"] - frame["initial"])
