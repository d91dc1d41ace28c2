"""The paper's printed tables as data: ``table(17)`` is Table 17, as printed.

``depths()`` holds the layers that the paper's text names, counted from 0 of 32, ``stated()`` the
numbers, and :mod:`vseam_lib.paper.claims` what it claims.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_HERE = Path(__file__).parent

_SHARES = ("initial", "10", "20", "30", "50", "full")
_CATEGORIES = ("color", "material", "animal", "vehicle", "indoor", "action", "spatial")
_POPE = ("model", "subset", "edit", "accuracy", "recall", "f1")
COLUMNS = {
    1: ("level", "category", "size"),
    2: ("level", "model", "side", "heads"),
    3: ("model", "edit", "attribute", "object", "relation", "average"),
    4: ("model", "level", *_SHARES),
    5: _POPE,
    10: ("category", "method", "cosine"),
    11: ("category", "method", "cosine"),
    12: ("category", "method", "cosine"),
    13: ("category", "side", "model", "heads"),
    14: ("category", "side", "model", "overlap"),
    15: ("subset", "size", "example"),
    16: ("type", "size", "share"),
    17: ("model", "edit", *_CATEGORIES),
    18: ("level", "against", "mean", "sd", "t", "p"),
    19: ("model", "level", *_SHARES),
    20: ("model", "category", *_SHARES),
    21: ("model", "category", *_SHARES),
    22: _POPE,
    23: ("model", "type", "edit", "accuracy"),
}


def table(number: int) -> pd.DataFrame:
    """A table of the paper, one row per printed row (or per cell that holds a list of heads).

    Raises:
        FileNotFoundError: listing the tables there are.
        ValueError: a file whose columns are not those of its table.
    """
    path = _HERE / f"table{number:02d}.csv"
    if not path.is_file():
        known = sorted(int(p.stem[5:]) for p in _HERE.glob("table*.csv"))
        raise FileNotFoundError(f"no Table {number}; expected one of {known}")
    return read_columns(path, COLUMNS.get(number))


def read_columns(path: Path, columns: tuple[str, ...] | None) -> pd.DataFrame:
    """Read a CSV file and check its columns.

    Raises:
        ValueError: naming the columns that are missing, and those that are too many.
    """
    frame = pd.read_csv(path)
    if columns is not None and tuple(frame.columns) != columns:
        missing = [c for c in columns if c not in frame.columns]
        extra = [c for c in frame.columns if c not in columns]
        raise ValueError(
            f"{path.name}: expected the columns {', '.join(columns)} in this order; missing: "
            f"{', '.join(missing) or 'none'}; unknown: {', '.join(extra) or 'none'}"
        )
    return frame


def depths() -> pd.DataFrame:
    """Layers that section 5.2 and appendix F name, with their share of the model's depth.

    Columns: ``what, model, first, last, layers, where`` and ``begin, end``, the depth (0 to 1) at
    which the first of these layers begins and the last one ends.
    """
    frame = pd.read_csv(_HERE / "depths.csv")
    return frame.assign(
        begin=frame["first"] / frame["layers"], end=(frame["last"] + 1) / frame["layers"]
    )


def stated(what: str) -> float:
    """A number that the paper states in its text, or that is known of a benchmark that it uses.

    Raises:
        KeyError: listing what is stated.
    """
    values = pd.read_csv(_HERE / "stated.csv").set_index("what")["value"]
    if what not in values:
        raise KeyError(f"no stated number {what!r}; expected one of: {', '.join(values.index)}")
    return float(values[what])
