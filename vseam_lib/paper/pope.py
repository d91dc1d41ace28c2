"""The POPE tables (5 and 22): what accuracy and recall imply.

POPE asks yes/no questions about 500 images; its three subsets share the 1,500 questions whose
answer is Yes and differ in the others (Li et al., 2023, arXiv:2305.10355). With P positive and N
questions in all, accuracy a and recall r fix everything else:

    F1 = 2rP / (2rP + N(1 - a))
    false positives = N(1 - a) - P(1 - r)
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from vseam_lib.paper import stated, table

UNEDITED = "Initial"  # as the tables name it, beside Edit_POPE and Edit_GQA
HALF = 0.0005  # half a unit of the last digit printed


class Implied(NamedTuple):
    """What accuracy and recall imply; all between 0 and 1."""

    f1: float
    precision: float
    false_positive_rate: float
    yes_rate: float


def implied(accuracy: float, recall: float, positives: int, total: int) -> Implied:
    """F1, precision, false-positive rate and yes-rate from accuracy and recall.

    Raises:
        ValueError: numbers that no answers can have.
    """
    if not 0 < positives < total:
        raise ValueError(f"expected some questions of each kind, got {positives} of {total}")
    hits = recall * positives
    wrong = total * (1 - accuracy)
    false = wrong - (positives - hits)
    if not (0 <= recall <= 1 and 0 <= accuracy <= 1 and -1e-9 <= false <= total - positives):
        raise ValueError(
            f"expected an accuracy and a recall that go together, got {accuracy} and {recall} of "
            f"{positives} positive among {total} questions"
        )
    return Implied(
        2 * hits / (2 * hits + wrong),
        hits / (hits + false) if hits + false else float("nan"),
        false / (total - positives),
        (hits + false) / total,
    )


def results() -> pd.DataFrame:
    """Tables 5 and 22, a row per model, subset and edit, with what accuracy and recall imply.

    Columns ``model, subset, edit, accuracy, recall, f1`` as printed; ``f1_low, f1_high``, what the
    printed accuracy and recall allow; ``f1_agrees``; ``precision, false_positive_rate, yes_rate``;
    ``fpr_low, fpr_high``, what rounding allows.
    """
    size = table(15).set_index("subset")["size"]
    positives = int(stated("positive questions per POPE subset"))
    rows = []
    for _, row in pd.concat([table(5), table(22)]).iterrows():
        a, r, sizes = row["accuracy"], row["recall"], (positives, int(size[row["subset"]]))
        low, here, high = (implied(a + d, r + d, *sizes) for d in (-HALF, 0, HALF))
        found = row.to_dict() | {"f1_low": low.f1, "f1_high": high.f1}
        found["f1_agrees"] = low.f1 - HALF <= row["f1"] <= high.f1 + HALF
        found |= {name: getattr(here, name) for name in Implied._fields if name != "f1"}
        found["fpr_low"] = implied(a + HALF, r - HALF, *sizes).false_positive_rate
        found["fpr_high"] = implied(a - HALF, r + HALF, *sizes).false_positive_rate
        rows.append(found)
    return pd.DataFrame(rows)


def recalls() -> pd.DataFrame:
    """Recall over the subsets, which share their positive questions.

    One edited model answers these questions once, so it has one recall.

    Columns ``model, edit, lowest, highest, agrees``.
    """
    found = results().groupby(["model", "edit"], sort=False)["recall"].agg(["min", "max"])
    frame = found.reset_index().rename(columns={"min": "lowest", "max": "highest"})
    return frame.assign(agrees=frame["lowest"] == frame["highest"])


def shifts() -> pd.DataFrame:
    """How an edit moves the implied rates, points against the unedited model.

    Columns ``model, subset, edit, recall, false_positive_rate, yes_rate, rises``: whether the
    false-positive rate rises by more than rounding allows for.
    """
    found = results().set_index(["model", "subset", "edit"])
    rows = []
    for model, subset, edit in found.index:
        if edit == UNEDITED:
            continue
        new, old = found.loc[(model, subset, edit)], found.loc[(model, subset, UNEDITED)]
        change = {
            name: 100 * (new[name] - old[name])
            for name in ("recall", "false_positive_rate", "yes_rate")
        }
        rises = bool(new["fpr_low"] > old["fpr_high"])
        rows.append({"model": model, "subset": subset, "edit": edit, **change, "rises": rises})
    return pd.DataFrame(rows)
