"""How the gain of rescaling depends on the number of questions that choose the heads
(paper, section 6, Tables 4 and 19-21).

1. Draw shares of the identification images, several times (:func:`image_subsets`).
2. Choose the heads of Eq. 7-8 on each draw, from the effects measured once
   (:func:`choose_on_shares`).
3. Rescale with each draw's heads, on one set of test questions (:func:`answer_draws`).
4. Average over draws (:func:`curve`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from vseam_lib.causal import ranking as rank
from vseam_lib.causal.heads import Effects
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.changes import interval, per_question
from vseam_lib.evaluate import answers
from vseam_lib.modulate import NoFactors, rescale
from vseam_lib.stats import Interval
from vseam_lib.triples import Category, VQATriple
from vseam_lib.vlm.adapter import Adapter


class Draw(NamedTuple):
    """Heads of one category, chosen on some of its images.

    Attributes:
        share: of the category's identification images, 0 to 1.
        repeat: number of the draw.
        wrong: wrongly answered questions among those drawn, on which negative heads rest.
        sets: the heads; ``None`` where they cannot be chosen or rescaled.
        positive, negative: Jaccard overlap of the list with that of all images; NaN without heads.
        why: the reason where there are no heads.
    """

    share: float
    repeat: int
    wrong: int
    sets: rank.HeadSets | None
    positive: float = float("nan")
    negative: float = float("nan")
    why: str = ""

    @property
    def name(self) -> str:
        """Of the edit, in stores and tables."""
        return f"share {self.share:g}, draw {self.repeat}"


def image_subsets(
    images: Iterable[str], shares: Sequence[float], repeats: int, *, seed: int = 0
) -> dict[tuple[float, int], set[str]]:
    """Random subsets of the images for every share and repeat, at least one image each.

    Within a repeat the images of a smaller share are among those of a larger one, so that a
    curve over shares adds images and exchanges none. All images are one subset, not ``repeats``.

    Raises:
        ValueError: a share outside (0, 1], no share, or ``repeats`` below 1.
    """
    if not shares or not all(0 < share <= 1 for share in shares):
        raise ValueError(
            f"expected shares of the images above 0 and at most 1, got {list(shares)}; 10 % is 0.1"
        )
    if repeats < 1:
        raise ValueError(f"expected at least one repeat, got {repeats}")
    names = np.unique(np.asarray(list(images), dtype=str))
    orders = [np.random.default_rng([seed, r]).permutation(len(names)) for r in range(repeats)]
    return {
        (share, repeat): set(names[order[: max(1, round(share * len(names)))]])
        for share in sorted(set(shares))
        for repeat, order in enumerate(orders[:1] if share == 1 else orders)
    }


def choose_on_shares(
    effects: Effects,
    triples: Sequence[VQATriple],
    *,
    shares: Sequence[float],
    repeats: int = 10,
    k: int | float = 10,
    score: str = "signed",
    overlap: str = "drop",
    lam: str = "minmax",
    seed: int = 0,
) -> list[Draw]:
    """Choose one category's heads on random shares of its images.

    Args:
        effects: of masking every head on ``triples``.
        triples: one category's identification questions, with both right and wrong answers.
        shares: of their images, above 0 and at most 1.
        k, score, overlap: as in :func:`vseam_lib.rescaled.choose`.
        lam: form of lambda; a draw for whose heads it is undefined has no heads.

    Raises:
        ValueError: as :func:`image_subsets` and :func:`vseam_lib.causal.ranking.causal_scores`.
    """
    full = rank.top_heads(rank.causal_scores(effects, score), k, overlap)
    subsets = image_subsets((t.image_id for t in triples), shares, repeats, seed=seed)
    draws = []
    for (share, repeat), images in subsets.items():
        own = effects.of([t for t in triples if t.image_id in images])
        wrong = int((~own.right).sum())
        if wrong in (0, len(own.right)):
            why = f"no {'right' if wrong else 'wrong'} answers among {len(own.right)}"
            draws.append(Draw(share, repeat, wrong, None, why=why))
            continue
        sets = rank.top_heads(rank.causal_scores(own, score), k, overlap)
        try:
            rescale(sets, *effects.delta.shape[1:], lam=lam)
        except NoFactors as error:
            draws.append(Draw(share, repeat, wrong, None, why=str(error)))
            continue
        same = (rank.jaccard(list(a), list(b)) for a, b in zip(sets, full, strict=True))
        draws.append(Draw(share, repeat, wrong, sets, *same))
    return draws


def answer_draws(
    vlm: Adapter,
    draws: Sequence[Draw],
    triples: Sequence[VQATriple],
    store: Path | str,
    *,
    lam: str = "minmax",
) -> pd.DataFrame:
    """Change of every test question under every draw's rescaling, in points.

    All draws of a category share one recording of a question. Draws without heads are left out.

    Returns:
        Rows of :func:`vseam_lib.changes.per_question` with ``share`` and ``repeat``.

    Raises:
        ValueError: no draw has heads.
    """
    shape = (vlm.n_layers, vlm.n_heads)
    usable = {draw.name: draw for draw in draws if draw.sets is not None}
    if not usable:
        raise ValueError(
            f"none of {len(draws)} draws has heads: {draws[0].why if draws else 'no draws'}"
        )
    edits = {name: rescale(draw.sets, *shape, lam=lam) for name, draw in usable.items()}
    table = answers(vlm, triples, {"original": HeadEdits.none(*shape)} | edits, store)
    changes = per_question(table)
    return changes.assign(
        share=changes["edit"].map({name: draw.share for name, draw in usable.items()}),
        repeat=changes["edit"].map({name: draw.repeat for name, draw in usable.items()}),
    )


def curve(changes: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Gain against share per category, level and overall, as mean and SD over draws.

    A level's mean weighs its categories equally and so does the average its categories, however
    many draws each has; the SD of such a mean follows from the categories' own, whose draws are
    independent.

    Args:
        changes: of :func:`answer_draws`, all categories' together.

    Returns:
        Rows ``group, share, mean, sd, recovered``: the mean change in points, its standard
        deviation over draws (NaN for fewer than two), and the mean as a share of that with all
        images (NaN unless that is positive). Groups are categories, levels and ``average``.
    """
    by_draw = changes.groupby(["category", "share", "repeat"])[measure].mean()
    own = by_draw.groupby(["category", "share"]).agg(["mean", "std"])
    rows = []
    for group, members in _groups(own.index.unique("category")).items():
        for share, part in own[own.index.isin(members, "category")].groupby("share"):
            if len(part) == len(members):
                sd = float(np.sqrt((part["std"] ** 2).sum(skipna=False))) / len(part)
                rows.append((group, share, float(part["mean"].mean()), sd))
    frame = pd.DataFrame(rows, columns=["group", "share", "mean", "sd"])
    full = frame[frame["share"] == 1].set_index("group")["mean"]
    full = frame["group"].map(full[full > 0])
    return frame.assign(recovered=frame["mean"] / full)


