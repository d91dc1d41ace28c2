"""Runs something on every image of a set of triples, once, in order, resumably."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from vseam_lib.causal.trace import Recording, record
from vseam_lib.store import Store
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter, open_image

Values = dict[tuple[str, str], torch.Tensor]


def by_image(adapter: Adapter, triples: Sequence[VQATriple]) -> list[list[VQATriple]]:
    """Triples that share a recording: all of an image, or single ones for a family in which
    the question changes the image's tokens.
    """
    triples = sorted(triples, key=lambda t: (t.image_id, t.id))
    if not adapter.shares_image:
        return [[t] for t in triples]
    return [list(g) for _, g in groupby(triples, key=lambda t: t.image_id)]


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
                open_image(path)  # raises, naming the file
            known[path] = hashlib.sha256(path.read_bytes()).digest()
        return known[path]

    ids = {}
    for t in triples:
        about = digest(t.image) + f"{t.question}|{t.answer}".encode()
        about += digest(edited[t.id]) if edited else b""
        ids[t.id] = f"{t.id}@{hashlib.sha256(about).hexdigest()[:12]}"
    return ids


def compute(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    store: Store,
    measure: Callable[[Recording], Values],
    *,
    what: str,
    part: int = 16,
    keep: Collection[str] = (),
) -> pd.DataFrame:
    """Measure every triple that the store does not hold yet; return the rows of all.

    Args:
        measure: from a recording of ``Q`` questions to ``{(site, edit): (Q,) tensor}``.
        what: label of the progress bar.
        part: images per part of the store; a killed run loses at most these.
        keep: what the recordings keep, see :func:`vseam_lib.causal.trace.record`.

    Returns:
        Rows ``id, site, edit, value`` of exactly these triples.
    """

    def run(group: list[VQATriple]) -> Values:
        encoded = adapter.encode(
            group[0].image, [t.question for t in group], [t.answer for t in group]
        )
        return measure(record(adapter, encoded, keep=keep))

    triples = check_unique(triples)
    ids = stored_ids(triples)
    done = store.done()
    groups = by_image(adapter, [t for t in triples if ids[t.id] not in done])
    return resume(groups, ids, store, run, what=what, part=part)


def resume(
    groups: Sequence[Sequence[VQATriple]],
    ids: Mapping[str, str],
    store: Store,
    run: Callable[[Sequence[VQATriple]], Values],
    *,
    what: str,
    part: int = 16,
) -> pd.DataFrame:
    """Run groups of triples and append their values to the store, part by part.

    Args:
        groups: what is still to be computed.
        ids: of all triples wanted, see :func:`stored_ids`.
        run: from a group of ``Q`` triples to ``{(site, edit): (Q,) tensor}``.

    Returns:
        Rows ``id, site, edit, value`` of all triples wanted, with their own ids.
    """
    rows: list[pd.DataFrame] = []
    for k, group in enumerate(tqdm(groups, desc=what, disable=not groups), start=1):
        with torch.no_grad():
            values = run(group)
        table = torch.stack([v.double().cpu() for v in values.values()])  # (sites, Q)
        rows.append(
            pd.DataFrame(
                {
                    "id": np.repeat([ids[t.id] for t in group], len(values)),
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
