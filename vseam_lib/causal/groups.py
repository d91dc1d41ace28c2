"""Runs something on every image of a set of triples, once, in order, resumably."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from vseam_lib.causal.trace import Recording, record
from vseam_lib.store import Store
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter


def by_image(adapter: Adapter, triples: Sequence[VQATriple]) -> list[list[VQATriple]]:
    """Triples that share a recording: all of an image, or single ones for a family whose image
    prefix depends on the question."""
    triples = sorted(triples, key=lambda t: (t.image_id, t.id))
    if not adapter.shares_prefix:
        return [[t] for t in triples]
    return [list(g) for _, g in groupby(triples, key=lambda t: t.image_id)]


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
    done = store.done()
    groups = by_image(adapter, [t for t in triples if t.id not in done])
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
                        "id": np.repeat([t.id for t in group], n),
                        "site": [s for s, _ in values] * len(group),
                        "edit": [e for _, e in values] * len(group),
                        "value": table.T.reshape(-1).numpy(),
                    }
                )
            )
            if k % part == 0 or k == len(groups):
                store.append(pd.concat(rows, ignore_index=True))
                rows = []
    return store.read([t.id for t in triples])
