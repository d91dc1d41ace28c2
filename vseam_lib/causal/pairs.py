"""Masks pairs of attention heads: do two heads act independently (paper, Limitations, 3)?

1. Mask heads ``a`` and ``b`` one at a time and together (Eq. 5). The interaction is what masking
   both does beyond the sum, ``I(a, b) = D(a, b) - D(a) - D(b)``, with ``D`` the change of the right
   answer's probability (Eq. 6) or of its log-odds. It is the interaction index of game theory,
   with all other heads in place (Grabisch and Roubens, Int. J. of Game Theory 28, 1999).
2. Two heads of one layer are masked as in Eq. 5, each by the mean of its layer's other heads *as
   they were*: the mean that replaces ``a`` contains the output of ``b``, and the other way round.
3. A run with ``a`` masked is recorded from its layer on; from there, heads of later layers are
   masked in one batch per ``a``. Pairs in one layer are replayed from the unmasked run.

Exact: equal to one plain hooked forward per pair and question, to float tolerance. What
interactions mean, and which exceed chance, is in :mod:`vseam_lib.causal.interactions`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor

from vseam_lib.causal.budget import BUDGET_MIB
from vseam_lib.causal.groups import Values, by_image, encode_group, resume, store_key
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replay import replay, run_last_layer, run_layer
from vseam_lib.causal.screening import log_odds
from vseam_lib.causal.trace import Recording, record
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter, Head

MASKS = ("mean", "zero")
UNITS = ("probability", "log-odds")
Pair = tuple[Head, Head]


@dataclass(frozen=True)
class PairEffects:
    """Log-odds of the right answer, unmasked and masked.

    Attributes:
        ids: the triples' ids, in the order of the first axes below.
        heads, pairs: what was masked; a pair's first head lies in the earlier layer.
        clean: ``(N,)`` unmasked.
        single: ``(N, len(heads))``, one head masked.
        joint: ``(N, len(pairs))``, both heads of a pair masked.
    """

    ids: list[str]
    heads: list[Head]
    pairs: list[Pair]
    clean: np.ndarray
    single: np.ndarray
    joint: np.ndarray

    def joint_change(self, unit: str = "probability") -> np.ndarray:
        """``D(a, b)`` of every triple and pair, ``(N, len(pairs))``.

        Args:
            unit: ``"probability"`` of the right answer, 0 to 1, or its ``"log-odds"``.
        """
        return _in_unit(self.joint, unit) - _in_unit(self.clean, unit)[:, None]

    def single_changes(self, unit: str = "probability") -> tuple[np.ndarray, np.ndarray]:
        """``D(a)`` and ``D(b)`` of every triple and pair, each ``(N, len(pairs))``."""
        alone = _in_unit(self.single, unit) - _in_unit(self.clean, unit)[:, None]
        at = {h: k for k, h in enumerate(self.heads)}
        first, second = ([at[pair[side]] for pair in self.pairs] for side in (0, 1))
        return alone[:, first], alone[:, second]

    def interaction(self, unit: str = "probability") -> np.ndarray:
        """``I(a, b) = D(a, b) - D(a) - D(b)`` of every triple and pair, ``(N, len(pairs))``."""
        first, second = self.single_changes(unit)
        return self.joint_change(unit) - first - second


def _in_unit(log_odds: np.ndarray, unit: str) -> np.ndarray:
    if unit not in UNITS:
        raise ValueError(f"expected a unit in {UNITS}, got {unit!r}")
    return expit(log_odds) if unit == "probability" else log_odds


def all_pairs(heads: Iterable[Head]) -> list[Pair]:
    """Every pair of different heads, each in the order of layers, then heads."""
    return list(combinations(sorted(set(heads)), 2))


def matched_heads(
    heads: Sequence[Head], to: Sequence[Head], n_layers: int, n_heads: int, *, seed: int
) -> dict[Head, Head]:
    """For each of the heads ``to`` a random other one of its layer, none twice, none of ``heads``.

    Pairs of the matches thus lie in the same layers as pairs of the heads. Where a layer has no
    head left, the match comes from the nearest layer that has.

    Raises:
        ValueError: more heads to match than others.
    """
    rng = np.random.default_rng(seed)
    free = {
        layer: [Head(layer, int(h)) for h in rng.permutation(n_heads)] for layer in range(n_layers)
    }
    free = {layer: [h for h in others if h not in set(heads)] for layer, others in free.items()}
    others = sum(map(len, free.values()))
    if len(to) > others:
        raise ValueError(
            f"expected at most {others} heads to match, as many as the model has besides the "
            f"{len(heads)} given, got {len(to)}; pair or match fewer"
        )
    found = {h: free[h.layer].pop() for h in to if free[h.layer]}
    for head in to:
        if head not in found:
            near = min((i for i in free if free[i]), key=lambda i: (abs(i - head.layer), i))
            found[head] = free[near].pop()
    return {h: found[h] for h in to}


def mask_pairs(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    pairs: Sequence[Pair],
    store: Path | str,
    *,
    mask: str = "mean",
    budget_mib: float | None = None,
) -> PairEffects:
    """Mask every pair, and every head of a pair, on every triple; resumes from the store.

    Args:
        mask: heads are replaced by the ``"mean"`` of the layer's others (Eq. 5) or by ``"zero"``.
        budget_mib: memory that a batch of masked variants may take.

    Raises:
        ValueError: an unknown mask, no pairs, repeated ones, a head paired with itself or one
            that the model does not have, or a budget too small for one variant.
    """
    if mask not in MASKS:
        raise ValueError(f"expected a mask in {MASKS}, got {mask!r}")
    pairs = _ordered(pairs)
    heads = sorted({h for pair in pairs for h in pair})
    HeadEdits.mask([heads], adapter.n_layers, adapter.n_heads)  # refuses unknown heads
    triples = check_unique(triples)
    names = [f"{a}+{b}" for a, b in pairs]
    digest = hashlib.sha256("|".join(names).encode()).hexdigest()[:16]
    kept = Store(store, store_key(adapter, "head pairs", mask=mask, pairs=digest))

    def run(group: Sequence[VQATriple]) -> Values:
        recording = record(adapter, encode_group(adapter, group))
        masked = masked_log_odds(adapter, recording, heads, pairs, mask, budget_mib)
        clean = log_odds(recording.logits, recording.group.gold)
        return {("clean", "none"): clean} | {
            (name, mask): values
            for name, values in zip([*map(str, heads), *names], masked, strict=True)
        }

    rows = resume(by_image(adapter, triples), stored_ids(triples), kept, run, what="masking pairs")
    table = rows.pivot(index="id", columns="site", values="value").loc[[t.id for t in triples]]
    return PairEffects(
        list(table.index),
        heads,
        pairs,
        table["clean"].to_numpy(),
        table[list(map(str, heads))].to_numpy(),
        table[names].to_numpy(),
    )


def _ordered(pairs: Sequence[Pair]) -> list[Pair]:
    """Each pair's earlier head first, the pairs in their order."""
    ordered = [tuple(sorted(pair)) for pair in pairs]
    alone = [a for a, b in ordered if a == b]
    if not ordered or alone or len(set(ordered)) < len(ordered):
        raise ValueError(
            f"expected different pairs of different heads, got {len(ordered)} of which "
            f"{len(set(ordered))} are different and {len(alone)} pair a head with itself"
        )
    return ordered


