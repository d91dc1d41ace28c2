"""Question -> counterfactual -> masks -> edited picture -> how faithful it is, triple by triple.

One directory per data and settings holds, for every triple, ``{id}.json`` and, if it was edited,
``{id}.png``, ``{id}.raw.png`` (before the original is pasted back outside the mask) and
``{id}.mask.png``. A triple is finished when its JSON file is there; a killed run loses the
chunk that it was working on, and other processes may work on other triples meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from vseam_lib.editing.counterfactual import Counterfactual, Refusal, Rewriter
from vseam_lib.editing.plan import Step, plan, steps_by_turn
from vseam_lib.editing.powerpaint import Inpainter
from vseam_lib.editing.segment import Segmenter
from vseam_lib.editing.settings import EditSettings
from vseam_lib.store import stored_ids
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.images import open_image

CHUNK = 32  # triples
SURROUNDINGS = 4  # pixels of picture around a mask that a window shows at least


class Edit(NamedTuple):
    """A finished edit in memory, as :attr:`Tools.measure` gets it."""

    triple: VQATriple
    counterfactual: Counterfactual
    before: Image.Image
    after: Image.Image
    raw: Image.Image
    mask: np.ndarray
    silhouettes: np.ndarray


class Tools(NamedTuple):
    """The models that edit, and what is measured of an edit: names to numbers or booleans."""

    rewriter: Rewriter
    segmenter: Segmenter
    inpainter: Inpainter
    measure: Callable[[Edit], Mapping[str, float | bool]]

    def key(self) -> dict[str, str]:
        """What of the models changes a picture."""
        return {
            "rewriter": self.rewriter.name,
            "segmenter": self.segmenter.revision,
            "inpainter": f"{self.inpainter.revision}-{self.inpainter.dtype}",
        }


def edit_triples(
    triples: Sequence[VQATriple],
    settings: EditSettings,
    tools: Tools,
    root: Path | str,
    *,
    shard: tuple[int, int] = (0, 1),
    progress: bool = False,
) -> pd.DataFrame:
    """Edit every triple that has not been edited yet; return what is known of all.

    Args:
        root: directory of all edits; theirs is a subdirectory named by a digest of the settings
            and models.
        shard: ``(k, n)`` works on every n-th triple only, and returns those.
        progress: show a progress bar.

    Returns:
        One row per triple: ``id, category, stage`` (``"rewritten"``, ``"segmented"`` or
        ``"edited"``: the last stage it passed; ``"asked"`` if none), ``reason`` (why it got no
        further), ``question, counterfactual, shows, wanted, prompts``, the paths ``image``,
        ``raw`` and ``mask``, and what was measured.
    """
    folder = directory(root, settings, tools)
    mine = list(triples)[shard[0] :: shard[1]]
    ids = stored_ids(mine)
    todo = [t for t in mine if not (folder / f"{ids[t.id]}.json").is_file()]
    chunks = [todo[k : k + CHUNK] for k in range(0, len(todo), CHUNK)]
    for chunk in tqdm(chunks, desc="editing", disable=not progress):
        _edit_chunk(chunk, ids, settings, tools, folder)
    return pd.DataFrame([_row(folder, ids[t.id], t) for t in mine])


def directory(root: Path | str, settings: EditSettings, tools: Tools) -> Path:
    """Where the edits of these settings and models are, made if missing."""
    key = {**settings.picture_key(), **tools.key()}
    text = json.dumps(key, sort_keys=True, indent=1)
    folder = Path(root) / hashlib.sha256(text.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "settings.txt", text)
    return folder


def item_seed(seed: int, triple_id: str) -> int:
    """The seed of one item's noise: it depends on no other item."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{triple_id}".encode()).digest()[:4])


