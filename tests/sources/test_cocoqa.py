import pytest
from PIL import Image

from vseam_lib.sources.cocoqa import (
    OpenQuestion,
    per_kind,
    read_cocoqa,
    read_released,
    table16,
)

LINES = {
    "img_ids": ["5", "5", "17"],
    "questions": ["what is on the table", "how many cups are there", "where is the cat"],
    "answers": ["cup", "two", "sofa"],
    "types": ["0", "1", "3"],
}
CSV = ",train_image_id_count,question_count,answer_count\n0,5,what is the color of the cup,red\n"


@pytest.fixture
def root(tmp_path):
    for folder in ("test", "images"):
        (tmp_path / folder).mkdir()
    for name, lines in LINES.items():
        (tmp_path / "test" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "COCO_val2014_000000000005.jpg")
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "17.png")
    return tmp_path


def test_lines_belong_together(root):
    questions = read_cocoqa(root)
    assert [(q.id, q.image_id, q.answer, q.kind) for q in questions] == [
        ("test-1", "5", "cup", "object"),
        ("test-2", "5", "two", "number"),
        ("test-3", "17", "sofa", "location"),
    ]
    assert questions[0].image.name == "COCO_val2014_000000000005.jpg"
    assert questions[2].image.name == "17.png" and questions[2].category == "location"


def test_files_of_different_length_are_an_error_that_counts(root):
    (root / "test" / "answers.txt").write_text("cup\ntwo\n")
    with pytest.raises(ValueError, match="img_ids.txt 3, questions.txt 3, answers.txt 2"):
        read_cocoqa(root)


@pytest.mark.parametrize("code", ["4", "-1", "color", ""])
def test_an_unknown_type_names_the_line_and_the_types(root, code):
    (root / "test" / "types.txt").write_text(f"0\n{code}\n3\n")
    with pytest.raises(ValueError, match=f"line 2.*object, number, color, location.*'{code}'"):
        read_cocoqa(root)


def test_a_missing_picture_or_file_is_named(root):
    (root / "images" / "17.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"line 3.*17\.jpg.*COCO_val2014_000000000017"):
        read_cocoqa(root)
    assert len(read_cocoqa(root, check_images=False)) == 3
    with pytest.raises(FileNotFoundError, match="train.*img_ids.txt"):
        read_cocoqa(root, "train")


def test_a_question_without_an_answer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a question, answer and kind"):
        OpenQuestion("1", "1", tmp_path, "what is it", " ", "object")


def test_released_files_are_read_and_checked(root):
    (root / "color_coco_qa.csv").write_text(CSV)
    (question,) = read_released(root)
    assert (question.id, question.kind, question.answer) == ("color-0", "color", "red")
    (root / "color_coco_qa.csv").write_text(CSV + "0,5,what is the color of the mug,blue\n")
    with pytest.raises(ValueError, match="1 that repeat, first 0"):
        read_released(root)
    (root / "color_coco_qa.csv").write_text(CSV.replace("answer_count", "answer"))
    with pytest.raises(ValueError, match="expected an unnamed index and the columns"):
        read_released(root)
    (root / "color_coco_qa.csv").unlink()
    with pytest.raises(FileNotFoundError, match="color_coco_qa.csv, count_coco_qa.csv"):
        read_released(root)


def test_the_release_has_three_types_and_no_objects(release):
    table = table16(read_released(release / "COCOQA", check_images=False)).set_index("kind")
    assert table["size"].to_dict() == {"color": 13_113, "number": 5_711, "location": 4_799}
    assert table["repeats"].to_dict() == {"color": 877, "number": 1, "location": 31}
    assert table["answers"].to_dict() == {"color": 52, "number": 10, "location": 130}


def test_a_sample_holds_n_of_each_kind_and_grows_with_n(tmp_path):
    questions = [
        OpenQuestion(f"{kind}-{k}", str(k), tmp_path, f"what is {k}", "red", kind)
        for kind, n in (("color", 9), ("number", 2))
        for k in range(n)
    ]
    three, five = (per_kind(questions[::-1], n, seed=0) for n in (3, 5))
    assert [q.kind for q in three] == ["color"] * 3 + ["number"] * 2
    assert {q.id for q in three} < {q.id for q in five}
    assert len(per_kind(questions, None, seed=0)) == 11
    assert per_kind(questions, 3, seed=1) != three
    with pytest.raises(ValueError, match="at least 1"):
        per_kind(questions, 0, seed=0)


def test_sizes_in_the_form_of_table_16(tmp_path):
    same = [OpenQuestion(str(k), "7", tmp_path, "what is it", "cup", "object") for k in range(2)]
    other = OpenQuestion("2", "7", tmp_path, "how many cups", "two", "number")
    table = table16([*same, other]).set_index("kind")
    assert table.loc["object", ["size", "answers", "repeats"]].tolist() == [2, 1, 1]
    assert table["share"].sum() == pytest.approx(100)
    assert list(table16([]).columns) == ["kind", *table.columns]
