import pytest

from vseam_lib import paper
from vseam_lib.causal import ranking
from vseam_lib.paper import head_lists


def test_every_printed_entry_is_a_row():
    found = head_lists.entries()
    assert len(found) == sum(len(h.split()) for h in paper.table(13)["heads"]) == 279
    assert found["layer"].between(0, 31).all() and found["index"].between(0, 31).all()
    first = found.iloc[0]
    assert (first["head"], first["layer"], first["index"], first["rank"]) == ("L6.H19", 6, 19, 1)


def test_an_entry_that_is_no_head_is_named(monkeypatch):
    broken = paper.table(13).replace({"heads": {"L6.H19": "H19"}}, regex=True)
    monkeypatch.setattr(head_lists, "table", lambda n: broken)
    with pytest.raises(ValueError, match="color: expected L16.H1, got 'H19'"):
        head_lists.entries()


def test_table_2_is_the_intersection_of_table_13():
    assert head_lists.shared_heads()["agrees"].tolist() == [True] * 12


def test_oddities_are_those_that_one_sees():
    found = head_lists.oddities().set_index(["model", "category", "what"])["heads"].to_dict()
    assert found == {
        ("InstructBLIP", "indoor", "printed twice"): "L23.H30",
        ("InstructBLIP", "animal", "printed twice"): "L23.H30",
        ("InstructBLIP", "spatial", "9 entries"): "",
        ("InstructBLIP", "color", "in both lists"): "L6.H10 L10.H7 L10.H23 L11.H26",
        ("InstructBLIP", "material", "in both lists"): "L11.H27",
    }


def test_heads_of_both_signs_and_in_all_lists():
    assert head_lists.both_signs("LLaVA") == {"L0.H11", "L1.H16", "L11.H29", "L26.H11"}
    assert head_lists.everywhere("LLaVA", "negative") == {"L29.H11", "L30.H11", "L31.H11"}
    assert head_lists.everywhere("InstructBLIP", "negative") == {"L30.H30"}
    assert not head_lists.everywhere("LLaVA", "positive")


def test_overlap_by_chance_is_that_of_the_simulation():
    for k, n in ((10, 1024), (4, 12)):
        simulated = ranking.jaccard_by_chance(k, n, draws=20_000)
        assert head_lists.expected_jaccard(k, n) == pytest.approx(simulated, rel=0.1)
    assert head_lists.expected_jaccard(5, 5) == 1


def test_overlap_of_two_sets_is_that_of_two_lists():
    a, b = {"L0.H1", "L2.H3", "L4.H5"}, {"L0.H1", "L9.H9"}
    assert head_lists.jaccard(a, b) == ranking.jaccard(sorted(a), sorted(b)) == 1 / 4


def test_overlaps_fall_when_heads_in_all_lists_are_left_out():
    found = head_lists.overlaps().set_index(["model", "side", "without"])
    kept = found.loc[("LLaVA", "negative", "")]
    fewer = found.loc[("LLaVA", "negative", "L29.H11 L30.H11 L31.H11")]
    assert kept["across"] == pytest.approx(0.214, abs=5e-4)
    assert fewer["across"] == pytest.approx(0.039, abs=5e-4) and fewer["within"] < kept["within"]
    assert len(found) == 6


def test_shares_of_layers_count_entries():
    inside, layers = head_lists.in_layers("LLaVA", "positive")
    assert (inside, layers) == (35 / 70, 14 / 32)
    assert head_lists.in_layers("LLaVA", "negative") == (21 / 70, 3 / 32)
    common = head_lists.everywhere("LLaVA", "negative")
    assert head_lists.in_layers("LLaVA", "negative", common)[0] == 0


def test_indices_count_every_entry_once():
    found = head_lists.by_index()
    assert found["entries"].sum() == 279 and len(found) == 2 * 2 * 32
    llava = found[(found["model"] == "LLaVA") & (found["index"] == 11)].set_index("side")
    assert llava["entries"].to_dict() == {"positive": 14, "negative": 31}
    assert found["expected"].sum() == pytest.approx(279)


def test_recurrence_counts_tasks_and_levels():
    found = head_lists.recurrence("InstructBLIP", "positive").set_index("head")
    assert found.loc["L23.H30"].tolist() == [4, 2] == found.loc["L11.H28"].tolist()
    assert found["categories"].is_monotonic_decreasing
