"""What all readers share: a report of what was left out, JSON and images checked on opening."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from vseam_lib.triples import Category


@dataclass
class ReadReport:
    """What a reader saw; pass an empty one as ``report=`` and look at it afterwards.

    Attributes:
        read: number of records in the files.
        kept: number of triples returned.
        skipped: reason -> number of records that are none of the questions asked for.
        dropped: reason -> ids of records that would have become a triple but were left out.
        clipped: ids of triples with a box that was cut to its image.
    """

    read: int = 0
    kept: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    clipped: list[str] = field(default_factory=list)

    def drop(self, reason: str, triple_id: str) -> None:
        """Note that a triple was left out."""
        self.dropped.setdefault(reason, []).append(triple_id)

    def __str__(self) -> str:
        lines = [f"{self.kept} triples from {self.read} records"]
        lines += [f"skipped {n}: {reason}" for reason, n in self.skipped.most_common()]
        lines += [f"dropped {len(ids)}: {reason}" for reason, ids in self.dropped.items()]
        if self.clipped:
            lines.append(f"boxes cut to the image in {len(self.clipped)}")
        return "\n".join(lines)


def wanted_categories(categories: Iterable[Category | str] | None) -> tuple[Category, ...]:
    """The categories asked for, in the order of :class:`Category`; ``None`` means all seven.

    Raises:
        ValueError: for an unknown name, listing the seven.
    """
    if categories is None:
        return tuple(Category)
    names = [categories] if isinstance(categories, str) else list(categories)
    unknown = [str(n) for n in names if n not in set(Category)]
    if unknown or not names:
        raise ValueError(
            f"expected categories out of {', '.join(Category)}, got {', '.join(unknown) or 'none'}"
        )
    return tuple(c for c in Category if c in names)


def one_of(name: str, value: str, accepted: tuple[str, ...]) -> None:
    """Raise ``ValueError`` listing the accepted values of a switch."""
    if value not in accepted:
        raise ValueError(f"expected {name} to be one of {', '.join(accepted)}; got {value!r}")


def load_json(
    path: Path, *, pairs_hook: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None
) -> Any:
    """Parse a JSON file.

    Raises:
        ValueError: naming the file, its size and the place of the first error.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return json.load(file, object_pairs_hook=pairs_hook)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected JSON, got {path.stat().st_size} bytes that do not parse ({error}); "
            "the file may be an incomplete download, fetch or generate it again"
        ) from error


def find_image(folders: Iterable[Path], image_id: str, *, needed_by: str) -> Path:
    """Path of ``{image_id}.jpg`` or ``.png`` in the first folder that has it.

    Raises:
        FileNotFoundError: naming the question, the image and the folders searched.
    """
    folders = list(folders)
    for folder in folders:
        for suffix in (".jpg", ".png"):
            path = folder / f"{image_id}{suffix}"
            if path.is_file():
                return path
    raise FileNotFoundError(
        f"{needed_by}: expected the image {image_id}.jpg or {image_id}.png in "
        f"{' or '.join(map(str, folders))}, found neither; unpack all images there"
    )


def check_image(path: Path, width: int, height: int) -> None:
    """Decode an image completely and compare its size with the expected one, in pixels.

    Raises:
        ValueError: the file cannot be decoded or has another size.
    """
    try:
        with Image.open(path) as image:
            image.load()
            size = image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a complete image, got {path.stat().st_size} bytes that cannot be "
            f"decoded ({error}); copy or generate this file again"
        ) from error
    if size != (width, height):
        raise ValueError(
            f"{path}: expected {width} x {height} pixels as in the scene graph, got "
            f"{size[0]} x {size[1]}; boxes are in pixels of the original image, so use the "
            "images that were published with the scene graphs, not resized copies"
        )
