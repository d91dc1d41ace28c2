"""The exported world is a GQA data set."""

import hashlib
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vseam_lib.sources.gqa import read_gqa
from vseam_lib.sources.reading import ReadReport
from vseam_lib.triples import Category
from vseam_lib.world.draw import draw
from vseam_lib.world.export import export, object_id, question
from vseam_lib.world.scene import SIZE, mask_box, sample_scene

SPLITS = ("train", "analysis", "heldout")


@pytest.mark.parametrize("split", SPLITS)
def test_the_reader_takes_every_question(world, split):
    report = ReadReport()
    triples = read_gqa(world, split, report=report)
    assert len(triples) == report.read == report.kept
    assert not report.skipped and not report.dropped and not report.clipped


def test_triples_carry_what_was_asked(world, triples):
    for triple in triples:
        _, asked = question(triple.id)
        assert (triple.question, triple.answer) == (asked.text, asked.answer)
        assert triple.category is asked.category
        assert triple.full_answer == asked.full_answer


def test_boxes_are_those_of_the_exact_masks(triples):
    for triple in triples:
        scene, asked = question(triple.id)
        _, owner = draw(scene)
        assert triple.boxes == tuple(mask_box(owner == k) for k in asked.objects), triple.question


def test_images_are_the_drawn_scenes(triples):
    for triple in triples:
        scene, _ = question(triple.id)
        assert triple.image_id == scene.id == triple.image.stem
        assert np.array_equal(np.asarray(Image.open(triple.image)), draw(scene)[0])


def test_every_category_is_there(triples):
    assert {t.category for t in triples} == set(Category)


def test_splits_share_no_image(world):
    seen = {s: {t.image_id for t in read_gqa(world, s)} for s in SPLITS}
    assert not seen["train"] & seen["analysis"]
    assert not seen["train"] & seen["heldout"]
    assert not seen["analysis"] & seen["heldout"]
    images = list((world / "images").iterdir())
    assert len({hashlib.sha256(p.read_bytes()).digest() for p in images}) == len(images) == 21


def test_questions_have_the_fields_of_the_official_files(world):
    official = {
        "semantic", "entailed", "equivalent", "question", "imageId", "isBalanced", "groups",
        "answer", "semanticStr", "annotations", "types", "fullAnswer",
    }  # fmt: skip
    for record in json.loads((world / "analysis_balanced_questions.json").read_text()).values():
        assert set(record) == official
        assert set(record["types"]) == {"structural", "semantic", "detailed"}
        assert set(record["annotations"]) == {"question", "answer", "fullAnswer"}
        for step in record["semantic"]:
            assert set(step) == {"operation", "dependencies", "argument"}


def test_annotations_point_at_the_words_of_the_objects(world):
    graphs = json.loads((world / "analysis_sceneGraphs.json").read_text())
    for record in json.loads((world / "analysis_balanced_questions.json").read_text()).values():
        objects = graphs[record["imageId"]]["objects"]
        words = re.findall(r"\w+", record["fullAnswer"])
        assert record["annotations"]["fullAnswer"]
        for at, oid in record["annotations"]["fullAnswer"].items():
            assert words[int(at)] == objects[oid]["name"]


def test_scene_graphs_have_the_official_schema(world):
    for image_id, graph in json.loads((world / "analysis_sceneGraphs.json").read_text()).items():
        scene = sample_scene("analysis", int(image_id[1:]))
        _, owner = draw(scene)
        assert (graph["width"], graph["height"], graph["location"]) == (SIZE, SIZE, scene.place)
        assert set(graph["objects"]) == {object_id(scene, k) for k in np.unique(owner) if k >= 0}
        for k, obj in enumerate(scene.objects):
            entry = graph["objects"].get(object_id(scene, k))
            if entry is None:
                continue
            assert set(entry) == {"name", "x", "y", "w", "h", "attributes", "relations"}
            assert entry["name"] == obj.name and obj.color in entry["attributes"]
            assert tuple(entry[c] for c in "xywh") == mask_box(owner == k)
            assert all(r["object"] in graph["objects"] for r in entry["relations"])


def test_spatial_relations_in_the_graph_come_in_opposite_pairs(world):
    other = {"to the left of": "to the right of", "above": "below"}
    other |= {v: k for k, v in other.items()}
    for graph in json.loads((world / "analysis_sceneGraphs.json").read_text()).values():
        said = {
            (a, r["name"], r["object"])
            for a, entry in graph["objects"].items()
            for r in entry["relations"]
            if r["name"] in other
        }
        assert all((b, other[name], a) in said for a, name, b in said)


def test_the_marker_counts_what_was_written(world):
    about = json.loads((world / "README.json").read_text())
    assert about["scenes"] == {"analysis": 12, "heldout": 6, "train": 3} and about["seed"] == 0
    for split in SPLITS:
        counts = Counter(str(t.category) for t in read_gqa(world, split))
        assert about["questions"][split] == counts


def test_exporting_twice_gives_the_same_files(world, tmp_path):
    export(tmp_path, scenes={"analysis": 12, "heldout": 6, "train": 3})
    for path in sorted(p for p in world.rglob("*") if p.is_file()):
        assert (tmp_path / "gqa" / path.relative_to(world)).read_bytes() == path.read_bytes()


def test_another_seed_gives_other_questions(world, tmp_path):
    export(tmp_path, seed=1, scenes={"analysis": 12})
    ours = {(t.question, t.answer) for t in read_gqa(world, "analysis")}
    theirs = {(t.question, t.answer) for t in read_gqa(tmp_path / "gqa", "analysis")}
    assert ours != theirs


@pytest.mark.parametrize("qid", ["", "1", "200000007", "20000000", "900000000", "2000000000", "x"])
def test_an_id_that_was_never_given_out_is_an_error(qid):
    with pytest.raises(KeyError, match="no question"):
        question(qid)
