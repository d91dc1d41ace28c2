"""Masks every attention head in turn (paper, section 4.2).

1. Mask head ``h`` of layer ``l`` by the mean of the other heads of the layer (Eq. 5).
2. Its effect on a triple is the change of the right answer's probability (Eq. 6).

:mod:`vseam_lib.causal.ranking` averages the effects and picks heads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from vseam_lib.causal.groups import Values, by_image, encode_group, resume, store_key
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replacements import align_outputs, donor_of, mean_outputs
from vseam_lib.causal.replay import replay
from vseam_lib.causal.trace import Recording, record
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter, Head

MASKS = ("mean", "zero", "dataset", "resample")


@dataclass(frozen=True)
class Effects:
    """Eq. 6 for every head and triple.

    Attributes:
        ids: the triples' ids, in the order of the first axis below.
        delta: ``(N, n_layers, n_heads)`` change of the right answer's probability.
        p: ``(N,)`` probability of the right answer, unmasked.
        right: ``(N,)`` bool, whether the right answer is the most probable token.
    """

    ids: list[str]
    delta: np.ndarray
    p: np.ndarray
    right: np.ndarray

    def of(self, triples: Sequence[VQATriple]) -> Effects:
        """The effects on some of the triples, in their order."""
        at = {i: k for k, i in enumerate(self.ids)}
        pick = [at[t.id] for t in triples]
        return Effects([t.id for t in triples], self.delta[pick], self.p[pick], self.right[pick])


def mask_every_head(
    adapter: Adapter,
    recording: Recording,
    mask: str = "mean",
    swap: list[torch.Tensor] | None = None,
    *,
    budget_mib: float | None = None,
) -> torch.Tensor:
    """Probability of the right answer under each single-head mask, ``(Q, n_layers, n_heads)``.

    Args:
        mask: a name of :data:`MASKS`.
        swap: for ``dataset`` and ``resample``, per layer the outputs that replace the head's.
        budget_mib: memory that a batch of masked variants may take.
    """
    L, H = adapter.n_layers, adapter.n_heads
    gold = recording.group.gold
    by = mask if mask in ("mean", "zero") else "swap"
    out = []
    for layer in range(L):
        edits = HeadEdits.mask([[Head(layer, h)] for h in range(H)], L, H, by=by)
        p = replay(adapter, recording, edits, swap=swap, budget_mib=budget_mib).softmax(-1)
        out.append(p[:, torch.arange(len(gold)), gold])  # (H, Q)
    return torch.stack(out).permute(2, 0, 1)


def answer_sites(recording: Recording, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """What is stored of an answer: ``p`` of the right token, and whether it is the top one."""
    gold = recording.group.gold
    p = logits.softmax(-1)[torch.arange(len(gold)), gold]
    return {"p": p, "right": (logits.argmax(-1) == gold).double()}


def sweep(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    store: Path | str,
    *,
    mask: str = "mean",
    seed: int = 0,
    budget_mib: float | None = None,
) -> Effects:
    """Mask every head on every triple; what the store already holds is not computed again.

    Args:
        mask: what a head is replaced by: the ``"mean"`` of the other heads (Eq. 5), ``"zero"``,
            its mean over the ``"dataset"``, or its output in another image's run
            (``"resample"``); see :mod:`vseam_lib.causal.replacements`.
        seed: of the donors of ``"resample"``.
        budget_mib: memory that a batch of masked variants may take.

    Raises:
        ValueError: an unknown mask, fewer than two images for ``"resample"``, or a budget too
            small for one variant.
    """
    if mask not in MASKS:
        raise ValueError(f"expected a mask in {MASKS}, got {mask!r}")
    triples = check_unique(triples)
    groups, ids = by_image(adapter, triples), stored_ids(triples)
    key = store_key(adapter, "head sweep", mask=mask)
    if mask in ("dataset", "resample"):  # the result depends on all triples
        all_ids = "|".join(sorted(ids.values()))
        key["triples"] = hashlib.sha256(all_ids.encode()).hexdigest()[:16]
    if mask == "resample":
        key["seed"] = seed
    means = cache(lambda: mean_outputs(adapter, groups))
    donor = donor_of([g[0].image_id for g in groups], seed) if mask == "resample" else None
    place = {t.id: k for k, group in enumerate(groups) for t in group}
    sites = [str(h) for h in adapter.heads]

    def run(group: Sequence[VQATriple]) -> Values:
        recording = record(adapter, encode_group(adapter, group))
        swap = means() if mask == "dataset" else None
        if donor is not None:
            other = encode_group(adapter, groups[donor[place[group[0].id]]])
            swap = align_outputs(record(adapter, other, keep=["heads"]), recording.group)
        clean = answer_sites(recording, recording.logits)
        p = mask_every_head(adapter, recording, mask, swap, budget_mib=budget_mib)
        delta = p.flatten(1) - clean["p"][:, None]
        values = {(site, "none"): v for site, v in clean.items()}
        return values | {(site, mask): delta[:, k] for k, site in enumerate(sites)}

    rows = resume(groups, ids, Store(store, key), run, what="masking heads")
    table = rows.pivot(index="id", columns="site", values="value").loc[[t.id for t in triples]]
    delta = table[sites].to_numpy().reshape(-1, adapter.n_layers, adapter.n_heads)
    return Effects(list(table.index), delta, table["p"].to_numpy(), table["right"].to_numpy() > 0.5)
