"""Contact sheets, so that a person can filter edits as the paper's authors did (section 4.1).

1. :func:`contact_sheet` writes PNG pages to look at, ``review.html`` to look and click, and
   ``accept_reject.csv`` to fill in by hand or with the page's download.
2. :func:`~vseam_lib.editing.verdicts.read_verdicts` reads the file back and checks it.
3. :func:`~vseam_lib.editing.verdicts.overrule` lets its verdicts replace the automatic ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from vseam_lib.editing.pictures import check_mask
from vseam_lib.editing.review_page import page
from vseam_lib.editing.verdicts import overrule, picture_digest, read_verdicts, write_verdicts
from vseam_lib.triples import Category, VQATriple, check_unique
from vseam_lib.vlm.images import open_image

__all__ = [
    "Entry",
    "Sheet",
    "contact_sheet",
    "entries_of",
    "open_mask",
    "outlined",
    "overrule",
    "read_verdicts",
]

SIDE = 288  # pixels, the longer side of the pictures in the HTML page
THUMB = 200  # pixels, the same in the PNG pages
TEXT = 460  # pixels, the width of the text beside them
LINE = 20  # pixels, its line height
GAP = 10
PICTURES = ("original", "mask", "edited")
_OURS = re.compile(r"(page-\d{3}|\d{5}-(original|mask|edited))\.png")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One edit to be looked at.

    Attributes:
        id: of the triple.
        question, counterfactual: as asked, and as rewritten.
        shows, wanted: what the picture shows and what the edited one must show.
        original, edited: pictures of one size, or their files.
        mask: ``(H, W)`` bool, or a file of it, where the edit was allowed to change the picture.
        accepted, reasons: the automatic filter's decision and its reasons, empty if accepted.
    """

    id: str
    category: Category
    question: str
    counterfactual: str
    shows: str
    wanted: str
    original: Image.Image | Path
    edited: Image.Image | Path
    mask: np.ndarray | Path
    accepted: bool
    reasons: str = ""


class Sheet(NamedTuple):
    """What was written, and the ``pictures`` (id to digest) that verdicts are about."""

    pages: list[Path]
    html: Path
    verdicts: Path
    pictures: dict[str, str]


def entries_of(table: pd.DataFrame, triples: Sequence[VQATriple]) -> list[Entry]:
    """The edited rows of a run's table, in its order.

    Args:
        table: of :func:`vseam_lib.editing.acceptance.accept` on
            :func:`vseam_lib.editing.pipeline.edit_triples`.
        triples: that were edited, for the original pictures.

    Raises:
        ValueError: an edit of a triple that is not among ``triples``.
    """
    known = {t.id: t for t in check_unique(triples)}
    found = []
    for row in table[table["stage"] == "edited"].to_dict("records"):
        if row["id"] not in known:
            raise ValueError(f"expected the triples of all edits, got none of id {row['id']!r}")
        found.append(
            Entry(
                id=row["id"],
                category=Category(row["category"]),
                question=row["question"],
                counterfactual=row["counterfactual"],
                shows=row["shows"],
                wanted=row["wanted"],
                original=known[row["id"]].image,
                edited=row["image"],
                mask=row["mask"],
                accepted=bool(row["accepted"]),
                reasons=row["reasons"],
            )
        )
    return found


def contact_sheet(entries: Sequence[Entry], out_dir: Path | str, *, per_page: int = 8) -> Sheet:
    """Write a contact sheet; verdicts given in ``out_dir`` before are kept.

    ``page-001.png``, ...; ``review.html`` with its pictures in ``pictures/``; and
    ``accept_reject.csv``, see :mod:`vseam_lib.editing.verdicts`. Pages and pictures of an earlier
    sheet are removed.

    Args:
        per_page: edits on a PNG page.

    Raises:
        ValueError: no entries, ids that repeat, pictures and masks that differ in size, or a
            damaged verdict file.
        FileNotFoundError: a picture that is missing.
    """
    if per_page < 1:
        raise ValueError(f"expected at least 1 edit per page, got {per_page}")
    if not entries:
        raise ValueError("expected at least one edit to look at, got none")
    ids = [e.id for e in entries]
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"expected one entry per id, got {twice!r} more than once")
    out = Path(out_dir)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("*.png"), *(out / "pictures").glob("*.png")]:
        if _OURS.fullmatch(old.name):
            old.unlink()
    pages, pictures = [], {}
    for start in range(0, len(entries), per_page):
        rows = []
        for k, entry in enumerate(entries[start : start + per_page], start=start):
            three, pictures[entry.id] = _three(entry)
            for name, picture in zip(PICTURES, three, strict=True):
                picture.save(out / "pictures" / f"{k:05d}-{name}.png")
            rows.append((entry, three))
        pages.append(out / f"page-{len(pages) + 1:03d}.png")
        _draw_page(rows).save(pages[-1])
    file = out / "accept_reject.csv"
    given = write_verdicts(file, pictures).to_dict("records")
    html = out / "review.html"
    html.write_text(page(list(_html_rows(entries, given))), encoding="utf-8")
    return Sheet(pages, html, file, pictures)


