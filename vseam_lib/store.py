"""Per-sample results on disk: append-only, resumable, keyed by everything that changes a number.

One directory per key holds ``key.json`` and Parquet parts with the columns ``id`` (the triple),
``site`` (``L3.H5``, ``answer``, ...), ``edit`` and ``value``. A part is written under a temporary
name and renamed, so a killed run loses at most the part that it was writing, and resuming skips
the samples that are complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from vseam_lib.triples import VQATriple

COLUMNS = ["id", "site", "edit", "value"]


def stored_ids(
    triples: Sequence[VQATriple], edited: Mapping[str, Path] | None = None
) -> dict[str, str]:
    """Under which id the store holds each triple: its own, and a digest of pictures and question.

    Data sets that are generated or edited again give the same ids to other pictures.

    Args:
        edited: a triple's id to its edited picture.
    """
    known: dict[Path, bytes] = {}

    def digest(path: Path) -> bytes:
        if path not in known:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: expected an image file, found none")
            known[path] = hashlib.sha256(path.read_bytes()).digest()
        return known[path]

    ids = {}
    for t in triples:
        about = digest(t.image) + f"{t.question}|{t.answer}".encode()
        about += digest(edited[t.id]) if edited else b""
        ids[t.id] = f"{t.id}@{hashlib.sha256(about).hexdigest()[:12]}"
    return ids


class Store:
    """Results of one computation.

    Args:
        root: directory of all stores.
        key: JSON-able description of the computation: analysis, model revision, prompt, dtype,
            mask mode, ... Two different keys never share a directory.
    """

    def __init__(self, root: Path | str, key: Mapping[str, object]) -> None:
        text = json.dumps(dict(key), sort_keys=True, default=str)
        self.key = json.loads(text)
        self.path = Path(root) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.path.mkdir(parents=True, exist_ok=True)
        about = self.path / "key.json"
        if not about.exists():
            part = about.with_suffix(f".{uuid.uuid4().hex[:8]}.part")
            part.write_text(json.dumps(self.key, indent=1, sort_keys=True))
            part.replace(about)
        elif json.loads(about.read_text()) != self.key:
            raise ValueError(
                f"{about}: expected the key {self.key}, found another; the directory was written "
                "by another computation. Remove it and run again"
            )

    def append(self, rows: pd.DataFrame) -> None:
        """Add rows with the columns ``id, site, edit, value``, all of a sample at once.

        Raises:
            ValueError: missing columns or non-finite values, naming the first offender.
        """
        if list(rows.columns) != COLUMNS:
            raise ValueError(f"expected the columns {COLUMNS}, got {list(rows.columns)}")
        bad = ~np.isfinite(rows["value"].to_numpy(float))
        if bad.any():
            first = rows[bad].iloc[0]
            raise ValueError(
                f"{int(bad.sum())} values are not finite, first sample {first['id']} at "
                f"{first['site']}; nothing of this part was stored. Try dtype='float32'"
            )
        name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        part = self.path / f"{name}.part"
        rows.to_parquet(part, index=False)
        part.replace(self.path / f"{name}.parquet")

    def read(self, ids: Iterable[str] | None = None) -> pd.DataFrame:
        """All rows, or those of some samples; empty if there are none.

        A sample that two writers computed at the same time counts once.
        """
        parts = [pd.read_parquet(p) for p in sorted(self.path.glob("*.parquet"))]
        if not parts:
            return pd.DataFrame({c: [] for c in COLUMNS})
        rows = pd.concat(parts, ignore_index=True)
        rows = rows.drop_duplicates(["id", "site", "edit"], ignore_index=True)
        return rows if ids is None else rows[rows["id"].isin(set(ids))].reset_index(drop=True)

    def done(self) -> set[str]:
        """Ids of the samples that are complete."""
        parts = self.path.glob("*.parquet")
        return {i for p in parts for i in pd.read_parquet(p, columns=["id"])["id"].unique()}
