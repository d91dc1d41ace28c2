"""Rescaling under other choices of K, of the form of lambda and of its strength (Eq. 8-10)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vseam_lib.causal import ranking as rank
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.modulate import NoFactors, rescale


class Setting(NamedTuple):
    """One way to rescale: heads per set, form of lambda, and what every lambda is multiplied by."""

    k: int
    lam: str
    strength: float

    @property
    def name(self) -> str:
        """Of the edit, in stores and tables."""
        return f"K = {self.k}, {self.lam}, strength {self.strength:g}"


def settings(
    *,
    ks: Iterable[int],
    forms: Iterable[str],
    strengths: Iterable[float],
    k: int | float,
    lam: str,
    n_heads_total: int,
) -> dict[str, list[Setting]]:
    """The settings to compare, by what varies: ``K``, ``form`` or ``strength``.

    The other two stay at ``k``, ``lam`` and strength 1; that setting itself occurs in all three.

    Raises:
        ValueError: K above the number of heads, or a strength that is negative or not finite.
    """
    k = rank.resolve_k(k, n_heads_total)
    for strength in strengths:
        if not (math.isfinite(strength) and strength >= 0):
            raise ValueError(f"expected strengths of at least 0, got {strength!r}")
    varied = {
        "K": {Setting(rank.resolve_k(other, n_heads_total), lam, 1.0) for other in ks},
        "form": [Setting(k, form, 1.0) for form in forms],
        "strength": {Setting(k, lam, float(strength)) for strength in strengths},
    }
    own = Setting(k, lam, 1.0)
    varied["form"] = varied["form"] if own in varied["form"] else [own, *varied["form"]]
    return {
        "K": sorted(varied["K"] | {own}),
        "form": list(dict.fromkeys(varied["form"])),
        "strength": sorted(varied["strength"] | {own}),
    }


def setting_edits(
    scores: rank.Scores, wanted: Sequence[Setting], *, overlap: str = "drop"
) -> tuple[dict[str, HeadEdits], list[tuple[str, str]]]:
    """Edits by the settings' names, and name and reason where one has no factors.

    Args:
        scores: of one category, which all settings rank.

    Raises:
        ValueError: an unknown form or overlap rule.
    """
    edits: dict[str, HeadEdits] = {}
    left_out = []
    for one in wanted:
        if one.name in edits:
            continue
        sets = rank.top_heads(scores, one.k, overlap)
        try:
            edit = rescale(sets, *scores.c_correct.shape, lam=one.lam, strength=one.strength)
        except NoFactors as error:
            left_out.append((one.name, str(error)))
            continue
        edits[one.name] = edit
    return edits, left_out
