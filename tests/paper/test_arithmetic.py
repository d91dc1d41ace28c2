"""What follows from the paper's tables, against slow and obvious computations."""

from itertools import product

import pandas as pd
import pytest

from vseam_lib import paper
from vseam_lib.paper import arithmetic
from vseam_lib.triples import Category


def test_numbers_agree_exactly_as_far_as_rounding_goes():
    assert arithmetic.agree(77.49, 77.485) and arithmetic.agree(82.20, 82.195)
    assert not arithmetic.agree(93.37, 93.39)
    assert list(arithmetic.agree([1.0, 2.0], [1.005, 2.02], slack=0)) == [True, False]


def test_a_stated_number_that_is_unknown_names_the_known_ones():
    assert paper.stated("questions") == 12_647
    with pytest.raises(KeyError, match="expected one of: questions"):
        paper.stated("moons")


@pytest.mark.parametrize(
    "header, message",
    [
        ("level,category", "missing: size; unknown: none"),
        ("level,category,sizes", "missing: size; unknown: sizes"),
        ("category,level,size", "in this order; missing: none"),
    ],
)
def test_a_table_with_other_columns_is_refused(tmp_path, monkeypatch, header, message):
    (tmp_path / "table01.csv").write_text(f"{header}\n{','.join('x' * len(header.split(',')))}\n")
    monkeypatch.setattr(paper, "_HERE", tmp_path)
    with pytest.raises(ValueError, match=message):
        paper.table(1)


def test_every_table_has_the_columns_that_are_promised():
    for number in paper.COLUMNS:
        assert len(paper.table(number)), number


def test_totals_are_sums():
    found = arithmetic.totals().set_index("what")
    assert found.loc["questions", "recomputed"] == sum(paper.table(1)["size"]) == 12_647
    assert found.loc["questions", "agrees"]
    assert found.loc["question-answer pairs", "agrees"]
    wrong = found.index[~found["agrees"]]
    assert list(wrong) == ["location (%)"]  # 12.86 is printed as 12.8


def test_attribute_cells_of_table_3_are_averages_and_no_other_cell_is():
    found = arithmetic.level_averages()
    assert len(found) == 30
    assert found.groupby("level")["agrees"].sum().to_dict() == {
        "attribute": 10, "object": 0, "relation": 0,
    }  # fmt: skip


def test_object_cells_of_table_3_leave_indoor_out():
    found = arithmetic.level_averages().groupby("level")["reproduced_by"].unique()
    assert list(found["object"]) == ["animal + vehicle"]
    assert list(found["relation"]) == ["none"]


def test_a_table_of_averages_would_be_recognised(monkeypatch):
    seventeen = paper.table(17)
    three = seventeen[["model", "edit"]].assign(
        attribute=seventeen[["color", "material"]].mean(axis=1).round(2),
        object=seventeen[["animal", "vehicle", "indoor"]].mean(axis=1).round(2),
        relation=seventeen["action"],
        average=0.0,
    )
    monkeypatch.setattr(arithmetic, "table", lambda n: three if n == 3 else paper.table(n))
    found = arithmetic.level_averages()
    assert found[found["level"] != "relation"]["agrees"].all()
    named = found[found["level"] == "relation"]["reproduced_by"]
    assert named.str.split(", ").map(lambda names: "action" in names).all()


def test_gains_are_differences_of_means():
    found = arithmetic.gains().set_index(["model", "level"])
    assert found.loc[("LLaVA", "average"), "printed"] == pytest.approx(4.76)
    rows = {(r["model"], r["edit"]): r for _, r in paper.table(17).iterrows()}
    sizes = dict(zip(paper.table(1)["category"], paper.table(1)["size"], strict=True))
    for model in ("LLaVA", "InstructBLIP"):
        gain = {str(c): rows[model, "rescaling"][c] - rows[model, "original"][c] for c in Category}
        objects = [gain[c] for c in ("animal", "vehicle", "indoor")]
        assert found.loc[(model, "object"), "recomputed"] == pytest.approx(sum(objects) / 3)
        weighted = sum(gain[c] * sizes[c] for c in gain) / 12_647
        assert found.loc[(model, "average"), "by_size"] == pytest.approx(weighted)


def test_tables_4_and_19_are_averages_of_tables_21_and_20():
    found = arithmetic.grouped_averages()
    assert len(found) == 48 and found["agrees"].all()


def test_tables_by_task_repeat_table_17_and_tables_by_level_do_not_repeat_table_3():
    found = arithmetic.same_systems()
    by_task = found["second_table"] == 17
    assert found[by_task]["agrees"].all() and by_task.sum() == 28
    agreeing = found[~by_task & found["agrees"]]
    assert set(agreeing["what"]) == {"attribute"} and len(found[~by_task]) == 16


def test_implied_counts_give_the_printed_accuracies_back():
    counts = arithmetic.implied_counts().set_index(["model", "category"])
    printed = paper.table(17).set_index(["model", "edit"])
    for model, category in product(("LLaVA", "InstructBLIP"), map(str, Category)):
        row = counts.loc[(model, category)]
        right = 100 * (row["questions"] - row["wrong"]) / row["questions"]
        assert right == pytest.approx(printed.loc[(model, "original"), category], abs=0.0101)
        edited = right + 100 * row["rescaling"] / row["questions"]
        assert edited == pytest.approx(printed.loc[(model, "rescaling"), category], abs=0.0201)
    assert counts.loc[("LLaVA", "animal"), "wrong"] == 38


def test_coco_qa_gains_are_differences():
    found = arithmetic.coco_qa_gains()
    assert isinstance(found, pd.DataFrame) and len(found) == 6
    assert found["gain"].round(2).max() == 2.95
