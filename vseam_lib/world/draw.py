"""Draws scenes, with the exact pixels of every object."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from vseam_lib.world import ontology as o
from vseam_lib.world.glyphs import glyph
from vseam_lib.world.scene import SIZE, Scene

_GROUND = {
    "grass": ((150, 190, 225), (95, 150, 80)),
    "street": ((190, 195, 205), (120, 118, 120)),
    "room": ((215, 200, 175), (150, 115, 85)),
    "water": ((170, 205, 230), (80, 130, 175)),
}
_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def _texture(material: str | None, size: int, phase: float) -> np.ndarray:
    """Brightness factor ``(size, size)`` of a material; flat for things without one."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    if material == "wood":
        return 0.88 + 0.26 * np.sin(1.5 * y + 0.8 * np.sin(0.35 * x + phase))
    if material == "metal":
        band = np.exp(-(((x + y) / size - 0.75 - 0.1 * np.sin(phase)) ** 2) / 0.02)
        return 0.62 + 0.35 * y / size + 0.75 * band
    if material == "fabric":
        return np.where((x.astype(int) // 2 + y.astype(int) // 2) % 2 == 0, 0.72, 1.16)
    if material == "plastic":
        spot = np.exp(-((x - 0.3 * size) ** 2 + (y - 0.5 * size) ** 2) / (0.02 * size * size))
        return 1.0 + 0.4 * spot
    return 1.05 - 0.2 * y / size


def _background(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    sky, ground = (np.array(c, np.float32) for c in _GROUND[scene.place])
    horizon = rng.uniform(30, 46)
    image = np.where((_Y < horizon)[..., None], sky, ground) + rng.normal(0, 8, 3)
    phase = rng.uniform(0, 6.28)
    below = _Y >= horizon
    if scene.place == "street":
        lane = (np.abs(_Y - horizon - 26) < 2) & (np.sin(_X / 6 + phase) > 0)
        image[lane] += 70
    elif scene.place == "room":
        image[below & ((_X + 0.3 * _Y + 9 * phase) % 16 < 1.2)] -= 35
    elif scene.place == "water":
        image[below & (np.sin(_X / 4 + phase) + np.sin(_Y * 1.1) > 1.2)] += 30
    else:
        image[below & (np.sin(3.1 * _X + phase) * np.sin(1.7 * _Y) > 0.8)] -= 30
    for _ in range(int(rng.integers(4, 11))):  # clutter that no question asks about
        cx, cy, r = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(2, 6)
        tone = image[int(cy), int(cx)] + rng.normal(0, 45, 3)
        if rng.random() < 0.5:
            spot = (np.abs(_X - cx) < r) & (np.abs(_Y - cy) < r * rng.uniform(0.3, 1))
        else:
            spot = (_X - cx) ** 2 + (_Y - cy) ** 2 < r * r
        image[spot] = tone
    return image


def draw(scene: Scene, *, without: Collection[int] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene.

    Args:
        without: objects to leave out; everything else is drawn as if they were there.

    Returns:
        image: ``(96, 96, 3)`` uint8 RGB.
        owner: ``(96, 96)`` int8, which object each pixel shows (-1: background), so
            ``owner == k`` is object k's exact visible mask.
    """
    rng = np.random.default_rng(scene.seed)
    image = _background(scene, rng)
    noise = rng.normal(0, 1, (SIZE, SIZE, 3)) * rng.uniform(6, 16)
    light = rng.uniform(0.8, 1.12)
    jitter = rng.normal(0, 1, (16, 3))
    phases = rng.uniform(0, 6.28, 16)
    owner = np.full((SIZE, SIZE), -1, np.int8)
    placed = scene.placed
    for k in _painting_order(scene):
        if k in without:
            continue
        p, obj = placed[k], scene.objects[k]
        alpha, body, detail = glyph(p.glyph, p.size, p.flip)
        x0, y0, x1, y1 = max(p.x, 0), max(p.y, 0), min(p.x + p.size, SIZE), min(p.y + p.size, SIZE)
        if x1 <= x0 or y1 <= y0:
            continue
        cut = (slice(y0 - p.y, y1 - p.y), slice(x0 - p.x, x1 - p.x))
        color = np.array(o.COLORS[obj.color], np.float32) + 16 * jitter[k]
        if obj.color == "black":
            color = color + 12  # so that a material still shows
        tone = color * _texture(obj.material, p.size, phases[k])[cut][..., None]
        paint = tone * body[cut][..., None] + detail[cut]
        a = alpha[cut]
        image[y0:y1, x0:x1][a] = paint[a]
        owner[y0:y1, x0:x1][a] = k
    return np.clip(image * light + noise, 0, 255).astype(np.uint8), owner


def _painting_order(scene: Scene) -> list[int]:
    """Back to front; whoever acts is drawn over what is acted on, except for what is held."""
    order = list(range(len(scene.objects)))
    if scene.action:
        last = [scene.action.object, scene.action.subject]
        if scene.action.name == "holding":
            last.reverse()
        order = [k for k in order if k not in last] + last
    return order
