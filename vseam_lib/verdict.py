"""Verdicts on claims, decided by conditions that are fixed in code."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a chapter concludes about a claim."""

    HOLDS = "holds"
    PARTLY = "partly"
    FAILS = "does not hold"
    UNTESTED = "not testable here"


@dataclass(frozen=True)
class Judgement:
    """A claim, the conditions that it was broken down to, and whether each was met."""

    claim: str
    conditions: Mapping[str, bool]

    def __post_init__(self) -> None:
        if not self.claim.strip() or any(not c.strip() for c in self.conditions):
            raise ValueError("expected a claim and conditions in words, got an empty one")

    @property
    def verdict(self) -> Verdict:
        """Holds if all conditions do, partly if some do; not testable without conditions."""
        met = [bool(v) for v in self.conditions.values()]
        if not met:
            return Verdict.UNTESTED
        if all(met):
            return Verdict.HOLDS
        return Verdict.PARTLY if any(met) else Verdict.FAILS

    def _repr_html_(self) -> str:
        kind = self.verdict.name.lower()
        rows = "".join(
            f'<li class="{"met" if ok else "unmet"}">{html.escape(text)}: '
            f"<strong>{'yes' if ok else 'no'}</strong></li>"
            for text, ok in self.conditions.items()
        )
        return (
            f'<div class="verdict verdict-{kind}"><p>{html.escape(self.claim)} '
            f'<span class="badge">{self.verdict}</span></p><ul>{rows}</ul></div>'
        )

    def __repr__(self) -> str:
        rows = "; ".join(f"{text}: {'yes' if ok else 'no'}" for text, ok in self.conditions.items())
        return f"{self.claim} -> {self.verdict} ({rows})"
