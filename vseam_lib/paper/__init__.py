"""The paper's printed tables as data: ``table(17)`` is Table 17, as printed.

``depths()`` holds the layers that the paper's text names, counted from 0 of 32.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_HERE = Path(__file__).parent


def table(number: int) -> pd.DataFrame:
    """A table of the paper, one row per printed row (or per cell that holds a list of heads).

    Raises:
        FileNotFoundError: listing the tables there are.
    """
    path = _HERE / f"table{number:02d}.csv"
    if not path.is_file():
        known = sorted(int(p.stem[5:]) for p in _HERE.glob("table*.csv"))
        raise FileNotFoundError(f"no Table {number}; expected one of {known}")
    return pd.read_csv(path)


def depths() -> pd.DataFrame:
    """Layers that section 5.2 names, with their share of the model's depth.

    Columns: ``what, model, first, last, layers, where`` and ``begin, end``, the depth (0 to 1) at
    which the first of these layers begins and the last one ends.
    """
    frame = pd.read_csv(_HERE / "depths.csv")
    return frame.assign(
        begin=frame["first"] / frame["layers"], end=(frame["last"] + 1) / frame["layers"]
    )
