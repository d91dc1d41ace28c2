"""What the small inpainter learns from: a picture, a mask, a prompt, and what belongs there.

Three tasks, as in PowerPaint. *Shape*: the exact silhouette of an object, a little dilated.
*Object*: a loose mask around an object, or around a person and what they act on. *Context*: the
same masks, to be filled as if the object were not there, or masks over background.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from vseam_lib.editing.task_tokens import TASK_TOKENS
from vseam_lib.world.draw import draw
from vseam_lib.world.inpainter import EMPTY, NEGATIVE, task_prompt
from vseam_lib.world.questions import pick
from vseam_lib.world.scene import SIZE, Scene, mask_box

CONTEXT, SHAPE, OBJECT = TASK_TOKENS
WHOLE = 64  # pixels, side of the smallest window that is to show whole masks
_MARGIN = 4  # pixels of picture that a window shows around a mask, at least


class Item(NamedTuple):
    """One example.

    Attributes:
        image: ``(S, S, 3)`` uint8, the picture to be restored.
        mask: ``(S, S)`` bool, what is hidden.
        prompt: with its task token.
    """

    image: np.ndarray
    mask: np.ndarray
    prompt: str


def item(
    scene: Scene,
    image: np.ndarray,
    owner: np.ndarray,
    size: int,
    rng: np.random.Generator,
    *,
    textured: float = 0.0,
) -> Item | None:
    """One example from a drawn scene, cut to a window; ``None`` if the mask does not fit into it.

    Args:
        size: side of the window in pixels, at most that of the picture; one that is smaller than
            :data:`WHOLE` shows part of an object and never an action.
        textured: share of the examples that name an object's material, as far as scenes have some.
    """
    shown = [k for k in range(len(scene.objects)) if (owner == k).sum() >= 40]
    if not shown:
        return None
    act = scene.action
    pair = act and size >= WHOLE and {act.subject, act.object} <= set(shown)
    kind = rng.random()
    made_of = [k for k in shown if scene.objects[k].material]
    named = bool(textured and made_of) and rng.random() < textured
    if named:
        shown, pair, kind = made_of, False, 0.88 * kind
    if pair and kind < 0.3:
        silhouette = np.isin(owner, [act.subject, act.object])
        mask = loose(silhouette, rng)
        token, text = OBJECT, action_phrase(scene, rng)
    else:
        k = pick(rng, shown)
        silhouette = owner == k
        text = object_phrase(scene, k, rng, material=named)
        if kind < 0.52:
            token, mask = SHAPE, grow(silhouette, int(rng.integers(0, 4)))
        elif kind < 0.88:
            token, mask = OBJECT, loose(silhouette, rng)
        else:
            token, text = CONTEXT, EMPTY if rng.random() < 0.7 else ""
            mask = loose(silhouette, rng) if rng.random() < 0.7 else grow(silhouette, 2)
            if rng.random() < 0.35:
                mask = np.roll(mask, rng.integers(-SIZE, SIZE, 2), (0, 1))
            else:
                image, _ = draw(scene, without=(k,))
    if token != CONTEXT and rng.random() < 0.1:
        text = NEGATIVE if rng.random() < 0.5 else ""
    window = cut(mask, size, rng) if size >= WHOLE else cut_inside(mask, size, rng)
    if window is None:
        return None
    return Item(image[window], mask[window], task_prompt(text, token))


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask dilated by some pixels."""
    return ndimage.binary_dilation(mask, iterations=pixels) if pixels else mask


def loose(silhouette: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask that covers a silhouette without giving its shape away: mostly a box, nearly square,
    sometimes an ellipse or a blob.
    """
    kind = rng.random()
    if kind < 0.1:
        return grow(silhouette, int(rng.integers(3, 8)))
    x, y, w, h = mask_box(silhouette)
    side = max(w, h)
    wide, high = max(w, rng.uniform(0.7, 1) * side), max(h, rng.uniform(0.7, 1) * side)
    left, right, above, below = rng.uniform(0.06, 0.18, 4) * side
    x0, x1 = x + (w - wide) / 2 - left, x + (w + wide) / 2 + right
    y0, y1 = y + (h - high) / 2 - above, y + (h + high) / 2 + below
    cy, cx = np.mgrid[0:SIZE, 0:SIZE] + 0.5
    if kind < 0.2:
        rx, ry = (x1 - x0) / 1.4, (y1 - y0) / 1.4  # around the whole box
        return ((cx - (x0 + x1) / 2) / rx) ** 2 + ((cy - (y0 + y1) / 2) / ry) ** 2 < 1
    return (cx > x0) & (cx < x1) & (cy > y0) & (cy < y1)


def cut(mask: np.ndarray, size: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """A random window that shows the whole mask with some of its surroundings."""
    if not mask.any():
        return None
    x, y, w, h = mask_box(mask)
    slices = []
    for start, length in ((y, h), (x, w)):
        low = max(0, min(start + length + _MARGIN, SIZE) - size)
        high = min(SIZE - size, max(start - _MARGIN, 0))
        if low > high:
            return None
        first = int(rng.integers(low, high + 1))
        slices.append(slice(first, first + size))
    return tuple(slices)


def cut_inside(mask: np.ndarray, size: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """A random window around a pixel of the mask, which it may cut off."""
    if not mask.any():
        return None
    at = pick(rng, list(zip(*np.nonzero(mask), strict=True)))
    first = [int(np.clip(p - rng.uniform(0.25, 0.75) * size, 0, SIZE - size)) for p in at]
    return tuple(slice(k, k + size) for k in first)


def object_phrase(scene: Scene, k: int, rng: np.random.Generator, *, material: bool = False) -> str:
    """Names an object, with its colour and material more often than not, or asks for it.

    Args:
        material: name the material in any case.
    """
    obj = scene.objects[k]
    with_color = rng.random() < 0.75
    with_material = obj.material and (rng.random() < 0.7 or material)
    if rng.random() < 0.15:
        if obj.material and (rng.random() < 0.4 or material):
            return f"Is the {obj.name} made of {obj.material}?"
        if rng.random() < 0.5:
            return f"Is there a {obj.name} in this picture?"
        return f"Is the {obj.name} {obj.color}?"
    words = [pick(rng, ("a", "the")), *([obj.color] if with_color else [])]
    if with_material and rng.random() < 0.5:
        return " ".join([*words, obj.name, "made of", obj.material])
    return " ".join([*words, *([obj.material] if with_material else []), obj.name])


def action_phrase(scene: Scene, rng: np.random.Generator) -> str:
    """Names who does what to what, with colours half of the time, or asks for it."""
    act = scene.action
    one, two = scene.objects[act.subject], scene.objects[act.object]
    if rng.random() < 0.15:
        return f"Is the {one.name} {act.name} the {two.name}?"
    if rng.random() < 0.5:
        return f"a {one.color} {one.name} {act.name} a {two.color} {two.name}"
    return f"a {one.name} {act.name} a {two.name}"
