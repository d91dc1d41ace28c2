"""Short training items: statements to judge, and captions of true facts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vseam_lib.world import ontology as o
from vseam_lib.world.questions import others, pick
from vseam_lib.world.scene import SIZE, Scene

STATEMENTS = ("exist", "color", "material", "action", "side", "relation")


def statement(
    scene: Scene, rng: np.random.Generator, shares: Sequence[float] | None = None
) -> tuple[str, str]:
    """A terse statement to match with the picture, such as ``dog red ?``, and its verdict.

    Used in training only: many short verdicts per picture give the decoder a signal long before
    full questions do.

    Args:
        shares: how often each of :data:`STATEMENTS` is drawn; equally often by default. A kind
            that the scene has no occasion for gives way to another draw.
    """
    while True:
        kind = str(rng.choice(STATEMENTS, p=shares))
        said = _statement(scene, kind, bool(rng.random() < 0.5), rng)
        if said:
            return said


def _statement(scene: Scene, kind: str, yes: bool, rng) -> tuple[str, str] | None:
    verdict = "Yes" if yes else "No"
    k = int(rng.integers(len(scene.objects)))
    obj = scene.objects[k]
    if kind == "exist":
        rivals = [m for m in o.GROUPS[o.GROUP_OF[obj.name]] if not scene.has(m)]
        if not yes and not rivals:
            return None
        return f"{obj.name if yes else pick(rng, rivals)} ?", verdict
    if kind == "color":
        said = obj.color if yes else pick(rng, others(o.COLORS, obj.color))
        return None if obj.name in o.PEOPLE else (f"{obj.name} {said} ?", verdict)
    if kind == "material":
        said = obj.material if yes else pick(rng, others(o.MATERIALS, obj.material))
        return (f"{obj.name} {said} ?", verdict) if obj.material else None
    if kind == "action":
        if scene.action is None:
            return None
        act = scene.action
        one, two = scene.objects[act.subject].name, scene.objects[act.object].name
        said = act.name if yes else pick(rng, others(o.ACTIONS_ON[two], act.name))
        return f"{one} {said} {two} ?", verdict
    if kind == "side":
        x, y = scene.centre(k)
        pairs = (
            (("left", "right") if x < SIZE / 2 else ("right", "left")),
            (("above", "below") if y < SIZE / 2 else ("below", "above")),
        )
        true, false = pick(rng, pairs)
        return f"{obj.name} {true if yes else false} ?", verdict
    pairs = [(j, r) for j in range(len(scene.objects)) if j != k and (r := scene.relation(k, j))]
    if not pairs:
        return None
    j, true = pick(rng, pairs)
    said = true if yes else o.OPPOSITE[true]
    return f"{obj.name} {said} {scene.objects[j].name} ?", verdict


def caption(scene: Scene, rng: np.random.Generator, facts: int = 6) -> str:
    """True facts in a row, such as ``dog red . man riding horse . dog above cat .``

    Used in training only. Predicting the words one by one teaches the decoder to look a thing up
    in the picture by its name.
    """
    said = []
    for k in rng.permutation(len(scene.objects)):
        obj = scene.objects[int(k)]
        x, y = scene.centre(int(k))
        sides = ["left" if x < SIZE / 2 else "right", "above" if y < SIZE / 2 else "below"]
        kind = rng.random()
        if kind < 0.45:
            said.append(" ".join(filter(None, (obj.name, obj.color, obj.material))))
        elif kind < 0.6:
            said.append(" ".join([obj.name, *sides]))
        else:
            near = [j for j in range(len(scene.objects)) if scene.relation(int(k), j)]
            if near:
                j = pick(rng, near)
                said.append(f"{obj.name} {scene.relation(int(k), j)} {scene.objects[j].name}")
    if scene.action:
        act = scene.action
        one, two = scene.objects[act.subject].name, scene.objects[act.object].name
        said.append(f"{one} {act.name} {two}")
    return " . ".join(said[i] for i in rng.permutation(len(said))[:facts]) + " ."
