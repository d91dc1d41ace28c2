"""Finds and opens the files of GQA's official layout (Hudson and Manning, 2019).

Below the root directory it expects, each at the root or in the sub-folder of GQA's archives:

- ``{split}_balanced_questions.json`` or, for splits such as ``train_all``,
  ``{split}_questions.json``; a directory of that name holds shards (``questions``,
  ``questions1.2``);
- ``{split}_sceneGraphs.json`` (``sceneGraphs``), which GQA publishes for train and val;
- ``images/{imageId}.jpg`` or ``.png``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vseam_lib.sources.reading import load_json

_QUESTION_FOLDERS = ("", "questions", "questions1.2")
_GRAPH_FOLDERS = ("", "sceneGraphs")
_IMAGE_FOLDERS = ("images", "allImages/images")


def records(files: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Questions of one file after the other, so that shards need not fit in memory together."""
    for path in files:
        content = _load_table(path, "question id -> question", marker="imageId")
        yield from content.items()


def _load_table(path: Path, what: str, *, marker: str) -> dict[str, dict[str, Any]]:
    """A JSON object of objects; repeated ids are an error, where ``json`` would keep the last."""

    def pairs_hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs) and any(isinstance(v, dict) and marker in v for _, v in pairs):
            twice = [k for k, n in Counter(k for k, _ in pairs).items() if n > 1]
            raise ValueError(
                f"{path}: expected unique ids, got {len(twice)} that repeat: "
                f"{', '.join(twice[:5])}; rename or drop the duplicates"
            )
        return table

    content = load_json(path, pairs_hook=pairs_hook)
    if not isinstance(content, dict) or not all(isinstance(v, dict) for v in content.values()):
        raise ValueError(
            f"{path}: expected a JSON object {what}, got {type(content).__name__} with other "
            "content; use the file as GQA publishes it"
        )
    return content


def question_files(root: Path, split: str) -> list[Path]:
    """The file of a split, or its shards in the order of their names.

    Raises:
        FileNotFoundError: listing the splits that are there.
    """
    for stem in (f"{split}_balanced_questions", f"{split}_questions"):
        for folder in _QUESTION_FOLDERS:
            path = root / folder / f"{stem}.json"
            if path.is_file():
                return [path]
            shards = sorted((root / folder / stem).glob("*.json"))
            if shards:
                return shards
    found = sorted(
        {
            re.sub(r"(_balanced)?_questions(\.json)?$", "", path.name)
            for folder in _QUESTION_FOLDERS
            for path in (root / folder).glob("*_questions*")
            if path.suffix == ".json" or path.is_dir()
        }
    )
    raise FileNotFoundError(
        f"{root}: expected {split}_balanced_questions.json or {split}_questions.json there or in "
        f"questions/ for split {split!r}; splits found: {', '.join(found) or 'none'}"
    )


def scene_graphs(root: Path, split: str) -> dict[str, dict[str, Any]]:
    """Image id -> scene graph; ``train_all`` and ``train`` share theirs.

    Raises:
        FileNotFoundError: GQA's test splits have none.
    """
    name = re.sub("_(all|balanced)$", "", split) + "_sceneGraphs.json"
    for folder in _GRAPH_FOLDERS:
        path = root / folder / name
        if path.is_file():
            return _load_table(path, "image id -> scene graph", marker="objects")
    raise FileNotFoundError(
        f"{root}: expected {name} there or in sceneGraphs/, found neither; boxes come from the "
        "scene graphs, which GQA publishes for train and val only"
    )


def image_folders(root: Path) -> list[Path]:
    """The directories that hold images.

    Raises:
        FileNotFoundError: there is none.
    """
    folders = [root / f for f in _IMAGE_FOLDERS if (root / f).is_dir()]
    if not folders:
        raise FileNotFoundError(
            f"{root}: expected a directory images/ with one file per image id, found none; unpack "
            "the data set's images there"
        )
    return folders