def against_full(
    changes: pd.DataFrame,
    share: float,
    *,
    kept: float = 1.0,
    measure: str = "accuracy",
    seed: int = 0,
) -> Interval:
    """Gain with a share of the images minus ``kept`` times that with all, in points.

    Paired by question, each draw counting equally; the interval resamples images of the test
    questions and takes the draws as given.

    Args:
        changes: of :func:`answer_draws`.
        kept: at 0.8 the result is positive if the share keeps 80 % of the full gain.

    Raises:
        ValueError: no questions with both.
    """
    by_question = changes.groupby(["share", "image_id", "id"])[measure].mean()
    known = by_question.index.unique("share")
    if share not in known or 1.0 not in known:
        raise ValueError(
            f"expected draws with heads for the shares {share:g} and 1, got {list(known)}; add "
            "them to shares, or more repeats"
        )
    both = pd.concat({"some": by_question[share], "all": by_question[1.0]}, axis=1).dropna()
    difference = (both["some"] - kept * both["all"]).reset_index(name=measure)
    return interval(difference, measure, seed=seed)


def _groups(categories: Iterable[str]) -> dict[str, list[str]]:
    """Categories, the levels of those there are, and all of them."""
    names = [str(c) for c in Category if str(c) in set(categories)]
    groups = {name: [name] for name in names}
    for name in names:
        groups.setdefault(str(Category(name).level), []).append(name)
    return groups | {"average": names}


def printed_curve(printed: pd.DataFrame) -> pd.DataFrame:
    """A printed table (4, 19, 20 or 21) in the form of :func:`curve`, without SD.

    Args:
        printed: of one model; a column ``level`` or ``category``, ``initial``, shares in per cent
            (``10``, ``20``, ...) and ``full``, accuracies in per cent.

    Raises:
        ValueError: another layout.
    """
    groups = [c for c in ("level", "category") if c in printed.columns]
    if len(groups) != 1 or not {"initial", "full"} <= set(printed.columns):
        raise ValueError(
            "expected the columns level or category, initial, shares in per cent and full, got "
            f"{list(printed.columns)}"
        )
    rows = []
    for _, row in printed.iterrows():
        gain = row["full"] - row["initial"]
        for column in printed.columns:
            if column == "full" or str(column).isdigit():
                share = 1.0 if column == "full" else int(column) / 100
                mean = row[column] - row["initial"]
                rows.append((row[groups[0]], share, mean, mean / gain if gain > 0 else np.nan))
    return pd.DataFrame(rows, columns=["group", "share", "mean", "recovered"])
