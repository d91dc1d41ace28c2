"""Glyphs of the embedded world: each class is a few polygons on the unit square.

A glyph has three kinds of paint: ``body`` takes the object's colour and material, ``dark`` and
``light`` are fixed details. All glyphs face right; x runs right and y down.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

_SUPERSAMPLE = 4
_PAINTS = ("body", "dark", "light", "skin", "food")
_RGB = {
    "dark": (50, 45, 45),
    "light": (205, 225, 235),
    "skin": (235, 190, 155),
    "food": (240, 150, 40),
}

# One shape is (paint, kind, numbers): "e" ellipse and "r" rectangle take x0 y0 x1 y1,
# "p" polygon takes x y pairs, "o" is a ring and "l" a line of the given width (last number).
_GLYPHS: dict[str, list[tuple]] = {
    "dog": [
        ("body", "e", .15, .42, .78, .72), ("body", "r", .2, .6, .32, .96),
        ("body", "r", .6, .6, .72, .96), ("body", "e", .62, .16, .92, .5),
        ("body", "r", .82, .32, 1., .46), ("body", "p", .02, .22, .1, .2, .25, .5, .17, .55),
        ("dark", "p", .62, .18, .72, .2, .7, .46, .6, .42), ("dark", "e", .8, .26, .86, .32),
    ],
    "cat": [
        ("body", "e", .24, .4, .76, 1.), ("body", "e", .28, .1, .76, .52),
        ("body", "p", .28, .28, .3, .0, .48, .14), ("body", "p", .56, .14, .74, .0, .76, .28),
        ("body", "p", .05, .55, .14, .5, .34, .88, .28, .98),
        ("dark", "e", .38, .26, .45, .33), ("dark", "e", .58, .26, .65, .33),
        ("light", "p", .47, .36, .57, .36, .52, .43),
    ],
    "horse": [
        ("body", "e", .12, .36, .78, .68), ("body", "p", .6, .5, .74, .06, .88, .08, .82, .58),
        ("body", "p", .74, .04, .98, .2, .95, .3, .76, .24), ("body", "r", .16, .55, .25, 1.),
        ("body", "r", .32, .58, .39, 1.), ("body", "r", .58, .58, .65, 1.),
        ("body", "r", .7, .55, .79, 1.), ("dark", "p", .74, .0, .66, .05, .56, .42, .64, .42),
        ("dark", "p", .14, .42, .02, .75, .1, .78, .2, .52),
    ],
    "cow": [
        ("body", "r", .08, .32, .76, .72), ("body", "r", .7, .24, .98, .56),
        ("body", "r", .12, .7, .22, .98), ("body", "r", .62, .7, .72, .98),
        ("light", "p", .72, .26, .68, .1, .78, .24), ("light", "p", .9, .24, .98, .1, .97, .27),
        ("dark", "e", .18, .38, .38, .56), ("dark", "e", .48, .48, .64, .66),
        ("skin", "r", .84, .44, .98, .56),
    ],
    "bird": [
        ("body", "e", .2, .34, .76, .72), ("body", "e", .6, .14, .9, .46),
        ("body", "p", .3, .5, .0, .34, .06, .62), ("food", "p", .87, .24, 1., .32, .87, .38),
        ("dark", "p", .3, .42, .62, .44, .34, .66), ("dark", "e", .74, .22, .8, .29),
        ("dark", "r", .42, .7, .46, .98), ("dark", "r", .56, .7, .6, .98),
    ],
    "sheep": [
        ("body", "e", .1, .34, .42, .7), ("body", "e", .26, .24, .6, .66),
        ("body", "e", .46, .3, .8, .7), ("body", "e", .22, .46, .66, .8),
        ("dark", "e", .72, .26, .98, .56), ("dark", "r", .26, .74, .34, .98),
        ("dark", "r", .58, .74, .66, .98), ("light", "e", .86, .36, .91, .41),
    ],
    "car": [
        ("body", "r", .02, .48, .98, .78), ("body", "p", .2, .5, .33, .22, .7, .22, .84, .5),
        ("light", "p", .3, .47, .38, .28, .5, .28, .5, .47),
        ("light", "p", .55, .47, .55, .28, .67, .28, .75, .47),
        ("dark", "e", .12, .64, .36, .92), ("dark", "e", .64, .64, .88, .92),
    ],
    "bus": [
        ("body", "r", .0, .14, 1., .82), ("light", "r", .06, .24, .24, .46),
        ("light", "r", .3, .24, .48, .46), ("light", "r", .54, .24, .72, .46),
        ("light", "r", .8, .24, .97, .6), ("dark", "e", .12, .7, .34, .96),
        ("dark", "e", .66, .7, .88, .96),
    ],
    "truck": [
        ("body", "r", .0, .14, .6, .78),
        ("body", "p", .64, .36, .86, .36, 1., .56, 1., .78, .64, .78),
        ("light", "p", .7, .42, .83, .42, .92, .56, .7, .56), ("dark", "r", .58, .68, .68, .78),
        ("dark", "e", .1, .66, .32, .92), ("dark", "e", .7, .66, .92, .92),
    ],
    "boat": [
        ("body", "p", .0, .6, 1., .6, .82, .92, .18, .92), ("dark", "r", .44, .04, .5, .62),
        ("light", "p", .52, .06, .92, .54, .52, .54), ("light", "p", .42, .16, .14, .54, .42, .54),
    ],
    "bicycle": [
        ("dark", "o", .0, .46, .42, .9, .07), ("dark", "o", .58, .46, 1., .9, .07),
        ("body", "l", .21, .68, .42, .34, .09), ("body", "l", .42, .34, .72, .36, .09),
        ("body", "l", .72, .36, .5, .68, .09), ("body", "l", .5, .68, .21, .68, .09),
        ("body", "l", .79, .68, .68, .2, .09), ("body", "l", .42, .34, .5, .68, .09),
        ("dark", "r", .3, .24, .52, .32), ("dark", "r", .64, .14, .84, .22),
    ],
    "chair": [
        ("body", "r", .16, .02, .36, .66), ("body", "r", .16, .46, .84, .68),
        ("body", "r", .16, .64, .28, 1.), ("body", "r", .72, .64, .84, 1.),
    ],
    "sofa": [
        ("body", "r", .1, .22, .9, .6), ("body", "e", .0, .36, .24, .66),
        ("body", "e", .76, .36, 1., .66), ("body", "r", .0, .5, 1., .84),
        ("dark", "r", .08, .84, .18, .94), ("dark", "r", .82, .84, .92, .94),
        ("dark", "r", .49, .28, .51, .6),
    ],
    "table": [
        ("body", "r", .0, .3, 1., .54), ("body", "r", .08, .5, .24, .98),
        ("body", "r", .76, .5, .92, .98),
    ],
    "lamp": [
        ("body", "p", .3, .02, .7, .02, .92, .46, .08, .46), ("dark", "r", .46, .46, .54, .86),
        ("body", "r", .24, .82, .76, .98),
    ],
    "bed": [
        ("body", "r", .0, .16, .14, .96), ("body", "r", .04, .5, .98, .78),
        ("light", "r", .16, .36, .42, .52), ("body", "r", .86, .42, 1., .96),
    ],
}  # fmt: skip

_HEADS = {
    "man": [("skin", "e", .38, .0, .62, .24), ("dark", "p", .36, .08, .4, .0, .6, .0, .64, .08)],
    "woman": [
        ("dark", "e", .33, .0, .67, .34), ("skin", "e", .4, .03, .64, .25),
    ],
}  # fmt: skip
_TORSO = {
    "man": [("body", "r", .34, .24, .66, .6)],
    "woman": [("body", "p", .4, .24, .62, .24, .78, .74, .24, .74)],
}  # fmt: skip
_LEGS = {
    "stand": [("dark", "r", .36, .58, .47, 1.), ("dark", "r", .54, .58, .65, 1.)],
    "riding": [
        ("dark", "p", .38, .56, .5, .56, .3, .98, .18, .94),
        ("dark", "p", .5, .56, .62, .56, .84, .94, .72, .98),
    ],
    "pushing": [
        ("dark", "p", .36, .56, .48, .58, .22, 1., .1, 1.),
        ("dark", "p", .5, .56, .62, .56, .56, 1., .44, 1.),
    ],
}  # fmt: skip
_LEGS["holding"] = _LEGS["feeding"] = _LEGS["stand"]
_ARMS = {
    "stand": [("skin", "r", .26, .26, .34, .56), ("skin", "r", .66, .26, .74, .56)],
    "riding": [("skin", "p", .6, .28, .9, .42, .86, .5, .58, .38)],
    "pushing": [
        ("skin", "p", .6, .28, 1., .3, 1., .38, .6, .38),
        ("skin", "p", .6, .42, 1., .46, 1., .54, .6, .52),
    ],
    "holding": [
        ("skin", "p", .6, .44, .98, .56, .96, .64, .58, .54),
        ("skin", "p", .6, .28, .9, .2, .94, .27, .62, .38),
    ],
    "feeding": [
        ("skin", "p", .6, .28, .92, .54, .86, .6, .56, .4), ("food", "e", .8, .48, 1., .68),
    ],
}  # fmt: skip
POSES = tuple(_ARMS)

for _person in ("man", "woman"):
    for _pose in POSES:
        _GLYPHS[f"{_person}/{_pose}"] = (
            _LEGS[_pose] + _TORSO[_person] + _ARMS[_pose] + _HEADS[_person]
        )


def _draw(shape: tuple, canvas: ImageDraw.ImageDraw, side: int, fill: int) -> None:
    kind, numbers = shape[1], [v * side for v in shape[2:]]
    if kind == "e":
        canvas.ellipse(numbers, fill=fill)
    elif kind == "r":
        canvas.rectangle(numbers, fill=fill)
    elif kind == "p":
        canvas.polygon(numbers, fill=fill)
    elif kind == "o":
        canvas.ellipse(numbers[:4], outline=fill, width=max(1, round(numbers[4])))
    else:
        canvas.line(numbers[:4], fill=fill, width=max(1, round(numbers[4])))


@lru_cache(maxsize=4096)
def glyph(name: str, size: int, flip: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rasterise a glyph at ``size`` x ``size`` pixels.

    Args:
        name: a class, or ``"man/riding"`` and the like for people.
        size: side in pixels.
        flip: mirror, so that it faces left.

    Returns:
        alpha: ``(size, size)`` bool, the object's exact pixels.
        body: ``(size, size)`` float in [0, 1], the share painted in the object's colour.
        detail: ``(size, size, 3)`` float, the fixed paint, weighted by its share.

    Raises:
        KeyError: naming the glyphs that exist.
    """
    if name not in _GLYPHS:
        raise KeyError(f"no glyph {name!r}; expected one of {', '.join(sorted(_GLYPHS))}")
    side = size * _SUPERSAMPLE
    image = Image.new("L", (side, side), 0)
    canvas = ImageDraw.Draw(image)
    for shape in _GLYPHS[name]:
        _draw(shape, canvas, side - 1, 1 + _PAINTS.index(shape[0]))
    paint = np.asarray(image)
    if flip:
        paint = paint[:, ::-1]
    blocks = paint.reshape(size, _SUPERSAMPLE, size, _SUPERSAMPLE)
    share = np.stack([(blocks == k + 1).mean((1, 3)) for k in range(len(_PAINTS))])
    total = share.sum(0)
    alpha = total >= 0.5
    share = share / np.maximum(total, 1e-9)
    detail = sum(share[k][..., None] * np.array(_RGB[p]) for k, p in enumerate(_PAINTS) if k)
    return alpha, share[0], detail
