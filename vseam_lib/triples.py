"""Question-image-answer triples, the unit of every analysis (paper, section 3).

A triple is a yes/no question ``x`` about an image ``z`` with its single-token answer ``y``,
filed under one of the paper's seven categories (Table 1) and carrying the boxes of the
objects that it asks about.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import pandas as pd


class Level(StrEnum):
    """Concept level of a question (Table 1)."""

    ATTRIBUTE = "attribute"
    OBJECT = "object"
    RELATION = "relation"


class Category(StrEnum):
    """VQA category of a question (Table 1), in the order of the paper's Table 17."""

    COLOR = "color"
    MATERIAL = "material"
    ANIMAL = "animal"
    VEHICLE = "vehicle"
    INDOOR = "indoor"
    ACTION = "action"
    SPATIAL = "spatial"

    @property
    def level(self) -> Level:
        """Concept level of the category (Table 1)."""
        return LEVEL_OF[self]


LEVEL_OF = {
    Category.COLOR: Level.ATTRIBUTE,
    Category.MATERIAL: Level.ATTRIBUTE,
    Category.ANIMAL: Level.OBJECT,
    Category.VEHICLE: Level.OBJECT,
    Category.INDOOR: Level.OBJECT,
    Category.ACTION: Level.RELATION,
    Category.SPATIAL: Level.RELATION,
}


class Box(NamedTuple):
    """Axis-aligned box in pixels of the original image: top-left corner, width, height."""

    x: int
    y: int
    w: int
    h: int

    def check(self, width: int | None = None, height: int | None = None, *, of: str = "box") -> Box:
        """Return the box if it has an area and lies in an image of ``width`` x ``height`` pixels.

        Raises:
            ValueError: naming the box, the image size and what is wrong.
        """
        if self.w <= 0 or self.h <= 0 or self.x < 0 or self.y < 0:
            raise ValueError(
                f"{of}: expected x, y >= 0 and w, h > 0 in pixels, got {tuple(self)}; "
                "boxes are (x, y, width, height), not two corners"
            )
        if width is not None and height is not None:
            if self.x + self.w > width or self.y + self.h > height:
                raise ValueError(
                    f"{of}: {tuple(self)} leaves the {width} x {height} image; "
                    "check that boxes and image come from the same version of the data set"
                )
        return self


@dataclass(frozen=True)
class VQATriple:
    """One yes/no question about one image.

    Attributes:
        id: unique within a data set.
        image_id: the image's id; all splits and all clustered statistics go by it.
        image: path of the image file.
        question: the question as asked.
        answer: ``"Yes"`` or ``"No"``.
        category: one of the seven categories.
        boxes: boxes of the objects in the question's program, the asked object first.
        full_answer: the data set's answer as a sentence, possibly empty.
        source: where the triple came from (``"gqa"``, ``"release"``, ...).
        names: of the boxes' objects, in their order; empty where the source does not say.
        attributes: of the boxes' objects, such as colour and material; empty likewise.
    """

    id: str
    image_id: str
    image: Path
    question: str
    answer: str
    category: Category
    boxes: tuple[Box, ...]
    full_answer: str = ""
    source: str = "gqa"
    names: tuple[str, ...] = ()
    attributes: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if self.answer not in ("Yes", "No"):
            raise ValueError(
                f"triple {self.id}: expected the answer 'Yes' or 'No', got {self.answer!r}"
            )
        if not self.question.strip():
            raise ValueError(f"triple {self.id}: the question is empty")
        object.__setattr__(self, "category", Category(self.category))
        for k, box in enumerate(self.boxes):
            box.check(of=f"triple {self.id}, box {k}")
        for what, values in (("names", self.names), ("attributes", self.attributes)):
            if values and len(values) != len(self.boxes):
                raise ValueError(
                    f"triple {self.id}: expected {what} of all {len(self.boxes)} boxes or none, "
                    f"got {len(values)}"
                )

    @property
    def level(self) -> Level:
        """Concept level of the question's category."""
        return self.category.level


def check_unique(triples: Iterable[VQATriple]) -> list[VQATriple]:
    """Return the triples as a list; raise ``ValueError`` naming ids that occur more than once."""
    triples = list(triples)
    twice = [i for i, n in Counter(t.id for t in triples).items() if n > 1]
    if twice:
        raise ValueError(
            f"expected unique triple ids, got {len(twice)} that repeat: {', '.join(twice[:5])}; "
            "per-sample results are stored by id, so rename or drop the duplicates"
        )
    return triples


