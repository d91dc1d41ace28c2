"""Questions about scenes in the paper's wording, each with its counterfactual scene.

:func:`ask` poses one yes/no question of a category (Table 9's forms): ``Is the car red?``,
``Is the chair made of wood?``, ``Is there a dog in this picture?``, ``Is the cat to the left of
the sofa?``, ``Is the man riding the horse?``. Yes and No are equally likely, and a No always has
a plausible rival in the picture. The counterfactual scene changes exactly the asked-about thing
and thereby the right answer. :func:`open_question` poses COCO-QA-style one-word questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vseam_lib.triples import Category
from vseam_lib.world import ontology as o
from vseam_lib.world.scene import Scene

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
OPEN_KINDS = {  # kinds of open questions, told by their answers
    "color": tuple(o.COLORS),
    "material": o.MATERIALS,
    "place": o.PLACES,
    "count": NUMBERS,
    "object": o.CLASSES,
    "action": o.ACTIONS,
}
_TRIES = 200  # draws of an open question: enough that every kind a scene allows comes up


@dataclass(frozen=True)
class Question:
    """A yes/no question with what GQA stores about it.

    Attributes:
        objects: indices into ``scene.objects``, the asked object first.
        program: GQA's functional program, ``(operation, dependencies, argument)``; objects are
            written ``{0}``, ``{1}``, ... (positions in ``objects``) until export gives them ids.
        counterfactual: the scene in which the right answer is the other one.
    """

    text: str
    answer: str
    full_answer: str
    category: Category
    objects: tuple[int, ...]
    program: tuple[tuple[str, tuple[int, ...], str], ...]
    counterfactual: Scene


def ask(scene: Scene, category: Category, rng: np.random.Generator) -> Question | None:
    """One question of ``category`` about ``scene``, or ``None`` where the scene has no occasion."""
    yes = bool(rng.random() < 0.5)
    if category in (Category.COLOR, Category.MATERIAL):
        return _attribute(scene, category, yes, rng)
    if category is Category.SPATIAL:
        return _spatial(scene, yes, rng)
    if category is Category.ACTION:
        return _action(scene, yes, rng)
    return _existence(scene, category, yes, rng)


def pick(rng: np.random.Generator, items):
    """One of the items, all equally likely."""
    return items[int(rng.integers(len(items)))]


def others(values, but) -> list:
    """The values without one of them."""
    return [v for v in values if v != but]


def _attribute(scene, category, yes, rng) -> Question | None:
    color = category is Category.COLOR
    candidates = [
        k
        for k, x in enumerate(scene.objects)
        if (x.name not in o.PEOPLE if color else x.material is not None)
    ]
    if not candidates:
        return None
    k = pick(rng, candidates)
    obj = scene.objects[k]
    truth = obj.color if color else obj.material
    rival = pick(rng, others(o.COLORS if color else o.MATERIALS, truth))
    asked = truth if yes else rival
    text = f"Is the {obj.name} {asked}?" if color else f"Is the {obj.name} made of {asked}?"
    said = truth if color else f"made of {truth}"
    change = scene.with_color if color else scene.with_material
    return Question(
        text,
        "Yes" if yes else "No",
        f"The {obj.name} is {said}.",
        category,
        (k,),
        (("select", (), f"{obj.name} ({{0}})"), (f"verify {category}", (0,), asked)),
        change(k, rival if yes else asked),
    )


def _existence(scene, category, yes, rng) -> Question | None:
    members = o.GROUPS[category.value]
    present = [k for k, x in enumerate(scene.objects) if x.name in members]
    absent = [m for m in members if not scene.has(m)]
    if scene.action:  # the object of an action cannot turn into something that action excludes
        act = scene.action
        allowed = {n for n, a in o.ACTIONS_ON.items() if act.name in a}
        fits = {k: [m for m in absent if k != act.object or m in allowed] for k in present}
    else:
        fits = {k: absent for k in present}
    present = [k for k in present if fits[k]]
    if not present:
        return None
    k = pick(rng, present)
    obj, rival = scene.objects[k], pick(rng, fits[k])
    asked = obj.name if yes else rival
    return Question(
        f"Is there a {asked} in this picture?",
        "Yes" if yes else "No",
        f"{'Yes' if yes else 'No'}, there is a {obj.name} in this picture.",
        category,
        (k,),
        (("select", (), f"{asked} ({'{0}' if yes else '-'})"), ("exist", (0,), "?")),
        scene.with_class(k, rival),
    )


def _spatial(scene, yes, rng) -> Question | None:
    n = len(scene.objects)
    acting = {scene.action.subject, scene.action.object} if scene.action else set()
    pairs = [
        (a, b)
        for a in range(n)
        for b in range(n)
        if a != b and not {a, b} & acting and scene.relation(a, b)
    ]
    pairs = [
        p for p in pairs if scene.with_swapped(*p).relation(*p) == o.OPPOSITE[scene.relation(*p)]
    ]
    if not pairs:
        return None
    a, b = pick(rng, pairs)
    one, two, truth = scene.objects[a].name, scene.objects[b].name, scene.relation(a, b)
    asked = truth if yes else o.OPPOSITE[truth]
    return Question(
        f"Is the {one} {asked} the {two}?",
        "Yes" if yes else "No",
        f"The {one} is {truth} the {two}.",
        Category.SPATIAL,
        (a, b),
        (
            ("select", (), f"{one} ({{0}})"),
            ("verify rel", (0,), f"{two},{asked},o ({'{1}' if yes else '-'})"),
        ),
        scene.with_swapped(a, b),
    )


def _action(scene, yes, rng) -> Question | None:
    if scene.action is None:
        return None
    act = scene.action
    one, two = scene.objects[act.subject].name, scene.objects[act.object].name
    rival = pick(rng, others(o.ACTIONS_ON[two], act.name))
    asked = act.name if yes else rival
    return Question(
        f"Is the {one} {asked} the {two}?",
        "Yes" if yes else "No",
        f"The {one} is {act.name} the {two}.",
        Category.ACTION,
        (act.subject, act.object),
        (
            ("select", (), f"{one} ({{0}})"),
            ("verify rel", (0,), f"{two},{asked},o ({'{1}' if yes else '-'})"),
        ),
        scene.with_action(rival if yes else asked),
    )


def open_question(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A COCO-QA-style question (lower case, no question mark) and its one-word answer."""
    kind = int(rng.integers(6))
    k = int(rng.integers(len(scene.objects)))
    obj = scene.objects[k]
    if kind == 0:
        group = pick(rng, ("animals", "vehicles", "people", "objects"))
        key = {"animals": "animal", "vehicles": "vehicle", "people": "person"}.get(group)
        count = sum(key is None or o.GROUP_OF[x.name] == key for x in scene.objects)
        return f"how many {group} are there", NUMBERS[count]
    if kind == 1:
        return f"where is the {obj.name}", scene.place
    if kind == 2 and scene.action:
        act = scene.action
        one, two = scene.objects[act.subject].name, scene.objects[act.object].name
        if rng.random() < 0.5:
            return f"what is the {one} {act.name}", two
        return f"what is the {one} doing with the {two}", act.name
    if kind == 3:
        near = [j for j in range(len(scene.objects)) if j != k and scene.relation(j, k)]
        if near:
            j = pick(rng, near)
            relation = scene.relation(j, k)
            same = [i for i in near if scene.relation(i, k) == relation]
            if len(same) == 1:
                return f"what is {relation} the {obj.name}", scene.objects[j].name
    if kind == 4 and obj.material:
        return f"what is the {obj.name} made of", obj.material
    if obj.name in o.PEOPLE:
        return "how many people are there", NUMBERS[sum(x.name in o.PEOPLE for x in scene.objects)]
    return f"what is the color of the {obj.name}", obj.color


