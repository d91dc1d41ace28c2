import json
from pathlib import Path

import pytest

from vseam_lib.sources.conflicts import label_conflict
from vseam_lib.sources.reading import ReadReport
from vseam_lib.sources.release import FILES, read_release
from vseam_lib.triples import Box, Category, table1


def record(**changes):
    return {
        "question_id": "1",
        "imageId": "100",
        "question": "Is the dog near the tree?",
        "answer": "Yes",
        "fullAnswer": "The dog is near the tree.",
        "semanticStr": "select: dog (11)->relate: tree,near,o (12) [0]->query: name [1]",
        "involved_objects": ["tree", "dog"],
        "object_positions": [{"x": 1, "y": 2, "w": 3, "h": 4}, {"x": 5, "y": 6, "w": 7, "h": 8}],
    } | changes


@pytest.fixture
def files(tmp_path):
    """Write records of some categories in the release's layout."""

    def write(**contents):
        base = tmp_path / "data" / "GQA"
        (base / "Attribute_Level").mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            path = base / FILES[Category(name)]
            path.parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text)
        return tmp_path

    return write


def test_all_records_of_the_release_are_read(release):
    counts = table1(read_release(release)).set_index("category")
    assert counts["size"].to_dict() == {
        "color": 1456,
        "material": 1115,
        "animal": 1000,
        "vehicle": 1000,
        "indoor": 1000,
        "action": 1000,
        "spatial": 1000,
    }
    assert counts["size"].sum() == 7571


def test_duplicates_of_the_release_are_those_of_the_audit(release):
    report = ReadReport()
    counts = table1(read_release(release, dedupe=True, report=report)).set_index("category")
    assert counts.loc["material", "size"] == 1048
    assert counts["size"].sum() == report.kept == 6683
    assert [len(ids) for ids in report.dropped.values()] == [888]


def test_only_material_and_relation_labels_of_the_release_conflict(release):
    report = ReadReport()
    kept = read_release(release, drop_label_conflicts=True, report=report)
    dropped = {i for ids in report.dropped.values() for i in ids}
    assert "17200006" in dropped and len(kept) + len(dropped) == 7571
    levels = {t.category for t in read_release(release) if t.id in dropped}
    assert levels == {Category.MATERIAL, Category.SPATIAL, Category.ACTION}


@pytest.mark.parametrize("below", ["", "data", "data/GQA"])
def test_the_root_may_be_the_release_or_its_data(files, below):
    root = files(spatial=[record()])
    (triple,) = read_release(root / below, ["spatial"], images="pictures")
    assert triple.boxes == (Box(1, 2, 3, 4), Box(5, 6, 7, 8))
    assert triple.image == Path("pictures/100.jpg")
    assert triple.source == "release"


def test_an_object_of_records_reads_like_a_list(files):
    color = record(object_positions=record()["object_positions"][:1])
    color |= {"semanticStr": "select: dog (11)->query: color [0]"}
    del color["question_id"]
    (triple,) = read_release(files(color={"0042": color}), ["color"])
    assert triple.id == "0042"


def test_both_names_of_the_objects_field_are_read(files):
    one, two = record(), record(question_id="2")
    two["relevant_objects"] = two.pop("involved_objects")
    first, second = read_release(files(spatial=[one, two]), ["spatial"], boxes="involved_objects")
    assert first.boxes == second.boxes == (Box(5, 6, 7, 8), Box(1, 2, 3, 4))


def test_a_box_too_many_or_too_few_is_an_error(files):
    root = files(action=[record(object_positions=record()["object_positions"][:1])])
    with pytest.raises(ValueError, match="action record 1: expected one box per object .* 1 boxes"):
        read_release(root, ["action"])


def test_a_box_outside_any_image_is_an_error(files):
    places = [{"x": -3, "y": 0, "w": 3, "h": 4}, {"x": 5, "y": 6, "w": 7, "h": 8}]
    with pytest.raises(ValueError, match=r"triple 1, box 0: expected x, y >= 0"):
        read_release(files(action=[record(object_positions=places)]), ["action"])


