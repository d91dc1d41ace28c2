import numpy as np
import pandas as pd
import pytest

from vseam_lib.stats import Paired


def answers(edit, right, *, images="aabbc", **columns):
    """Rows of answers to questions q0, q1, ... under one edit."""
    ids = [f"q{k}" for k in range(len(right))]
    return pd.DataFrame(
        {"id": ids, "image_id": list(images)[: len(right)], "edit": edit, "right": right, **columns}
    )


def test_answers_are_paired_by_question_whatever_the_order_of_the_rows():
    table = pd.concat([answers("original", [0, 1, 1, 0, 1]), answers("rescaling", [1, 1, 0, 0, 1])])
    pairs = Paired.of(table.sample(frac=1, random_state=3), "rescaling", "original")
    assert pairs.difference.tolist() == [1, 0, -1, 0, 0]
    assert pairs.clusters.tolist() == list("aabbc")
    assert pairs.sums.tolist() == [1, -1, 0] and pairs.sizes.tolist() == [2, 2, 1]
    assert pairs.discordant == (1, 1) and pairs.change == 0


def test_several_draws_of_an_edit_are_averaged_per_question():
    draws = [answers(f"random remove/{k}", r) for k, r in enumerate(([1, 0], [1, 1], [0, 0]))]
    table = pd.concat([answers("rescaling", [1, 1]), *draws]).assign(image_id=["a", "b"] * 4)
    pairs = Paired.of(table, "rescaling", "random remove")
    assert pairs.old == pytest.approx([2 / 3, 1 / 3])
    assert pairs.change == pytest.approx(50) and not pairs.is_binary
    with pytest.raises(ValueError, match="averages over draws"):
        _ = pairs.discordant


def test_another_column_can_be_compared():
    table = pd.concat(
        [answers("a", [1, 1, 1], yes=[0, 0, 1]), answers("b", [1, 1, 1], yes=[1, 0, 0])]
    ).assign(image_id=list("xyz") * 2)
    assert Paired.of(table, "a", "b", column="yes").difference.tolist() == [-1, 0, 1]


def test_swapping_exchanges_whole_images_and_nothing_else():
    rng = np.random.default_rng(0)
    images = rng.integers(40, size=300).astype(str)
    pairs = Paired(rng.integers(2, size=300), rng.integers(2, size=300), images)
    swapped = pairs.swapped(seed=5)
    signs = {i: set() for i in images}
    for image, before, after in zip(images, pairs.difference, swapped.difference, strict=True):
        assert abs(before) == abs(after)
        if before:
            signs[image].add(after / before)
    assert all(len(s) <= 1 for s in signs.values())
    assert {s for found in signs.values() for s in found} == {-1.0, 1.0}
    assert (swapped.new + swapped.old == pairs.new + pairs.old).all()


def test_edits_that_answered_different_questions_are_refused():
    table = pd.concat([answers("a", [1, 1, 1]), answers("b", [1, 1, 1, 1, 1])])
    with pytest.raises(ValueError, match="got 2 that only 'b' answered and 0 that only 'a'"):
        Paired.of(table, "a", "b")


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ([answers("a", [1, 1, 1])], r"expected an edit in \['a'\], got 'b'"),
        (
            [answers("a", [1, 1, 1]), answers("b", [1, 1, 1]), answers("b", [0, 1, 1])],
            "two of 'q0'",
        ),
        ([answers("a", [1, 1, 1]), answers("b/0", [1, 1, 1]), answers("b/1", [1, 1])], "all draws"),
    ],
)
def test_tables_that_cannot_be_paired_are_refused(tables, said):
    with pytest.raises(ValueError, match=said):
        Paired.of(pd.concat(tables), "a", "b")


@pytest.mark.parametrize(
    ("new", "old", "clusters", "said"),
    [
        ([1, 0], [1], ["a", "b"], r"shapes \(2,\), \(1,\) and \(2,\)"),
        ([1, 0], [1, 0], ["a"], "one image per question"),
        ([[1, 0]], [[1, 0]], [["a", "b"]], "one image per question"),
        ([1, np.nan], [1, 0], ["a", "b"], "new: .* got 1 others, the first nan"),
        ([1, 0], [1, np.inf], ["a", "b"], "old: .* got 1 others, the first inf"),
        ([1, 0], [1, 75], ["a", "b"], "between 0 and 1"),
        ([1, 0], [1, 1], ["a", "a"], r"2 question\(s\) about 1 image"),
        ([], [], [], "at least two images"),
    ],
)
def test_unusable_answers_are_refused(new, old, clusters, said):
    with pytest.raises(ValueError, match=said):
        Paired(new, old, clusters)
