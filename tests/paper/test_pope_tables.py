import numpy as np
import pytest

from vseam_lib.paper import pope


def test_rates_are_those_of_counting_answers():
    rng = np.random.default_rng(0)
    gold = np.repeat([True, False], [1500, 1410])
    said = np.where(rng.uniform(size=2910) < 0.8, gold, ~gold)
    found = pope.implied((said == gold).mean(), said[gold].mean(), 1500, 2910)
    precision, recall = gold[said].mean(), said[gold].mean()
    assert found.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert found.false_positive_rate == pytest.approx(said[~gold].mean())
    assert found.precision == pytest.approx(gold[said].mean())
    assert found.yes_rate == pytest.approx(said.mean())


@pytest.mark.parametrize("accuracy, recall", [(0.9, 0.1), (1.2, 0.5), (0.1, 0.9), (0.5, -0.1)])
def test_accuracy_and_recall_that_exclude_each_other_are_refused(accuracy, recall):
    with pytest.raises(ValueError, match="go together"):
        pope.implied(accuracy, recall, 1500, 3000)


def test_a_set_of_one_kind_is_refused():
    with pytest.raises(ValueError, match="some questions of each kind"):
        pope.implied(0.8, 0.8, 10, 10)


def test_f1_of_unedited_models_follows_and_of_most_edited_ones_does_not():
    found = pope.results()
    assert len(found) == 18
    assert found[found["edit"] == "Initial"]["f1_agrees"].all()
    edited = found[found["edit"] != "Initial"]
    agreeing = edited[edited["f1_agrees"]]
    assert agreeing[["model", "subset", "edit"]].values.tolist() == [
        ["LLaVA", "random", "Edit_GQA"]
    ]
    assert (found["f1_low"] < found["f1_high"]).all()
    assert (found["fpr_low"] < found["false_positive_rate"]).all()
    assert (found["false_positive_rate"] < found["fpr_high"]).all()


def test_unedited_models_have_one_recall_and_edited_ones_have_several():
    found = pope.recalls().set_index(["model", "edit"])["agrees"]
    assert found.xs("Initial", level="edit").all() and found.sum() == 2


def test_false_positives_rise_with_every_edit_but_one():
    found = pope.shifts()
    assert len(found) == 12 and (found["recall"] > 0).all() and (found["yes_rate"] > 0).all()
    falls = found[found["false_positive_rate"] < 0]
    assert falls[["model", "subset", "edit"]].values.tolist() == [["LLaVA", "random", "Edit_GQA"]]
    assert 9 <= found["rises"].sum() <= 11