def test_ids_that_repeat_across_files_are_refused(files):
    root = files(action=[record()], spatial=[record()])
    with pytest.raises(ValueError, match="1 that repeat: 1"):
        read_release(root, ["action", "spatial"])


def test_duplicate_questions_are_dropped_on_request_and_listed(files):
    root = files(spatial=[record(), record(question_id="2"), record(question_id="3", imageId="7")])
    report = ReadReport()
    kept = read_release(root, ["spatial"], dedupe=True, report=report)
    assert [t.id for t in kept] == ["1", "3"]
    assert report.dropped == {"the same question about the same image": ["2"]}
    assert len(read_release(root, ["spatial"])) == 3


def test_a_question_labelled_both_ways_is_a_conflict(files):
    root = files(
        spatial=[
            record(),
            record(question_id="2", answer="No"),
            record(question_id="3", imageId="7"),
        ]
    )
    kept = read_release(root, ["spatial"], drop_label_conflicts=True)
    assert [t.id for t in kept] == ["3"]


@pytest.mark.parametrize(
    ("category", "question", "answer", "full_answer", "conflict"),
    [
        ("material", "Is the cup made of glass?", "No", "Yes, the cup is made of glass.", True),
        ("material", "Is the cup made of Wood?", "No", "No, the cup is wooden.", True),
        ("material", "Is the cup made of wood?", "Yes", "No, the cup is wooden but red.", False),
        ("material", "Is the cup made of metal?", "Yes", "No, the cup is wooden.", True),
        ("material", "Is the cup wooden and red?", "No", "No, the cup is wooden but blue.", False),
        ("material", "Is the cup wooden and red?", "No", "Yes, the cup is wooden and red.", True),
        ("material", "Is the cup wooden or metallic?", "Yes", "The cup is wooden.", True),
        ("material", "Is the cup made of glass?", "No", "Yes, the cup is round.", False),
        ("spatial", "Is the ox behind the bus?", "Yes", "No, the ox is in front of the bus.", True),
        ("spatial", "Is the ox above the bus?", "Yes", "No, the bus is below the ox.", False),
        ("spatial", "Is the dog behind the car?", "Yes", "No, the dog is wearing a hat.", False),
        ("color", "Is the dog red?", "Yes", "No, the dog is blue.", False),
    ],
)  # fmt: skip
def test_labels_are_compared_with_what_the_full_answer_states(
    category, question, answer, full_answer, conflict
):
    found = label_conflict(Category(category), question, answer, full_answer)
    assert (found is not None) == conflict


def test_a_missing_data_directory_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the V-SEAM release with GQA/Attribute"):
        read_release(tmp_path / "nowhere")


def test_a_missing_file_is_named(files):
    with pytest.raises(FileNotFoundError, match="Animal.json: expected a file of the V-SEAM"):
        read_release(files(spatial=[record()]), ["animal"])


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('[{"question_id": "1", ', "expected JSON, got 22 bytes"),
        ([record(question_id=7)], "records with 'question_id'"),
        (["text"], "records with 'question_id', got an entry 'text'"),
        ("3", "expected an object question id -> record"),
        ([{"question_id": "1", "question": "Is it?"}], "spatial record 1: .*missing"),
        ([record(object_positions=[{"x": 1}])], "spatial record 1: .*'y' is missing"),
    ],
)
def test_malformed_files_say_what_was_expected(files, content, match):
    with pytest.raises(ValueError, match=match):
        read_release(files(spatial=content), ["spatial"])


def test_unknown_values_of_switches_list_the_accepted_ones(files):
    with pytest.raises(ValueError, match="one of program, involved_objects; got 'question'"):
        read_release(files(), boxes="question")
    with pytest.raises(ValueError, match="out of color, .*, got colour"):
        read_release(files(), ["colour"])
