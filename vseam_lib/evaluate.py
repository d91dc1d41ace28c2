"""Accuracy under head edits: per triple, then summarised with the yes-rate beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from vseam_lib.causal.groups import compute, store_key
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replay import replay
from vseam_lib.causal.trace import Recording
from vseam_lib.store import Store
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.adapter import Adapter


def answers(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    edits: Mapping[str, HeadEdits],
    store: Path | str,
) -> pd.DataFrame:
    """Answer every triple under every edit.

    Args:
        edits: name to edit; an edit of several variants becomes ``name/0``, ``name/1``, ...
        store: directory of the results; what is there is not computed again.

    Returns:
        One row per triple and variant: ``id, image_id, category, gold, edit, p`` (probability of
        the right answer), ``right`` (it is the most probable token), ``margin`` (logit of Yes
        minus that of No) and ``yes`` (whether the margin is positive).
    """
    names, parts = [], []
    for name, edit in edits.items():
        names += [name] if len(edit) == 1 else [f"{name}/{v}" for v in range(len(edit))]
        parts.append(edit)
    variants = HeadEdits.cat(parts)
    digest = hashlib.sha256(
        b"".join(x.numpy().tobytes() for x in (variants.scale, variants.mix, variants.swap))
        + "|".join(names).encode()
    ).hexdigest()
    key = store_key(adapter, "answers", edits=digest, sites="p, right, margin")
    yes, no = adapter.answer_id("Yes"), adapter.answer_id("No")

    def measure(recording: Recording) -> dict[tuple[str, str], torch.Tensor]:
        logits = replay(adapter, recording, variants)  # (V, Q, vocab)
        gold = recording.group.gold
        p = logits.softmax(-1)[:, torch.arange(len(gold)), gold]
        right = logits.argmax(-1) == gold
        margin = logits[..., yes] - logits[..., no]
        values = {}
        for v, name in enumerate(names):
            values["p", name] = p[v]
            values["right", name] = right[v]
            values["margin", name] = margin[v]
        return values

    rows = compute(adapter, triples, Store(store, key), measure, what="answering")
    table = rows.pivot(index=["id", "edit"], columns="site", values="value").reset_index()
    about = pd.DataFrame(
        [(t.id, t.image_id, str(t.category), t.answer) for t in triples],
        columns=["id", "image_id", "category", "gold"],
    )
    table = about.merge(table, on="id", validate="one_to_many")
    table = table.assign(right=table["right"] > 0.5, yes=table["margin"] > 0)
    return table[["id", "image_id", "category", "gold", "edit", "p", "right", "margin", "yes"]]


def without_numbers(edits: pd.Series) -> pd.Series:
    """Names of edits without the numbers of their variants: ``name/3`` becomes ``name``."""
    return edits.str.replace(r"/\d+$", "", regex=True)


def accuracy(table: pd.DataFrame) -> float:
    """Per cent of triples answered rightly."""
    return 100 * float(table["right"].mean())


def balanced_accuracy(table: pd.DataFrame) -> float:
    """Mean of the accuracies on Yes and on No questions, per cent; NaN if one kind is missing."""
    by = table.groupby("gold")["right"].mean()
    return 100 * float(by.mean()) if len(by) == 2 else float("nan")


def yes_rate(table: pd.DataFrame) -> float:
    """Per cent of triples for which Yes is more probable than No."""
    return 100 * float(table["yes"].mean())


def summary(table: pd.DataFrame, by: Sequence[str] = ("category", "edit")) -> pd.DataFrame:
    """Accuracy, balanced accuracy, yes-rate (per cent), mean probability and size per group."""
    rows = []
    for values, part in table.groupby(list(by), sort=False):
        rows.append(
            {
                **dict(zip(by, np.atleast_1d(values), strict=True)),
                "accuracy": accuracy(part),
                "balanced": balanced_accuracy(part),
                "yes_rate": yes_rate(part),
                "p": float(part["p"].mean()),
                "n": len(part),
            }
        )
    return pd.DataFrame(rows)
