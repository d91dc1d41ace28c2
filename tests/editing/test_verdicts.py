import pandas as pd
import pytest
from PIL import Image

from vseam_lib.editing import verdicts as v
from vseam_lib.editing.acceptance import NOT_EDITED

RED = Image.new("RGB", (4, 6), "red")
PICTURES = {"001": "aaa", "2": "bbb", "3": "ccc"}


@pytest.fixture
def file(tmp_path):
    """Writes a verdict file of some text."""

    def write(text, encoding="utf-8"):
        path = tmp_path / "accept_reject.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


def given(table):
    return {r.id: (r.verdict, r.note) for r in table.itertuples()}


def test_a_new_file_is_blank_and_in_order(tmp_path):
    path = tmp_path / "sub" / "accept_reject.csv"
    v.write_verdicts(path, PICTURES)
    table = v.read_verdicts(path, known=PICTURES)
    assert list(table.columns) == list(v.COLUMNS)
    assert table["id"].tolist() == ["001", "2", "3"], "ids stay text"
    assert given(table) == dict.fromkeys(PICTURES, ("", ""))
    assert not (tmp_path / "sub" / v.EARLIER).exists()


def test_what_a_person_writes_is_read_whatever_saved_it(file):
    text = 'id,verdict,note\r\n001, Accept ,"good, really"\r\n2,REJECT,two "lights"\r\n\r\n3,,\r\n'
    table = v.read_verdicts(file(text, "utf-8-sig"), known=PICTURES)
    assert given(table) == {
        "001": ("accept", "good, really"),
        "2": ("reject", 'two "lights"'),
        "3": ("", ""),
    }


@pytest.mark.parametrize(
    "text, message",
    [
        ("id,verdict,note\n001,,\n9,accept,\n", "line 3: no triple of this run has the id '9'"),
        ("id,verdict,note\n1,accept,\n", "spreadsheet dropped its leading zeros"),
        ("id,verdict,note\n2,,\n3,,\n2,accept,\n", "line 4: the id '2' is in line 2 already"),
        ("id,verdict,note\n2,yes,\n", "line 2: expected the verdict accept or reject.*'yes'"),
        ("id,verdict,note\n,accept,\n", "line 2: expected an id"),
        ("id;verdict;note\n2;accept;\n", "line 1: expected the columns id,verdict,note,picture"),
        ("", "line 1: expected the columns"),
        ("id,verdict,note\n2,accept\n", "line 2: expected 3 columns"),
        ("id,verdict,note\n2,accept,good, really\n", "line 2: expected 3 columns"),
        ('id,verdict,note\n2,accept,"good\n', "check its quotes"),
    ],
)
def test_a_damaged_file_is_refused_by_line(file, text, message):
    with pytest.raises(ValueError, match=message):
        v.read_verdicts(file(text), known=PICTURES)


def test_lines_are_counted_as_an_editor_counts_them(file):
    text = 'id,verdict,note\n2,reject,"two\nlines"\n3,maybe,\n'
    with pytest.raises(ValueError, match="line 4: expected the verdict"):
        v.read_verdicts(file(text), known=PICTURES)


def test_other_encodings_and_missing_files_are_refused(file, tmp_path):
    with pytest.raises(ValueError, match="save it as CSV UTF-8"):
        v.read_verdicts(file("id,verdict,note\n2,reject,schön\n", "latin-1"))
    with pytest.raises(FileNotFoundError, match="contact_sheet writes one"):
        v.read_verdicts(tmp_path / "none.csv")


def test_verdicts_survive_writing_again(file):
    path = file("id,verdict,note\n2,reject,two lights\n001,accept,\n")
    v.write_verdicts(path, PICTURES)
    v.write_verdicts(path, {"4": "ddd", **PICTURES})
    assert given(v.read_verdicts(path)) == {
        "4": ("", ""),
        "001": ("accept", ""),
        "2": ("reject", "two lights"),
        "3": ("", ""),
    }


