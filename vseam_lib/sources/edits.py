"""Edited images on disk: one file per triple, named by its id."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from vseam_lib.triples import VQATriple

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def find_edits(folder: Path | str, triples: Iterable[VQATriple]) -> dict[str, Path]:
    """Edited image of every triple that has one: ``folder/{triple id}.png`` (or ``.jpg``, ...).

    Raises:
        FileNotFoundError: a folder that does not exist, or that holds no image of any triple.
    """
    folder, triples = Path(folder), list(triples)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: expected a folder of edited images, found none")
    found = {}
    for triple in triples:
        files = (folder / f"{triple.id}{suffix}" for suffix in SUFFIXES)
        path = next((p for p in files if p.is_file()), None)
        if path:
            found[triple.id] = path
    if triples and not found:
        raise FileNotFoundError(
            f"{folder}: expected edited images named by triple id, such as {triples[0].id}.png, "
            f"found none for {len(triples)} triples"
        )
    return found