def masked_log_odds(
    adapter: Adapter,
    recording: Recording,
    heads: Sequence[Head],
    pairs: Sequence[Pair],
    mask: str = "mean",
    budget_mib: float | None = None,
) -> Tensor:
    """Log-odds of the right answers with every head, then every pair masked.

    Args:
        pairs: of ``heads``, the earlier head of each first.

    Returns:
        ``(len(heads) + len(pairs), Q)``.
    """
    later: dict[Head, list[Head]] = {}  # to the heads that are masked on top of a masked run
    for a, b in pairs:
        if adapter.replay_from <= a.layer < b.layer:
            later.setdefault(a, []).append(b)
    found: dict[tuple[Head, ...], Tensor] = {}

    def measure(base: Recording, already: tuple[Head, ...], sets: list[tuple[Head, ...]]) -> None:
        values = _replayed(adapter, base, sets, mask, budget_mib)
        found.update({(*already, *own): v for own, v in zip(sets, values, strict=True)})

    for a, others in later.items():
        run = masked_run(adapter, recording, a, mask)
        found[(a,)] = log_odds(run.logits, run.group.gold)
        measure(run, (a,), [(b,) for b in others])
    singles = [(h,) for h in heads]
    measure(recording, (), [s for s in [*singles, *pairs] if s not in found])
    return torch.stack([found[s] for s in [*singles, *pairs]])


def _replayed(
    adapter: Adapter,
    recording: Recording,
    sets: Sequence[tuple[Head, ...]],
    mask: str,
    budget_mib: float | None,
) -> Tensor:
    """Log-odds ``(len(sets), Q)``; logits of few sets at once, which for a large vocabulary are
    larger than what a replay holds.
    """
    gold = recording.group.gold
    if not sets:
        return recording.logits.new_empty(0, len(gold))
    limit = budget_mib or BUDGET_MIB.get(adapter.device.type, 256)
    size = max(1, int(limit * 2**20 / (8 * recording.logits.numel())))
    edits = HeadEdits.mask(sets, adapter.n_layers, adapter.n_heads, by=mask)
    order = edits.starts().argsort(stable=True)  # those that travel together stay together
    logits = (
        replay(adapter, recording, edits[some], budget_mib=budget_mib) for some in order.split(size)
    )
    values = torch.cat([torch.stack([log_odds(x, gold) for x in part]) for part in logits])
    return values[order.argsort()]


@torch.no_grad()
def masked_run(adapter: Adapter, recording: Recording, head: Head, mask: str = "mean") -> Recording:
    """The run with one head masked, to be replayed from later layers; keeps nothing else.

    Raises:
        ValueError: a head of the last layer, behind which nothing can be replayed.
        RuntimeError: an ``o_proj`` that is not called.
    """
    last = adapter.n_layers - 1
    if not adapter.replay_from <= head.layer < last:
        raise ValueError(
            f"expected a head of the layers {adapter.replay_from} to {last - 1}, got {head}"
        )
    edits = HeadEdits.mask([[head]], adapter.n_layers, adapter.n_heads, by=mask)
    fired = []

    def edit(module, args):
        fired.append(True)
        return (edits.apply(head.layer, args[0]), *args[1:])

    states = recording.states[: head.layer + 1]
    hook = adapter.layers[head.layer].self_attn.o_proj.register_forward_pre_hook(edit)
    try:
        for layer in range(head.layer, last):
            states.append(run_layer(adapter, recording, layer, states[layer]))
    finally:
        hook.remove()
    if not fired:
        raise RuntimeError(
            f"{head} was not masked: the o_proj of its layer was not called; check how this "
            "family computes attention"
        )
    ends = run_last_layer(adapter, recording, states[last])
    logits = adapter.logits(adapter.decoder.norm(ends))[0]
    return replace(recording, states=states, logits=logits, outputs={}, cache=[])
