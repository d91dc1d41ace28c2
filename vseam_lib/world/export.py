"""Writes the embedded world in GQA's official layout: ``python -m vseam_lib.world.export``.

``build/world/gqa`` then holds, for the splits ``train`` (a sample of what the models were trained
on), ``analysis`` and ``heldout``, the files ``{split}_balanced_questions.json`` and
``{split}_sceneGraphs.json`` and, for all, ``images/``. The splits share no picture.

``build/world/pope`` and ``build/world/cocoqa`` hold questions about other scenes, in the layouts
of POPE and COCO-QA; see :mod:`vseam_lib.world.shifted`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from vseam_lib.sources.cocoqa import OpenQuestion
from vseam_lib.triples import Category
from vseam_lib.world import shifted
from vseam_lib.world.draw import draw
from vseam_lib.world.questions import Question, ask, open_questions
from vseam_lib.world.scene import (
    SIZE,
    SPLITS,
    VISIBLE,
    Scene,
    all_show,
    mask_box,
    sample_scene,
)

SCENES = {"train": 120, "analysis": 560, "heldout": 560}
_OPERATION = {
    Category.COLOR: ("verify", "verifyAttr", "attr"),
    Category.MATERIAL: ("verify", "verifyAttr", "attr"),
    Category.ANIMAL: ("verify", "exist", "obj"),
    Category.VEHICLE: ("verify", "exist", "obj"),
    Category.INDOOR: ("verify", "exist", "obj"),
    Category.SPATIAL: ("verify", "relVerify", "rel"),
    Category.ACTION: ("verify", "relVerify", "rel"),
}


def object_id(scene: Scene, k: int) -> str:
    """Id of an object in the scene graph."""
    return f"{scene.id}{k}"


def questions_of(split: str, index: int, seed: int = 0) -> Iterator[tuple[str, Scene, Question]]:
    """``(question id, scene, question)`` of every category that a scene allows.

    Ids end in the category's position, so that :func:`question` finds a question again.
    """
    scene = sample_scene(split, index, seed)
    _, owner = draw(scene)
    for c, category in enumerate(Category):
        rng = np.random.default_rng([seed, SPLITS.index(split), index, 7 + c])
        question = ask(scene, category, rng)
        if question and all((owner == k).sum() >= VISIBLE for k in question.objects):
            yield f"{scene.id}{c}", scene, question


def question(qid: str, seed: int = 0) -> tuple[Scene, Question]:
    """The scene and question behind an id, with the counterfactual scene.

    Raises:
        KeyError: an id that this world did not give out.
    """
    if re.fullmatch(r"[1-9]\d{8}", qid) and int(qid[0]) <= len(SPLITS):
        split, index = SPLITS[int(qid[0]) - 1], int(qid[1:8])
        for known, scene, found in questions_of(split, index, seed):
            if known == qid:
                return scene, found
    raise KeyError(f"no question {qid!r} in the embedded world; expected an id from its export")


def open_questions_of(split: str, index: int, seed: int = 0) -> Iterator[tuple[str, str, str, str]]:
    """``(question id, kind, question, answer)``: an open question of every kind about a scene.

    None about a scene with an object that does not show.
    """
    scene = sample_scene(split, index, seed)
    if all_show(scene, draw(scene)[1]):
        rng = np.random.default_rng([seed, SPLITS.index(split), index, 7 + len(Category)])
        for kind, asked in open_questions(scene, rng).items():
            yield f"{scene.id}-{kind}", kind, *asked


def read_open(root: Path | str, split: str, scenes: int | None = None) -> list[OpenQuestion]:
    """The open questions about the pictures of a split that :func:`export` wrote.

    Args:
        scenes: how many scenes of the split to ask about, the first; ``None`` for all.

    Raises:
        ValueError: a directory that :func:`export` did not write, or a split that is not there.
    """
    root = Path(root)
    about = json.loads((root / "README.json").read_text()) if is_embedded(root) else {}
    if split not in about.get("scenes", {}):
        raise ValueError(
            f"{root}: expected the embedded world's {split!r} split, found "
            f"{', '.join(about.get('scenes', {})) or 'another data set'}"
        )
    found = []
    for index in range(about["scenes"][split])[:scenes]:
        for qid, kind, question, answer in open_questions_of(split, index, about["seed"]):
            image_id = qid.split("-")[0]
            path = root / "images" / f"{image_id}.png"
            found.append(OpenQuestion(qid, image_id, path, question, answer, kind))
    return found


def is_embedded(root: Path | str) -> bool:
    """Was this directory written by :func:`export`?"""
    about = Path(root) / "README.json"
    return about.is_file() and "embedded world" in about.read_text()


def scene_graph(scene: Scene, owner: np.ndarray) -> dict:
    """The scene in GQA's scene-graph schema; hidden objects are left out."""
    shown = [k for k in range(len(scene.objects)) if (owner == k).any()]
    objects = {}
    for k in shown:
        obj = scene.objects[k]
        relations = [
            {"name": relation, "object": object_id(scene, j)}
            for j in shown
            if j != k and (relation := scene.relation(k, j))
        ]
        act = scene.action
        if act and act.subject == k and act.object in shown:
            relations.append({"name": act.name, "object": object_id(scene, act.object)})
        box = mask_box(owner == k)
        objects[object_id(scene, k)] = {
            "name": obj.name,
            **box._asdict(),
            "attributes": [obj.color] + ([obj.material] if obj.material else []),
            "relations": relations,
        }
    return {"width": SIZE, "height": SIZE, "location": scene.place, "objects": objects}