def _edit_chunk(
    chunk: Sequence[VQATriple],
    ids: Mapping[str, str],
    settings: EditSettings,
    tools: Tools,
    folder: Path,
) -> None:
    known: dict[str, dict[str, Any]] = {t.id: {"stage": "asked", "reason": ""} for t in chunk}
    begun: list[tuple[VQATriple, Counterfactual, Image.Image, np.ndarray, list[Step]]] = []
    for triple, outcome in zip(chunk, tools.rewriter.rewrite(chunk), strict=True):
        about = known[triple.id]
        if isinstance(outcome, Refusal):
            about["reason"] = str(outcome)
            continue
        about |= {
            "stage": "rewritten",
            "counterfactual": outcome.question,
            "shows": outcome.shows,
            "wanted": outcome.wanted,
        }
        if not triple.boxes:
            about["reason"] = "no box of the asked object"
            continue
        image = open_image(triple.image)
        silhouettes = tools.segmenter.masks(image, triple.boxes, allow_empty=True)
        if not silhouettes.any((1, 2)).all():
            about["reason"] = "the segmenter finds nothing in a box"
            continue
        about["stage"] = "segmented"
        try:
            steps = plan(triple, outcome, silhouettes, prompt=settings.prompt)
        except ValueError as error:
            about["reason"] = str(error)
            continue
        about["prompts"] = [step.prompt for step in steps]
        begun.append((triple, outcome, image, silhouettes, steps))
    for edit in _paint(begun, settings, tools.inpainter):
        name = ids[edit.triple.id]
        edit.after.save(folder / f"{name}.png")
        edit.raw.save(folder / f"{name}.raw.png")
        Image.fromarray(edit.mask).save(folder / f"{name}.mask.png")
        known[edit.triple.id] |= {"stage": "edited", **tools.measure(edit)}
    for triple in chunk:
        text = json.dumps(known[triple.id], default=np.generic.item)  # what NumPy measured
        _write(folder / f"{ids[triple.id]}.json", text)


def _paint(begun: list, settings: EditSettings, inpainter: Inpainter) -> list[Edit]:
    """Run the steps of all plans, the first of each together, then the second, ..."""
    now = [image for _, _, image, _, _ in begun]
    raw = list(now)
    for turn, steps in enumerate(steps_by_turn([steps for *_, steps in begun])):
        for task in dict.fromkeys(step.task for _, step in steps):
            some = [(k, step) for k, step in steps if step.task == task]
            places = [window(step.mask, settings.window) for _, step in some]
            painted = inpainter.edit_with_raw(
                [
                    padded(now[k].crop(place), inpainter.multiple)
                    for (k, _), place in zip(some, places, strict=True)
                ],
                [
                    padded(_cut(step.mask, place), inpainter.multiple)
                    for (_, step), place in zip(some, places, strict=True)
                ],
                [step.prompt for _, step in some],
                task=task,
                fitting=settings.fitting if task == "shape" else 1.0,
                steps=settings.steps,
                guidance=settings.guidance,
                seeds=[item_seed(settings.seed, f"{begun[k][0].id}/{turn}") for k, _ in some],
            )
            for (k, _), place, edited in zip(some, places, painted, strict=True):
                pasted = now[k].copy()
                raw[k] = now[k].copy()
                for whole, part in ((pasted, edited.image), (raw[k], edited.raw)):
                    size = (place[2] - place[0], place[3] - place[1])
                    whole.paste(part.crop((0, 0, *size)), place[:2])
                now[k] = pasted if settings.composite else raw[k]
    return [
        Edit(triple, outcome, image, now[k], raw[k], _union(steps), silhouettes)
        for k, (triple, outcome, image, silhouettes, steps) in enumerate(begun)
    ]


def window(mask: np.ndarray, side: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the square part of a picture that shows a mask with at least
    :data:`SURROUNDINGS` pixels around it; of the whole picture if it does not fit, or for side 0.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corner = []
    for at, length in ((columns, width), (rows, height)):
        if not side or at[-1] + 1 - at[0] + 2 * SURROUNDINGS > side or side > length:
            return 0, 0, width, height
        corner.append(int(np.clip((at[0] + at[-1] + 1 - side) // 2, 0, length - side)))
    return corner[0], corner[1], corner[0] + side, corner[1] + side


def _cut(mask: np.ndarray, place: tuple[int, int, int, int]) -> np.ndarray:
    return mask[place[1] : place[3], place[0] : place[2]]


def padded(picture: Image.Image | np.ndarray, multiple: int) -> Image.Image | np.ndarray:
    """A picture with its right and lower edge repeated up to the next multiple, a mask with
    nothing added there: no pixel is resampled.
    """
    pixels = np.asarray(picture)
    below, right = (-side % multiple for side in pixels.shape[:2])
    if pixels.dtype == bool:
        return np.pad(pixels, ((0, below), (0, right)))
    return Image.fromarray(np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="edge"))


def _union(steps: Sequence[Step]) -> np.ndarray:
    return np.any([step.mask for step in steps], axis=0)


def _row(folder: Path, name: str, triple: VQATriple) -> dict[str, Any]:
    about = json.loads((folder / f"{name}.json").read_text())
    edited = about["stage"] == "edited"
    files = {"image": f"{name}.png", "raw": f"{name}.raw.png", "mask": f"{name}.mask.png"}
    return {
        "id": triple.id,
        "category": str(triple.category),
        "question": triple.question,
        **about,
        **{what: folder / file if edited else None for what, file in files.items()},
    }


def _write(path: Path, text: str) -> None:
    """Write a file in one go, so that no other process ever sees half of it."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
