"""Verdicts on the paper's claims, decided by conditions that ``paper/claims.yml`` fixes in words.

A chapter measures and calls ``judge``; the words, the verdict and its looks are the same wherever
a claim is shown. Each judgement leaves a record in the notebook's output, from which the claims
ledger is made.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from vseam_lib.paper import claims

RECORD = "vseam_judgement"  # key of the record in the metadata of a notebook's output
_WORDS = {True: ("met", "yes"), False: ("unmet", "no"), None: ("open", "cannot be decided here")}


class Verdict(StrEnum):
    """What a chapter concludes about a claim."""

    HOLDS = "holds"
    PARTLY = "partly"
    FAILS = "does not hold"
    UNTESTED = "not testable here"

    @classmethod
    def of(cls, met: Mapping[str, bool | None]) -> Verdict:
        """Holds if all decided conditions do, partly if some do, untested if none is decided."""
        decided = [ok for ok in met.values() if ok is not None]
        if not decided:
            return cls.UNTESTED
        if all(decided):
            return cls.HOLDS
        return cls.PARTLY if any(decided) else cls.FAILS


@dataclass(frozen=True)
class Judgement:
    """A claim, the conditions that it was broken down to, and whether each was met.

    ``conditions`` maps a condition in words to whether it was met, or to None if this run's data
    cannot decide it. ``judge`` fills the other fields from the claim's row: its ``id`` and ``met``
    by the row's keys, where the paper claims it, the ``paper``'s number and ``ours``.

    Raises:
        ValueError: the claim or a condition is empty.
        TypeError: a condition is neither true, nor false, nor None.
    """

    claim: str
    conditions: Mapping[str, bool | None]
    id: str = ""
    where: str = ""
    paper: str = ""
    ours: str = ""
    met: Mapping[str, bool | None] | None = None

    def __post_init__(self) -> None:
        if not self.claim.strip() or any(not c.strip() for c in self.conditions):
            raise ValueError("expected a claim and conditions in words, got an empty one")
        for text, ok in self.conditions.items():
            if ok is not None and not isinstance(ok, bool | np.bool_):
                raise TypeError(f"{text}: expected True, False or None, got {ok!r}")

    @property
    def verdict(self) -> Verdict:
        """What the decided conditions say together."""
        return Verdict.of(self.conditions)

    def record(self) -> dict[str, object]:
        """What a ledger needs, as JSON: id, verdict, ours, and the conditions by key."""
        met = self.conditions if self.met is None else self.met
        return {
            "id": self.id,
            "verdict": str(self.verdict),
            "ours": self.ours,
            "met": {key: None if ok is None else bool(ok) for key, ok in met.items()},
        }

    def _repr_html_(self) -> str:
        rows = ""
        for text, ok in self.conditions.items():
            kind, word = _words(ok)
            rows += f'<li class="{kind}">{html.escape(text)}: <strong>{word}</strong></li>'
        anchor = f' id="claim-{html.escape(self.id)}"' if self.id else ""
        return (
            f'<div class="verdict verdict-{self.verdict.name.lower()}"{anchor}>'
            f"<p>{html.escape(self._claim())} "
            f'<span class="badge">{self.verdict}</span></p><ul>{rows}</ul>{self._numbers()}</div>'
        )

    def _claim(self) -> str:
        return f"{self.claim} ({self.where})" if self.where else self.claim

    def _numbers(self) -> str:
        if not self.ours:
            return ""
        return (
            f'<p class="verdict-numbers">Here: {html.escape(self.ours)}. '
            f"The paper: {html.escape(self.paper)}.</p>"
        )

    def __repr__(self) -> str:
        rows = "; ".join(f"{text}: {_words(ok)[1]}" for text, ok in self.conditions.items())
        return f"{self._claim()} -> {self.verdict} ({rows})"

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """The page's HTML and plain text, and as metadata the record that the ledger reads."""
        data = {"text/html": self._repr_html_(), "text/plain": repr(self)}
        return data, {RECORD: self.record()} if self.id else {}


def _words(ok: bool | None) -> tuple[str, str]:
    return _WORDS[None if ok is None else bool(ok)]


def judge(claim: str, met: Mapping[str, bool | None], *, ours: str) -> Judgement:
    """Judge a claim of ``paper/claims.yml`` by what a chapter found.

    Args:
        claim: the claim's id.
        met: whether each of its conditions was met, by exactly the keys of its row; None where
            this run's data cannot decide.
        ours: this run's result, short, as the ledger shows it: ``"+1.20 points (+0.31 to +2.09)"``.

    Raises:
        KeyError: no claim has this id; the message lists similar ones.
        ValueError: conditions are missing or unknown, ``ours`` is empty, or the claim is marked
            as one that nothing here can test.
        TypeError: a condition is neither true, nor false, nor None.
    """
    row = claims.claim(claim)
    if row.untestable:
        raise ValueError(
            f"claim {claim!r} is marked untestable ({row.untestable}); give its row in "
            f"{claims.FILE.name} a chapter and conditions before judging it"
        )
    missing, extra = sorted(set(row.conditions) - set(met)), sorted(set(met) - set(row.conditions))
    if missing or extra:
        raise ValueError(
            f"claim {claim!r}: expected exactly the conditions {', '.join(row.conditions)}; "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(extra) or 'none'}"
        )
    if not isinstance(ours, str) or not ours.strip():
        raise ValueError(f"claim {claim!r}: expected this run's result in words, got {ours!r}")
    return Judgement(
        claim=row.claim,
        conditions={text: met[key] for key, text in row.conditions.items()},
        id=row.id,
        where=row.where,
        paper=row.paper,
        ours=ours.strip(),
        met={key: met[key] for key in row.conditions},
    )
