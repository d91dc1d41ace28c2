"""Open questions with one-word answers: COCO-QA (Ren et al., 2015), official or as released.

Officially, ``train/`` and ``test/`` hold four files whose lines belong together: ``img_ids.txt``,
``questions.txt``, ``answers.txt`` and ``types.txt`` (0 object, 1 number, 2 colour, 3 location).
The V-SEAM release carries three CSV files of one type each, none of them objects.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

TYPES = ("object", "number", "color", "location")  # by their code
COLUMNS = ("img_ids", "questions", "answers", "types")
RELEASED = {"color": "color", "count": "number", "location": "location"}  # file name -> type
_NAMES = ("{}.jpg", "{}.png", "COCO_val2014_{:0>12}.jpg", "COCO_train2014_{:0>12}.jpg")


@dataclass(frozen=True)
class OpenQuestion:
    """A question with a short answer in words, with what the engine reads of a question.

    Attributes:
        id: unique within its source.
        image_id, image: the picture's id and file.
        answer: in lower case.
        kind: what is asked for; a name of :data:`TYPES` for COCO-QA.
    """

    id: str
    image_id: str
    image: Path
    question: str
    answer: str
    kind: str

    def __post_init__(self) -> None:
        if not (self.question.strip() and self.answer.strip() and self.kind):
            raise ValueError(
                f"question {self.id}: expected a question, answer and kind, got {self}"
            )

    @property
    def category(self) -> str:
        return self.kind


def read_cocoqa(
    root: Path | str,
    split: str = "test",
    *,
    images: Path | str | None = None,
    check_images: bool = True,
) -> list[OpenQuestion]:
    """Read an official directory; ids are ``{split}-{line}``, lines counted from 1.

    Args:
        root: directory with ``train/`` and ``test/``.
        images: directory of the pictures, named by their id or as COCO names them; ``images/``
            below ``root`` by default.
        check_images: look for every picture on the disk.

    Raises:
        FileNotFoundError: no such file or picture, named.
        ValueError: files with different numbers of lines, or a type other than 0 to 3.
    """
    folder = Path(root) / split
    columns = {name: _lines(folder / f"{name}.txt") for name in COLUMNS}
    counts = {name: len(lines) for name, lines in columns.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name}.txt {n}" for name, n in counts.items())
        raise ValueError(
            f"{folder}: expected files of equally many lines, which belong together, got {said}; "
            "fetch the directory again"
        )
    pictures = Path(images) if images is not None else Path(root) / "images"
    found = []
    for number, (image, question, answer, code) in enumerate(
        zip(*columns.values(), strict=True), start=1
    ):
        where = f"{folder}, line {number}"
        if code not in ("0", "1", "2", "3"):
            raise ValueError(
                f"{where}: expected a type from 0 to 3 ({', '.join(TYPES)}), got {code!r}"
            )
        path = _picture(pictures, image, where, check_images)
        kind = TYPES[int(code)]
        found.append(OpenQuestion(f"{split}-{number}", image, path, question, answer, kind))
    return found


def read_released(
    root: Path | str,
    *,
    images: Path | str | None = None,
    check_images: bool = True,
) -> list[OpenQuestion]:
    """Read the CSV files of the V-SEAM release that are there; ids are ``{file}-{index}``.

    Args:
        root: directory of ``color_coco_qa.csv``, ``count_coco_qa.csv``, ``location_coco_qa.csv``.
        images, check_images: as for :func:`read_cocoqa`.

    Raises:
        FileNotFoundError: none of the three files, or a picture that is missing.
        ValueError: other columns, or an index that occurs twice in a file.
    """
    pictures = Path(images) if images is not None else Path(root) / "images"
    paths = {name: Path(root) / f"{name}_coco_qa.csv" for name in RELEASED}
    if not any(path.is_file() for path in paths.values()):
        raise FileNotFoundError(
            f"{root}: expected one of {', '.join(p.name for p in paths.values())}, found none"
        )
    found = []
    for name, path in paths.items():
        if not path.is_file():
            continue
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        wanted = ["Unnamed: 0", "train_image_id_count", "question_count", "answer_count"]
        if list(table.columns) != wanted:
            raise ValueError(
                f"{path}: expected an unnamed index and the columns {', '.join(wanted[1:])}, got "
                f"{', '.join(table.columns)}"
            )
        twice = table["Unnamed: 0"][table["Unnamed: 0"].duplicated()]
        if len(twice):
            raise ValueError(
                f"{path}: expected unique indices, got {len(twice)} that repeat, first "
                f"{twice.iloc[0]}; results are kept by id"
            )
        for index, image, question, answer in table.itertuples(index=False):
            where = f"{path}, index {index}"
            picture = _picture(pictures, image, where, check_images)
            kind = RELEASED[name]
            found.append(OpenQuestion(f"{name}-{index}", image, picture, question, answer, kind))
    return found


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a file of COCO-QA's official layout, found none; it has "
            f"{', '.join(f'{c}.txt' for c in COLUMNS)} in train/ and in test/"
        )
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]


def _picture(folder: Path, image_id: str, where: str, check: bool) -> Path:
    """The first of the names that a picture may have; without a check, COCO's for val2014."""
    names = [name.format(image_id) for name in _NAMES]
    if not check:
        return folder / names[2]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{where}: expected the picture {' or '.join(names)} in {folder}, found none; unpack "
        "COCO's images and pass their folder as images"
    )


def per_kind(questions: Iterable[OpenQuestion], n: int | None, seed: int) -> list[OpenQuestion]:
    """At most ``n`` questions of each kind, drawn at random; ``None`` keeps all.

    A smaller ``n`` draws a part of a larger. The result is ordered by kind and id.

    Raises:
        ValueError: ``n`` below 1.
    """
    if n is not None and n < 1:
        raise ValueError(f"expected n of at least 1, or None for all, got {n}")
    groups: dict[str, list[OpenQuestion]] = {}
    for q in sorted(questions, key=lambda q: (q.kind, q.id)):
        groups.setdefault(q.kind, []).append(q)
    drawn = []
    for own in groups.values():
        order = np.random.default_rng(seed).permutation(len(own))[:n]
        drawn += [own[i] for i in sorted(order)]
    return drawn


def table16(questions: Sequence[OpenQuestion]) -> pd.DataFrame:
    """Sizes in the form of Table 16: ``kind``, ``size``, ``share`` (per cent), ``answers``
    (distinct ones), ``repeats`` (questions asked before about the same picture), ``example``.
    """
    rows = []
    for kind in dict.fromkeys(q.kind for q in questions):
        own = [q for q in questions if q.kind == kind]
        rows.append(
            {
                "kind": kind,
                "size": len(own),
                "share": 100 * len(own) / len(questions),
                "answers": len({q.answer for q in own}),
                "repeats": len(own) - len({(q.image_id, q.question) for q in own}),
                "example": f"{own[0].question}: {own[0].answer}",
            }
        )
    columns = ["kind", "size", "share", "answers", "repeats", "example"]
    return pd.DataFrame(rows, columns=columns)
