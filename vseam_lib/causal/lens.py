"""Logit lens: what attention, MLP and residual stream say in words (section 5.2, appendix D).

1. Take a vector of a recorded run: the output of attention or MLP of a layer, or the residual
   stream after it, at some position.
2. Put it through the decoder's final norm and the output embedding, as the model does with the
   residual stream after the last layer. That one is therefore the model's own answer.
3. Read the top tokens (Figures 5, 9 and 10), and rank and probability of the right answer.

The final norm divides by the size of what it gets. The output of a module is thereby read as if it
were the whole residual stream: the lens shows in which direction a module writes, not how much.
A module that adds next to nothing can still show a confident token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vseam_lib.causal.groups import by_image, encode_group, resume, store_key
from vseam_lib.causal.trace import Recording, record
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group
from vseam_lib.vlm.spans import roles, spans
from vseam_lib.vlm.words import (
    ANSWER_WORDS,
    FUNCTION_WORDS,
    KINDS,
    SHORTEST_STEM,
    Cues,
    Vocabulary,
)

SITES = ("attn", "mlp", "block")


@torch.no_grad()
def project(
    adapter: Adapter, recording: Recording, site: str, at: Sequence[int] | Tensor | None = None
) -> Tensor:
    """Logit lens of every layer, ``(n_layers, P, vocab)``, at least float32.

    Args:
        recording: kept ``"attn"`` and ``"mlp"`` where these are asked for.
        site: ``"attn"``, ``"mlp"`` (the module's output before it is added) or ``"block"`` (the
            residual stream after the layer).
        at: ``P`` positions; by default the last token of each question.

    Raises:
        ValueError: an unknown site, a position beyond the sequence, or logits that are not finite.
    """
    if site not in SITES:
        raise ValueError(f"expected a site of {SITES}, got {site!r}")
    group = recording.group
    at = group.last if at is None else torch.as_tensor(at, dtype=torch.long, device=adapter.device)
    S = group.embeds.shape[1]
    if at.dim() != 1 or not len(at) or int(at.min()) < 0 or int(at.max()) >= S:
        raise ValueError(f"expected a list of positions in 0-{S - 1}, got {at.tolist()}")
    states = torch.cat([x[:, at] for x in recording.kept(site)])  # (L, P, d_model)
    logits = adapter.logits(adapter.decoder.norm(states))
    finite = torch.isfinite(logits).flatten(1).all(1)
    if not finite.all():
        raise ValueError(
            f"the lens of {site} in layer {int((~finite).int().argmax())} is not finite, so ranks "
            "and probabilities mean nothing; try dtype='float32'"
        )
    return logits


def rank_of(logits: Tensor, token: Tensor) -> Tensor:
    """Rank of a token, 1 for the one that ``argmax`` gives; of equal logits the lower id leads.

    ``logits`` are ``(..., vocab)``; ``token`` ids broadcast against their leading axes.
    """
    token = token.expand(logits.shape[:-1])[..., None]
    own = logits.gather(-1, token)
    lower = torch.arange(logits.shape[-1], device=logits.device) < token
    return 1 + ((logits > own) | ((logits == own) & lower)).sum(-1)


class Top(NamedTuple):
    """The top tokens, best first: ids and logits, each ``(n_layers, P, k)``."""

    tokens: Tensor
    logits: Tensor


def top_tokens(logits: Tensor, k: int = 5) -> Top:
    """The ``k`` tokens with the largest logits, in the order of :func:`rank_of`.

    Raises:
        ValueError: ``k`` below 1 or above the size of the vocabulary.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise ValueError(f"expected 1-{logits.shape[-1]} top tokens, got {k}")
    values, ids = logits.sort(dim=-1, descending=True, stable=True)
    return Top(ids[..., :k], values[..., :k])


def _question_positions(adapter: Adapter, group: Group, triple: VQATriple) -> list[int]:
    """The question's tokens and the last; all after the image for a question of no known form."""
    try:
        found = roles(adapter, group, triple.question, triple.category)
    except ValueError:
        return spans(adapter, group)["question"]
    return sorted(p for role, at in found.items() if role != "template" for p in at)


class Case(NamedTuple):
    """The lens on one question, in words.

    Attributes:
        triple: the question.
        gold: how the right answer is written as a token.
        tokens: the ``P`` tokens at which the lens was read.
        words: site to the top tokens ``(n_layers, P, k)``, best first.
        logits: site to their logits, same shape.
    """

    triple: VQATriple
    gold: str
    tokens: list[str]
    words: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]


def read_case(
    adapter: Adapter,
    triple: VQATriple,
    vocabulary: Vocabulary,
    *,
    top: int = 5,
    every_token: bool = False,
) -> Case:
    """Read the lens on one question.

    Args:
        every_token: at the tokens of the question too, not only at the last of the prompt.
    """
    group = encode_group(adapter, [triple])
    recording = record(adapter, group, keep=("attn", "mlp"))
    at = _question_positions(adapter, group, triple) if every_token else group.last.tolist()
    best = {site: top_tokens(project(adapter, recording, site, at), top) for site in SITES}
    return Case(
        triple,
        str(vocabulary.shown(group.gold)[0]),
        list(vocabulary.shown(group.ids[at])),
        {site: vocabulary.shown(found.tokens) for site, found in best.items()},
        {site: found.logits.cpu().numpy() for site, found in best.items()},
    )


