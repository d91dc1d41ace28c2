import pytest

from vseam_lib import paper
from vseam_lib.causal.ranking import jaccard
from vseam_lib.triples import Category, Level


def test_table_1_adds_up_to_the_size_that_the_paper_states():
    sizes = paper.table(1)
    assert sizes["size"].sum() == 12_647
    assert set(sizes["category"]) == {str(c) for c in Category}


@pytest.mark.parametrize("model", ["LLaVA", "InstructBLIP"])
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_table_2_is_the_intersection_of_table_13_within_each_level(model, side):
    lists = paper.table(13)
    lists = lists[(lists["model"] == model) & (lists["side"] == side)]
    lists = lists.set_index("category")["heads"].str.split()
    shared = paper.table(2)
    shared = shared[(shared["model"] == model) & (shared["side"] == side)]
    shared = shared.set_index("level")["heads"].str.split()
    for level in Level:
        members = [set(lists[str(c)]) for c in Category if c.level is level]
        assert set.intersection(*members) == set(shared[str(level)])


def test_table_13_lists_ten_heads_except_where_the_print_does_not():
    lists = paper.table(13)
    counts = lists["heads"].str.split().str.len()
    short = lists[counts != 10]
    assert len(lists) == 28
    assert list(short["category"] + " " + short["side"] + " " + short["model"]) == [
        "spatial negative InstructBLIP"
    ]


def test_tables_3_and_17_hold_five_edits_of_two_models():
    for number in (3, 17):
        table = paper.table(number)
        assert len(table) == 10
        assert set(table["edit"]) == {
            "original", "w/o negative", "w/o positive", "random remove", "rescaling",
        }  # fmt: skip


def test_table_14_has_both_sides_of_both_models_for_the_two_categories_printed():
    table = paper.table(14)
    keys = ["category", "side", "model"]
    assert len(table) == len(table.drop_duplicates(keys)) == 8
    assert set(table["category"]) == {"animal", "action"}
    assert set(table["side"]) == {"positive", "negative"}
    assert set(table["model"]) == {"LLaVA", "InstructBLIP"}
    assert table["overlap"].between(0, 100).all()
    overlap = table.set_index(keys)["overlap"]
    assert overlap["animal", "positive", "LLaVA"] == 83.8  # stated in the text, too
    assert overlap.min() == overlap["animal", "negative", "LLaVA"] == 7.1
    for category, model in {(c, m) for c, _, m in overlap.index}:
        assert overlap[category, "positive", model] > overlap[category, "negative", model]


def test_depths_are_layers_that_the_models_have():
    depths = paper.depths()
    assert (depths["first"] <= depths["last"]).all() and (depths["last"] < depths["layers"]).all()
    assert (depths["first"] >= 0).all() and (depths["layers"] == 32).all()
    assert set(depths["model"]) == {"both", "LLaVA", "InstructBLIP"}
    assert not depths.duplicated(["what", "model"]).any()


def test_depths_as_shares_begin_with_the_first_layer_and_end_after_the_last():
    depths = paper.depths().set_index("what")
    stages = ["visual understanding", "alignment of image and text", "the question answers"]
    assert depths.loc[stages, "begin"].tolist() == [0, 6 / 32, 16 / 32]
    assert depths.loc[stages, "end"].tolist() == [6 / 32, 16 / 32, 1]
    assert ((0 <= depths["begin"]) & (depths["begin"] < depths["end"])).all()
    assert (depths["end"] <= 1).all()


def test_an_unknown_table_names_the_known_ones():
    with pytest.raises(FileNotFoundError, match="expected one of"):
        paper.table(99)


def test_the_overlap_of_two_printed_lists():
    lists = paper.table(13).set_index(["category", "side", "model"])["heads"].str.split()
    indoor = lists["indoor", "negative", "LLaVA"]
    animal = lists["animal", "negative", "LLaVA"]
    assert 0 < jaccard(indoor, animal) < 1
