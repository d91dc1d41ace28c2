"""Scenes of the embedded world, and scenes with exactly one thing changed.

A scene is a place, a handful of objects of distinct classes, and at most one person doing
something with one of them. Everything is drawn from a seed; training scenes follow natural
co-occurrence (:data:`~vseam_lib.world.ontology.USUAL_PLACE` and the like), all others do not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from vseam_lib.triples import Box
from vseam_lib.world import ontology as o

SIZE = 96  # pixels, both sides
SPLITS = ("train", "analysis", "heldout")
VISIBLE = 40  # pixels of an object that must show for a question to be asked about it


class Ranges(NamedTuple):
    """What a scene's objects are drawn from: half-open ranges of sizes (pixels) and of numbers.

    Attributes:
        target, person, other: sizes of what an action is done to, of who does it, and of the rest.
        more: how many of the rest; a scene without an action has one more.
    """

    target: tuple[int, int] = (26, 34)
    person: tuple[int, int] = (32, 40)
    other: tuple[int, int] = (22, 34)
    more: tuple[int, int] = (2, 4)


USUAL = Ranges()  # of all splits


@dataclass(frozen=True)
class SceneObject:
    """One object: where it stands before any action moves it. Centre and side in pixels."""

    name: str
    color: str
    material: str | None
    cx: float
    cy: float
    size: int
    flip: bool


@dataclass(frozen=True)
class Action:
    """``objects[subject]`` (a person) does ``name`` to ``objects[object]``."""

    subject: int
    name: str
    object: int
    side: int  # -1: the person stands to the left, +1: to the right


@dataclass(frozen=True)
class Placed:
    """An object as drawn: its glyph and its square in pixels (may leave the image)."""

    glyph: str
    x: int
    y: int
    size: int
    flip: bool


@dataclass(frozen=True)
class Scene:
    """A scene; ``seed`` fixes background, clutter, colour jitter and noise."""

    id: str
    place: str
    objects: tuple[SceneObject, ...]
    action: Action | None
    seed: int

    def index(self, name: str) -> int:
        """Position of the object of this class; ``KeyError`` names what is in the scene."""
        for k, obj in enumerate(self.objects):
            if obj.name == name:
                return k
        raise KeyError(f"scene {self.id} has no {name!r}, only {[x.name for x in self.objects]}")

    def has(self, name: str) -> bool:
        return any(obj.name == name for obj in self.objects)

    @cached_property
    def placed(self) -> list[Placed]:
        """Where each object is drawn, actions applied."""
        out = [_place(x.name, x.cx, x.cy, x.size, x.flip) for x in self.objects]
        for k, obj in enumerate(self.objects):
            if obj.name in o.PEOPLE:
                out[k] = replace(out[k], glyph=f"{obj.name}/stand")
        if self.action is None:
            return out
        a = self.action
        person, target = self.objects[a.subject], self.objects[a.object]
        feet = target.cy + target.size / 2
        glyph = f"{person.name}/{a.name}"
        faces_left = a.side > 0
        if a.name == "riding":
            cy = target.cy - 0.12 * target.size - 0.42 * person.size
            out[a.subject] = _place(glyph, target.cx, cy, person.size, faces_left)
            out[a.object] = replace(out[a.object], flip=faces_left)
            return out
        reach = {"pushing": 0.42, "feeding": 0.62, "holding": 0.46}[a.name]
        px = target.cx + a.side * (reach * person.size + 0.42 * target.size)
        py = feet - person.size / 2
        out[a.subject] = _place(glyph, px, py, person.size, faces_left)
        out[a.object] = replace(out[a.object], flip=not faces_left)
        if a.name == "holding":
            size = max(14, round(0.66 * target.size))
            hx = px - a.side * (0.4 * person.size + 0.3 * size)
            out[a.object] = _place(target.name, hx, py - 0.1 * person.size, size, not faces_left)
        return out

    def centre(self, k: int) -> tuple[float, float]:
        p = self.placed[k]
        return p.x + p.size / 2, p.y + p.size / 2

    def relation(self, a: int, b: int) -> str | None:
        """Spatial relation of object a to object b along the axis that separates them more.

        ``None`` where no axis separates their centres by at least 14 pixels, or where a person
        and the object of the action are meant (they touch).
        """
        if self.action and {a, b} == {self.action.subject, self.action.object}:
            return None
        (ax, ay), (bx, by) = self.centre(a), self.centre(b)
        dx, dy = ax - bx, ay - by
        if max(abs(dx), abs(dy)) < 14 or abs(abs(dx) - abs(dy)) < 6:
            return None
        if abs(dx) > abs(dy):
            return "to the left of" if dx < 0 else "to the right of"
        return "above" if dy < 0 else "below"

    # One thing changed. Everything else, down to the noise, is drawn as before.

    def with_color(self, k: int, color: str) -> Scene:
        return self._with_object(k, color=color)

    def with_material(self, k: int, material: str) -> Scene:
        if self.objects[k].material is None:
            raise ValueError(f"a {self.objects[k].name} has no material in this world")
        return self._with_object(k, material=material)

    def with_class(self, k: int, name: str) -> Scene:
        """Replace object k by one of another class at the same place, colour and material."""
        if self.has(name):
            raise ValueError(f"scene {self.id} already has a {name}; classes are distinct")
        material = self.objects[k].material or "plastic" if name in o.INDOOR else None
        return self._with_object(k, name=name, material=material)

    def with_action(self, action: str) -> Scene:
        if self.action is None:
            raise ValueError(f"scene {self.id} has no action to change")
        allowed = o.ACTIONS_ON[self.objects[self.action.object].name]
        if action not in allowed:
            raise ValueError(f"expected one of {allowed}, got {action!r}")
        return replace(self, action=replace(self.action, name=action))

    def with_swapped(self, a: int, b: int) -> Scene:
        """Exchange the places of two objects, which reverses their spatial relation."""
        one, two = self.objects[a], self.objects[b]
        objects = list(self.objects)
        objects[a] = replace(one, cx=two.cx, cy=two.cy)
        objects[b] = replace(two, cx=one.cx, cy=one.cy)
        return replace(self, objects=tuple(objects))

    def _with_object(self, k: int, **changes) -> Scene:
        objects = list(self.objects)
        objects[k] = replace(objects[k], **changes)
        return replace(self, objects=tuple(objects))


def _place(glyph: str, cx: float, cy: float, size: int, flip: bool) -> Placed:
    return Placed(glyph, round(cx - size / 2), round(cy - size / 2), size, flip)


def _overlap(a: Placed, b: Placed) -> float:
    """Shared area over the smaller square's area."""
    w = min(a.x + a.size, b.x + b.size) - max(a.x, b.x)
    h = min(a.y + a.size, b.y + b.size) - max(a.y, b.y)
    return max(0, w) * max(0, h) / min(a.size, b.size) ** 2