def test_a_verdict_stays_with_its_picture(file):
    path = file("id,verdict,note,picture\n2,reject,old,bbb\n3,,look again,ccc\n")
    other = {"2": "new"}
    assert given(v.write_verdicts(path, other)) == {"2": ("", "")}, "nobody has seen this one"
    path.write_text(path.read_text().replace("2,,", "2,accept,"))
    back = v.write_verdicts(path, {"2": "bbb", "3": "ccc"})
    assert given(back) == {"2": ("reject", "old"), "3": ("", "look again")}
    assert given(v.write_verdicts(path, other)) == {"2": ("accept", "")}


def test_a_verdict_that_was_taken_back_does_not_return(file):
    path = file("id,verdict,note,picture\n2,reject,,bbb\n")
    v.write_verdicts(path, PICTURES)
    path.write_text(path.read_text().replace("reject", ""))
    assert given(v.write_verdicts(path, PICTURES))["2"] == ("", "")


def test_a_damaged_file_is_not_written_over(file):
    path = file("id,verdict,note\n2,rejected,hours of work\n")
    with pytest.raises(ValueError, match="'rejected'"):
        v.write_verdicts(path, PICTURES)
    assert "hours of work" in path.read_text()


def test_a_digest_stands_for_the_pixels():
    same, other = RED.copy(), RED.copy()
    other.putpixel((0, 0), (254, 0, 0))
    assert v.picture_digest(RED) == v.picture_digest(same)
    assert v.picture_digest(RED) != v.picture_digest(other)
    assert v.picture_digest(RED) != v.picture_digest(Image.new("RGB", (6, 4), "red"))


def table():
    return pd.DataFrame(
        {
            "id": ["001", "2", "3", "4"],
            "accepted": [True, False, True, False],
            "failed": ["", "iou", "", NOT_EDITED],
            "reasons": ["", "iou 0.1 below 0.5", "", "no box"],
            "image": [RED, RED, RED, None],
        },
        index=[7, 8, 9, 10],
    )


def test_a_person_overrules_the_filter(file):
    text = "id,verdict,note\n001,reject,blurred\n2,accept,fine\n3,,unsure\n"
    decided = v.overrule(table(), v.read_verdicts(file(text)))
    assert decided["accepted"].tolist() == [False, True, True, False]
    assert decided["accepted"].dtype == bool
    assert decided["automatic"].tolist() == [True, False, True, False]
    assert decided["decided_by"].tolist() == ["person", "person", "filter", "filter"]
    assert decided["note"].tolist() == ["blurred", "fine", "unsure", ""]
    assert decided["reasons"].tolist() == table()["reasons"].tolist()


def test_blank_verdicts_leave_the_filters_decisions(tmp_path):
    blank = v.write_verdicts(tmp_path / "v.csv", PICTURES)
    decided = v.overrule(table(), blank)
    assert decided["accepted"].tolist() == table()["accepted"].tolist()
    assert set(decided["decided_by"]) == {"filter"}


def test_a_verdict_on_an_older_picture_counts_for_nothing(file, tmp_path):
    current = v.picture_digest(RED)
    text = "id,verdict,note,picture\n2,accept,,{}\n3,,,0000\n"
    for picture in (current, ""):
        decided = v.overrule(table(), v.read_verdicts(file(text.format(picture))))
        assert decided["accepted"].tolist() == [True, True, True, False]
    stale = v.read_verdicts(file(text.format("0000")))
    with pytest.raises(ValueError, match=f"0000 of '2', which is now {current}"):
        v.overrule(table(), stale)
    RED.save(tmp_path / "2.png")
    of_files = table().assign(image=[None, tmp_path / "2.png", None, None])
    assert v.overrule(of_files, v.read_verdicts(file(text.format(current))))["accepted"][8]


def test_a_verdict_needs_an_edit(file):
    with pytest.raises(ValueError, match="'4', which has none"):
        v.overrule(table(), v.read_verdicts(file("id,verdict,note\n4,accept,\n")))
    with pytest.raises(ValueError, match="edits of this run, got one on '9'"):
        v.overrule(table(), v.read_verdicts(file("id,verdict,note\n9,accept,\n")))