def record(qid: str, scene: Scene, q: Question) -> dict:
    """The question with the fields of GQA's question files."""
    ids = [object_id(scene, k) for k in q.objects]
    program = [
        {
            "operation": operation,
            "dependencies": list(dependencies),
            "argument": argument.format(*ids),
        }
        for operation, dependencies, argument in q.program
    ]
    structural, detailed, semantic = _OPERATION[q.category]
    text = "->".join(
        f"{p['operation']}: {p['argument']}"
        + (f" {p['dependencies']}" if p["dependencies"] else "")
        for p in program
    )
    names = {scene.objects[k].name: object_id(scene, k) for k in q.objects}
    return {
        "question": q.text,
        "answer": q.answer.lower(),
        "fullAnswer": q.full_answer,
        "imageId": scene.id,
        "isBalanced": True,
        "groups": {"global": str(q.category), "local": f"{semantic}-{q.category}"},
        "entailed": [],
        "equivalent": [qid],
        "types": {"structural": structural, "semantic": semantic, "detailed": detailed},
        "semantic": program,
        "semanticStr": text,
        "annotations": {
            "question": _tokens(q.text, names),
            "answer": {},
            "fullAnswer": _tokens(q.full_answer, names),
        },
    }


def _tokens(text: str, names: dict[str, str]) -> dict[str, str]:
    words = re.findall(r"\w+", text)
    return {str(i): names[w] for i, w in enumerate(words) if w in names}


def export(out: Path, seed: int = 0, scenes: dict[str, int] | None = None) -> None:
    """Write all splits below ``out / "gqa"``; the marker ``README.json`` comes last."""
    root = out / "gqa"
    (root / "images").mkdir(parents=True, exist_ok=True)
    scenes = SCENES if scenes is None else scenes
    counts: dict[str, dict[str, int]] = {}
    for split, n in scenes.items():
        records, graphs = {}, {}
        for index in range(n):
            scene = sample_scene(split, index, seed)
            image, owner = draw(scene)
            Image.fromarray(image).save(root / "images" / f"{scene.id}.png")
            graphs[scene.id] = scene_graph(scene, owner)
            for qid, _, q in questions_of(split, index, seed):
                records[qid] = record(qid, scene, q)
                per = counts.setdefault(split, {})
                per[q.category] = per.get(q.category, 0) + 1
        (root / f"{split}_balanced_questions.json").write_text(json.dumps(records))
        (root / f"{split}_sceneGraphs.json").write_text(json.dumps(graphs))
    about = {"what": "the embedded world", "seed": seed, "scenes": scenes, "questions": counts}
    (root / "README.json").write_text(json.dumps(about, indent=1))


def main() -> None:
    """Write the world from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/world"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    shifted.export_pope(args.out / "pope", args.seed)
    shifted.export_cocoqa(args.out / "cocoqa", args.seed)
    export(args.out, args.seed)  # last: its marker stands for all


if __name__ == "__main__":
    main()
