"""The release beside the paper; the counts of the real files where there is a copy."""

import json

import pytest

from vseam_lib.paper import released
from vseam_lib.sources.release import FILES
from vseam_lib.triples import Category


def record(k, question, answer, full="The chair is made of wood."):
    return {
        "question_id": str(k),
        "imageId": str(k // 2),
        "question": question,
        "answer": answer,
        "fullAnswer": full,
        "semanticStr": "select: chair (1)",
        "involved_objects": ["chair"],
        "object_positions": [{"x": 0, "y": 0, "w": 9, "h": 9}],
    }


@pytest.fixture
def small(tmp_path):
    """A release of four questions per category: one repeated, capitals before every Yes."""
    for category, name in FILES.items():
        rows = [
            record(0, "Is it made of Wood?", "Yes"),
            record(1, "Is it made of Wood?", "Yes"),
            record(2, "Is it made of metal?", "No"),
            record(3, "Is it made of glass?", "No" if category is Category.MATERIAL else "Yes"),
        ]
        path = tmp_path / "data/GQA" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for k, row in enumerate(rows):
            row["question_id"] = f"{category}{k}"
        path.write_text(json.dumps(rows))
    return tmp_path


def test_counts_are_those_of_the_files(small):
    found = released.questions(small).set_index("category")
    assert found.loc["material"].to_dict() == {
        "printed": 1300, "released": 4, "yes": 50.0, "repeated": 1, "contradicted": 0,
        "by_capitals": 100.0,
    }  # fmt: skip
    assert found.loc["color", "yes"] == 75 and found.loc["color", "by_capitals"] == 75
    assert released.pope(small) is None


def test_pope_files_are_held_against_table_15(small):
    folder = small / "data/POPE"
    folder.mkdir()
    for subset in ("random", "popular", "adversarial"):
        rows = [
            {"question_id": k, "image": f"{k}.jpg", "text": text, "label": label}
            for k, (text, label) in enumerate(
                [("Is there a dog?", "yes"), (f"Is there a {subset}?", "no")]
            )
        ]
        (folder / f"coco_pope_{subset}.json").write_text("\n".join(map(json.dumps, rows)))
    found = released.pope(small).set_index("subset")
    assert found["released"].tolist() == [2, 2, 2] and found.loc["random", "printed"] == 2910
    assert (found["yes"] == 50).all() and (found["shared"] == 100).all()


def test_the_release_is_as_the_audit_counted_it(release):
    found = released.questions(release).set_index("category")
    assert found["released"].sum() == 7571 and found["printed"].sum() == 12_647
    assert (found["yes"] == 100).sum() == 5 and found.loc["color", "yes"] == 50
    assert found.loc["material", "repeated"] == 67
    assert found.loc["material", "by_capitals"] > 95 > found.loc["color", "by_capitals"]
    subsets = released.pope(release).set_index("subset")
    assert (subsets["printed"] == subsets["released"]).all() and (subsets["shared"] == 100).all()
