"""The heads that Tables 2 and 13 print: shared heads, heads of both signs, and where they lie."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pandas as pd
from scipy import stats

from vseam_lib.paper import depths, stated, table
from vseam_lib.triples import Category

SIDES = ("positive", "negative")
NAMED_UNIVERSAL = ("L11.H28", "L23.H30")  # of InstructBLIP, appendix F


def entries() -> pd.DataFrame:
    """Table 13, one row per printed entry; a head that a list prints twice has two rows.

    Columns ``model, category, level, side, rank, head, layer, index``.

    Raises:
        ValueError: an entry that is no head such as L16.H1.
    """
    rows = []
    for _, row in table(13).iterrows():
        for rank, head in enumerate(row["heads"].split(), 1):
            found = re.fullmatch(r"L(\d+)\.H(\d+)", head)
            if not found:
                raise ValueError(f"Table 13, {row['category']}: expected L16.H1, got {head!r}")
            level = str(Category(row["category"]).level)
            place = (int(found[1]), int(found[2]))
            rows.append((row["model"], row["category"], level, row["side"], rank, head, *place))
    columns = ["model", "category", "level", "side", "rank", "head", "layer", "index"]
    return pd.DataFrame(rows, columns=columns)


def lists() -> dict[tuple[str, str, str], set[str]]:
    """Distinct heads of each list by (model, side, category)."""
    groups = entries().groupby(["model", "side", "category"], sort=False)["head"]
    return {key: set(heads) for key, heads in groups}


def shared_heads() -> pd.DataFrame:
    """Table 2 as the intersection of Table 13's lists within a level.

    Columns ``model, level, side, printed, recomputed, agrees``.
    """
    own, rows = lists(), []
    for _, row in table(2).iterrows():
        of_level = [str(c) for c in Category if str(c.level) == row["level"]]
        common = set.intersection(*(own[row["model"], row["side"], c] for c in of_level))
        printed = set(row["heads"].split())
        key = row["model"], row["level"], row["side"]
        rows.append((*key, _words(printed), _words(common), printed == common))
    return pd.DataFrame(rows, columns=["model", "level", "side", "printed", "recomputed", "agrees"])


def oddities() -> pd.DataFrame:
    """Lists that print a head twice or have another length, and heads in both lists of a category.

    Columns ``model, category, side, what, heads``.
    """
    k, found, own, rows = int(stated("heads per list")), entries(), lists(), []
    for (model, side, category), part in found.groupby(["model", "side", "category"], sort=False):
        twice = set(part["head"][part["head"].duplicated()])
        if twice:
            rows.append((model, category, side, "printed twice", _words(twice)))
        if len(part) != k:
            rows.append((model, category, side, f"{len(part)} entries", ""))
    for model, category in dict.fromkeys(zip(found["model"], found["category"], strict=True)):
        both = own[model, "positive", category] & own[model, "negative", category]
        if both:
            rows.append((model, category, "both", "in both lists", _words(both)))
    return pd.DataFrame(rows, columns=["model", "category", "side", "what", "heads"])


def both_signs(model: str) -> set[str]:
    """Heads of a model that are positive for some category and negative for some."""
    of_side = {
        side: set.union(*(heads for (m, s, _), heads in lists().items() if (m, s) == (model, side)))
        for side in SIDES
    }
    return of_side["positive"] & of_side["negative"]


def everywhere(model: str, side: str) -> set[str]:
    """Heads that are in the lists of all categories."""
    return set.intersection(*(h for (m, s, _), h in lists().items() if (m, s) == (model, side)))


def jaccard(a: set[str], b: set[str]) -> float:
    """Shared over all elements of two sets."""
    return len(a & b) / len(a | b)


def expected_jaccard(k: int, n: int) -> float:
    """Mean overlap of two random selections of ``k`` out of ``n`` (exact, hypergeometric)."""
    shared = np.arange(k + 1)
    return float((stats.hypergeom.pmf(shared, n, k, k) * shared / (2 * k - shared)).sum())


def overlaps() -> pd.DataFrame:
    """Mean overlap between categories, of all heads and without those in every list.

    Columns ``model, side, without`` (heads left out), ``within, across`` (mean Jaccard overlap
    within a level and across levels) and ``chance``.
    """
    own, rows = lists(), []
    k = int(stated("heads per list"))
    n = int(stated("layers") * stated("heads per layer"))
    for model in dict.fromkeys(m for m, _, _ in own):
        for side in SIDES:
            common = everywhere(model, side)
            for left_out in [set(), common] if common else [set()]:
                pairs = {True: [], False: []}
                for a, b in combinations(Category, 2):
                    heads = (own[model, side, str(c)] - left_out for c in (a, b))
                    pairs[a.level is b.level].append(jaccard(*heads))
                chance = expected_jaccard(k - len(left_out), n - len(left_out))
                means = np.mean(pairs[True]), np.mean(pairs[False])
                rows.append((model, side, _words(left_out), *means, chance))
    return pd.DataFrame(rows, columns=["model", "side", "without", "within", "across", "chance"])


def in_layers(model: str, side: str, without: set[str] = frozenset()) -> tuple[float, float]:
    """Share of a side's entries in the layers that appendix F names, and share of these layers."""
    span = depths().set_index("what").loc[f"{side} heads"]
    own = entries()
    own = own[(own["model"] == model) & (own["side"] == side) & ~own["head"].isin(without)]
    inside = own["layer"].between(span["first"], span["last"]).mean()
    return float(inside), float((span["last"] - span["first"] + 1) / span["layers"])


def by_index() -> pd.DataFrame:
    """Entries by the head's index within its layer: ``model, side, index, entries, expected``."""
    heads = int(stated("heads per layer"))
    own, rows = entries(), []
    for (model, side), part in own.groupby(["model", "side"], sort=False):
        counts = part["index"].value_counts()
        for index in range(heads):
            rows.append((model, side, index, int(counts.get(index, 0)), len(part) / heads))
    return pd.DataFrame(rows, columns=["model", "side", "index", "entries", "expected"])


def recurrence(model: str, side: str) -> pd.DataFrame:
    """How many categories and levels list a head: ``head, categories, levels``, most first."""
    own = entries()
    own = own[(own["model"] == model) & (own["side"] == side)]
    counts = own.groupby("head").agg(
        categories=("category", "nunique"), levels=("level", "nunique")
    )
    return counts.sort_values(["categories", "levels"], ascending=False).reset_index()


def _words(heads: set[str]) -> str:
    return " ".join(sorted(heads, key=lambda h: [int(n) for n in re.findall(r"\d+", h)]))