def by_category(triples: Iterable[VQATriple]) -> dict[Category, list[VQATriple]]:
    """Group triples by category, in the order of :class:`Category`; empty categories are absent."""
    groups: dict[Category, list[VQATriple]] = {}
    for triple in triples:
        groups.setdefault(triple.category, []).append(triple)
    return {c: groups[c] for c in Category if c in groups}


def select_eq4(
    triples: Sequence[VQATriple], clean_right: Sequence[bool], edited_right: Sequence[bool]
) -> list[VQATriple]:
    """Eq. 4: keep triples answered rightly on the clean image and wrongly on the edited one."""
    if not len(triples) == len(clean_right) == len(edited_right):
        raise ValueError(
            "expected one clean and one edited verdict per triple, got "
            f"{len(triples)} triples, {len(clean_right)} clean and {len(edited_right)} edited"
        )
    return [t for t, c, e in zip(triples, clean_right, edited_right, strict=True) if c and not e]


def _draw(seed: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing but ``seed`` and ``key``."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:6]) / 2**48


def _in_fixed_order(triples: Iterable[VQATriple]) -> list[VQATriple]:
    rank = {c: k for k, c in enumerate(Category)}
    return sorted(triples, key=lambda t: (rank[t.category], t.id))


def split_by_image(
    triples: Iterable[VQATriple], seed: int, shares: Sequence[float] = (0.5, 0.5)
) -> tuple[list[VQATriple], ...]:
    """Split triples so that all questions about an image land in the same part.

    The part of an image depends on its id and the seed alone: two categories that are split on
    their own, or a data set that grew, agree on where a shared image belongs. The sizes of the
    parts therefore match ``shares`` on average, not exactly.

    Args:
        triples: in any order; the order does not matter.
        seed: another seed gives another split.
        shares: expected share of the images in each part; they sum to 1.

    Returns:
        One list per share, each ordered by category and id.

    Raises:
        ValueError: shares that are not positive or do not sum to 1, or a part without images.
    """
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(f"expected positive shares that sum to 1, got {tuple(shares)}")
    ordered = _in_fixed_order(triples)
    parts: tuple[list[VQATriple], ...] = tuple([] for _ in shares)
    for triple in ordered:
        draw = _draw(seed, triple.image_id)
        index = sum(draw >= sum(shares[: k + 1]) for k in range(len(shares) - 1))
        parts[index].append(triple)
    if ordered and not all(parts):
        images = len({t.image_id for t in ordered})
        raise ValueError(
            f"expected images in each of the {len(shares)} parts, got parts of "
            f"{[len(p) for p in parts]} triples from {images} images with seed {seed}; use more "
            "images or another seed"
        )
    return parts


def sample(triples: Iterable[VQATriple], n: int | None, seed: int) -> list[VQATriple]:
    """Draw at most ``n`` triples per category, half "Yes" and half "No" as far as possible.

    Size comes before balance: when one answer runs out, the other fills up. A category with
    fewer than ``n`` triples is returned whole, so that one ``n`` serves all categories; see
    :func:`table1` for what was drawn. A smaller ``n`` draws a subset of a larger one. Categories
    prefer the same images, because questions about one image are cheaper together.

    Args:
        triples: in any order; the order does not matter.
        n: number per category; ``None`` keeps all.
        seed: another seed draws other triples.

    Returns:
        The triples ordered by category and id.

    Raises:
        ValueError: ``n`` below 1, or repeated ids.
    """
    if n is not None and n < 1:
        raise ValueError(f"expected n of at least 1, or None for all, got {n}")
    drawn = []
    for group in by_category(check_unique(triples)).values():
        shuffled = sorted(group, key=lambda t: (_draw(seed, t.image_id), t.id))
        seen: Counter[str] = Counter()
        turns = []
        for triple in shuffled:
            turns.append((seen[triple.answer], triple))
            seen[triple.answer] += 1
        turns.sort(key=lambda turn: turn[0])
        drawn += [triple for _, triple in turns[:n]]
    return _in_fixed_order(drawn)


def table1(triples: Iterable[VQATriple]) -> pd.DataFrame:
    """Counts in the form of Table 1: one row per category that occurs.

    Columns: ``level``, ``category``, ``size`` (triples), ``yes_share`` (0 to 1) and ``images``
    (distinct ones).
    """
    rows = [
        {
            "level": str(category.level),
            "category": str(category),
            "size": len(group),
            "yes_share": sum(t.answer == "Yes" for t in group) / len(group),
            "images": len({t.image_id for t in group}),
        }
        for category, group in by_category(triples).items()
    ]
    return pd.DataFrame(rows, columns=["level", "category", "size", "yes_share", "images"])