def first_right(lens: Lens, triples: Sequence[VQATriple], n: int) -> list[VQATriple]:
    """The first ``n`` rightly answered triples by id, Yes and No in turn, as long as there are any.

    Cases are chosen by this rule and never by how they look.
    """
    right = dict(zip(lens.ids, lens.right, strict=True))
    kept = sorted((t for t in triples if right[t.id]), key=lambda t: t.id)
    by_answer = [[t for t in kept if t.answer == a] for a in ("Yes", "No")]
    turns = sorted((k, a) for a, group in enumerate(by_answer) for k in range(len(group)))
    return [by_answer[a][k] for k, a in turns[:n]]


@dataclass(frozen=True)
class Lens:
    """The lens at the last token of every question.

    Attributes:
        ids: the triples' ids, in the order of the first axis below.
        p: ``(N, 3, n_layers)`` probability of the right answer; the second axis is :data:`SITES`.
        rank: the right answer's rank, from 1; same shape.
        mass: ``(N, 3, n_layers, 5)`` probability on the tokens of each of :data:`KINDS`; sums to 1.
        top: ``(N, 3, n_layers, k)`` ids of the top tokens, best first.
    """

    ids: list[str]
    p: np.ndarray
    rank: np.ndarray
    mass: np.ndarray
    top: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """``(N,)`` whether the model answers rightly: the lens of the last residual stream."""
        return self.rank[:, SITES.index("block"), -1] == 1

    def top_kinds(self, vocabulary: Vocabulary, cues: Sequence[Cues]) -> np.ndarray:
        """Index into :data:`KINDS` of the top tokens, of the shape of ``top``.

        Args:
            cues: one per row: the question's own, or those of others to see what chance gives.

        Raises:
            ValueError: another number of cues than rows.
        """
        if len(cues) != len(self.ids):
            raise ValueError(
                f"expected the cues of each of {len(self.ids)} rows, got {len(cues)} of them"
            )
        return np.stack([vocabulary.kinds(c)[row] for c, row in zip(cues, self.top, strict=True)])


def measure(
    adapter: Adapter,
    recording: Recording,
    vocabulary: Vocabulary,
    cues: Sequence[Cues],
    top: int = 5,
) -> dict[str, Tensor]:
    """What :class:`Lens` holds, for the ``Q`` questions of a recording that kept attention and MLP.

    Args:
        cues: one per question.

    Returns:
        ``p``, ``rank``, one mass per name of :data:`KINDS`, and ``top1``, ``top2``, ..., each
        ``(Q, 3, n_layers)``.
    """
    gold = recording.group.gold
    kinds = torch.tensor(np.stack([vocabulary.kinds(c) for c in cues]), device=gold.device)
    found: dict[str, list[Tensor]] = {}
    for site in SITES:
        logits = project(adapter, recording, site)  # (L, Q, vocab)
        p = logits.softmax(-1)
        of_site = {"p": p[:, torch.arange(len(gold)), gold], "rank": rank_of(logits, gold)}
        of_site |= {kind: (p * (kinds == k)).sum(-1) for k, kind in enumerate(KINDS)}
        best = top_tokens(logits, top).tokens
        of_site |= {f"top{k + 1}": best[..., k] for k in range(top)}
        for name, value in of_site.items():
            found.setdefault(name, []).append(value.T)  # (Q, L)
    return {name: torch.stack(values, 1) for name, values in found.items()}


def sweep(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    store: Path | str,
    cues: Mapping[str, Cues],
    *,
    top: int = 5,
) -> Lens:
    """The lens on every triple; what the store already holds is not computed again.

    Args:
        cues: by triple id, see :func:`vseam_lib.vlm.words.find_cues`.
    """
    words = [sorted(ANSWER_WORDS), sorted(FUNCTION_WORDS), SHORTEST_STEM]  # see words.py
    key = store_key(adapter, "logit lens", top=top, words=words)
    vocabulary = Vocabulary(adapter)
    places = [(k, layer) for k in range(len(SITES)) for layer in range(adapter.n_layers)]

    def run(group: Sequence[VQATriple]) -> dict[tuple[str, str], Tensor]:
        recording = record(adapter, encode_group(adapter, group), keep=("attn", "mlp"))
        found = measure(adapter, recording, vocabulary, [cues[t.id] for t in group], top)
        return {
            (f"L{layer}.{SITES[k]}.{name}", "none"): x[:, k, layer]
            for (name, x), (k, layer) in product(found.items(), places)
        }

    triples = check_unique(triples)
    about = {t.id: "|".join(map(" ".join, map(sorted, cues[t.id]))) for t in triples}
    ids = {
        i: f"{stored}@{hashlib.sha256(about[i].encode()).hexdigest()[:12]}"
        for i, stored in stored_ids(triples).items()
    }
    rows = resume(by_image(adapter, triples), ids, Store(store, key), run, what="logit lens")
    table = rows.pivot(index="id", columns="site", values="value").loc[[t.id for t in triples]]

    def array(name: str) -> np.ndarray:
        columns = [f"L{layer}.{SITES[k]}.{name}" for k, layer in places]
        return table[columns].to_numpy().reshape(len(table), len(SITES), adapter.n_layers)

    return Lens(
        list(table.index),
        array("p"),
        array("rank"),
        np.stack([array(kind) for kind in KINDS], -1),
        np.stack([array(f"top{k + 1}") for k in range(top)], -1).astype(int),
    )
