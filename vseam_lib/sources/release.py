"""Reader for the question files of the V-SEAM release: 7,571 records in seven files.

The files are rewritten GQA questions without images, licence or image sizes; load your own copy.
``Color.json`` is an object question id -> record, the others are lists; the names of a record's
objects are ``involved_objects`` or ``relevant_objects``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vseam_lib.sources.conflicts import label_conflict
from vseam_lib.sources.reading import ReadReport, load_json, one_of, wanted_categories
from vseam_lib.triples import Box, Category, VQATriple, check_unique

FILES = {
    Category.COLOR: "Attribute_Level/Color/Color.json",
    Category.MATERIAL: "Attribute_Level/Material/Material.json",
    Category.ANIMAL: "Object_Level/Animal/Animal.json",
    Category.VEHICLE: "Object_Level/Vehicle/Vehicle.json",
    Category.INDOOR: "Object_Level/Indoor/Indoor.json",
    Category.ACTION: "Relation_Level/Action/Action.json",
    Category.SPATIAL: "Relation_Level/Spatial/Spatial.json",
}


def read_release(
    root: Path | str,
    categories: Iterable[Category | str] | None = None,
    *,
    dedupe: bool = False,
    drop_label_conflicts: bool = False,
    images: Path | str | None = None,
    boxes: str = "program",
    report: ReadReport | None = None,
) -> list[VQATriple]:
    """Read the release's questions.

    Args:
        root: the release, its ``data`` or its ``GQA`` directory.
        categories: the categories to read; all seven by default.
        dedupe: of records with the same category, image and question, keep the first.
        drop_label_conflicts: leave out records whose label the full answer contradicts
            (:func:`vseam_lib.sources.conflicts.label_conflict`), then all records of a question
            that is still labelled both ways.
        images: directory of GQA's images; ``{imageId}.jpg`` is appended without a look at the
            disk, since the release comes without images.
        boxes: which box belongs to which name. ``"program"``: the boxes are in the order of the
            object ids in ``semanticStr``, the only order that fits all records, and are returned
            so. ``"involved_objects"``, as released: box k belongs to name k, and the boxes are
            returned in the order in which the question mentions those names.
        report: filled with the ids that ``dedupe`` and ``drop_label_conflicts`` left out.

    Returns:
        The triples file by file in the order of :class:`Category`, boxes in pixels.

    Raises:
        FileNotFoundError: no such directory or file.
        ValueError: a malformed file, a number of boxes that differs from the number of objects
            in the program, or repeated question ids.
    """
    one_of("boxes", boxes, ("program", "involved_objects"))
    wanted = wanted_categories(categories)
    report = ReadReport() if report is None else report
    base = _base(Path(root))
    folder = Path(images) if images is not None else Path()
    triples = []
    for category in wanted:
        for qid, record in _records(base / FILES[category]):
            report.read += 1
            triples.append(_triple(qid, record, category, folder, boxes))
    check_unique(triples)
    if drop_label_conflicts:
        triples = _without_conflicts(triples, report)
    if dedupe:
        triples = _without_duplicates(triples, report)
    report.kept += len(triples)
    return triples


def _base(root: Path) -> Path:
    for base in (root, root / "GQA", root / "data" / "GQA"):
        if (base / "Attribute_Level").is_dir():
            return base
    raise FileNotFoundError(
        f"{root}: expected the V-SEAM release with GQA/Attribute_Level, GQA/Object_Level and "
        "GQA/Relation_Level, there or below data/, found none; clone the release and pass its path"
    )


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a file of the V-SEAM release, found none; clone the release again "
            "or leave this category out"
        )
    content = load_json(path)
    if isinstance(content, dict):
        pairs = list(content.items())
    elif isinstance(content, list):
        pairs = [(r.get("question_id") if isinstance(r, dict) else None, r) for r in content]
    else:
        pairs = [(None, content)]
    for qid, record in pairs:
        if not isinstance(qid, str) or not isinstance(record, dict):
            raise ValueError(
                f"{path}: expected an object question id -> record or a list of records with "
                f"'question_id', got an entry {str(record)[:80]!r}; use the file as released"
            )
        yield qid, record


def _triple(
    qid: str, record: dict[str, Any], category: Category, folder: Path, box_map: str
) -> VQATriple:
    try:
        names = record.get("involved_objects", record.get("relevant_objects"))
        program = record["semanticStr"]
        found = [Box(*(p[k] for k in ("x", "y", "w", "h"))) for p in record["object_positions"]]
        question, image_id = record["question"], record["imageId"]
        answer, full_answer = record["answer"], record["fullAnswer"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{category} record {qid}: expected question, answer, fullAnswer, imageId, semanticStr "
            f"and object_positions with x, y, w, h; {error} is missing; use the file as released"
        ) from error
    ids = re.findall(r" \((\d+)\)", program)
    if len(ids) != len(found) or not found:
        raise ValueError(
            f"{category} record {qid}: expected one box per object of its program, got "
            f"{len(found)} boxes for {len(ids)} objects in {program!r}; without that, boxes cannot "
            "be told apart"
        )
    if box_map == "involved_objects":
        found = _by_mention(question, names or [], found)
    return VQATriple(
        id=qid,
        image_id=image_id,
        image=folder / f"{image_id}.jpg",
        question=question,
        answer=answer,
        category=category,
        boxes=tuple(found),
        full_answer=full_answer,
        source="release",
    )


def _by_mention(question: str, names: list[str], boxes: list[Box]) -> list[Box]:
    """Boxes ordered by where the question mentions the name of the same index; nameless last."""

    def place(k: int) -> tuple[int, int]:
        at = question.lower().find(names[k].lower()) if k < len(names) else -1
        return (at if at >= 0 else len(question), k)

    return [boxes[k] for k in sorted(range(len(boxes)), key=place)]


def _asks(t: VQATriple) -> tuple[Category, str, str]:
    """What makes two records the same; within a category, so that files can be read alone."""
    return t.category, t.image_id, t.question


def _without_conflicts(triples: list[VQATriple], report: ReadReport) -> list[VQATriple]:
    plausible = []
    labels = defaultdict(set)
    for t in triples:
        reason = label_conflict(t.category, t.question, t.answer, t.full_answer)
        if reason:
            report.drop(reason, t.id)
        else:
            plausible.append(t)
            labels[_asks(t)].add(t.answer)
    kept = []
    for t in plausible:
        if len(labels[_asks(t)]) > 1:
            report.drop("the same question about the image is labelled both ways", t.id)
        else:
            kept.append(t)
    return kept


def _without_duplicates(triples: list[VQATriple], report: ReadReport) -> list[VQATriple]:
    seen = set()
    kept = []
    for t in triples:
        if _asks(t) in seen:
            report.drop("the same question about the same image", t.id)
        else:
            seen.add(_asks(t))
            kept.append(t)
    return kept
