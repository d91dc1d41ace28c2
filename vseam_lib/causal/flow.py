"""Information flow over a data set: patch every layer, site and span of every triple (Eq. 3).

The paper's Figure 3 patches the residual stream at all image tokens or at all tokens after them;
Figure 4 patches the outputs of attention and MLP at the words' roles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vseam_lib.causal.groups import Values, resume, store_key
from vseam_lib.causal.patching import (
    METRICS,
    SITES,
    Pair,
    effects,
    masks,
    patched_logits,
    record_pair,
)
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.spans import ROLES, roles, spans

SELECTIONS = ("eq4", "all")
SPANS = ("image", "question")
PART = 64  # triples per part of the store; a killed run loses at most these


@dataclass(frozen=True)
class Flow:
    """Eq. 2 of every triple that was patched.

    Attributes:
        answers: one row per triple asked: ``id, image_id, category, clean`` and ``corrupted``
            (answered rightly), ``selected``, and the total effect of the edit in each metric
            (``logit``, ``probability``, ``difference``: clean minus corrupted).
        effects: rows ``id, image_id, category, site, layer, span, metric, value`` of the selected
            triples.
    """

    answers: pd.DataFrame
    effects: pd.DataFrame

    def array(
        self, site: str, span: str, metric: str = "logit", category: str | None = None
    ) -> tuple[np.ndarray, list[str]]:
        """Effects ``(N, n_layers)`` of one site and span, and the image of each row."""
        part = self.effects
        chosen = (part["site"] == site) & (part["span"] == span) & (part["metric"] == metric)
        if category is not None:
            chosen &= part["category"] == category
        table = part[chosen].pivot(index=["id", "image_id"], columns="layer", values="value")
        return table.to_numpy(), [image for _, image in table.index]


def measure_pair(
    adapter: Adapter,
    pair: Pair,
    triple: VQATriple,
    *,
    select: str = "eq4",
    budget_mib: float | None = None,
) -> Values:
    """Everything that is stored of one triple: answers, total effect, and, where it is selected,
    ``{site}/{layer}/{span}`` in every metric.
    """
    gold = pair.clean.group.gold
    right = [r.logits.argmax(-1) == gold for r in pair]
    values = {("clean", "right"): right[0], ("corrupted", "right"): right[1]}
    total = effects(adapter, pair, pair.clean.logits)
    values |= {("total", metric): total[metric] for metric in METRICS}
    if select == "eq4" and not (bool(right[0]) and not bool(right[1])):
        return values
    group = pair.clean.group
    whole = spans(adapter, group)
    by_role = roles(adapter, group, triple.question, triple.category)
    for site in SITES:
        chosen = {s: whole[s] for s in SPANS} if site == "block" else {}
        chosen |= by_role
        where = masks(chosen, len(group.ids))
        found = effects(
            adapter, pair, patched_logits(adapter, pair, site, where, budget_mib=budget_mib)
        )
        for metric in METRICS:
            for layer in range(adapter.n_layers):
                for k, span in enumerate(chosen):
                    values[f"{site}/{layer}/{span}", metric] = found[metric][layer, k][None]
    return values


def information_flow(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    edited: Mapping[str, Path],
    store: Path | str,
    *,
    select: str = "eq4",
    budget_mib: float | None = None,
) -> Flow:
    """Patch every triple; what the store already holds is not computed again.

    Args:
        edited: triple id to its edited image; triples without one are an error.
        select: ``"eq4"`` patches triples answered rightly on the clean and wrongly on the edited
            image (Eq. 4, paper); ``"all"`` patches all (as released).

    Raises:
        ValueError: an unknown selection, or triples without an edited image.
    """
    if select not in SELECTIONS:
        raise ValueError(f"expected a selection in {SELECTIONS}, got {select!r}")
    triples = check_unique(triples)
    missing = [t.id for t in triples if t.id not in edited]
    if missing:
        raise ValueError(
            f"expected an edited image for each of {len(triples)} triples, {len(missing)} have "
            f"none (first: {missing[0]}); leave these triples out"
        )

    def run(group: Sequence[VQATriple]) -> Values:
        (t,) = group
        pair = record_pair(adapter, t.image, edited[t.id], t.question, t.answer)
        return measure_pair(adapter, pair, t, select=select, budget_mib=budget_mib)

    kept = Store(store, store_key(adapter, "information flow", select=select))
    each, ids = [[t] for t in triples], stored_ids(triples, edited)
    rows = resume(each, ids, kept, run, what="patching", part=PART)
    return _flow(rows, triples)


def _flow(rows: pd.DataFrame, triples: Sequence[VQATriple]) -> Flow:
    about = pd.DataFrame(
        [(t.id, t.image_id, str(t.category)) for t in triples],
        columns=["id", "image_id", "category"],
    )
    is_effect = rows["site"].str.count("/") == 2
    head = rows[~is_effect]
    wide = head.assign(name=head["site"].where(head["edit"] == "right", head["edit"]))
    wide = wide.pivot(index="id", columns="name", values="value").reset_index()
    answers = about.merge(wide, on="id", validate="one_to_one")
    for column in ("clean", "corrupted"):
        answers[column] = answers[column] > 0.5
    found = rows[is_effect]
    answers["selected"] = answers["id"].isin(set(found["id"]))
    found = found.merge(about, on="id", validate="many_to_one")
    where = [site.split("/", 2) for site in found["site"]]
    found = found.assign(
        site=[w[0] for w in where], layer=[int(w[1]) for w in where], span=[w[2] for w in where]
    )
    found = found.rename(columns={"edit": "metric"})
    columns = ["id", "image_id", "category", "site", "layer", "span", "metric", "value"]
    return Flow(answers, found[columns])


def role_table(flow: Flow, site: str, category: str, metric: str = "logit") -> pd.DataFrame:
    """Mean effect per role (rows, in the order of the prompt's parts) and layer (columns)."""
    part = flow.effects
    part = part[
        (part["site"] == site) & (part["category"] == category) & (part["metric"] == metric)
    ]
    table = part.pivot_table(index="span", columns="layer", values="value", aggfunc="mean")
    return table.reindex([r for r in ROLES if r in table.index])


def crossing_layer(curve: np.ndarray, level: float, *, rising: bool) -> float:
    """Where a curve over layers first reaches (``rising``) or falls to ``level``, by linear
    interpolation between layers; NaN if it never does.
    """
    y = np.asarray(curve, float) - level
    if not rising:
        y = -y
    at = np.flatnonzero(y >= 0)
    if not len(at):
        return float("nan")
    k = int(at[0])
    return float(k) if k == 0 else k - y[k] / (y[k] - y[k - 1])
