"""Reader for POPE's official question files (Li et al., 2023): three JSON-lines files.

``coco_pope_random.json``, ``coco_pope_popular.json`` and ``coco_pope_adversarial.json`` hold one
object per line with ``question_id``, ``image`` (a file name), ``text`` and ``label``. All three ask
the same questions about objects that are in the pictures; they differ in the absent ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

SUBSETS = ("random", "popular", "adversarial")
ANSWERS = {"yes": "Yes", "no": "No"}
REVISIONS = {3000: "current, 3,000 rows", 2910: "older random subset, 2,910 rows"}


@dataclass(frozen=True)
class PopeQuestion:
    """One row of a POPE file, with what the engine reads of a question.

    Attributes:
        id: ``{subset}-{question_id}``.
        image_id: the image's file name without ending.
        image: path of the image file.
        answer: ``"Yes"`` or ``"No"``.
        subset: a name of :data:`SUBSETS`.
    """

    id: str
    image_id: str
    image: Path
    question: str
    answer: str
    subset: str

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS or self.answer not in ANSWERS.values():
            raise ValueError(
                f"question {self.id}: expected a subset in {SUBSETS} and the answer 'Yes' or 'No', "
                f"got {self.subset!r} and {self.answer!r}"
            )

    @property
    def category(self) -> str:
        return self.subset


def read_pope(
    root: Path | str,
    subsets: Iterable[str] = SUBSETS,
    *,
    images: Path | str | None = None,
    check_images: bool = True,
) -> list[PopeQuestion]:
    """Read the questions of some subsets, file by file in the order of the rows.

    Args:
        root: directory of the three files.
        images: directory of the pictures; ``images/`` below ``root`` by default.
        check_images: look for every picture on the disk.

    Raises:
        FileNotFoundError: no such file or picture, named.
        ValueError: a file that is no JSON lines, a row without the four fields, a label other than
            yes and no, or a question id that occurs twice in a file.
    """
    root, subsets = Path(root), list(subsets)
    if not subsets or set(subsets) - set(SUBSETS):
        raise ValueError(f"expected subsets out of {', '.join(SUBSETS)}, got {subsets}")
    folder = Path(images) if images is not None else root / "images"
    return [q for s in subsets for q in _read(root, s, folder, check_images)]


def _read(root: Path, subset: str, folder: Path, check_images: bool) -> Iterator[PopeQuestion]:
    path = root / f"coco_pope_{subset}.json"
    if not path.is_file():
        there = sorted(p.name for p in root.glob("*.json")) or "no .json file"
        raise FileNotFoundError(f"{path}: expected POPE's {subset} questions there, found {there}")
    seen: set[str] = set()
    for number, row in _lines(path):
        where = f"{path}, line {number}"
        try:
            qid, name = str(row["question_id"]), str(row["image"])
            text, label = row["text"], row["label"]
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{where}: expected question_id, image, text and label, got {str(row)[:80]}"
            ) from error
        if label not in ANSWERS:
            raise ValueError(f"{where}: expected the label 'yes' or 'no', got {label!r}")
        if qid in seen:
            raise ValueError(
                f"{where}: expected unique question ids, but {qid} comes again; results are kept "
                "by id, so join files only after renumbering"
            )
        seen.add(qid)
        image = folder / name
        if check_images and not image.is_file():
            raise FileNotFoundError(
                f"{where}: expected the picture {name} in {folder}, found none; POPE asks about "
                "COCO's val2014, unpack it and pass its folder as images"
            )
        yield PopeQuestion(f"{subset}-{qid}", image.stem, image, text, ANSWERS[label], subset)


def _lines(path: Path) -> Iterator[tuple[int, object]]:
    """The objects of a JSON-lines file with their line numbers."""
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        raise ValueError(
            f"{path}: expected JSON lines, one object per line, got a JSON array; the official "
            "files have no brackets around their rows"
        )
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number}: expected one JSON object, got {line[:60]!r} ({error}); "
                "the file may be an incomplete download"
            ) from error


def distinct(
    questions: Sequence[PopeQuestion],
) -> tuple[list[PopeQuestion], dict[str, str]]:
    """Each question about each picture once, and every row's id -> the id that stands for it.

    Rows of several subsets that ask the same are answered once.

    Raises:
        ValueError: rows that ask the same and are labelled both ways.
    """
    first: dict[tuple[str, str], PopeQuestion] = {}
    stands_for = {}
    for q in questions:
        one = first.setdefault((q.image_id, q.question), q)
        if one.answer != q.answer:
            raise ValueError(
                f"{q.image_id}, {q.question!r}: labelled {one.answer} in {one.id} and {q.answer} "
                f"in {q.id}; the files are of different revisions or damaged"
            )
        stands_for[q.id] = one.id
    return list(first.values()), stands_for


def of_images(questions: Sequence[PopeQuestion], n: int, seed: int) -> list[PopeQuestion]:
    """The questions about ``n`` pictures; a smaller ``n`` takes a part of the pictures of a larger.

    Raises:
        ValueError: ``n`` below 1 or above the number of pictures.
    """
    names = np.random.default_rng(seed).permutation(sorted({q.image_id for q in questions}))
    if not 1 <= n <= len(names):
        raise ValueError(f"expected a number of pictures from 1 to {len(names)}, got {n}")
    wanted = set(names[:n].tolist())
    return [q for q in questions if q.image_id in wanted]


def table15(questions: Sequence[PopeQuestion]) -> pd.DataFrame:
    """Sizes in the form of Table 15, one row per subset that occurs.

    Columns: ``subset``, ``size``, ``yes_share`` (0 to 1), ``images``, ``shared`` (share of the Yes
    questions that all subsets have, 0 to 1), ``revision`` (which of the published files has this
    size) and ``example``.
    """
    subsets = [s for s in SUBSETS if any(q.subset == s for q in questions)]
    yes = {
        s: {(q.image_id, q.question) for q in questions if q.subset == s and q.answer == "Yes"}
        for s in subsets
    }
    common = set.intersection(*yes.values()) if yes else set()
    rows = []
    for subset in subsets:
        own = [q for q in questions if q.subset == subset]
        answers = Counter(q.answer for q in own)
        rows.append(
            {
                "subset": subset,
                "size": len(own),
                "yes_share": answers["Yes"] / len(own),
                "images": len({q.image_id for q in own}),
                "shared": len(common) / len(yes[subset]) if yes[subset] else float("nan"),
                "revision": REVISIONS.get(len(own), "other"),
                "example": own[0].question,
            }
        )
    return pd.DataFrame(rows)
