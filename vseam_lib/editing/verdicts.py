"""A person's verdicts on edits: a CSV file to fill in, and how they overrule the filter.

``accept_reject.csv`` has the columns ``id``, ``verdict`` (``accept``, ``reject`` or nothing),
``note`` and ``picture``, a digest of the edited picture that the verdict is about: ids stay the
same when a picture is edited again, and a verdict on the old picture says nothing of the new one.
A file written by hand may leave ``picture`` out.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import pandas as pd
from PIL import Image

from vseam_lib.editing.acceptance import NOT_EDITED
from vseam_lib.vlm.images import open_image

COLUMNS = ("id", "verdict", "note", "picture")
WORDS = ("accept", "reject")
EARLIER = "earlier_verdicts.csv"


def picture_digest(picture: Image.Image) -> str:
    """Twelve characters that stand for the pixels of a picture."""
    pixels = repr((picture.mode, picture.size)).encode() + picture.tobytes()
    return hashlib.sha256(pixels).hexdigest()[:12]


def read_verdicts(path: Path | str, *, known: Iterable[str] | None = None) -> pd.DataFrame:
    """Read a verdict file, blank verdicts included.

    Args:
        known: ids of the run; ``None`` reads any ids. That the verdicts are about its pictures is
            checked by :func:`overrule`.

    Returns:
        Text columns ``id, verdict, note, picture`` in the file's order; verdicts in lower case.

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming the line: other columns, an id that is empty, repeated or not among
            ``known``, or a word that is no verdict.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a file of verdicts, found none; contact_sheet writes one to fill in"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")  # spreadsheets put a mark in front
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected UTF-8 ({error}); save it as CSV UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    rows, seen = [], {}
    ids = None if known is None else set(known)
    try:
        header = tuple(reader.fieldnames or ())
        if header not in (COLUMNS, COLUMNS[:3]):
            raise ValueError(
                f"{path}, line 1: expected the columns {','.join(COLUMNS)} (the last may be "
                f"missing), got {','.join(header)!r}; save it with commas between the columns"
            )
        for record in reader:
            at = f"{path}, line {reader.line_num}"
            if "" in record or None in record.values():
                raise ValueError(f"{at}: expected {len(header)} columns; quote notes with commas")
            row = {"picture": "", **{k: v.strip() for k, v in record.items()}}
            row["verdict"] = row["verdict"].lower()
            _check(row, at, seen, ids)
            seen[row["id"]] = reader.line_num
            rows.append(row)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}; check its quotes") from error
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _check(
    row: Mapping[str, str], at: str, seen: Mapping[str, int], known: Collection[str] | None
) -> None:
    if not row["id"]:
        raise ValueError(f"{at}: expected an id, got none; remove the line")
    if row["id"] in seen:
        raise ValueError(
            f"{at}: the id {row['id']!r} is in line {seen[row['id']]} already; keep one of them"
        )
    if row["verdict"] not in ("", *WORDS):
        raise ValueError(
            f"{at}: expected the verdict {' or '.join(WORDS)}, or nothing, got {row['verdict']!r}"
        )
    if known is not None and row["id"] not in known:
        raise ValueError(
            f"{at}: no triple of this run has the id {row['id']!r}; it may be of another run, or a "
            "spreadsheet dropped its leading zeros"
        )


def write_verdicts(path: Path | str, pictures: Mapping[str, str]) -> pd.DataFrame:
    """Write the file for a person to fill in; verdicts that it holds already are kept.

    Verdicts on pictures that are not among ``pictures`` go to ``earlier_verdicts.csv`` beside it
    and come back with their pictures.

    Args:
        pictures: id of every edit to its picture's digest, in the file's order.

    Returns:
        The rows written.

    Raises:
        ValueError: a file that is there and damaged; it is left alone.
    """
    path = Path(path)
    earlier = path.with_name(EARLIER)
    given: dict[tuple[str, str], dict[str, str]] = {}
    if earlier.is_file():
        # The same id may occur with several pictures here.
        for row in csv.DictReader(io.StringIO(earlier.read_text(encoding="utf-8"), newline="")):
            given[row["id"], row["picture"]] = row
    if path.is_file():
        for row in read_verdicts(path).to_dict("records"):
            if row["verdict"] or row["note"]:
                given[row["id"], row["picture"]] = row
            else:
                given.pop((row["id"], row["picture"]), None)
    rows = []
    for name, digest in pictures.items():
        known = given.pop((name, digest), None) or given.pop((name, ""), None) or {}
        values = (name, known.get("verdict", ""), known.get("note", ""), digest)
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    path.parent.mkdir(parents=True, exist_ok=True)
    if given or earlier.is_file():
        _write(earlier, list(given.values()))
    _write(path, rows)
    return pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    """Write in one go, so that a killed run never leaves half of somebody's work."""
    part = path.with_name(f"{path.name}.part")
    with open(part, "w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    part.replace(path)


def overrule(table: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Let a person's verdicts replace the filter's.

    Args:
        table: of :func:`vseam_lib.editing.acceptance.accept`, with the columns ``id`` and
            ``image``, the edited picture or its file.
        verdicts: of :func:`read_verdicts`; blank ones leave the filter's decision.

    Returns:
        The table with ``accepted`` after both, ``automatic`` (what the filter alone accepts),
        ``decided_by`` (``"filter"`` or ``"person"``) and ``note``. ``failed`` and ``reasons``
        stay the filter's.

    Raises:
        ValueError: a verdict on an id that the table lacks, on a triple that was not edited, or on
            a picture that has changed since.
    """
    given = verdicts[verdicts["verdict"] != ""].set_index("id")
    known = table.set_index("id")
    for name, looked_at in given["picture"].items():
        if name not in known.index:
            raise ValueError(f"expected verdicts on edits of this run, got one on {name!r}")
        if known.loc[name, "failed"] == NOT_EDITED:
            raise ValueError(f"expected verdicts on edits, got one on {name!r}, which has none")
        now = picture_digest(open_image(known.loc[name, "image"]))
        if looked_at not in ("", now):
            raise ValueError(
                f"expected verdicts on the edits as they are, got one on picture {looked_at} of "
                f"{name!r}, which is now {now}; write the contact sheet again and look at it"
            )
    person = table["id"].map(given["verdict"])
    decided = person.notna()
    notes = table["id"].map(verdicts.set_index("id")["note"]).fillna("")
    return table.assign(
        accepted=table["accepted"].where(~decided, person == "accept").astype(bool),
        automatic=table["accepted"],
        decided_by=decided.map({True: "person", False: "filter"}),
        note=notes,
    )
