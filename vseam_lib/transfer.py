"""Heads frozen and used elsewhere: on other questions, other pictures, against chance.

1. :func:`head_sets` picks heads from the effects of masking on any questions (Eq. 7-8).
2. :func:`rescaled_at_random` exchanges them for random heads of the same layers.
3. :func:`changes` compares answers under an edit with those of the unedited model, per kind of
   question, next to the random heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from vseam_lib.causal.heads import Effects
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.ranking import HeadSets, causal_scores, top_heads
from vseam_lib.modulate import NoFactors, permuted_in_layers, rescale
from vseam_lib.open_answers import written
from vseam_lib.parsing import NO, YES, PopeMetrics, metric_changes, official, pope_metrics
from vseam_lib.signal_detection import from_draws, image_weights
from vseam_lib.sources.pope import PopeQuestion, distinct
from vseam_lib.stats import Interval, clustered_mean
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.yes_bias import matched_accuracy

ORIGINAL, RANDOM = "original", "random heads"


def is_random(edit: str) -> bool:
    """Is this edit a draw of random heads?"""
    return edit == RANDOM or edit.startswith(f"{RANDOM}/")


def head_sets(
    effects: Mapping[str, Effects],
    *,
    score: str = "signed",
    k: int | float = 10,
    overlap: str = "drop",
    lam: str = "minmax",
) -> tuple[dict[str, HeadSets], list[tuple[str, str]]]:
    """Positive and negative heads of each set of questions, where they can be rescaled.

    Args:
        effects: a name of the questions to the effects of masking on them.
        score, k, overlap: see :func:`causal_scores` and :func:`top_heads`.
        lam: form of lambda with which the heads will be rescaled.

    Returns:
        The heads by name, and name and reason where there are none: no wrong (or no right)
        answers, or Eq. 9 undefined.
    """
    found, left_out = {}, []
    for name, own in effects.items():
        if own.right.all() or not own.right.any():
            kind = "wrong" if own.right.all() else "right"
            left_out.append((name, f"no {kind} answers among {len(own.right)}"))
            continue
        sets = top_heads(causal_scores(own, score), k, overlap)
        try:
            rescale(sets, *own.delta.shape[1:], lam=lam)
        except NoFactors as error:
            left_out.append((name, str(error)))
            continue
        found[name] = sets
    return found, left_out


def about_heads(
    effects: Mapping[str, Effects],
    sets: Mapping[str, HeadSets],
    left_out: Sequence[tuple[str, str]],
    *,
    score: str = "signed",
    k: int | float = 10,
) -> pd.DataFrame:
    """Sizes of the sets of :func:`head_sets`, one row per name.

    Columns: ``heads`` (the name), ``questions``, ``wrong answers``, ``in both lists`` (of the K
    heads of each side, before any rule), ``positive``, ``negative`` (heads after the rule) and
    ``left out because``.
    """
    rows = []
    for name, own in effects.items():
        both = 0
        if own.right.any() and not own.right.all():
            lists = top_heads(causal_scores(own, score), k, "both")
            both = len(lists.positive.keys() & lists.negative.keys())
        sizes = [len(side) for side in sets[name]] if name in sets else [0, 0]
        why = dict(left_out).get(name, "")
        rows.append((name, len(own.right), int((~own.right).sum()), both, *sizes, why))
    columns = ["heads", "questions", "wrong answers", "in both lists", "positive", "negative"]
    return pd.DataFrame(rows, columns=[*columns, "left out because"])


def rescaled_at_random(
    sets: HeadSets, n_layers: int, n_heads: int, *, lam: str, draws: int, seed: int
) -> HeadEdits:
    """Rescale random heads instead, in every layer as many and by as much; one variant per draw."""
    drawn = permuted_in_layers(sets, draws, n_layers, n_heads, seed=seed)
    return HeadEdits.cat([rescale(s, n_layers, n_heads, lam=lam) for s in drawn])


def pope_answers(
    adapter: Adapter,
    questions: Sequence[PopeQuestion],
    edits: Mapping[str, HeadEdits],
    store: Path | str,
    *,
    tokens: int = 1,
) -> pd.DataFrame:
    """What the model writes on every row of POPE's subsets, each distinct question asked once.

    Returns:
        One row per POPE row and variant: ``id, subset, image_id, label, edit, said, margin``
        (``label`` is ``"yes"`` or ``"no"``, ``margin`` the logit of Yes minus that of No), and
        ``yes`` and ``right`` by POPE's own parser.
    """
    asked, stands_for = distinct(questions)
    table = written(adapter, asked, edits, store, tokens=tokens, margin=True)
    rows = pd.DataFrame(
        [(q.id, q.subset, q.image_id, q.answer.lower(), stands_for[q.id]) for q in questions],
        columns=["id", "subset", "image_id", "label", "asked"],
    )
    answered = table[["id", "edit", "said", "margin"]].rename(columns={"id": "asked"})
    rows = rows.merge(answered, on="asked").drop(columns="asked")
    rows["yes"] = rows["said"].map(official) == "yes"
    return rows.assign(right=rows["yes"] == (rows["label"] == "yes"))


def against_threshold(
    table: pd.DataFrame, edit: str, *, draws: int = 2000, seed: int = 0
) -> tuple[Interval, Interval]:
    """Accuracy of a mere threshold that says yes as often as an edit, and the edit beyond it.

    Args:
        table: of :func:`pope_answers`.

    Returns:
        The unedited model's accuracy with its threshold between Yes and No moved until its
        yes-rate is the edit's, and the edited model's accuracy minus that; per cent and points,
        with 95 % intervals that resample images. Accuracy is of the choice between Yes and No.
    """
    wide = table.pivot(index=["id", "image_id", "label"], columns="edit", values="margin")
    gold = wide.index.get_level_values("label") == "yes"
    images = list(wide.index.get_level_values("image_id"))
    before, after = wide[ORIGINAL].to_numpy(), wide[edit].to_numpy()
    weights = image_weights(images, draws=draws, seed=seed)
    matched = matched_accuracy(before, after, gold, weights)
    own = 100 * (weights @ ((after > 0) == gold)) / weights.sum(1)
    return from_draws(matched), from_draws(own - matched)


def pope_changes(
    table: pd.DataFrame, measures: Mapping[str, str], *, seed: int = 0
) -> pd.DataFrame:
    """Changes of POPE's metrics against the unedited model, per subset and over all rows.

    Args:
        table: of :func:`pope_answers`, with draws of random heads or without.
        measures: name to show to a field of :class:`vseam_lib.parsing.PopeMetrics`.

    Returns:
        Columns ``subset, edit, measure, mean, low, high`` in points: 95 % intervals that resample
        images, for random heads the lowest and the highest draw.
    """
    rows = []
    for subset, part in [*table.groupby("subset", sort=False), ("all", table)]:
        wide = part.pivot(index=["id", "image_id", "label"], columns="edit", values="yes")
        images, labels = (list(wide.index.get_level_values(k)) for k in ("image_id", "label"))
        said = {edit: np.where(wide[edit], YES, NO) for edit in dict.fromkeys(part["edit"])}
        before, drawn = said.pop(ORIGINAL), []
        base = pope_metrics(labels, before)
        for edit, after in said.items():
            if is_random(edit):
                drawn.append(np.subtract(pope_metrics(labels, after), base))
                continue
            found = metric_changes(labels, before, after, images, seed=seed)
            for name, field in measures.items():
                rows.append((subset, edit, name, *(100 * v for v in found[field])))
        for name, field in measures.items() if drawn else ():
            own = 100 * np.array(drawn)[:, PopeMetrics._fields.index(field)]
            rows.append((subset, RANDOM, name, own.mean(), own.min(), own.max()))
    return pd.DataFrame(rows, columns=["subset", "edit", "measure", "mean", "low", "high"])


class Against(NamedTuple):
    """A change beside the draws of random heads.

    Attributes:
        mean, low, high: of the draws; lowest and highest.
        p: share of draws, the observed change counted as one, that change as much or more.
    """

    mean: float
    low: float
    high: float
    p: float


def against_random(observed: float, draws: Sequence[float]) -> Against:
    """Place a change among those of the draws; ``p`` cannot fall below 1 / (draws + 1)."""
    values = np.asarray(draws, float)
    p = (1 + (values >= observed - 1e-9).sum()) / (1 + len(values))
    return Against(float(values.mean()), float(values.min()), float(values.max()), float(p))


def changes(
    table: pd.DataFrame, column: str, by: str, *, scale: float = 100, seed: int = 0
) -> pd.DataFrame:
    """Changes against the unedited model, per value of ``by`` and over all (``"all"``).

    Args:
        table: rows ``id, image_id, edit`` with the edits :data:`ORIGINAL`, others by name, and
            draws of random heads as ``random heads/0``, ...
        column: what changes; averaged over rows.
        scale: 100 makes points of shares.

    Returns:
        Columns ``{by}, edit, mean, low, high, n``: for an edit the 95 % interval that resamples
        images, for random heads the lowest and the highest draw.

    Raises:
        ValueError: an edit without the unedited model's answer to the same rows.
    """
    rows = []
    for value, part in [*table.groupby(by, sort=False), ("all", table)]:
        wide = part.pivot(index=["id", "image_id"], columns="edit", values=column).astype(float)
        if ORIGINAL not in wide or wide.isna().any().any():
            raise ValueError(
                f"{by} {value}: expected every row answered under every edit and under "
                f"{ORIGINAL!r}, got {', '.join(map(str, wide.columns))} with "
                f"{int(wide.isna().sum().sum())} answers missing"
            )
        images = wide.index.get_level_values("image_id")
        apart = scale * wide.sub(wide[ORIGINAL], axis=0)
        drawn = [e for e in wide if is_random(e)]
        for edit in dict.fromkeys(part["edit"]):
            if edit != ORIGINAL and edit not in drawn:
                interval = clustered_mean(apart[edit], images, seed=seed)
                rows.append((value, edit, *interval, len(wide)))
        if drawn:
            means = apart[drawn].mean()
            rows.append((value, RANDOM, means.mean(), means.min(), means.max(), len(wide)))
    return pd.DataFrame(rows, columns=[by, "edit", "mean", "low", "high", "n"])


def draws_of(table: pd.DataFrame, column: str, *, scale: float = 100) -> np.ndarray:
    """Change of each draw of random heads over all rows of a table, ``(draws,)``."""
    means = scale * table.groupby("edit")[column].mean()
    drawn = [e for e in means.index if is_random(e)]
    return (means[drawn] - means[ORIGINAL]).to_numpy()
