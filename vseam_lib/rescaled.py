"""Heads chosen per category, and the answers under the edits of Table 17 (paper, section 6).

1. :func:`choose` masks every head on the identification questions and picks each category's
   positive and negative heads (Eq. 5-8).
2. :func:`answer_edits` answers questions unedited, without either set, with random heads removed
   and with the heads rescaled (Eq. 9-10); each category with its own heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vseam_lib.causal import heads as hd
from vseam_lib.causal import ranking as rank
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.changes import per_question
from vseam_lib.evaluate import answers
from vseam_lib.modulate import NoFactors, random_heads, rescale, rescaling_factors, table17_edits
from vseam_lib.triples import Category, VQATriple, by_category
from vseam_lib.vlm.adapter import Adapter


class Chosen(NamedTuple):
    """The heads of every category that has some.

    Attributes:
        sets: positive and negative heads with their importance (Eq. 8), by category.
        left_out: category and reason, where the questions choose no heads.
        effects: of masking every head on every question (Eq. 6), in the order of the questions.
    """

    sets: dict[Category, rank.HeadSets]
    left_out: list[tuple[str, str]]
    effects: hd.Effects


def choose(
    vlm: Adapter,
    triples: Sequence[VQATriple],
    store: Path | str,
    *,
    mask: str = "mean",
    score: str = "signed",
    k: int | float = 10,
    overlap: str = "drop",
) -> Chosen:
    """Choose each category's heads on its own questions; effects in the store are used.

    Args:
        triples: the questions that choose; the heads are to be tested on images of others.
        mask: what a head is replaced by, see :func:`vseam_lib.causal.heads.sweep`.
        score: ``"signed"`` or ``"relu"``, see :func:`vseam_lib.causal.ranking.causal_scores`.
        k: heads per set, or below 1 a share of all heads.
        overlap: what becomes of heads in both lists, see
            :func:`vseam_lib.causal.ranking.top_heads`.

    Raises:
        ValueError: no category has both right and wrong answers, or an unknown switch.
    """
    effects = hd.sweep(vlm, triples, store, mask=mask)
    sets: dict[Category, rank.HeadSets] = {}
    left_out: list[tuple[str, str]] = []
    for category, members in by_category(triples).items():
        own = effects.of(members)
        if own.right.all() or not own.right.any():
            kind = "wrong" if own.right.all() else "right"
            left_out.append((str(category), f"no {kind} answers among {len(members)}"))
            continue
        sets[category] = rank.top_heads(rank.causal_scores(own, score), k, overlap)
    if not sets:
        raise ValueError(f"no category chooses heads: {left_out}; use more questions (n)")
    return Chosen(sets, left_out, effects)


def without_factors(
    sets: Mapping[Category, rank.HeadSets], lam: str = "minmax"
) -> list[tuple[str, str]]:
    """Category and reason, where Eq. 9 has no factors and the row ``rescaling`` is left out."""
    found = []
    for category, own in sets.items():
        for side, heads in (("positive", own.positive), ("negative", own.negative)):
            try:
                rescaling_factors(heads, lam)
            except NoFactors as error:
                found.append((str(category), f"no rescaling, {side} heads: {error}"))
                break
    return found


def own_edits(
    sets: Mapping[Category, rank.HeadSets],
    n_layers: int,
    n_heads: int,
    *,
    removal: str = "zero",
    lam: str = "minmax",
) -> dict[Category, dict[str, HeadEdits]]:
    """Each category's rows of Table 17, ``rescaling`` only where Eq. 9 has factors."""
    undefined = {category for category, _ in without_factors(sets, lam)}
    return {
        category: table17_edits(
            own, n_layers, n_heads, removal=removal, lam=None if category in undefined else lam
        )
        for category, own in sets.items()
    }


def transfer(
    vlm: Adapter,
    sets: Mapping[Category, rank.HeadSets],
    triples: Sequence[VQATriple],
    store: Path | str,
    *,
    lam: str = "minmax",
) -> pd.DataFrame:
    """Rescale every category's heads on the questions of all categories.

    Returns:
        Rows of :func:`vseam_lib.changes.per_question`, in points, with ``heads_of`` (a category)
        instead of ``edit``. Sets without factors (:func:`without_factors`) are left out.

    Raises:
        ValueError: no set has factors.
    """
    shape = (vlm.n_layers, vlm.n_heads)
    undefined = {category for category, _ in without_factors(sets, lam)}
    edits = {
        str(c): rescale(own, *shape, lam=lam) for c, own in sets.items() if str(c) not in undefined
    }
    if not edits:
        raise ValueError(f"no category's heads have factors with lam={lam!r}; use K >= 2")
    table = answers(vlm, triples, {"original": HeadEdits.none(*shape)} | edits, store)
    return per_question(table).rename(columns={"edit": "heads_of"})


def answer_edits(
    vlm: Adapter,
    sets: Mapping[Category, rank.HeadSets],
    triples: Sequence[VQATriple],
    store: Path | str,
    *,
    k: int | float,
    removal: str = "zero",
    lam: str = "minmax",
    draws: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """Answer the questions of the categories in ``sets`` under the edits of Table 17.

    Args:
        sets: of :func:`choose`; questions of other categories are not answered.
        k: size of the random sets, as in :func:`choose`.
        removal: heads are removed by ``"zero"`` or by the ``"mean"`` of the layer's others.
        lam: form of lambda, see :func:`vseam_lib.modulate.rescaling_factors`.
        draws: random sets of heads to remove, the same for all categories; 0 for none.
        seed: of the random sets.

    Returns:
        Rows of :func:`vseam_lib.evaluate.answers`. The edits are ``original``, ``w/o negative``,
        ``w/o positive``, ``rescaling`` (absent where :func:`without_factors` says so) and
        ``random remove/0``, ``random remove/1``, ... (``random remove`` if there is one).

    Raises:
        ValueError: no question of these categories, negative ``draws``, or an unknown switch.
    """
    shape = (vlm.n_layers, vlm.n_heads)
    members = {c: m for c, m in by_category(triples).items() if c in sets}
    if not members or draws < 0:
        raise ValueError(
            f"expected questions of {', '.join(map(str, sets)) or 'some category'} and draws of "
            f"at least 0, got {len(triples)} questions, none of them fitting, or draws = {draws}"
        )
    edits = own_edits(sets, *shape, removal=removal, lam=lam)
    parts = []
    if draws:
        heads = random_heads(rank.resolve_k(k, len(vlm.heads)), draws, *shape, seed=seed)
        at_random = {"random remove": HeadEdits.mask(heads, *shape, by=removal)}
        every = [t for own in members.values() for t in own]
        parts.append(answers(vlm, every, at_random, store))
    for category, own in members.items():
        none = {"original": HeadEdits.none(*shape)}
        parts.append(answers(vlm, own, none | edits[category], store))
    return pd.concat(parts, ignore_index=True)
