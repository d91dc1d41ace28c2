"""The paper's claims as data: ``claims()`` reads ``claims.yml``, one row per claim.

A row says what is claimed and where, the paper's own number, and either the chapter that decides
it with the conditions that do (fixed in words, before any result), or why nothing here can.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("claims.yml")
_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_CHAPTER = re.compile(r"\d\d_[a-z0-9_]+")
_SECTION = re.compile(r"abstract|limitations|section \d+(?:\.\d+)?|appendix [A-Z]")


@dataclass(frozen=True)
class Claim:
    """What the paper claims, and how it is decided here.

    ``conditions`` maps a short key to the condition in words. A claim has a ``chapter`` and
    conditions, or the reason why it is ``untestable``.

    Raises:
        ValueError: a field is empty, of another form, or missing.
    """

    id: str
    claim: str
    where: str
    paper: str
    chapter: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)
    untestable: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not _ID.fullmatch(self.id):
            raise ValueError(f"expected an id of a-z, 0-9 and single hyphens, got {self.id!r}")
        words = {"claim": self.claim, "where": self.where, "paper": self.paper}
        for name, text in words.items():
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"claim {self.id!r}: expected {name} in words, got {text!r}")
        if not _SECTION.match(self.where):
            raise ValueError(
                f"claim {self.id!r}: expected where to begin with abstract, section N, "
                f"appendix X or limitations, got {self.where!r}"
            )
        if bool(self.untestable) == bool(self.chapter or self.conditions):
            raise ValueError(
                f"claim {self.id!r}: expected either chapter and conditions or untestable, got "
                + ("both" if self.untestable else "neither")
            )
        if self.untestable:
            if not isinstance(self.untestable, str) or not self.untestable.strip():
                raise ValueError(
                    f"claim {self.id!r}: expected a reason in words, got {self.untestable!r}"
                )
            return
        if not isinstance(self.chapter, str) or not _CHAPTER.fullmatch(self.chapter):
            raise ValueError(
                f"claim {self.id!r}: expected a chapter such as 06_rescaling, got {self.chapter!r}"
            )
        _check_conditions(self.id, self.conditions)

    @property
    def section(self) -> str:
        """Where the claim stands first: ``abstract``, ``section 5.2``, ``appendix C``."""
        return _SECTION.match(self.where)[0]


def _check_conditions(owner: str, conditions: object) -> None:
    if not isinstance(conditions, Mapping) or not conditions:
        raise ValueError(f"claim {owner!r}: expected conditions by key, got {conditions!r}")
    for key, text in conditions.items():
        if not isinstance(key, str) or not re.fullmatch(r"[a-z0-9_]+", key):
            raise ValueError(f"claim {owner!r}: expected a key of a-z, 0-9 and _, got {key!r}")
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"claim {owner!r}: expected condition {key} in words, got {text!r}")


class _Strict(yaml.SafeLoader):
    """YAML in which a key given twice is an error, not the last one's value."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = sorted({str(k) for k in keys if keys.count(k) > 1})
        if twice:
            raise ValueError(
                f"{self.name}, line {node.start_mark.line + 1}: given twice: {', '.join(twice)}"
            )
        return super().construct_mapping(node, deep=deep)


def read_claims(path: Path | str = FILE) -> dict[str, Claim]:
    """Claims of a YAML file by id, in its order.

    Raises:
        ValueError: the file is not a list of rows, a row has a field too many or too few, an id
            or a key is there twice, or a field is empty.
    """
    path = Path(path)
    with path.open(encoding="utf-8") as stream:
        rows = yaml.load(stream, Loader=_Strict)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{path.name}: expected a list of claims, one mapping each")
    known: dict[str, Claim] = {}
    for number, row in enumerate(rows, 1):
        name = f"{path.name}, claim {number} ({row.get('id', 'no id')})"
        extra = sorted(set(row) - set(Claim.__dataclass_fields__))
        missing = sorted({"id", "claim", "where", "paper"} - set(row))
        if extra or missing:
            raise ValueError(f"{name}: unknown fields {extra}, missing fields {missing}")
        claim = Claim(**row)
        if claim.id in known:
            raise ValueError(f"{name}: the id is there twice; ids are unique")
        known[claim.id] = claim
    return known


@cache
def claims() -> dict[str, Claim]:
    """The paper's claims by id, in the order of ``claims.yml``."""
    return read_claims()


def claim(name: str) -> Claim:
    """The claim with an id.

    Raises:
        KeyError: no claim has this id; the message lists similar ones.
    """
    known = claims()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or sorted(known)
        raise KeyError(f"no claim {name!r} in {FILE.name}; did you mean {', '.join(near)}?")
    return known[name]
