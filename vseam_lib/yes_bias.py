"""What a shifted threshold between Yes and No can do by itself.

A number added to the logit of Yes, an *offset*, makes a model say Yes more readily and tells it
nothing about the picture: the order of the margins, and with it the AUC, stays as it is. An edit
that does more than that beats the offset that says Yes as often (:func:`matched_offset`), and the
offset that one would fit to the questions that chose the edit (:func:`best_offset`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from vseam_lib.signal_detection import Detection, checked, detection, image_weights, levels


class Offset(NamedTuple):
    """A number added to the logit of Yes, and the share of questions that it leaves at exactly
    even odds which count as Yes (0 where there are none).
    """

    value: float
    at_tie: float


def matched_offset(margin: Sequence[float], edited: Sequence[float]) -> Offset:
    """The number to add to a model's logit of Yes so that it says Yes as often as an edited one.

    0 if it does already, else midway between the margins on both sides of the threshold. Where
    equal margins leave no such number, it puts them at even odds, and says of which share Yes
    reaches the rate.

    Args:
        margin, edited: ``(N,)`` logit of Yes minus that of No, of the model and the edited model.

    Raises:
        ValueError: margins that are not finite, unequal lengths, or no questions.
    """
    m, says_yes = _compared(margin, edited)
    if not len(m):
        raise ValueError("expected questions to match a yes-rate on, got none")
    down, wanted = np.sort(m)[::-1], int(says_yes.sum())
    if int((m > 0).sum()) == wanted:
        return Offset(0.0, 0.0)
    if wanted == 0:
        return Offset(float(-down[0]), 0.0)
    if wanted == len(m):
        return Offset(_just_above(-down[-1]), 0.0)
    last, first = down[wanted - 1], down[wanted]
    if last > first:
        return Offset(float(-(last + first) / 2), 0.0)
    return Offset(float(-last), float((wanted - (m > last).sum()) / (m == last).sum()))


def matched_accuracy(
    margin: Sequence[float],
    edited: Sequence[float],
    gold_yes: Sequence[bool],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Accuracy of a model under the offset that gives it an edited model's yes-rate, per cent.

    The offset is fitted anew in every draw. Questions with equal margins, of which only some can
    be Yes, each count by the share that is: the accuracy expected of drawing lots among them.

    Args:
        margin, edited: ``(N,)`` margins of the model and of the edited model.
        gold_yes: ``(N,)`` whether Yes is the right answer.
        weights: ``(draws, N)`` of :func:`vseam_lib.signal_detection.image_weights`.

    Raises:
        ValueError: margins that are not finite, or unequal lengths.
    """
    m, gold, w = checked(margin, gold_yes, weights)
    _, says_yes = _compared(m, edited)
    order, starts = levels(m)
    weight = np.add.reduceat(w[:, order], starts, axis=1)
    own = np.add.reduceat((w * gold)[:, order], starts, axis=1)
    left = (w @ says_yes)[:, None] - (weight.cumsum(1) - weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.clip(left / weight, 0, 1)
        right = np.where(weight > 0, share * own + (1 - share) * (weight - own), 0).sum(1)
        return 100 * right / w.sum(1)


def best_offset(margin: Sequence[float], gold_yes: Sequence[bool]) -> float:
    """The number to add to the logit of Yes that answers most questions rightly.

    Midway between two margins; of several that are equally good, the one nearest to 0.

    Raises:
        ValueError: margins that are not finite, unequal lengths, or no questions.
    """
    m, gold, _ = checked(margin, gold_yes, None)
    if not len(m):
        raise ValueError("expected questions to fit an offset to, got none")
    different = np.unique(m)
    middle = -(different[1:] + different[:-1]) / 2
    offsets = np.r_[0.0, middle, -different[-1], _just_above(-different[0])]
    yes, no = np.sort(m[gold]), np.sort(m[~gold])
    right = len(yes) - np.searchsorted(yes, -offsets, "right")
    right = right + np.searchsorted(no, -offsets, "right")
    best = offsets[right == right.max()]
    return float(best[np.argmin(np.abs(best))])


def _just_above(value: float) -> float:
    return float(np.nextafter(value, np.inf))


def _compared(margin: Sequence[float], edited: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Margins, and where the edited model says Yes."""
    after = np.asarray(edited, float)
    m, _, _ = checked(margin, after > 0, None)
    checked(after, after > 0, None)
    return m, after > 0


@dataclass(frozen=True)
class Answered:
    """One category's questions under several edits.

    Attributes:
        gold_yes: ``(N,)`` whether Yes is the right answer.
        margins: edit to ``(N,)``, the logit of Yes minus that of No.
        weights: ``(1 + draws, N)``; the draws are those of all categories.
    """

    gold_yes: np.ndarray
    margins: dict[str, np.ndarray]
    weights: np.ndarray

    def detection(self, edit: str) -> Detection:
        """See :func:`vseam_lib.signal_detection.detection`."""
        return detection(self.margins[edit], self.gold_yes, self.weights)

    def accuracy(self, edit: str, *, offset: float = 0.0, gold: str = "") -> np.ndarray:
        """Per cent answered rightly in every draw, ``(1 + draws,)``, choosing between Yes and No.

        Args:
            offset: added to the logit of Yes.
            gold: count questions with this answer only, ``"Yes"`` or ``"No"``; undefined in draws
                without one.
        """
        own = {"": np.ones_like(self.gold_yes), "Yes": self.gold_yes, "No": ~self.gold_yes}[gold]
        right = (self.margins[edit] + offset > 0) == self.gold_yes
        with np.errstate(invalid="ignore"):
            return 100 * (self.weights @ (own & right)) / (self.weights @ own)

    def matched_accuracy(self, edit: str, *, reference: str = "original") -> np.ndarray:
        """See :func:`matched_accuracy`."""
        margin = self.margins[reference]
        return matched_accuracy(margin, self.margins[edit], self.gold_yes, self.weights)


def read_answers(table: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> dict[str, Answered]:
    """The margins of every category, with draws of images that are the same for all categories.

    Args:
        table: of :func:`vseam_lib.evaluate.answers`; a category may lack an edit.

    Raises:
        ValueError: fewer than two images, or margins that are not finite.
    """
    bad = ~np.isfinite(table["margin"].to_numpy(float))
    if bad.any():
        raise ValueError(
            f"expected finite margins, got {int(bad.sum())} others, first of the question "
            f"{table['id'][bad].iloc[0]}; try dtype='float32'"
        )
    about = ["id", "image_id", "category", "gold"]
    wide = table.pivot(index=about, columns="edit", values="margin").reset_index()
    weights = image_weights(wide["image_id"].tolist(), draws=draws, seed=seed)
    found = {}
    for category in dict.fromkeys(table["category"]):
        own = wide[wide["category"] == category]
        margins = {
            edit: own[edit].to_numpy(float)
            for edit in dict.fromkeys(table["edit"])
            if own[edit].notna().all()
        }
        gold = (own["gold"] == "Yes").to_numpy()
        found[category] = Answered(gold, margins, weights[:, own.index])
    return found
