"""Scenes unlike those of the other splits, in the layouts of POPE and COCO-QA.

Heads chosen on the usual scenes are tested here. What is shifted, against every other split:

- objects are smaller than any there (:data:`SHIFTED`), and as many as in the fullest scenes there;
- the places have other colours, a lower horizon, another texture, more clutter and more noise;
- nothing co-occurs more than by chance, as in the splits that are analysed.

Classes, colours, materials, places and words are the same: the models have no others, and their
training scenes hold every colour of every class, so no combination of the two is unseen. Objects
are painted as everywhere.

POPE's three subsets are built as its authors do (Li et al., 2023, section 5): three objects in the
picture, the same in all subsets, and three that are not, drawn at random, by how many pictures
have them, or by how often they occur with the object asked about just before.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.questions import open_questions
from vseam_lib.world.scene import SIZE, SPLITS, Ranges, Scene, all_show, attempt_scene

SHIFTED = Ranges(target=(22, 26), person=(27, 32), other=(19, 22), more=(3, 4))
GROUND = {  # sky and ground in RGB, as in vseam_lib.world.draw
    "grass": ((180, 160, 205), (130, 180, 50)),
    "street": ((120, 125, 160), (62, 62, 66)),
    "room": ((235, 175, 135), (175, 95, 70)),
    "water": ((215, 180, 200), (110, 190, 220)),
}
HORIZON = (48, 60)  # rows; elsewhere 30 to 46
CLUTTER = (11, 16)  # spots, half-open; elsewhere 4 to 10
NOISE = (16, 20)  # standard deviation of a background pixel; elsewhere 6 to 16
POPE_IMAGES, COCOQA_IMAGES = 100, 100
PER_IMAGE = 3  # objects asked about that are in a picture, and as many that are not
SUBSETS = ("random", "popular", "adversarial")
TYPES = {"object": 0, "count": 1, "color": 2, "place": 3}  # COCO-QA's codes
_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


def shifted_scene(index: int, seed: int = 0) -> Scene:
    """Shifted scene number ``index``; the same arguments always give the same scene.

    Every object of it shows.
    """
    rng = np.random.default_rng([seed, len(SPLITS), index])
    while True:
        scene = attempt_scene(rng, f"{len(SPLITS) + 1}{index:07d}", natural=False, ranges=SHIFTED)
        if scene is not None and all_show(scene, draw(scene)[1]):
            return scene


def draw_shifted(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene before a shifted background.

    Returns:
        ``image``, ``(96, 96, 3)`` uint8 RGB, and ``owner``, ``(96, 96)`` int8, as of
        :func:`vseam_lib.world.draw.draw`, whose objects these are, pixel by pixel.
    """
    image, owner = draw(scene)
    behind = _background(scene, np.random.default_rng([scene.seed, 1]))
    return np.where(owner[..., None] < 0, behind, image), owner


def _background(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """``(96, 96, 3)`` uint8."""
    sky, ground = (np.array(c, np.float32) for c in GROUND[scene.place])
    horizon, phase = rng.uniform(*HORIZON), rng.uniform(0, 6.28)
    image = np.where((_Y < horizon)[..., None], sky, ground) + rng.normal(0, 8, 3)
    below = _Y >= horizon
    if scene.place == "street":
        image[(np.abs(_Y - horizon - 14) < 1.5) & (np.sin(_X / 3 + phase) > 0)] += 60
    elif scene.place == "room":
        image[below & ((_Y - horizon) % 9 < 1.2)] -= 30
    elif scene.place == "water":
        image[below & (np.sin(_X / 7 + phase) + np.sin(_Y * 0.8) > 1.1)] += 35
    else:
        image[below & (np.sin(1.3 * _X + phase) * np.sin(0.9 * _Y) > 0.6)] -= 30
    for _ in range(int(rng.integers(*CLUTTER))):
        cx, cy, r = rng.uniform(0, SIZE), rng.uniform(0, SIZE), rng.uniform(2, 6)
        image[(np.abs(_X - cx) + np.abs(_Y - cy)) < r] += rng.normal(0, 45, 3)
    image = image + rng.normal(0, rng.uniform(*NOISE), image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def pope_lines(scenes: Sequence[Scene], subset: str, seed: int = 0) -> list[dict]:
    """The rows of one POPE file: yes and no in turn, the same yes questions in every subset.

    Raises:
        ValueError: an unknown subset.
    """
    if subset not in SUBSETS:
        raise ValueError(f"expected a subset in {SUBSETS}, got {subset!r}")
    present = [[x.name for x in s.objects] for s in scenes]
    often = Counter(name for names in present for name in names)
    together = Counter((a, b) for names in present for a in names for b in names if a != b)
    rows: list[dict] = []
    for k, (scene, names) in enumerate(zip(scenes, present, strict=True)):
        asked = [names[i] for i in np.random.default_rng([seed, k]).permutation(len(names))]
        absent = [c for c in o.CLASSES if c not in names]
        rng = np.random.default_rng([seed, k, 1])
        shuffled = [absent[i] for i in rng.permutation(len(absent))]  # breaks ties
        for name in asked[:PER_IMAGE]:
            if subset == "popular":
                shuffled.sort(key=lambda c: -often[c])
            elif subset == "adversarial":
                shuffled.sort(key=lambda c, near=name: -together[near, c])
            for thing, label in ((name, "yes"), (shuffled.pop(0), "no")):
                rows.append(
                    {
                        "question_id": len(rows) + 1,
                        "image": f"{scene.id}.png",
                        "text": f"Is there a {thing} in the image?",
                        "label": label,
                    }
                )
    return rows


def export_pope(out: Path, seed: int = 0, images: int = POPE_IMAGES) -> None:
    """Write ``coco_pope_{subset}.json`` (JSON lines) and ``images/`` below ``out``."""
    scenes = [shifted_scene(k, seed) for k in range(images)]
    _write_images(out, scenes)
    for subset in SUBSETS:
        lines = [json.dumps(row) for row in pope_lines(scenes, subset, seed)]
        (out / f"coco_pope_{subset}.json").write_text("\n".join(lines) + "\n")


def export_cocoqa(out: Path, seed: int = 0, images: int = COCOQA_IMAGES) -> None:
    """Write ``test/{img_ids,questions,answers,types}.txt`` and ``images/`` below ``out``.

    One question of each type about each picture; the pictures are not those of POPE.
    """
    columns: dict[str, list[str]] = {k: [] for k in ("img_ids", "questions", "answers", "types")}
    scenes = [shifted_scene(10**6 + k, seed) for k in range(images)]
    _write_images(out, scenes)
    for k, scene in enumerate(scenes):
        found = open_questions(scene, np.random.default_rng([seed, k, 2]))
        for kind, code in TYPES.items():
            if kind in found:
                row = (scene.id, *found[kind], str(code))
                for column, value in zip(columns.values(), row, strict=True):
                    column.append(value)
    (out / "test").mkdir(parents=True, exist_ok=True)
    for name, column in columns.items():
        (out / "test" / f"{name}.txt").write_text("\n".join(column) + "\n")


def _write_images(out: Path, scenes: Sequence[Scene]) -> None:
    (out / "images").mkdir(parents=True, exist_ok=True)
    for scene in scenes:
        Image.fromarray(draw_shifted(scene)[0]).save(out / "images" / f"{scene.id}.png")
