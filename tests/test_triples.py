import random
from pathlib import Path

import pytest

from vseam_lib.triples import (
    Box,
    Category,
    VQATriple,
    check_unique,
    sample,
    select_eq4,
    split_by_image,
    table1,
)


def triple(k, category="color", answer="Yes", image=None, **fields):
    image_id = image or f"i{k}"
    return VQATriple(
        id=f"q{k:04}",
        image_id=image_id,
        image=Path(f"{image_id}.jpg"),
        question="Is the car red?",
        answer=answer,
        category=category,
        boxes=(Box(0, 0, 4, 4),),
        **fields,
    )


@pytest.fixture
def many():
    triples = [
        triple(k, category, "Yes" if k % 3 else "No", image=f"i{k // 2}")
        for category_index, category in enumerate(("color", "action"))
        for k in range(category_index * 300, category_index * 300 + 300)
    ]
    return triples


def shuffled(triples):
    triples = list(triples)
    random.Random(1).shuffle(triples)
    return triples


def test_all_questions_about_an_image_land_in_the_same_part(many):
    parts = split_by_image(many, seed=0, shares=(0.5, 0.3, 0.2))
    images = [{t.image_id for t in part} for part in parts]
    assert sum(map(len, parts)) == len(many)
    assert not images[0] & images[1] and not images[0] & images[2] and not images[1] & images[2]


def test_a_split_does_not_depend_on_the_order_of_the_input(many):
    assert split_by_image(many, seed=3) == split_by_image(shuffled(many), seed=3)


def test_another_seed_gives_another_split(many):
    assert split_by_image(many, seed=3) != split_by_image(many, seed=4)


def test_shares_are_met_on_average(many):
    first, _ = split_by_image(many, seed=0, shares=(0.8, 0.2))
    assert 0.72 < len(first) / len(many) < 0.88


def test_categories_split_on_their_own_agree_about_shared_images():
    one = [triple(k, "color", image=f"i{k}") for k in range(40)]
    two = [triple(k + 100, "action", image=f"i{k}") for k in range(40)]
    (color_a, _), (_, action_b) = split_by_image(one, 7), split_by_image(two, 7)
    assert not {t.image_id for t in color_a} & {t.image_id for t in action_b}


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.5, -0.5), (1.0, 0.0)])
def test_shares_that_are_no_partition_are_refused(many, shares):
    with pytest.raises(ValueError, match="positive shares that sum to 1"):
        split_by_image(many, seed=0, shares=shares)


def test_a_part_without_images_is_refused():
    with pytest.raises(ValueError, match="use more images or another seed"):
        split_by_image([triple(1), triple(2, image="i1")], seed=0)


def test_splitting_nothing_gives_empty_parts():
    assert split_by_image([], seed=0) == ([], [])


def test_a_sample_is_balanced_as_far_as_the_data_allow(many):
    counts = table1(sample(many, 100, seed=0)).set_index("category")
    assert list(counts["size"]) == [100, 100]
    assert list(counts["yes_share"]) == [0.5, 0.5]
    one_sided = [triple(k, answer="Yes" if k < 50 else "No") for k in range(53)]
    row = table1(sample(one_sided, 20, seed=0)).iloc[0]
    assert row["size"] == 20 and row["yes_share"] == 17 / 20


def test_a_sample_does_not_depend_on_the_order_of_the_input(many):
    assert sample(many, 31, seed=5) == sample(shuffled(many), 31, seed=5)


def test_a_smaller_sample_is_part_of_a_larger_one(many):
    small, large = sample(many, 20, seed=5), sample(many, 45, seed=5)
    assert {t.id for t in small} < {t.id for t in large}


def test_a_sample_larger_than_the_data_is_the_data(many):
    assert len(sample(many, 10_000, seed=0)) == len(sample(many, None, seed=0)) == len(many)


def test_a_sample_of_less_than_one_is_refused(many):
    with pytest.raises(ValueError, match="at least 1, or None for all, got 0"):
        sample(many, 0, seed=0)


def test_duplicate_triple_ids_are_refused():
    with pytest.raises(ValueError, match="1 that repeat: q0001"):
        check_unique([triple(1), triple(2), triple(1)])
    with pytest.raises(ValueError, match="repeat"):
        sample([triple(1), triple(1)], 5, seed=0)


def test_table1_counts_triples_answers_and_images():
    table = table1([triple(1), triple(2, answer="No", image="i1"), triple(3, "spatial")])
    assert table.to_dict("records") == [
        {"level": "attribute", "category": "color", "size": 2, "yes_share": 0.5, "images": 1},
        {"level": "relation", "category": "spatial", "size": 1, "yes_share": 1.0, "images": 1},
    ]


def test_table1_of_nothing_keeps_its_columns():
    assert list(table1([]).columns) == ["level", "category", "size", "yes_share", "images"]


def test_eq4_keeps_what_only_the_clean_image_answers_rightly():
    triples = [triple(k) for k in range(4)]
    kept = select_eq4(triples, [True, True, False, False], [True, False, True, False])
    assert [t.id for t in kept] == ["q0001"]
    with pytest.raises(ValueError, match="4 triples, 1 clean and 4 edited"):
        select_eq4(triples, [True], [True] * 4)


def test_every_category_has_a_level():
    assert {c.level.value for c in Category} == {"attribute", "object", "relation"}
    assert triple(1, "animal").level == "object"


def test_answers_other_than_yes_and_no_are_refused():
    with pytest.raises(ValueError, match="'Yes' or 'No', got 'maybe'"):
        triple(1, answer="maybe")


@pytest.mark.parametrize("box", [Box(-1, 0, 2, 2), Box(0, 0, 0, 2)])
def test_boxes_without_area_or_with_negative_corner_are_refused(box):
    with pytest.raises(ValueError, match="not two corners"):
        box.check()


def test_boxes_that_leave_the_image_are_refused():
    assert Box(0, 0, 10, 10).check(10, 10) == Box(0, 0, 10, 10)
    with pytest.raises(ValueError, match="leaves the 10 x 9 image"):
        Box(0, 0, 10, 10).check(10, 9)
