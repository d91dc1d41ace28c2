"""Training scenes in memory: images, per-patch labels, and what can be asked about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.glyphs import POSES
from vseam_lib.world.models import PATCH
from vseam_lib.world.scene import SIZE, Scene, sample_scene

CLASS_ID = {c: k + 1 for k, c in enumerate(o.CLASSES)}  # 0: background
COLOR_ID = {c: k for k, c in enumerate(o.COLORS)}
MATERIAL_ID = {m: k for k, m in enumerate(o.MATERIALS)}
POSE_ID = {p: k for k, p in enumerate(POSES)}
IGNORE = -100
_GRID = SIZE // PATCH


@dataclass
class Pool:
    """``n`` scenes.

    Attributes:
        images: ``(n, 96, 96, 3)`` uint8.
        patches: ``(n, 4, 64)`` int64, per patch its class, colour, material and pose
            (-100 where undefined).
        present: ``(n, 18)`` float32, which classes are in the picture.
        places: ``(n,)`` int64.
    """

    scenes: list[Scene]
    images: np.ndarray
    patches: torch.Tensor
    present: torch.Tensor
    places: torch.Tensor


def patch_labels(scene: Scene, owner: np.ndarray) -> np.ndarray:
    """Labels of every patch by the object that covers most of it, ``(4, 64)``."""
    cells = owner.reshape(_GRID, PATCH, _GRID, PATCH).transpose(0, 2, 1, 3).reshape(-1, PATCH**2)
    labels = np.full((4, _GRID**2), IGNORE, np.int64)
    labels[0] = 0
    counts = np.stack([(cells == k).sum(1) for k in range(len(scene.objects))], 1)
    best, most = counts.argmax(1), counts.max(1)
    labels[0][(most > 0) & (most < 0.2 * PATCH**2)] = IGNORE
    for cell in np.flatnonzero(most >= 0.2 * PATCH**2):
        k = int(best[cell])
        obj, glyph = scene.objects[k], scene.placed[k].glyph
        labels[0, cell] = CLASS_ID[obj.name]
        labels[1, cell] = COLOR_ID[obj.color]
        if obj.material:
            labels[2, cell] = MATERIAL_ID[obj.material]
        if "/" in glyph:
            labels[3, cell] = POSE_ID[glyph.split("/")[1]]
    return labels


def build(n: int, *, first: int, seed: int) -> Pool:
    """Draw training scenes ``first`` ... ``first + n - 1``."""
    scenes, images, patches, present, places = [], [], [], [], []
    for index in range(first, first + n):
        scene = sample_scene("train", index, seed)
        image, owner = draw(scene)
        scenes.append(scene)
        images.append(image)
        patches.append(patch_labels(scene, owner))
        present.append([scene.has(c) for c in o.CLASSES])
        places.append(o.PLACES.index(scene.place))
    return Pool(
        scenes,
        np.stack(images),
        torch.from_numpy(np.stack(patches)),
        torch.tensor(present, dtype=torch.float32),
        torch.tensor(places),
    )


_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)


def pixel_values(images: np.ndarray) -> torch.Tensor:
    """CLIP's normalisation of ``(n, 96, 96, 3)`` uint8, as the processor does it."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (x - _MEAN) / _STD
