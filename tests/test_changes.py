import numpy as np
import pandas as pd
import pytest

from vseam_lib import changes as ch
from vseam_lib.stats import Interval, clustered_mean

COLUMNS = ["id", "image_id", "category", "gold", "edit", "p", "right", "yes"]
# Two questions about one image, one about another; under "a" the first is lost, the last is won.
TABLE = pd.DataFrame(
    [
        ("q1", "i1", "color", "Yes", "original", 0.6, True, True),
        ("q2", "i1", "color", "No", "original", 0.7, True, False),
        ("q3", "i2", "spatial", "No", "original", 0.4, False, True),
        ("q1", "i1", "color", "Yes", "a", 0.4, False, False),
        ("q2", "i1", "color", "No", "a", 0.9, True, False),
        ("q3", "i2", "spatial", "No", "a", 0.8, True, False),
        ("q3", "i2", "spatial", "No", "random/0", 0.5, False, True),
        ("q3", "i2", "spatial", "No", "random/1", 0.6, True, False),
    ],
    columns=COLUMNS,
)


def test_changes_per_question_by_hand():
    found = ch.per_question(TABLE).set_index(["id", "edit"])
    assert "original" not in found.index.unique("edit") and len(found) == 5
    assert found.loc[("q1", "a"), ["accuracy", "yes-rate"]].tolist() == [-100, -100]
    assert found.loc[("q2", "a"), ["accuracy", "yes-rate"]].tolist() == [0, 0]
    assert found.loc[("q3", "a"), ["accuracy", "yes-rate"]].tolist() == [100, -100]
    assert found.loc[("q3", "a"), "probability"] == pytest.approx(40)


def test_a_question_without_an_unedited_answer_is_an_error():
    with pytest.raises(ValueError, match="'original', got 1 questions without one and 0 repeats"):
        ch.per_question(TABLE.drop(index=0))
    with pytest.raises(ValueError, match="0 questions without one and 1 repeats"):
        ch.per_question(pd.concat([TABLE, TABLE[:1]]))


def test_draws_of_an_edit_become_their_mean_and_other_edits_stay():
    found = ch.mean_of_draws(ch.per_question(TABLE), "random").set_index(["edit", "id"])
    assert found.loc[("random", "q3"), "accuracy"] == 50
    assert found.loc[("a", "q1"), "accuracy"] == -100
    assert set(found.index.unique("edit")) == {"a", "random"}


def many(seed=0):
    """Changes of 60 questions about 20 images in two categories."""
    rng = np.random.default_rng(seed)
    n = 60
    return pd.DataFrame(
        {
            "id": [f"q{i}" for i in range(n)],
            "image_id": [f"i{i % 20}" for i in range(n)],
            "category": ["color"] * 25 + ["spatial"] * 35,
            "edit": "a",
            "accuracy": 100 * rng.integers(-1, 2, n),
            "yes-rate": 100 * rng.integers(-1, 2, n),
            "probability": rng.normal(size=n),
        }
    )


def test_intervals_of_groups_are_those_of_each_group_alone():
    changes = many()
    found = ch.with_intervals(changes, ["category", "edit"], seed=3)
    assert found["n"].tolist() == [25, 25, 35, 35]
    for row in found.itertuples():
        part = changes[changes["category"] == row.category]
        alone = clustered_mean(part[row.measure], list(part["image_id"]), seed=3)
        assert (row.mean, row.low, row.high) == pytest.approx(tuple(alone))
        assert row.mean == pytest.approx(part[row.measure].mean())


def test_a_contrast_is_the_difference_of_the_means():
    changes = many()
    inside = (changes["category"] == "color").to_numpy()
    found = ch.contrast(changes, inside)
    accuracy = changes["accuracy"].to_numpy()
    assert found.mean == pytest.approx(accuracy[inside].mean() - accuracy[~inside].mean())
    assert found.low < found.mean < found.high
    other = ch.contrast(changes, ~inside)
    assert (other.low, other.high) == pytest.approx((-found.high, -found.low))


def test_a_contrast_with_one_side_empty_is_an_error():
    with pytest.raises(ValueError, match="got 60 inside and 0 outside"):
        ch.contrast(many(), [True] * 60)


@pytest.mark.parametrize(
    "found, expected",
    [((2, 1, 3), True), ((2, 0, 3), True), ((-2, -3, -1), False), ((0.5, -1, 2), None)],
)
def test_an_interval_decides_a_bound_or_leaves_it_open(found, expected):
    assert ch.at_least(Interval(*found), 0) is expected
