"""Reader for GQA's official layout (Hudson and Manning, 2019); the embedded world uses it too.

The files are those of :mod:`vseam_lib.sources.gqa_files`.

Appendix B of the paper keeps yes/no questions with one predicate. In GQA's functional programs
these are four shapes:

1. ``select: dog (1) -> verify color: brown``: color;
2. ``select: chair (1) -> verify material: wood``: material;
3. ``select: dog (1) -> exist: ?``: animal, vehicle or indoor, by the noun;
4. ``select: man (1) -> verify rel: horse,riding,o (2)``: action or spatial, by the relation; the
   final ``o`` makes the second name the relation's object, ``s`` its subject.

Every other program is skipped and counted. :mod:`vseam_lib.sources.ontology` holds the lists.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vseam_lib.sources.gqa_files import image_folders, question_files, records, scene_graphs
from vseam_lib.sources.ontology import is_color, is_material, noun_category, relation_category
from vseam_lib.sources.reading import (
    ReadReport,
    check_image,
    find_image,
    one_of,
    wanted_categories,
)
from vseam_lib.triples import Box, Category, VQATriple, check_unique

_REFERENCE = re.compile(r"^(?P<text>.*\S)\s+\((?P<ids>-|\w+(?:,\s*\w+)*)\)$")


class Asked(NamedTuple):
    """What a program asks: its category and the objects it names, in program order.

    ``objects`` has one entry per named object: its ids in the scene graph, empty for ``(-)``.
    """

    category: Category
    objects: tuple[tuple[str, ...], ...]
    subject_last: bool = False


def read_gqa(
    root: Path | str,
    split: str,
    *,
    categories: Iterable[Category | str] | None = None,
    boxes: str = "program",
    on_missing_box: str = "error",
    clip_boxes: bool = False,
    check_images: bool = True,
    report: ReadReport | None = None,
) -> list[VQATriple]:
    """Read the paper's yes/no questions from a directory in GQA's layout.

    An object that the image lacks is written ``(-)`` in the program. Its place is taken by the
    objects that ``annotations.fullAnswer`` points to and the program does not, in the order of
    the answer's words: for "Is there a dog?" answered "No, there is a cat.", the cat.

    Args:
        root: directory of the data set.
        split: ``train``, ``val``, ``train_all``, ...; the embedded world has its own names.
        categories: the categories to keep; all seven by default.
        boxes: order of the boxes of a relation question, ``"program"`` or ``"subject_first"``.
            They differ for programs that end in ``,s``, which name the subject last.
        on_missing_box: for a question none of whose objects has a box: ``"error"``; ``"drop"``
            leaves it out; ``"keep"`` returns it with no boxes, for analyses that edit nothing.
            Most absent objects of genuine GQA have no substitute, so ``"drop"`` leaves its
            object level nearly without "No": look at :func:`vseam_lib.triples.table1`.
        clip_boxes: cut boxes to the image; GQA itself has some that leave it by a pixel.
        check_images: decode every image and compare its size with the scene graph's.
        report: filled with what was skipped, dropped and clipped.

    Returns:
        The triples in the order of the file(s), answers as "Yes" and "No", boxes in pixels.

    Raises:
        FileNotFoundError: a missing directory, file, split or image.
        ValueError: malformed files, a missing box, a box outside its image, a damaged image,
            repeated question ids, or no question of the categories asked for.
    """
    one_of("boxes", boxes, ("program", "subject_first"))
    one_of("on_missing_box", on_missing_box, ("error", "drop", "keep"))
    wanted = wanted_categories(categories)
    report = ReadReport() if report is None else report
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"{root}: expected the directory of a GQA data set, found none; unpack GQA's "
            "questions, scene graphs and images there, or generate the embedded world"
        )
    files = question_files(root, split)
    graphs = scene_graphs(root, split)
    folders = image_folders(root)

    images: dict[str, Path] = {}
    triples = []
    for qid, record in records(files):
        report.read += 1
        answer = _field(record, "answer", str, qid).strip().lower()
        if answer not in ("yes", "no"):
            report.skipped["the answer is neither yes nor no"] += 1
            continue
        asked = classify(_field(record, "semantic", list, qid))
        if asked is None:
            report.skipped["the program is none of the seven categories'"] += 1
            continue
        if asked.category not in wanted:
            report.skipped["a category that was not asked for"] += 1
            continue
        image_id = _field(record, "imageId", str, qid)
        if image_id not in graphs:
            raise ValueError(
                f"question {qid}: expected a scene graph of image {image_id}, the scene graphs of "
                f"split {split!r} have none; questions and scene graphs must be of one version"
            )
        graph = graphs[image_id]
        ids = _box_ids(asked, record, subject_first=boxes == "subject_first")
        found, was_clipped, problem = _boxes(qid, image_id, graph, ids, clip=clip_boxes)
        entries = [graph["objects"][i] for i in ids] if found else []
        if not found:
            if on_missing_box == "error":
                raise ValueError(
                    f"question {qid} ({record.get('question')!r}): expected the box of the object "
                    f"it asks about, but {problem}; pass on_missing_box='drop' to leave such "
                    "questions out or 'keep' to read them without boxes"
                )
            if on_missing_box == "drop":
                report.drop("no box of the asked object", qid)
                continue
        if was_clipped:
            report.clipped.append(qid)
        if image_id not in images:
            images[image_id] = find_image(folders, image_id, needed_by=f"question {qid}")
            if check_images:
                check_image(images[image_id], *_size(graph, image_id))
        triples.append(
            VQATriple(
                id=qid,
                image_id=image_id,
                image=images[image_id],
                question=_field(record, "question", str, qid),
                answer=answer.capitalize(),
                category=asked.category,
                boxes=found,
                full_answer=record.get("fullAnswer") or "",
                source="gqa",
                names=tuple(str(entry.get("name", "")) for entry in entries),
                attributes=tuple(tuple(entry.get("attributes") or ()) for entry in entries),
            )
        )
    report.kept += len(triples)
    if not triples:
        raise ValueError(
            f"{root}, split {split!r}: expected questions of {', '.join(wanted)}, found none "
            f"({report}); check the split and the categories"
        )
    return check_unique(triples)


def objects_in_images(root: Path | str, split: str) -> dict[str, frozenset[str]]:
    """Names of all objects that the scene graph of each image lists."""
    graphs = scene_graphs(Path(root), split)
    return {
        image_id: frozenset(o["name"] for o in (graph.get("objects") or {}).values())
        for image_id, graph in graphs.items()
    }


def classify(program: list[dict[str, Any]]) -> Asked | None:
    """Category and objects of a functional program; ``None`` for one the paper does not use."""
    steps = [(str(s.get("operation", "")), str(s.get("argument", ""))) for s in program]
    if len(steps) != 2 or steps[0][0] != "select":
        return None
    (_, selected), (operation, argument) = steps
    name, first = _reference(selected)
    if first is None or argument.startswith("not("):
        return None
    if operation == "exist":
        category = noun_category(name)
        return Asked(category, (first,)) if category else None
    if operation == "verify color" or (operation == "verify" and is_color(argument)):
        return Asked(Category.COLOR, (first,))
    if operation == "verify material" or (operation == "verify" and is_material(argument)):
        return Asked(Category.MATERIAL, (first,))
    if operation == "verify rel":
        text, second = _reference(argument)
        parts = text.split(",")
        if second is None or len(parts) != 3 or parts[2] not in ("s", "o"):
            return None
        category = relation_category(parts[1])
        return Asked(category, (first, second), parts[2] == "s") if category else None
    return None


def _reference(argument: str) -> tuple[str, tuple[str, ...] | None]:
    """Split ``dog (12,13)`` into text and ids; ``(-)`` gives ``()``, no reference ``None``."""
    match = _REFERENCE.match(argument.strip())
    if match is None:
        return argument.strip(), None
    ids = match["ids"]
    return match["text"], () if ids == "-" else tuple(i.strip() for i in ids.split(","))


def _box_ids(asked: Asked, record: dict[str, Any], *, subject_first: bool) -> list[str]:
    """Ids of the objects whose boxes a triple carries, absent objects replaced."""
    named = {i for ids in asked.objects for i in ids}
    words = ((record.get("annotations") or {}).get("fullAnswer") or {}).items()
    in_answer = [
        i.strip()
        for _, ids in sorted(words, key=lambda item: int(item[0].split(":")[0]))
        for i in str(ids).split(",")
    ]
    spare = [i for i in in_answer if i not in named]
    groups = []
    for ids in asked.objects:
        groups.append(ids or tuple(spare))
        spare = spare if ids else []
    if subject_first and asked.subject_last:
        groups.reverse()
    return list(dict.fromkeys(i for ids in groups for i in ids))


def _boxes(
    qid: str, image_id: str, graph: dict[str, Any], ids: list[str], *, clip: bool
) -> tuple[tuple[Box, ...], bool, str]:
    """Boxes of scene-graph objects, whether one was cut, and why there is none if there is none.

    An id without a usable box leaves the question without any: half of its objects is not what
    it asks about.
    """
    if not ids:
        return (), False, "the program marks it absent, (-), and the full answer names no other"
    width, height = _size(graph, image_id)
    found, was_clipped = [], False
    for oid in ids:
        entry = (graph.get("objects") or {}).get(oid)
        if entry is None:
            return (), False, f"the scene graph of image {image_id} has no object {oid}"
        values = [entry.get(k) for k in ("x", "y", "w", "h")]
        if not all(isinstance(v, int) for v in values):
            raise ValueError(
                f"question {qid}: expected whole pixels x, y, w, h of object {oid} in the scene "
                f"graph of image {image_id}, got {values}; the scene graph is damaged"
            )
        box = Box(*values)
        if clip:
            x, y = max(box.x, 0), max(box.y, 0)
            right, bottom = min(box.x + box.w, width), min(box.y + box.h, height)
            if right <= x or bottom <= y:
                return (), False, f"the box {tuple(box)} of object {oid} has no area in the image"
            cut = Box(x, y, right - x, bottom - y)
            was_clipped |= cut != box
            box = cut
        try:
            found.append(box.check(width, height, of=f"question {qid}, object {oid}"))
        except ValueError as error:
            raise ValueError(f"{error}; pass clip_boxes=True to cut boxes to the image") from error
    return tuple(found), was_clipped, ""


def _size(graph: dict[str, Any], image_id: str) -> tuple[int, int]:
    width, height = graph.get("width"), graph.get("height")
    if not (isinstance(width, int) and isinstance(height, int)):
        raise ValueError(
            f"scene graph of image {image_id}: expected width and height in pixels, got "
            f"{width!r} and {height!r}; the scene graph is damaged"
        )
    return width, height


def _field(record: dict[str, Any], key: str, kind: type, qid: str) -> Any:
    value = record.get(key)
    if not isinstance(value, kind):
        raise ValueError(
            f"question {qid}: expected a field {key!r} of type {kind.__name__}, got {value!r}; GQA "
            "publishes answers and programs for train and val (and testdev), not for test and "
            "challenge"
        )
    return value
