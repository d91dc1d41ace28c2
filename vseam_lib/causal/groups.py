"""Runs something on every image of a set of triples, once, in order, resumably."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from vseam_lib.causal.trace import Recording, record
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group

Values = dict[tuple[str, str], torch.Tensor]


def by_image(adapter: Adapter, triples: Sequence[VQATriple]) -> list[list[VQATriple]]:
    """Triples that share a recording: all of an image, or single ones for a family in which
    the question changes the image's tokens.
    """
    triples = sorted(triples, key=lambda t: (t.image_id, t.id))
    if not adapter.shares_image:
        return [[t] for t in triples]
    return [list(g) for _, g in groupby(triples, key=lambda t: t.image_id)]


def encode_group(adapter: Adapter, triples: Sequence[VQATriple]) -> Group:
    """Encode triples that share an image."""
    questions, answers = [t.question for t in triples], [t.answer for t in triples]
    return adapter.encode(triples[0].image, questions, answers)


def store_key(adapter: Adapter, analysis: str, **options: object) -> dict[str, object]:
    """Key of a store: the analysis with its options, and all of the model that changes a number."""
    return {
        "analysis": analysis,
        "model": adapter.revision,
        "dtype": str(adapter.model.dtype),
        "prompt": adapter.prompt,
        **options,
    }


def compute(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    store: Store,
    measure: Callable[[Recording], Values],
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

    def run(group: Sequence[VQATriple]) -> Values:
        return measure(record(adapter, encode_group(adapter, group)))

    triples = check_unique(triples)
    groups = by_image(adapter, triples)
    return resume(groups, stored_ids(triples), store, run, what=what, part=part)


def resume(
    groups: Sequence[Sequence[VQATriple]],
    ids: Mapping[str, str],
    store: Store,
    run: Callable[[Sequence[VQATriple]], Values],
    *,
    what: str,
    part: int = 16,
) -> pd.DataFrame:
    """Run what the store does not hold yet and append its values, part by part.

    Args:
        groups: all triples wanted, in groups that run together.
        ids: of these triples, see :func:`stored_ids`.
        run: from a group of ``Q`` triples to ``{(site, edit): (Q,) tensor}``.

    Returns:
        Rows ``id, site, edit, value`` of all triples wanted, with their own ids.
    """
    done = store.done()
    left = [[t for t in group if ids[t.id] not in done] for group in groups]
    todo = [group for group in left if group]
    rows: list[pd.DataFrame] = []
    for k, group in enumerate(tqdm(todo, desc=what, disable=not todo), start=1):
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
        if k % part == 0 or k == len(todo):
            store.append(pd.concat(rows, ignore_index=True))
            rows = []
    table = store.read(ids.values())
    return table.assign(id=table["id"].map({stored: i for i, stored in ids.items()}))
