"""Runs something on every image of a set of triples, once, in order, resumably."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from vseam_lib.causal.trace import Recording, record
from vseam_lib.store import Store
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter, open_image


def by_image(adapter: Adapter, triples: Sequence[VQATriple]) -> list[list[VQATriple]]:
    """Triples that share a recording: all of an image, or single ones for a family in which
    the question changes the image's tokens.
    """
    triples = sorted(triples, key=lambda t: (t.image_id, t.id))
    if not adapter.shares_image:
        return [[t] for t in triples]
    return [list(g) for _, g in groupby(triples, key=lambda t: t.image_id)]


def stored_ids(triples: Sequence[VQATriple]) -> dict[str, str]:
    """Under which id the store holds each triple: its own, and a digest of picture and question.

    Data sets that are generated or edited again give the same ids to other pictures.
    """
    pictures, ids = {}, {}
    for t in triples:
        if t.image not in pictures:
            if not t.image.is_file():
                open_image(t.image)  # raises, naming the file
            pictures[t.image] = hashlib.sha256(t.image.read_bytes()).digest()
        asked = f"{t.question}|{t.answer}".encode()
        ids[t.id] = f"{t.id}@{hashlib.sha256(pictures[t.image] + asked).hexdigest()[:12]}"
    return ids


def compute(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    store: Store,
    measure: Callable[[Recording], dict[tuple[str, str], torch.Tensor]],
    *,
    what: str,
    part: int = 16,
) -> pd.DataFrame:
    """Measure every triple that the store does not hold yet; return the rows of all.

    Args:
        measure: from a recording of ``Q`` questions to ``{(site, edit): (Q,) tensor}``.
        what: label of the progress bar.
        part: images per part of the store; a killed run loses at most these.

    Returns:
        Rows ``id, site, edit, value`` of exactly these triples.
    """
    triples = check_unique(triples)
    ids, done = stored_ids(triples), store.done()
    groups = by_image(adapter, [t for t in triples if ids[t.id] not in done])
    rows: list[pd.DataFrame] = []
    with torch.no_grad():
        for k, group in enumerate(tqdm(groups, desc=what, disable=not groups), start=1):
            encoded = adapter.encode(
                group[0].image, [t.question for t in group], [t.answer for t in group]
            )
            values = measure(record(adapter, encoded))
            table = torch.stack([v.double().cpu() for v in values.values()])  # (sites, Q)
            n = len(values)
            rows.append(
                pd.DataFrame(
                    {
                        "id": np.repeat([ids[t.id] for t in group], n),
                        "site": [s for s, _ in values] * len(group),
                        "edit": [e for _, e in values] * len(group),
                        "value": table.T.reshape(-1).numpy(),
                    }
                )
            )
            if k % part == 0 or k == len(groups):
                store.append(pd.concat(rows, ignore_index=True))
                rows = []
    table = store.read(ids.values())
    return table.assign(id=table["id"].map({stored: i for i, stored in ids.items()}))
