import json

import pytest
from PIL import Image

from vseam_lib.sources.gqa import classify, read_gqa
from vseam_lib.sources.reading import ReadReport
from vseam_lib.triples import Box, Category

OBJECTS = {
    "11": {"name": "car", "x": 0, "y": 0, "w": 20, "h": 10, "attributes": ["red"]},
    "12": {"name": "chair", "x": 30, "y": 5, "w": 10, "h": 12, "attributes": ["wood"]},
    "13": {"name": "cat", "x": 5, "y": 20, "w": 8, "h": 8, "attributes": []},
    "14": {"name": "man", "x": 40, "y": 1, "w": 9, "h": 30, "attributes": []},
    "15": {"name": "kite", "x": 50, "y": 2, "w": 6, "h": 6, "attributes": []},
}


def step(operation, argument, *dependencies):
    return {"operation": operation, "dependencies": list(dependencies), "argument": argument}


def question(text, answer, program, full="", words=None):
    program = [step(o, a, *([k - 1] if k else [])) for k, (o, a) in enumerate(program)]
    return {
        "imageId": "100",
        "question": text,
        "answer": answer,
        "fullAnswer": full,
        "isBalanced": True,
        "groups": {"global": None, "local": "x"},
        "entailed": [],
        "equivalent": [],
        "types": {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"},
        "annotations": {"question": {}, "answer": {}, "fullAnswer": words or {}},
        "semantic": program,
        "semanticStr": "->".join(f"{s['operation']}: {s['argument']}" for s in program),
    }


QUESTIONS = {
    "color": question(
        "Does the car look red?", "yes", [("select", "car (11)"), ("verify color", "red")]
    ),
    "material": question(
        "Is the chair made of metal?",
        "no",
        [("select", "chair (12)"), ("verify material", "metal")],
    ),
    "exist": question("Do you see cats?", "yes", [("select", "cats (13)"), ("exist", "?")]),
    "absent": question(
        "Is there a dog?",
        "no",
        [("select", "dog (-)"), ("exist", "?")],
        full="No, there is a cat.",
        words={"4": "13"},
    ),
    "riding": question(
        "Is the man flying the kite?",
        "yes",
        [("select", "man (14)"), ("verify rel", "kite,flying,o (15)")],
    ),
    "left": question(
        "Is the car to the left of the chair?",
        "yes",
        [("select", "chair (12)"), ("verify rel", "car,to the left of,s (11)")],
    ),
}


@pytest.fixture
def data_set(tmp_path):
    """Write a small data set in GQA's layout; the test may change any of its parts."""

    def write(
        questions=QUESTIONS,
        *,
        root=tmp_path / "gqa",
        stem="val_balanced_questions",
        objects=OBJECTS,
        size=(60, 40),
        suffix="jpg",
        graphs="val_sceneGraphs.json",
    ):
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.effect_noise((60, 40), 80).convert("RGB").save(root / "images" / f"100.{suffix}")
        graph = {"width": size[0], "height": size[1], "location": "street", "objects": objects}
        for name, content in ((f"{stem}.json", questions), (graphs, {"100": graph})):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(json.dumps(content))
        return root

    return write


def only(name, **changes):
    return {name: QUESTIONS[name] | changes}


def by_id(triples):
    return {t.id: t for t in triples}


def test_the_four_programs_of_the_paper_are_read(data_set):
    triples = by_id(read_gqa(data_set(), "val"))
    assert {i: str(t.category) for i, t in triples.items()} == {
        "color": "color",
        "material": "material",
        "exist": "animal",
        "absent": "animal",
        "riding": "action",
        "left": "spatial",
    }
    assert triples["color"].boxes == (Box(0, 0, 20, 10),)
    assert triples["material"].answer == "No"
    assert triples["riding"].boxes == (Box(40, 1, 9, 30), Box(50, 2, 6, 6))
    assert triples["color"].image.name == "100.jpg"
    assert triples["absent"].full_answer == "No, there is a cat."


def test_boxes_come_in_program_order_unless_the_subject_is_asked_first(data_set):
    chair, car = Box(30, 5, 10, 12), Box(0, 0, 20, 10)
    assert by_id(read_gqa(data_set(), "val"))["left"].boxes == (chair, car)
    subject_first = by_id(read_gqa(data_set(), "val", boxes="subject_first"))
    assert subject_first["left"].boxes == (car, chair)
    assert subject_first["riding"].boxes[0] == Box(40, 1, 9, 30)


def test_an_absent_object_is_replaced_by_what_the_full_answer_names(data_set):
    assert by_id(read_gqa(data_set(), "val"))["absent"].boxes == (Box(5, 20, 8, 8),)


def test_an_absent_partner_is_replaced_in_the_order_of_the_answer(data_set):
    record = question(
        "Is the man riding the car?",
        "no",
        [("select", "man (14)"), ("verify rel", "car,riding,o (-)")],
        words={"10": "13", "2": "14", "5:7": "15"},
    )
    (triple,) = read_gqa(data_set({"q": record}), "val")
    assert triple.boxes == (Box(40, 1, 9, 30), Box(50, 2, 6, 6), Box(5, 20, 8, 8))


def test_only_the_categories_asked_for_are_read(data_set):
    report = ReadReport()
    triples = read_gqa(data_set(), "val", categories=["spatial", Category.COLOR], report=report)
    assert [t.id for t in triples] == ["color", "left"]
    assert (report.read, report.kept, report.skipped.total()) == (6, 2, 4)


def test_questions_the_paper_does_not_use_are_skipped_and_counted(data_set):
    man = ("select", "man (14)")
    others = {
        "open": question("What color is the car?", "red", [("select", "car (11)"), ("query", "c")]),
        "two predicates": question("…?", "yes", [man, ("filter size", "tall"), ("exist", "?")]),
        "no noun of ours": question("…?", "yes", [("select", "kite (15)"), ("exist", "?")]),
        "wearing": question("…?", "yes", [man, ("verify rel", "hat,wearing,o (15)")]),
        "position": question("…?", "yes", [man, ("verify hposition", "left")]),
        "scene": question("…?", "yes", [("select", "scene"), ("verify location", "indoors")]),
    }
    report = ReadReport()
    triples = read_gqa(data_set(only("color") | others), "val", report=report)
    assert [t.id for t in triples] == ["color"]
    assert report.skipped == {
        "the answer is neither yes nor no": 1,
        "the program is none of the seven categories'": 5,
    }
    assert "skipped 5" in str(report)


@pytest.mark.parametrize(
    ("argument", "category"), [("dark brown", "color"), ("wooden", "material"), ("old", None)]
)
def test_generic_attributes_are_filed_by_their_word(argument, category):
    asked = classify([step("select", "car (11)"), step("verify", f"{argument} ", 0)])
    assert (asked and asked.category) == category


@pytest.mark.parametrize(
    ("relation", "category"),
    [
        ("in front of", "spatial"),
        ("on", "spatial"),
        ("sitting on", "action"),
        ("holding", "action"),
        ("standing behind", None),
        ("wearing", None),
        ("of", None),
    ],
)
def test_relations_are_places_or_deeds_or_left_out(relation, category):
    asked = classify([step("select", "a (1)"), step("verify rel", f"b,{relation},o (2)", 0)])
    assert (asked and asked.category) == category


@pytest.mark.parametrize(
    ("noun", "category"),
    [
        ("bus", "vehicle"),
        ("buses", "vehicle"),
        ("ponies", "animal"),
        ("wolves", "animal"),
        ("coffee tables", "indoor"),
        ("hot dog", None),
        ("window", None),
    ],
)
def test_nouns_are_filed_in_singular_and_plural(noun, category):
    asked = classify([step("select", f"{noun} (1)"), step("exist", "?", 0)])
    assert (asked and asked.category) == category


def test_the_sub_folders_of_gqas_archives_are_accepted(data_set):
    root = data_set(
        stem="questions1.2/val_balanced_questions", graphs="sceneGraphs/val_sceneGraphs.json"
    )
    assert len(read_gqa(root, "val")) == 6


def test_a_sharded_split_is_read_whole(data_set):
    shard = "questions/train_all_questions/train_all_questions_{}"
    data_set(only("color"), stem=shard.format(0), graphs="train_sceneGraphs.json")
    root = data_set(only("exist"), stem=shard.format(1), graphs="train_sceneGraphs.json")
    assert [t.id for t in read_gqa(root, "train_all")] == ["color", "exist"]


def test_png_images_are_accepted(data_set):
    assert read_gqa(data_set(suffix="png"), "val")[0].image.name == "100.png"


def test_a_missing_data_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: expected the directory of a GQA"):
        read_gqa(tmp_path / "nowhere", "val")


def test_an_unknown_split_lists_the_splits_that_are_there(data_set):
    data_set(stem="questions/train_all_questions/train_all_questions_0")
    with pytest.raises(FileNotFoundError, match="'valid'; splits found: train_all, val"):
        read_gqa(data_set(), "valid")


def test_a_split_without_scene_graphs_is_explained(data_set):
    root = data_set(stem="testdev_balanced_questions")
    with pytest.raises(FileNotFoundError, match="testdev_sceneGraphs.json.*train and val only"):
        read_gqa(root, "testdev")


def test_a_missing_image_directory_is_named(data_set):
    root = data_set()
    (root / "images" / "100.jpg").unlink()
    (root / "images").rmdir()
    with pytest.raises(FileNotFoundError, match="expected a directory images/"):
        read_gqa(root, "val")


def test_a_missing_image_names_the_question(data_set):
    root = data_set()
    (root / "images" / "100.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="question color: expected the image 100.jpg"):
        read_gqa(root, "val", check_images=False)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_truncated_image_is_found_before_any_model_runs(data_set, suffix):
    root = data_set(suffix=suffix)
    path = root / "images" / f"100.{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"100.{suffix}: expected a complete image, got"):
        read_gqa(root, "val")
    assert len(read_gqa(root, "val", check_images=False)) == 6


def test_a_file_that_is_no_image_is_named(data_set):
    root = data_set()
    (root / "images" / "100.jpg").write_text("<html>not found</html>")
    with pytest.raises(ValueError, match="expected a complete image, got 22 bytes"):
        read_gqa(root, "val")


def test_a_resized_image_is_refused(data_set):
    with pytest.raises(ValueError, match="expected 120 x 80 pixels .* got 60 x 40"):
        read_gqa(data_set(size=(120, 80)), "val")


def test_a_question_without_the_asked_objects_box_is_an_error_with_a_remedy(data_set):
    record = only("absent", annotations={"question": {}, "answer": {}, "fullAnswer": {}})
    with pytest.raises(ValueError, match=r"question absent .*marks it absent.*on_missing_box"):
        read_gqa(data_set(record), "val")


def test_a_box_missing_from_the_scene_graph_is_an_error(data_set):
    objects = {k: v for k, v in OBJECTS.items() if k != "15"}
    with pytest.raises(ValueError, match=r"question riding .*image 100 has no object 15"):
        read_gqa(data_set(objects=objects), "val")


def test_questions_without_boxes_can_be_dropped_or_kept(data_set):
    record = only("absent", annotations={"question": {}, "answer": {}, "fullAnswer": {}})
    root = data_set(QUESTIONS | record)
    report = ReadReport()
    dropped = by_id(read_gqa(root, "val", on_missing_box="drop", report=report))
    assert "absent" not in dropped and len(dropped) == 5
    assert report.dropped == {"no box of the asked object": ["absent"]}
    assert by_id(read_gqa(root, "val", on_missing_box="keep"))["absent"].boxes == ()


def test_a_box_outside_the_image_is_an_error_and_can_be_cut(data_set):
    objects = OBJECTS | {"11": OBJECTS["11"] | {"x": 45, "w": 16}}
    root = data_set(only("color"), objects=objects)
    with pytest.raises(ValueError, match=r"question color, object 11.*\(45, 0, 16, 10\).*60 x 40"):
        read_gqa(root, "val")
    report = ReadReport()
    (triple,) = read_gqa(root, "val", clip_boxes=True, report=report)
    assert triple.boxes == (Box(45, 0, 15, 10),)
    assert report.clipped == ["color"]


def test_a_box_with_nothing_inside_the_image_cannot_be_cut(data_set):
    objects = OBJECTS | {"11": OBJECTS["11"] | {"x": 70}}
    with pytest.raises(ValueError, match="no area in the image"):
        read_gqa(data_set(only("color"), objects=objects), "val", clip_boxes=True)


def test_a_box_with_a_missing_side_is_an_error(data_set):
    objects = OBJECTS | {"11": {"name": "car", "x": 1, "y": 2, "w": 3}}
    with pytest.raises(ValueError, match=r"whole pixels x, y, w, h of object 11.*None"):
        read_gqa(data_set(only("color"), objects=objects), "val")


def test_an_image_without_scene_graph_is_an_error(data_set):
    with pytest.raises(ValueError, match="expected a scene graph of image 7"):
        read_gqa(data_set(only("color", imageId="7")), "val")


def test_repeated_question_ids_are_refused(data_set):
    root = data_set(only("color"))
    path = root / "val_balanced_questions.json"
    record = json.dumps(QUESTIONS["color"])
    path.write_text(f'{{"77": {record}, "77": {record}}}')
    with pytest.raises(ValueError, match="expected unique ids, got 1 that repeat: 77"):
        read_gqa(root, "val")


def test_question_ids_repeated_across_shards_are_refused(data_set):
    for k in range(2):
        root = data_set(
            only("color"),
            stem=f"train_all_questions/train_all_questions_{k}",
            graphs="train_sceneGraphs.json",
        )
    with pytest.raises(ValueError, match="unique triple ids, got 1 that repeat: color"):
        read_gqa(root, "train_all")


def test_malformed_json_names_the_file(data_set):
    root = data_set()
    path = root / "val_balanced_questions.json"
    path.write_text(path.read_text()[:500])
    with pytest.raises(ValueError, match=r"val_balanced_questions.json: expected JSON, got 500"):
        read_gqa(root, "val")


def test_a_list_where_gqa_has_an_object_is_refused(data_set):
    with pytest.raises(ValueError, match="question id -> question, got list"):
        read_gqa(data_set(list(QUESTIONS.values())), "val")


def test_a_question_without_an_answer_is_refused(data_set):
    with pytest.raises(ValueError, match="question color: expected a field 'answer'"):
        read_gqa(data_set(only("color", answer=None)), "val")


def test_nothing_found_is_an_error(data_set):
    with pytest.raises(ValueError, match="expected questions of vehicle, found none"):
        read_gqa(data_set(), "val", categories=["vehicle"])


@pytest.mark.parametrize(
    ("switch", "match"),
    [
        ({"boxes": "question"}, "boxes to be one of program, subject_first; got 'question'"),
        ({"on_missing_box": "ignore"}, "on_missing_box to be one of error, drop, keep"),
        ({"categories": ["colour"]}, "out of color, .*, got colour"),
    ],
)
def test_unknown_values_of_switches_list_the_accepted_ones(data_set, switch, match):
    with pytest.raises(ValueError, match=match):
        read_gqa(data_set(), "val", **switch)
