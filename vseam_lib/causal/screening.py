"""Screened head sweep: every head's masking effect from one forward and one backward pass.

1. Differentiate the log-odds of the right answer with respect to the concatenated head outputs
   ``z`` of every layer. To first order, masking head ``h`` (Eq. 5) moves the log-odds by the sum
   over positions of ``<gradient, masked z_h - z_h>``.
2. Map that to a change of probability (Eq. 6): through the sigmoid (``how="log-odds"``, which
   knows that probabilities saturate), or by its slope (``how="probability"``, which is the plain
   first-order estimate of Eq. 6 itself).
3. Rank heads by the estimates; or sweep some images exactly and correct the estimates by what
   they miss there (:mod:`~vseam_lib.causal.control_variate`).

An approximation: :func:`agreement` measures it against the exact :func:`heads.sweep`, and
:func:`block_evaluations` what both cost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from scipy.special import expit
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vseam_lib.causal.budget import variants_per_batch
from vseam_lib.causal.groups import Values, by_image, encode_group, resume, store_key
from vseam_lib.causal.heads import Effects
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.ranking import Scores, top_heads
from vseam_lib.causal.replay import run_last_layer, run_layer, whole
from vseam_lib.causal.trace import record
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group

HOWS = ("log-odds", "probability")
POSITIONS = ("all", "question")
MASKS = ("mean", "zero")


def log_odds(logits: Tensor, gold: Tensor) -> Tensor:
    """Log-odds of the right answer against all other tokens, ``(Q,)``.

    Unlike the probability it does not saturate: its float32 gradient never vanishes.
    """
    right = torch.zeros_like(logits, dtype=torch.bool).scatter(1, gold[:, None], True)
    return logits[right] - logits.masked_fill(right, -torch.inf).logsumexp(-1)


@contextmanager
def _head_outputs(adapter: Adapter) -> Iterator[list[Tensor]]:
    """Collect the input of every ``o_proj``; the graph begins at the first one."""
    seen: list[Tensor] = []

    def take(module, args):
        z = args[0] if seen else args[0].detach().requires_grad_()
        seen.append(z)
        return (z, *args[1:])

    hooks = [x.self_attn.o_proj.register_forward_pre_hook(take) for x in adapter.layers]
    try:
        with torch.enable_grad():
            yield seen
    finally:
        for h in hooks:
            h.remove()
    if len(seen) != adapter.n_layers:
        raise RuntimeError(
            f"expected one call of o_proj in each of {adapter.n_layers} layers, saw {len(seen)}; "
            "check how this family computes attention"
        )


def _changes(adapter: Adapter, mask: str, value: Tensor, z: list[Tensor]) -> list[Tensor]:
    """First-order change of ``value`` per layer, row, position and head, ``(B, T, H)``."""
    every = HeadEdits.mask([adapter.heads], adapter.n_layers, adapter.n_heads, by=mask)
    gradients = torch.autograd.grad(value, z, torch.ones_like(value))
    return [
        ((every.apply(k, a.detach()) - a.detach()) * g)
        .unflatten(-1, (adapter.n_heads, -1))
        .sum(-1, dtype=torch.promote_types(g.dtype, torch.float32))
        for k, (a, g) in enumerate(zip(z, gradients, strict=True))
    ]


def first_order(
    adapter: Adapter,
    group: Group,
    *,
    mask: str = "mean",
    positions: str = "all",
    budget_mib: float | None = None,
) -> tuple[Tensor, Tensor]:
    """First-order effect of masking every head on the log-odds of the right answer (Eq. 5).

    Args:
        mask: ``"mean"`` of the other heads or ``"zero"``.
        positions: where heads are masked. ``"all"`` as in the paper: the questions become rows of
            one batch, each with its own gradient of the shared image. ``"question"``, cheaper:
            only behind the image, on recorded keys and values of what comes before; questions do
            not see each other there, so one backward pass serves all of them.
        budget_mib: memory that a batch of rows may take over all layers; at least one row runs.

    Returns:
        Logits ``(Q, vocab)`` and changes of the log-odds ``(Q, n_layers, n_heads)``.

    Raises:
        ValueError: an unknown mask or position; ``"question"`` for a family without replay;
            a budget too small for one row of one layer.
        RuntimeError: a layer whose ``o_proj`` is not called.
    """
    for what, given, known in (("mask", mask, MASKS), ("positions", positions, POSITIONS)):
        if given not in known:
            raise ValueError(f"expected {what} in {known}, got {given!r}")
    if positions == "question":
        return _behind_the_image(adapter, group, mask)
    shared = group.embeds[0, (group.segments == 0).to(adapter.device)]
    asked = group.embeds[0, len(shared) :].split(torch.bincount(group.segments)[1:].tolist())
    rows = [torch.cat([shared, own]) for own in asked]
    longest = max(map(len, rows))
    size = variants_per_batch(adapter, longest, longest, budget_mib) // adapter.n_layers or 1
    logits, changes = [], []
    for k in range(0, len(rows), size):
        some, gold = rows[k : k + size], group.gold[k : k + size]
        batch = pad_sequence(some, batch_first=True)  # behind a row's last token: never seen
        last = torch.tensor([len(row) - 1 for row in some], device=adapter.device)
        at = torch.arange(len(some), device=adapter.device)
        one = torch.zeros(batch.shape[1], dtype=torch.long)
        packed = group._replace(embeds=batch, segments=one, last=last, gold=gold)
        with _head_outputs(adapter) as z:
            found = adapter.logits(whole(adapter, packed, len(some))[at, last])
            value = log_odds(found, gold)
        parts = _changes(adapter, mask, value, z)
        changes.append(torch.stack([x.sum(1) for x in parts], 1))
        logits.append(found.detach())
    return torch.cat(logits), torch.cat(changes)


def _behind_the_image(adapter: Adapter, group: Group, mask: str) -> tuple[Tensor, Tensor]:
    """:func:`first_order` at the questions' positions, all questions at once."""
    if not adapter.caches or adapter.replay_from:
        raise ValueError(
            f"positions='question' needs a decoder that can be replayed on recorded keys and "
            f"values, got caches={adapter.caches} and replay_from={adapter.replay_from}; use "
            "positions='all'"
        )
    recording = record(adapter, group, keep=("cache",))
    start, L, Q = int((group.segments == 0).sum()), adapter.n_layers, len(group.last)
    hidden = recording.states[0][:, start:]
    with _head_outputs(adapter) as z:
        for k in range(L - 1):
            hidden = run_layer(adapter, recording, k, hidden, start, recording.cache[k])
        hidden = run_last_layer(adapter, recording, hidden, start, recording.cache[-1])
        logits = adapter.logits(adapter.decoder.norm(hidden))[0]  # (Q, vocab)
        value = log_odds(logits, group.gold)
    parts = _changes(adapter, mask, value, z)  # (1, S - start, H); in the last layer (1, Q, H)
    question = group.segments[start:].to(adapter.device) - 1
    changes = [
        torch.zeros_like(parts[k][0, :Q]).index_add(0, question, parts[k][0]) for k in range(L - 1)
    ]
    return logits.detach(), torch.stack([*changes, parts[-1][0]], 1)


