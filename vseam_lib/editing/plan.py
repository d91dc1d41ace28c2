"""From a counterfactual question to what the inpainter is asked to do.

1. A colour or material: the object's silhouette, shape-guided, so that only its paint changes.
2. An object: a box around it, text-guided, so that another shape fits in.
3. A spatial relation: the two objects exchange places, one after the other, each as in 2.
4. An action: a box around both, text-guided.

The paper prompts with the counterfactual question itself (section 4.1); ``"question"`` does so,
over one mask that holds all objects concerned. ``"phrase"``, the default, names what is to be
painted, with the colour and material that the scene graph gives for what must not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from vseam_lib.editing.counterfactual import Counterfactual
from vseam_lib.sources.ontology import is_color, is_material, noun_category
from vseam_lib.triples import Category, Level, VQATriple

PROMPTS = ("phrase", "question")
GROW = 0.04  # of the silhouette's longer side, so that no rim of the old paint remains
LOOSE = 0.12  # of the silhouette's longer side, the margin on each side
SQUARE = 0.85  # of the longer side, what the shorter side of a box is at least before its margin


class Step(NamedTuple):
    """One call of the inpainter: ``mask`` ``(H, W)`` bool, what to paint, and the task."""

    mask: np.ndarray
    prompt: str
    task: str


def plan(
    triple: VQATriple,
    counterfactual: Counterfactual,
    silhouettes: np.ndarray,
    *,
    prompt: str = "phrase",
) -> list[Step]:
    """The steps of an edit, each on the picture that the one before it left.

    Args:
        silhouettes: ``(n, H, W)`` bool, one per box of the triple.
        prompt: ``"phrase"`` or ``"question"`` (paper).

    Raises:
        ValueError: an unknown prompt, silhouettes that are not one per box, a relation without
            the boxes of both objects, or no names where a phrase needs them.
    """
    if prompt not in PROMPTS:
        raise ValueError(f"expected a prompt in {PROMPTS}, got {prompt!r}")
    if len(silhouettes) != len(triple.boxes) or not len(silhouettes):
        raise ValueError(
            f"triple {triple.id}: expected one silhouette per box and at least one, got "
            f"{len(silhouettes)} for {len(triple.boxes)} boxes"
        )
    if triple.level is Level.RELATION and len(silhouettes) < 2:
        raise ValueError(
            f"triple {triple.id}: expected the boxes of both objects of a relation, got one"
        )
    attribute = triple.level is Level.ATTRIBUTE
    whole = silhouettes[:1] if triple.level is not Level.RELATION else silhouettes[:2]
    if prompt == "question":
        asked = counterfactual.question if triple.answer == "Yes" else triple.question
        mask = grown(whole[0]) if attribute else loose_box(whole.any(0))
        return [Step(mask, asked, "shape" if attribute else "text")]
    if not triple.names:
        raise ValueError(
            f"triple {triple.id}: expected names of its boxes' objects to phrase a prompt, got "
            "none; use prompt='question'"
        )
    wanted = counterfactual.wanted
    if attribute:
        return [Step(grown(whole[0]), phrase(triple, 0, attribute=wanted), "shape")]
    if triple.category is Category.SPATIAL:
        return [
            Step(loose_box(silhouettes[0]), phrase(triple, 1), "text"),
            Step(loose_box(silhouettes[1]), phrase(triple, 0), "text"),
        ]
    if triple.category is Category.ACTION:
        both = f"{phrase(triple, 0)} {wanted} {phrase(triple, 1)}"
        return [Step(loose_box(whole.any(0)), both, "text")]
    return [Step(loose_box(whole[0]), phrase(triple, 0, name=wanted), "text")]


def phrase(triple: VQATriple, k: int, *, name: str = "", attribute: str = "") -> str:
    """Names an object by its colour, its material and its class, such as "a red wood chair".

    Args:
        k: which of the triple's objects.
        name: in place of its class; a material stays only on furniture and the like.
        attribute: in place of its colour or its material, whichever this is.
    """
    known = triple.attributes[k] if triple.attributes else ()
    colors = [a for a in known if is_color(a)][:1]
    materials = [a for a in known if is_material(a)][:1]
    if name and noun_category(name) is not Category.INDOOR:
        materials = []
    if attribute and triple.category is Category.COLOR:
        colors = [attribute]
    elif attribute:
        materials = [attribute]
    words = " ".join([*colors, *materials, name or triple.names[k]])
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def grown(silhouette: np.ndarray) -> np.ndarray:
    """The silhouette with a narrow rim."""
    return ndimage.binary_dilation(silhouette, iterations=max(1, round(GROW * _side(silhouette))))


def loose_box(silhouette: np.ndarray) -> np.ndarray:
    """The box around a silhouette, nearly square and with a margin, so that another shape fits."""
    height, width = silhouette.shape
    rows, columns = np.flatnonzero(silhouette.any(1)), np.flatnonzero(silhouette.any(0))
    side = _side(silhouette)
    mask = np.zeros_like(silhouette)
    spans = []
    for at, length in ((rows, height), (columns, width)):
        short = SQUARE * side - (at[-1] + 1 - at[0])
        pad = max(1, round(LOOSE * side + max(0, short) / 2))
        spans.append(slice(max(0, at[0] - pad), min(length, at[-1] + 1 + pad)))
    mask[tuple(spans)] = True
    return mask


def _side(silhouette: np.ndarray) -> int:
    return int(max(np.ptp(x) + 1 for x in np.nonzero(silhouette)))


def steps_by_turn(plans: Sequence[Sequence[Step]]) -> list[list[tuple[int, Step]]]:
    """First steps of all plans, then second steps, ..., each with the position of its plan."""
    turns = max(map(len, plans), default=0)
    return [[(k, p[turn]) for k, p in enumerate(plans) if turn < len(p)] for turn in range(turns)]
