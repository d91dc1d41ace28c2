"""Tables for notebook pages; text from data is escaped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pandas as pd
from pandas.io.formats.style import Styler


def show(
    frame: pd.DataFrame, formats: Mapping[str, str] | None = None, caption: str = ""
) -> Styler:
    """Render a table without its index.

    Args:
        formats: column to format specification (``"{:.1f}"``); missing values show as a dash.
        caption: shown above the table.
    """
    frame = frame.reset_index(drop=True)
    table = frame.style.format(dict(formats or {}), escape="html", na_rep="–").hide(axis="index")
    table = table.set_table_attributes('class="dataframe"')
    if caption:
        table = table.set_caption(caption)
    digest = hashlib.sha256((caption + "|".join(map(str, frame.columns))).encode())
    return table.set_uuid(digest.hexdigest()[:8])