def open_kind(answer: str) -> str:
    """The kind of an open question, a key of :data:`OPEN_KINDS`, by its answer."""
    for kind, answers in OPEN_KINDS.items():
        if answer in answers:
            return kind
    raise ValueError(f"expected an answer of the embedded world, got {answer!r}")


def open_questions(scene: Scene, rng: np.random.Generator) -> dict[str, tuple[str, str]]:
    """One open question with its answer of every kind that the scene allows, by kind."""
    found: dict[str, tuple[str, str]] = {}
    for _ in range(_TRIES):
        question, answer = open_question(scene, rng)
        found.setdefault(open_kind(answer), (question, answer))
    return {kind: found[kind] for kind in OPEN_KINDS if kind in found}


def presence_question(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """A POPE-style question, ``Is there a chair in the image?``, and its answer."""
    yes = rng.random() < 0.5
    absent = [c for c in o.CLASSES if not scene.has(c)]
    name = pick(rng, scene.objects).name if yes else pick(rng, absent)
    return f"Is there a {name} in the image?", "Yes" if yes else "No"


def vocabulary() -> Iterator[str]:
    """Every word that questions, prompts and answers of the world can contain."""
    words = [*o.CLASSES, *o.COLORS, *o.MATERIALS, *o.PLACES, *o.ACTIONS, *NUMBERS]
    words += ["animals", "vehicles", "people", "objects", "person", "animal", "vehicle"]
    words += "Is the there a an in this picture image made of to left right above below on".split()
    words += "Are Was What what color material is are how many where doing with his her".split()
    words += "Yes No yes no or and not same different type kind unknown room indoors".split()
    words += "USER ASSISTANT Question Please answer using word single phrase Short Answer".split()
    words += "A chat between curious user artificial intelligence assistant Context N".split()
    words += "question Look at photo photograph scene it that which Which Does does do".split()
    words += "left_of under behind front near next standing empty nothing background".split()
    words += [".", ",", ":", "?", "/", "!", "'", "(", ")", "-"]
    yield from dict.fromkeys(words)