def outlined(image: Image.Image, mask: np.ndarray) -> Image.Image:
    """The picture with the border of a mask in yellow, on black so that it shows on any ground.

    Raises:
        TypeError, ValueError: a mask that is none, empty, or of another size.
    """
    mask = check_mask(mask, image.size)
    pixels = np.array(image.convert("RGB"))
    inner = mask & ~ndimage.binary_erosion(mask, iterations=2, border_value=0)
    outer = ndimage.binary_dilation(mask, iterations=2) & ~mask
    pixels[outer], pixels[inner] = (0, 0, 0), (255, 209, 102)
    return Image.fromarray(pixels)


def open_mask(mask: np.ndarray | Path, size: tuple[int, int], *, of: str = "mask") -> np.ndarray:
    """A mask ``(H, W)`` bool, decoded if it is a file (black and white), of the size expected.

    Args:
        size: ``(width, height)`` of its picture.
        of: what the mask is, for the message.

    Raises:
        TypeError, ValueError: a mask that is none, empty, or of another size.
        FileNotFoundError: a file that is missing.
    """
    if isinstance(mask, (str, Path)):
        mask = np.asarray(open_image(Path(mask)))[..., 0] > 127
    return check_mask(mask, size, of=of)


def _three(entry: Entry) -> tuple[list[Image.Image], str]:
    """Original, original with the mask's outline, and edited picture; and the latter's digest."""
    original, edited = open_image(entry.original), open_image(entry.edited)
    if edited.size != original.size:
        raise ValueError(
            f"edit {entry.id}: expected {original.width} x {original.height} pixels as the "
            f"original, got {edited.width} x {edited.height}"
        )
    mask = open_mask(entry.mask, original.size, of=f"mask of {entry.id}")
    size = _fitted(original.size, SIDE)
    shown = [_scaled(picture, size) for picture in (original, edited)]
    grown = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    # A mask of a pixel or two may vanish from a large picture that is scaled down.
    marked = outlined(shown[0], grown) if grown.any() else shown[0]
    return [shown[0], marked, shown[1]], picture_digest(edited)


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size whose longer side is ``side``."""
    scale = side / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _scaled(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    grows = size[0] > picture.width
    how = Image.Resampling.NEAREST if grows else Image.Resampling.LANCZOS
    return picture.resize(size, how)


def _draw_page(rows: Sequence[tuple[Entry, Sequence[Image.Image]]]) -> Image.Image:
    """One PNG page: per edit its three pictures and its text beside them."""
    font = ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), 14
    )
    texts = [_lines(entry, font) for entry, _ in rows]
    heights = [max(THUMB, LINE * len(lines)) + GAP for lines in texts]
    sheet = Image.new("RGB", (3 * (THUMB + GAP) + TEXT + 2 * GAP, sum(heights) + GAP), "white")
    pen = ImageDraw.Draw(sheet)
    y = GAP
    for (_, three), lines, height in zip(rows, texts, heights, strict=True):
        for k, picture in enumerate(three):
            small = picture.resize(_fitted(picture.size, THUMB), Image.Resampling.LANCZOS)
            sheet.paste(small, (GAP + k * (THUMB + GAP), y))
        for k, (line, colour) in enumerate(lines):
            pen.text((GAP + 3 * (THUMB + GAP), y + k * LINE), line, colour, font)
        y += height
    return sheet


def _lines(entry: Entry, font: ImageFont.FreeTypeFont) -> list[tuple[str, str]]:
    """The text of an edit, wrapped, with its colours."""
    verdict = "accepted" if entry.accepted else f"rejected: {entry.reasons}"
    parts = [
        (f"{entry.id} ({entry.category})", "#555555"),
        (entry.question, "#000000"),
        (entry.counterfactual, "#000000"),
        (f"{entry.shows} → {entry.wanted}", "#000000"),
        (verdict, "#0b6e4f" if entry.accepted else "#a63d00"),
    ]
    return [(line, colour) for text, colour in parts for line in _wrapped(text, font)]


def _wrapped(text: str, font: ImageFont.FreeTypeFont) -> Iterator[str]:
    line = ""
    for word in text.split():
        if line and font.getlength(f"{line} {word}") > TEXT:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def _html_rows(
    entries: Sequence[Entry], given: Sequence[dict[str, str]]
) -> Iterator[dict[str, object]]:
    for k, (entry, row) in enumerate(zip(entries, given, strict=True)):
        yield {
            **row,
            "category": str(entry.category),
            "question": entry.question,
            "counterfactual": entry.counterfactual,
            "change": f"{entry.shows} → {entry.wanted}",
            "accepted": entry.accepted,
            "reasons": entry.reasons,
            "files": {name: f"pictures/{k:05d}-{name}.png" for name in PICTURES},
        }