def _inside(p: Placed, slack: float = 0.12) -> bool:
    m = slack * p.size
    return p.x >= -m and p.y >= -m and p.x + p.size <= SIZE + m and p.y + p.size <= SIZE + m


def sample_scene(split: str, index: int, seed: int = 0) -> Scene:
    """Scene number ``index`` of a split; the same arguments always give the same scene."""
    if split not in SPLITS:
        raise ValueError(f"expected a split in {SPLITS}, got {split!r}")
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    scene_id = f"{SPLITS.index(split) + 1}{index:07d}"
    natural = split == "train"
    while True:
        scene = attempt_scene(rng, scene_id, natural=natural)
        if scene is not None:
            return scene


def attempt_scene(
    rng: np.random.Generator, scene_id: str, *, natural: bool, ranges: Ranges = USUAL
) -> Scene | None:
    """Draw a scene, or ``None`` where its objects do not find room.

    Args:
        natural: with the natural co-occurrence of the training scenes.
    """
    objects: list[SceneObject] = []
    action = None
    if rng.random() < 0.6:
        target_name = str(rng.choice(list(o.ACTIONS_ON)))
        person_name = str(rng.choice(o.PEOPLE))
        name = str(rng.choice(o.ACTIONS_ON[target_name]))
        target = _object(rng, target_name, natural, ranges.target, (24, 72), (58, 78))
        person = _object(rng, person_name, natural, ranges.person, (0, 96), (0, 96))
        objects = [target, person]
        action = Action(1, name, 0, int(rng.choice([-1, 1])))
        if not all(_inside(p) for p in Scene(scene_id, "grass", tuple(objects), action, 0).placed):
            return None
    wanted = len(objects) + int(rng.integers(*ranges.more)) - (0 if action else -1)
    for _ in range(60):
        if len(objects) == wanted:
            break
        name = str(rng.choice(o.CLASSES))
        if any(x.name == name for x in objects):
            continue
        new = _object(rng, name, natural, ranges.other, (12, 84), (14, 82))
        trial = Scene(scene_id, "grass", (*objects, new), action, 0).placed
        if _inside(trial[-1], 0) and all(_overlap(p, trial[-1]) < 0.15 for p in trial[:-1]):
            objects.append(new)
    if len(objects) != wanted:
        return None
    place = str(rng.choice(o.PLACES))
    if natural and rng.random() < 0.5:
        place = o.USUAL_PLACE.get(o.GROUP_OF[objects[0].name], place)
    order = rng.permutation(len(objects))
    if action:
        rank = {int(k): i for i, k in enumerate(order)}
        action = replace(action, subject=rank[1], object=rank[0])
    objects = [objects[k] for k in order]
    return Scene(scene_id, place, tuple(objects), action, int(rng.integers(2**31)))


def _object(rng, name, natural, sizes, xs, ys) -> SceneObject:
    color = str(rng.choice(list(o.COLORS)))
    material = str(rng.choice(o.MATERIALS)) if name in o.INDOOR else None
    if natural and rng.random() < 0.35:
        color = str(rng.choice(o.USUAL_COLORS[name]))
    if natural and material and rng.random() < 0.25:
        material = o.USUAL_MATERIAL[name]
    return SceneObject(
        name, color, material, float(rng.uniform(*xs)), float(rng.uniform(*ys)),
        int(rng.integers(*sizes)), bool(rng.random() < 0.5),
    )  # fmt: skip


def all_show(scene: Scene, owner: np.ndarray) -> bool:
    """Does every object show enough to be asked about? ``owner`` as of ``draw``."""
    shown = np.bincount(owner[owner >= 0], minlength=len(scene.objects))
    return bool((shown >= VISIBLE).all())


def mask_box(mask: np.ndarray) -> Box:
    """Tight box of a boolean mask ``(H, W)``; ``ValueError`` on an empty one."""
    ys, xs = np.nonzero(mask)
    if not len(xs):
        raise ValueError("expected a mask with at least one pixel, got an empty one")
    x, y = int(xs.min()), int(ys.min())
    return Box(x, y, int(xs.max()) - x + 1, int(ys.max()) - y + 1)
