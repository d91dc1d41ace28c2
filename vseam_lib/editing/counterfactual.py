"""Counterfactual questions: what an edit must show (paper, section 4.1 and appendix A.1).

A counterfactual question is the original question with exactly one semantic unit (a colour, a
material, an object, a relation) replaced. Its unit and the original's are what the picture
shows and what the edited picture must show, in an order that the right answer decides: after
the edit, the *original* question has the other answer (Table 24).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd

from vseam_lib.triples import VQATriple, by_category


@dataclass(frozen=True, kw_only=True)
class Counterfactual:
    """A rewritten question and the edit that it stands for.

    Attributes:
        triple_id: id of the triple whose question was rewritten.
        question: the rewritten question.
        old: semantic unit of the original question, in lower case (``"red"``, ``"riding"``).
        new: what replaces it in ``question``.
        answer: right answer of the original question, ``"Yes"`` or ``"No"``.
        rewriter: name of the rewriter.
        stated: whether the data say what :attr:`shows` claims. They always do for "Yes". For
            "No" they do if the full answer or the scene graph names what is there ("No, the car
            is green."); a full answer such as "No, it is not red." leaves ``new`` a guess.
    """

    triple_id: str
    question: str
    old: str
    new: str
    answer: str
    rewriter: str
    stated: bool = True

    def __post_init__(self) -> None:
        if self.answer not in ("Yes", "No"):
            raise ValueError(
                f"counterfactual of {self.triple_id}: expected the original question's answer "
                f"'Yes' or 'No', got {self.answer!r}"
            )
        if not (self.question.strip() and self.old.strip() and self.new.strip()):
            raise ValueError(
                f"counterfactual of {self.triple_id}: expected a question and two semantic units, "
                f"got {self.question!r}, {self.old!r} and {self.new!r}"
            )
        if self.old.casefold() == self.new.casefold():
            raise ValueError(
                f"counterfactual of {self.triple_id}: expected two different semantic units, got "
                f"{self.old!r} twice"
            )

    @property
    def shows(self) -> str:
        """The unit that the picture shows now: the asked one of a "Yes" question."""
        return self.old if self.answer == "Yes" else self.new

    @property
    def wanted(self) -> str:
        """The unit that the edited picture must show, so that the original answer is reversed."""
        return self.new if self.answer == "Yes" else self.old


@dataclass(frozen=True)
class Refusal:
    """Why a triple has no counterfactual question.

    Attributes:
        triple_id: id of the triple.
        reason: a short, countable reason.
        detail: what in this question or answer gave rise to it, possibly empty.
    """

    triple_id: str
    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@runtime_checkable
class Rewriter(Protocol):
    """Anything that writes counterfactual questions."""

    @property
    def name(self) -> str:
        """Identifies everything that changes an outcome; part of the key of stored results."""
        ...

    def rewrite(self, triples: Iterable[VQATriple]) -> list[Counterfactual | Refusal]:
        """One outcome per triple, in their order."""
        ...


def coverage(triples: Sequence[VQATriple], rewriter: Rewriter) -> pd.DataFrame:
    """How many questions a rewriter rewrites, one row per category that occurs.

    Columns: ``category``, ``questions``, ``rewritten``, ``share`` (0 to 1) and ``reasons`` (the
    refusals' reasons with their counts, the commonest first, possibly empty).
    """
    rows = []
    for category, group in by_category(triples).items():
        refused = Counter(o.reason for o in rewriter.rewrite(group) if isinstance(o, Refusal))
        rewritten = len(group) - refused.total()
        rows.append(
            {
                "category": str(category),
                "questions": len(group),
                "rewritten": rewritten,
                "share": rewritten / len(group),
                "reasons": "; ".join(f"{reason} ({n})" for reason, n in refused.most_common()),
            }
        )
    return pd.DataFrame(rows, columns=["category", "questions", "rewritten", "share", "reasons"])
