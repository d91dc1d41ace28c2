"""The paper's printed tables as data: ``table(17)`` is Table 17, as printed."""

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