def screen(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    store: Path | str,
    *,
    how: str = "log-odds",
    mask: str = "mean",
    positions: str = "all",
    budget_mib: float | None = None,
) -> Effects:
    """Estimate Eq. 6 for every head and triple; what the store holds is not computed again.

    Args:
        how: ``"log-odds"`` or ``"probability"``, see the module; both read the same store.
        mask, positions, budget_mib: see :func:`first_order`.

    Returns:
        Of the type that the exact :func:`heads.sweep` returns.

    Raises:
        ValueError: an unknown option; see :func:`first_order`.
    """
    if how not in HOWS:
        raise ValueError(f"expected how in {HOWS}, got {how!r}")
    triples = check_unique(triples)
    kept = Store(store, store_key(adapter, "head screening", mask=mask, positions=positions))
    sites = [str(h) for h in adapter.heads]

    def run(members: Sequence[VQATriple]) -> Values:
        group = encode_group(adapter, members)
        logits, changes = first_order(
            adapter, group, mask=mask, positions=positions, budget_mib=budget_mib
        )
        clean = {
            "log-odds": log_odds(logits, group.gold),
            "right": (logits.argmax(-1) == group.gold).double(),
        }
        values = {(site, "none"): v for site, v in clean.items()}
        return values | {
            (site, mask): c for site, c in zip(sites, changes.flatten(1).T, strict=True)
        }

    groups = by_image(adapter, triples)
    rows = resume(groups, stored_ids(triples), kept, run, what="screening heads")
    table = rows.pivot(index="id", columns="site", values="value").loc[[t.id for t in triples]]
    change = table[sites].to_numpy().reshape(-1, adapter.n_layers, adapter.n_heads)
    clean = table["log-odds"].to_numpy()
    p, base = expit(clean), clean[:, None, None]
    if how == "log-odds":
        delta = expit(base + change) - expit(base)
    else:
        delta = expit(base) * expit(-base) * change
    return Effects(list(table.index), delta, p, table["right"].to_numpy() > 0.5)


@dataclass
class Count:
    """Work done in decoder layers, in evaluations of one layer on one token.

    Attributes:
        per_layer: multiply-adds of a layer's linear maps for one token, mean over layers.
        blocks: multiply-adds of all of them, over those.
    """

    per_layer: float
    blocks: float = 0.0


@contextmanager
def block_evaluations(adapter: Adapter) -> Iterator[Count]:
    """Count what the model's layers do inside the context, whoever calls them.

    A linear map whose output is part of a gradient's graph counts three times: its backward pass
    is taken as two forwards, although only one is needed where weights get no gradient.

    Raises:
        RuntimeError: layers without ``nn.Linear``, whose work would go unseen.
    """
    maps = [m for layer in adapter.layers for m in layer.modules() if isinstance(m, nn.Linear)]
    if not maps:
        raise RuntimeError(
            "expected nn.Linear modules in the decoder layers, found none; this model's work "
            "cannot be counted"
        )
    count = Count(sum(m.weight.numel() for m in maps) / adapter.n_layers)

    def add(module, args, out):
        done = out.numel() / out.shape[-1] * module.weight.numel()
        count.blocks += done / count.per_layer * (3 if out.requires_grad else 1)

    hooks = [m.register_forward_hook(add) for m in maps]
    try:
        yield count
    finally:
        for h in hooks:
            h.remove()


class Agreement(NamedTuple):
    """How well estimated scores rank heads: Spearman's correlation over all heads, and the share
    of the exact top K that the estimated top K holds.
    """

    spearman: float
    recall: float


def agreement(exact: Scores, estimate: Scores, k: int | float = 10) -> dict[str, Agreement]:
    """Compare scores of Eq. 7, for the positive and for the negative side."""
    lists = [top_heads(s, k, overlap="both") for s in (exact, estimate)]
    out = {}
    for side, score in (("positive", "c_correct"), ("negative", "c_incorrect")):
        truth, found = (getattr(x, side) for x in lists)
        rho = spearmanr(getattr(exact, score).ravel(), getattr(estimate, score).ravel()).statistic
        out[side] = Agreement(float(rho), len(truth.keys() & found.keys()) / len(truth))
    return out
