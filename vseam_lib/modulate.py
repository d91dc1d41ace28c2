"""Attention head rescaling (paper, Eq. 8-10) and the edits it is compared with (Table 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.ranking import HeadSets
from vseam_lib.vlm.adapter import Head

LAMBDAS = ("minmax", "ratio", "raw", "equal")
REMOVALS = ("zero", "mean")


class NoFactors(ValueError):
    """Eq. 9 has no value for these heads."""


def rescaling_factors(importance: Mapping[Head, float], lam: str = "minmax") -> dict[Head, float]:
    """Lambda of each head of one set (Eq. 9).

    Args:
        importance: ``c(h, l)`` of Eq. 8.
        lam: ``"minmax"`` is Eq. 9, whose least important head always gets 0; ``"ratio"`` divides
            by the largest instead; ``"raw"`` uses the importance as it is, as the released code
            does; ``"equal"`` is 1 for all.

    Raises:
        ValueError: an unknown form.
        NoFactors: min-max of fewer than two different importances.
    """
    if lam not in LAMBDAS:
        raise ValueError(f"expected a lambda form in {LAMBDAS}, got {lam!r}")
    c = dict(importance)
    if not c or lam == "raw":
        return c
    low, high = min(c.values()), max(c.values())
    if lam == "equal":
        return dict.fromkeys(c, 1.0)
    if lam == "ratio":
        return {h: v / high if high else 0.0 for h, v in c.items()}
    if high == low:
        raise NoFactors(
            f"Eq. 9 divides by c_max - c_min, which is 0 for {len(c)} head(s) of importance "
            f"{high:.3g}; use K >= 2 with different scores, or lam='ratio'"
        )
    return {h: (v - low) / (high - low) for h, v in c.items()}


def rescale(
    sets: HeadSets, n_layers: int, n_heads: int, *, lam: str = "minmax", strength: float = 1.0
) -> HeadEdits:
    """Amplify positive heads by ``1 + lambda``, suppress negative ones by ``1 - lambda`` (Eq. 10).

    A head in both sets (overlap rule ``"both"``) gets both factors. ``strength`` multiplies
    every lambda; 0 changes nothing. Factors are clipped to [0, 2].
    """
    factors: dict[Head, float] = {}
    for heads, sign in ((sets.positive, 1), (sets.negative, -1)):
        for head, value in rescaling_factors(heads, lam).items():
            factors[head] = factors.get(head, 1.0) * (1 + sign * strength * value)
    factors = {h: float(np.clip(f, 0, 2)) for h, f in factors.items()}
    return HeadEdits.rescale([factors], n_layers, n_heads)


def random_heads(
    n: int, draws: int, n_layers: int, n_heads: int, *, seed: int, avoid: Sequence[Head] = ()
) -> list[list[Head]]:
    """``draws`` random sets of ``n`` different heads each."""
    pool = [Head(i, h) for i in range(n_layers) for h in range(n_heads)]
    pool = [h for h in pool if h not in set(avoid)]
    if n > len(pool):
        raise ValueError(f"expected at most {len(pool)} heads to draw from, got n = {n}")
    rng = np.random.default_rng(seed)
    return [[pool[i] for i in rng.choice(len(pool), n, replace=False)] for _ in range(draws)]


def permuted_in_layers(
    sets: HeadSets, draws: int, n_layers: int, n_heads: int, *, seed: int
) -> list[HeadSets]:
    """Random heads that match a choice layer by layer, importance included.

    Each draw permutes the heads of every layer, so that only which heads of a layer were chosen
    is left to chance: how many, how important, and whether two sets share one stays.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        order = [rng.permutation(n_heads).tolist() for _ in range(n_layers)]
        drawn.append(
            HeadSets(
                *(
                    {Head(h.layer, order[h.layer][h.head]): c for h, c in own.items()}
                    for own in sets
                )
            )
        )
    return drawn


def table17_edits(
    sets: HeadSets,
    n_layers: int,
    n_heads: int,
    *,
    removal: str = "zero",
    lam: str | None = "minmax",
) -> dict[str, HeadEdits]:
    """The category's own rows of Table 17: without negative, without positive, rescaling.

    Args:
        removal: ``"zero"`` or ``"mean"`` of the layer's other heads.
        lam: form of lambda (:func:`rescaling_factors`); ``None`` leaves the row out.

    Raises:
        ValueError: an unknown removal or form.
        NoFactors: a form that is undefined for these heads.
    """
    if removal not in REMOVALS:
        raise ValueError(f"expected a removal in {REMOVALS}, got {removal!r}")

    def remove(heads: Mapping[Head, float]) -> HeadEdits:
        return HeadEdits.mask([list(heads)], n_layers, n_heads, by=removal)

    rows = {"w/o negative": remove(sets.negative), "w/o positive": remove(sets.positive)}
    return rows if lam is None else rows | {"rescaling": rescale(sets, n_layers, n_heads, lam=lam)}
