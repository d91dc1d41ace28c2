"""The exact edit: the scene drawn again with the wanted thing changed and nothing else.

Only an embedded world can give it. It is the upper reference for every inpainted edit, and the
classifier that knows the world says whether an edit shows what was wanted.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from PIL import Image

from vseam_lib.editing.counterfactual import Counterfactual
from vseam_lib.triples import Box, Category, Level, VQATriple
from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.export import question
from vseam_lib.world.judge import Judge
from vseam_lib.world.scene import Scene


def redraw(triple: VQATriple, counterfactual: Counterfactual, seed: int = 0) -> Image.Image:
    """The picture in which the original question has the other answer, drawn exactly.

    Args:
        seed: of the world that the triple comes from.

    Raises:
        KeyError: a triple that this world did not give out.
        ValueError: a change that the scene does not allow.
    """
    return Image.fromarray(draw(edited_scene(triple, counterfactual, seed))[0])


def edited_scene(triple: VQATriple, counterfactual: Counterfactual, seed: int = 0) -> Scene:
    """The scene with the wanted thing changed; errors as :func:`redraw`."""
    scene, asked = question(triple.id, seed)
    wanted, first = counterfactual.wanted, asked.objects[0]
    match triple.category:
        case Category.COLOR:
            return scene.with_color(first, wanted)
        case Category.MATERIAL:
            return scene.with_material(first, wanted)
        case Category.ACTION:
            return scene.with_action(wanted)
        case Category.SPATIAL:
            swapped = scene.with_swapped(*asked.objects)
            if swapped.relation(*asked.objects) != wanted:
                raise ValueError(
                    f"triple {triple.id}: exchanging the two objects does not put the first "
                    f"{wanted} the second"
                )
            return swapped
        case _:
            return scene.with_class(first, wanted)


def allowed(triple: VQATriple, seed: int = 0) -> Collection[str] | None:
    """What may replace the asked thing, by what happens in the scene; ``None`` for anything.

    Someone's action limits what can stand in for the thing acted on, and that thing limits the
    action.
    """
    scene, asked = question(triple.id, seed)
    act = scene.action
    if triple.category is Category.ACTION:
        return o.ACTIONS_ON[scene.objects[act.object].name]
    if triple.level is Level.OBJECT and act and asked.objects[0] == act.object:
        return [name for name, actions in o.ACTIONS_ON.items() if act.name in actions]
    return None


def success(
    judge: Judge, image: Image.Image, triple: VQATriple, counterfactual: Counterfactual
) -> bool:
    """Whether the judge sees the wanted thing, and the rest of the asked objects unchanged.

    A colour or material must have changed on an object that is still of its class; a swapped
    object must be of the wanted class; of a spatial relation each box must show the other's
    object; an action is judged on the box around both.

    Raises:
        ValueError: a triple without the names of its boxes' objects.
    """
    if not triple.names:
        raise ValueError(f"triple {triple.id}: expected names of its boxes' objects, got none")
    wanted = counterfactual.wanted
    if triple.category is Category.ACTION:
        return judge.look(image, [around(triple.boxes)])[0].action == wanted
    seen = judge.look(image, triple.boxes)
    match triple.category:
        case Category.COLOR:
            return (seen[0].color, seen[0].object) == (wanted, triple.names[0])
        case Category.MATERIAL:
            return (seen[0].material, seen[0].object) == (wanted, triple.names[0])
        case Category.SPATIAL:
            return [s.object for s in seen] == list(triple.names[::-1])
        case _:
            return seen[0].object == wanted


def around(boxes: Collection[Box]) -> Box:
    """The smallest box that holds all of the boxes."""
    corners = np.array([(b.x, b.y, b.x + b.w, b.y + b.h) for b in boxes])
    (x0, y0), (x1, y1) = corners[:, :2].min(0), corners[:, 2:].max(0)
    return Box(int(x0), int(y0), int(x1 - x0), int(y1 - y0))
