import json

import numpy as np
import pytest
from PIL import Image

from vseam_lib.parsing import pope_metrics
from vseam_lib.sources.pope import SUBSETS, PopeQuestion, distinct, of_images, read_pope, table15
from vseam_lib.world.shifted import export_pope


def row(number, image, thing, label):
    text = f"Is there a {thing} in the image?"
    return {"question_id": number, "image": image, "text": text, "label": label}


ROWS = [
    row(1, "COCO_val2014_000000000001.jpg", "dog", "yes"),
    row(2, "COCO_val2014_000000000001.jpg", "bus", "no"),
    row(3, "COCO_val2014_000000000002.jpg", "cat", "yes"),
]


def write(folder, rows, subset="random"):
    lines = "\n".join(json.dumps(r) for r in rows)
    (folder / f"coco_pope_{subset}.json").write_text(lines + "\n")


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for name in {r["image"] for r in ROWS}:
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name)
    write(tmp_path, ROWS)
    return tmp_path


@pytest.fixture(scope="module")
def world_pope(tmp_path_factory):
    out = tmp_path_factory.mktemp("pope")
    export_pope(out, images=4)
    return read_pope(out)


def test_rows_become_questions(root):
    questions = read_pope(root, ["random"])
    assert [q.id for q in questions] == ["random-1", "random-2", "random-3"]
    assert [q.answer for q in questions] == ["Yes", "No", "Yes"]
    assert questions[0].image == root / "images" / "COCO_val2014_000000000001.jpg"
    assert questions[0].image_id == "COCO_val2014_000000000001"
    assert questions[1].question == "Is there a bus in the image?"
    assert {q.category for q in questions} == {"random"}


def test_a_json_array_is_not_json_lines(root):
    (root / "coco_pope_random.json").write_text(json.dumps(ROWS))
    with pytest.raises(ValueError, match="one object per line, got a JSON array"):
        read_pope(root, ["random"])


@pytest.mark.parametrize(
    "rows, message",
    [
        ([ROWS[0] | {"label": "Yes"}], "line 1: expected the label 'yes' or 'no', got 'Yes'"),
        ([ROWS[0] | {"label": "maybe"}], "got 'maybe'"),
        ([ROWS[0], ROWS[1] | {"question_id": 1}], "line 2: expected unique question ids, but 1"),
        ([{"question_id": 1, "image": "x.jpg"}], "expected question_id, image, text and label"),
        (["no object"], "line 1: expected question_id"),
    ],
)
def test_a_damaged_row_is_named(root, rows, message):
    write(root, rows)
    with pytest.raises(ValueError, match=message):
        read_pope(root, ["random"])


def test_half_a_file_is_an_error_that_names_the_line(root):
    text = (root / "coco_pope_random.json").read_text()
    (root / "coco_pope_random.json").write_text(text[:-20])
    with pytest.raises(ValueError, match="line 3: expected one JSON object"):
        read_pope(root, ["random"])


def test_a_missing_picture_is_named(root):
    (root / "images" / "COCO_val2014_000000000002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="line 3.*COCO_val2014_000000000002.jpg"):
        read_pope(root, ["random"])
    assert len(read_pope(root, ["random"], check_images=False)) == 3


def test_a_missing_file_names_those_there(root):
    with pytest.raises(FileNotFoundError, match="popular.*coco_pope_random.json"):
        read_pope(root)
    with pytest.raises(ValueError, match="random, popular, adversarial.*'rare'"):
        read_pope(root, ["rare"])


def test_a_question_refuses_other_answers(tmp_path):
    with pytest.raises(ValueError, match="'Yes' or 'No'"):
        PopeQuestion("random-1", "1", tmp_path, "Is there a dog in the image?", "yes", "random")


def test_rows_that_ask_the_same_are_answered_once(root):
    write(root, [ROWS[0], row(2, ROWS[0]["image"], "sofa", "no")], "popular")
    questions = read_pope(root, ["random", "popular"])
    asked, stands_for = distinct(questions)
    assert [q.id for q in asked] == ["random-1", "random-2", "random-3", "popular-2"]
    assert stands_for["popular-1"] == "random-1" and stands_for["popular-2"] == "popular-2"
    assert set(stands_for) == {q.id for q in questions}


def test_rows_labelled_both_ways_are_an_error(root):
    write(root, [ROWS[0] | {"label": "no"}], "popular")
    with pytest.raises(ValueError, match="labelled Yes in random-1 and No in popular-1"):
        distinct(read_pope(root, ["random", "popular"]))


def test_fewer_pictures_are_a_part_of_more(world_pope):
    two, three = (
        {q.image_id for q in of_images(world_pope, n, seed=0)} for n in (2, 3)
    )  # fmt: skip
    assert len(two) == 2 and len(three) == 3 and two < three
    assert of_images(world_pope, 4, seed=0) == world_pope
    for n in (0, 5):
        with pytest.raises(ValueError, match=f"from 1 to 4, got {n}"):
            of_images(world_pope, n, seed=0)


def test_the_published_revisions_are_recognised(root):
    many = [row(k, ROWS[0]["image"], f"thing{k}", "no") for k in range(3000)]
    write(root, many, "popular")
    write(root, many[:2910])
    table = table15(read_pope(root, ["random", "popular"])).set_index("subset")
    assert "2,910" in table.loc["random", "revision"]
    assert "3,000" in table.loc["popular", "revision"]
    write(root, many[:7])
    assert table15(read_pope(root, ["random"]))["revision"].tolist() == ["other"]


def recalls(questions):
    """Recall per subset of a model that answers each question about a picture in one way."""
    asked, stands_for = distinct(questions)
    rng = np.random.default_rng(1)
    said = {q.id: str(rng.choice(["yes", "no"])) for q in asked}
    found = {}
    for subset in SUBSETS:
        own = [q for q in questions if q.subset == subset]
        labels, answers = [q.answer.lower() for q in own], [said[stands_for[q.id]] for q in own]
        found[subset] = pope_metrics(labels, answers)
    return found


def test_one_edit_has_one_recall_over_the_three_subsets(world_pope):
    found = recalls(world_pope)
    assert len({m.recall for m in found.values()}) == 1
    assert 0 < found["random"].recall < 1
    assert len({m.accuracy for m in found.values()}) > 1, "the absent objects differ"


def test_the_released_files_share_their_yes_rows_and_so_have_one_recall(release):
    questions = read_pope(release / "POPE", check_images=False)
    table = table15(questions).set_index("subset")
    assert table["size"].to_dict() == {"random": 2910, "popular": 3000, "adversarial": 3000}
    assert (table["shared"] == 1).all() and (table["images"] == 500).all()
    assert table["revision"].str.contains("2,910|3,000").all()
    assert len({m.recall for m in recalls(questions).values()}) == 1
