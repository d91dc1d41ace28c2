"""The corrupted picture of every triple, by any of the ways that the analyses compare.

``powerpaint`` is the paper's semantic edit. ``oracle`` draws an embedded world's scene again with
exactly the wanted thing changed. The perturbations are those of Tables 10-12. Any other name is a
folder of pictures named by triple id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from PIL import Image

from vseam_lib.editing.acceptance import Thresholds, accept
from vseam_lib.editing.counterfactual import Counterfactual
from vseam_lib.editing.perturb import METHODS, box_region, item_rng, perturb
from vseam_lib.editing.pipeline import edit_triples, item_seed
from vseam_lib.editing.powerpaint import load_inpainter
from vseam_lib.editing.settings import EditSettings
from vseam_lib.editing.tools import load_tools, rewriter_for
from vseam_lib.sources.edits import find_edits
from vseam_lib.store import stored_ids
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.images import open_image
from vseam_lib.world import oracle
from vseam_lib.world.export import is_embedded

NAMES = ("powerpaint", "oracle", "redraw", *(name for name, m in METHODS.items() if m.pure))
STRENGTH = 0.75  # of a full redraw; the paper does not say


class Corrupted(NamedTuple):
    """Pictures by triple id.

    Attributes:
        reverses: whether the pictures are meant to reverse the right answer, as noise is not.
        edits: of inpainted edits everything that is known of them.
    """

    pictures: dict[str, Path]
    reverses: bool
    edits: pd.DataFrame | None = None


def corrupted(
    edit: str,
    triples: Sequence[VQATriple],
    settings: EditSettings,
    *,
    data: Path | str,
    split: str,
    root: Path | str,
    device: str = "cpu",
) -> Corrupted:
    """Find or make the corrupted picture of every triple that has one.

    Args:
        edit: one of :data:`NAMES`, or a folder of pictures named by triple id.
        data, split: where the triples come from.
        root: directory of all edits; what is there is not made again.

    Returns:
        Inpainted edits only as far as the automatic filter accepts them.

    Raises:
        ValueError: an unknown name, or the oracle of data that is not the embedded world.
        FileNotFoundError: a folder without a picture of any triple.
    """
    if edit not in NAMES:
        if Path(edit).is_dir():
            return Corrupted(find_edits(edit, triples), True)
        raise ValueError(
            f"expected an edit in {', '.join(NAMES)}, or a folder of pictures named by triple id, "
            f"got {edit!r}"
        )
    if edit == "powerpaint":
        table = inpainted(triples, settings, data=data, split=split, root=root, device=device)
        kept = table[table["accepted"]]
        return Corrupted(dict(zip(kept["id"], kept["image"], strict=True)), True, table)
    if edit == "oracle":
        if not is_embedded(data):
            raise ValueError(
                f"{data}: only the embedded world can draw a scene again; expected another edit, "
                f"one of {', '.join(NAMES)}, or a folder of pictures"
            )
        rewriter = rewriter_for(settings, data, split)
        outcomes = dict(zip([t.id for t in triples], rewriter.rewrite(triples), strict=True))
        key = {"rewriter": rewriter.name}
        pictures = _each(edit, key, triples, root, lambda t: _redrawn(t, outcomes[t.id]))
        return Corrupted(pictures, True)
    key = {"seed": settings.seed}
    if edit == "redraw":
        inpainter = load_inpainter(
            settings.inpainter, base=settings.base or None, device=device, dtype=settings.dtype
        )
        key |= {"inpainter": inpainter.revision, "dtype": settings.dtype, "strength": STRENGTH}
        key |= {"steps": settings.steps, "guidance": settings.guidance}

        def make(t: VQATriple) -> Image.Image:
            return inpainter.redraw(
                [open_image(t.image)],
                [t.full_answer or t.question],
                seeds=[item_seed(settings.seed, t.id)],
                strength=STRENGTH,
                steps=settings.steps,
                guidance=settings.guidance,
            )[0]
    else:

        def make(t: VQATriple) -> Image.Image | None:
            image = open_image(t.image)
            if not t.boxes:
                return None
            region = box_region(t.boxes, image.size)
            return perturb(edit, image, region, item_rng(settings.seed, t.id))

    return Corrupted(_each(edit, key, triples, root, make), False)


def inpainted(
    triples: Sequence[VQATriple],
    settings: EditSettings,
    *,
    data: Path | str,
    split: str,
    root: Path | str,
    device: str = "cpu",
) -> pd.DataFrame:
    """The table of :func:`vseam_lib.editing.pipeline.edit_triples` for all triples, with the
    automatic filter's ``accepted`` and ``reasons``.
    """
    tools = load_tools(settings, data, split, device=device)
    table = edit_triples(triples, settings, tools, Path(root))
    return accept(table, Thresholds.of(settings.filter))


def on_edited(
    triples: Sequence[VQATriple], pictures: Mapping[str, Path], *, reversed_answer: bool = True
) -> list[VQATriple]:
    """The same questions about the edited pictures.

    Ids and image ids end in ``/edited``; every edited picture is an image of its own. Triples
    without a picture are left out.

    Args:
        reversed_answer: the other answer counts as right, as on the edited picture it is; False
            keeps the original's, as Eq. 4 does.
    """
    other = {"Yes": "No", "No": "Yes"}
    return [
        replace(
            t,
            id=f"{t.id}/edited",
            image_id=f"{t.id}/edited",
            image=pictures[t.id],
            answer=other[t.answer] if reversed_answer else t.answer,
            full_answer="",
        )
        for t in triples
        if t.id in pictures
    ]


def _redrawn(triple: VQATriple, outcome: object) -> Image.Image | None:
    """The exact edit, or ``None`` where there is no counterfactual that the scene allows."""
    if not isinstance(outcome, Counterfactual):
        return None
    try:
        return oracle.redraw(triple, outcome)
    except ValueError:
        return None


def _each(
    edit: str,
    key: dict[str, object],
    triples: Sequence[VQATriple],
    root: Path | str,
    make: Callable[[VQATriple], Image.Image | None],
) -> dict[str, Path]:
    """Make every picture that is not there yet; ``None`` leaves a triple without one."""
    text = json.dumps({"edit": edit, **key}, sort_keys=True)
    folder = Path(root) / f"{edit}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for triple, name in zip(triples, stored_ids(triples).values(), strict=True):
        path = folder / f"{name}.png"
        if not path.is_file():
            image = make(triple)
            if image is None:
                continue
            part = path.with_suffix(".part")
            image.save(part, "PNG")
            part.replace(path)
        found[triple.id] = path
    return found
