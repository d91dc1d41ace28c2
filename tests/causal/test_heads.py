from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
import torch

from vseam_lib.causal import heads
from vseam_lib.causal.heads import (
    Effects,
    Scores,
    causal_scores,
    jaccard,
    jaccard_by_chance,
    mask_every_head,
    resolve_k,
    sweep,
    top_heads,
)
from vseam_lib.causal.trace import record
from vseam_lib.vlm.adapter import Head


def mean(own, others):
    return sum(others) / len(others)


def zero(own, others):
    return torch.zeros_like(own)


def plain_sweep(adapter, triples, plain, change_head, new):
    """Eq. 6, one full forward of the genuine model per head."""
    gold = torch.tensor([adapter.answer_id(t.answer) for t in triples])
    row = torch.arange(len(gold))
    clean = plain(adapter, triples).softmax(-1)[row, gold]
    delta = torch.empty(len(triples), adapter.n_layers, adapter.n_heads, dtype=clean.dtype)
    for layer, h in product(range(adapter.n_layers), range(adapter.n_heads)):
        logits = plain(adapter, triples, {layer: change_head(adapter.n_heads, h, new)})
        delta[:, layer, h] = logits.softmax(-1)[row, gold] - clean
    return clean.numpy(), delta.numpy()


@pytest.mark.parametrize("mask, new", [("mean", mean), ("zero", zero)])
def test_the_sweep_is_equation_6_in_float64(
    adapter, triples, plain, change_head, tmp_path, mask, new
):
    effects = sweep(adapter, triples[:10], tmp_path, mask=mask)
    p, delta = plain_sweep(adapter, triples[:10], plain, change_head, new)
    assert effects.ids == [t.id for t in triples[:10]]
    assert np.abs(effects.p - p).max() < 1e-10
    assert np.abs(effects.delta - delta).max() < 1e-10
    assert np.abs(delta).max() > 1e-4


def test_the_sweep_is_equation_6_in_float32(adapter32, triples, plain, change_head, tmp_path):
    effects = sweep(adapter32, triples[:10], tmp_path)
    _, delta = plain_sweep(adapter32, triples[:10], plain, change_head, mean)
    assert np.abs(effects.delta - delta).max() < 1e-5


def test_mask_every_head_is_in_the_order_of_the_sweep(adapter, one_image, group_of, tmp_path):
    ordered = sorted(one_image, key=lambda t: t.id)
    recording = record(adapter, group_of(adapter, ordered))
    effects = sweep(adapter, ordered, tmp_path)
    p = mask_every_head(adapter, recording).numpy()
    np.testing.assert_allclose(effects.delta + effects.p[:, None, None], p, atol=1e-12)


def test_right_means_that_the_answer_is_the_top_token(adapter, triples, plain, tmp_path):
    effects = sweep(adapter, triples[:10], tmp_path)
    top = plain(adapter, triples[:10]).argmax(-1)
    gold = torch.tensor([adapter.answer_id(t.answer) for t in triples[:10]])
    assert effects.right.tolist() == (top == gold).tolist()
    assert 0 < sum(effects.right) < 10, "the tiny model must be right and wrong"


def test_a_second_sweep_computes_nothing(adapter, triples, tmp_path, monkeypatch):
    first = sweep(adapter, triples[:8], tmp_path)

    def fail(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(heads, "record", fail)
    again = sweep(adapter, triples[:8], tmp_path)
    assert np.array_equal(first.delta, again.delta) and np.array_equal(first.p, again.p)
    fewer = sweep(adapter, triples[2:4][::-1], tmp_path)
    assert np.array_equal(fewer.delta, first.delta[[3, 2]])
    with pytest.raises(AssertionError, match="computed again"):
        sweep(adapter, triples[:8], tmp_path, mask="zero")  # another mask, another store


def test_results_of_another_picture_or_question_of_the_same_id_are_not_used(
    adapter, triples, tmp_path
):
    """A data set that is generated again gives the same ids to other pictures."""
    here, there = triples[0], next(t for t in triples if t.image_id != triples[0].image_id)
    swapped = [
        replace(here, image=there.image),
        replace(here, question=there.question),
        replace(here, answer="No" if here.answer == "Yes" else "Yes"),
    ]
    first = sweep(adapter, [here], tmp_path)
    for other in swapped:
        assert sweep(adapter, [other], tmp_path).p != first.p
    assert sweep(adapter, [here], tmp_path).p == first.p


def test_effects_of_some_triples_keep_their_order(adapter, triples, tmp_path):
    effects = sweep(adapter, triples[:5], tmp_path)
    some = effects.of([triples[4], triples[1]])
    assert some.ids == [triples[4].id, triples[1].id]
    assert np.array_equal(some.delta, effects.delta[[4, 1]])
    assert np.array_equal(some.right, effects.right[[4, 1]])


def test_an_unknown_mask_names_the_known_ones(adapter, triples, tmp_path):
    with pytest.raises(ValueError, match="mean.*zero.*got 'median'"):
        sweep(adapter, triples[:1], tmp_path, mask="median")


def test_repeated_triple_ids_are_an_error(adapter, triples, tmp_path):
    with pytest.raises(ValueError, match="unique triple ids"):
        sweep(adapter, [triples[0], triples[0]], tmp_path)


# Two layers of two heads, four triples, the first two answered rightly.
DELTA = np.array(
    [
        [[-0.4, 0.1], [0.0, -0.1]],
        [[-0.2, -0.1], [0.2, 0.1]],
        [[0.3, -0.3], [0.0, 0.2]],
        [[0.1, 0.1], [0.0, -0.4]],
    ]
)


def effects_of(right):
    return Effects(list("abcd"), DELTA, np.full(4, 0.5), np.array(right))


def test_equation_7_by_hand():
    scores = causal_scores(effects_of([True, True, False, False]))
    np.testing.assert_allclose(scores.c_correct, [[-0.3, 0.0], [0.1, 0.0]], atol=1e-15)
    np.testing.assert_allclose(scores.c_incorrect, [[0.2, -0.1], [0.0, -0.1]], atol=1e-15)
    assert (scores.n_correct, scores.n_incorrect) == (2, 2)


def test_equation_7_with_clipped_effects_by_hand():
    scores = causal_scores(effects_of([True, True, False, False]), "relu")
    np.testing.assert_allclose(scores.c_correct, [[-0.3, -0.05], [0.0, -0.05]], atol=1e-15)
    np.testing.assert_allclose(scores.c_incorrect, [[0.2, 0.05], [0.0, 0.1]], atol=1e-15)


def test_subsets_of_different_size_are_averaged_each_on_its_own():
    scores = causal_scores(effects_of([True, True, True, False]))
    np.testing.assert_allclose(scores.c_correct, DELTA[:3].mean(0))
    np.testing.assert_allclose(scores.c_incorrect, DELTA[3])
    assert (scores.n_correct, scores.n_incorrect) == (3, 1)


@pytest.mark.parametrize(
    "right, empty, how", [(True, "D_incorrect", "rightly"), (False, "D_correct", "wrongly")]
)
def test_an_empty_subset_is_an_error_with_the_remedy(right, empty, how):
    with pytest.raises(ValueError, match=f"{empty} is empty.* all 4 triples {how}.*more triples"):
        causal_scores(effects_of([right] * 4))


def test_an_unknown_score_names_the_known_ones():
    with pytest.raises(ValueError, match="signed.*relu.*got 'abs'"):
        causal_scores(effects_of([True, True, False, False]), "abs")


def scores_of(correct, incorrect):
    return Scores(np.array(correct), np.array(incorrect), 1, 1)


# L0.H1 is the first positive and the second negative head.
SCORES = scores_of([[-0.1, -0.5, 0.2], [-0.3, 0.0, -0.2]], [[0.4, 0.3, -0.9], [0.0, 0.1, 0.2]])
A, B, C, D, E, F = (Head(layer, h) for layer in range(2) for h in range(3))


def test_positive_and_negative_heads_by_hand():
    sets = top_heads(SCORES, 2, "both")
    assert list(sets.positive.items()) == [(B, 0.5), (D, 0.3)]
    assert list(sets.negative.items()) == [(A, 0.4), (B, 0.3)]


def test_overlap_drop_removes_shared_heads_from_both():
    sets = top_heads(SCORES, 2, "drop")
    assert (sets.positive, sets.negative) == ({D: 0.3}, {A: 0.4})


def test_overlap_disjoint_leaves_a_head_where_it_is_larger_and_fills_up():
    sets = top_heads(SCORES, 2, "disjoint")
    assert list(sets.positive.items()) == [(B, 0.5), (D, 0.3)]
    assert list(sets.negative.items()) == [(A, 0.4), (E, 0.1)]  # F: 0.2 is no more than |-0.2|


def test_overlap_disjoint_never_shares_a_head():
    rng = np.random.default_rng(0)
    for _ in range(50):
        sets = top_heads(scores_of(rng.normal(size=(3, 4)), rng.normal(size=(3, 4))), 6, "disjoint")
        assert not sets.positive.keys() & sets.negative.keys()
        assert max(len(sets.positive), len(sets.negative)) <= 6


def test_ties_go_to_the_lower_layer_then_the_lower_head():
    flat = scores_of(np.full((2, 3), -0.1), np.full((2, 3), 0.1))
    sets = top_heads(flat, 4, "both")
    assert list(sets.positive) == list(sets.negative) == [A, B, C, D]
    assert top_heads(flat, 4, "drop") == ({}, {})
    assert list(top_heads(flat, 4, "disjoint").positive) == [A, B, C, D]
    large = scores_of(np.full((12, 12), -0.1), np.full((12, 12), 0.1))
    assert list(top_heads(large, 14, "both").negative) == [Head(k // 12, k % 12) for k in range(14)]


def test_importance_is_the_absolute_score_of_equation_8():
    sets = top_heads(SCORES, 6, "both")
    assert sets.positive[C] == 0.2 and sets.negative[C] == 0.9


def test_an_unknown_overlap_rule_names_the_known_ones():
    with pytest.raises(ValueError, match="drop.*both.*disjoint.*got 'keep'"):
        top_heads(SCORES, 2, "keep")


@pytest.mark.parametrize("k, n", [(10, 10), (1, 1), (144, 144), (0.07, 10), (0.5, 72), (1e-4, 1)])
def test_k_is_a_number_or_a_share(k, n):
    assert resolve_k(k, 144) == n


@pytest.mark.parametrize("k", [0, -1, 145, 2.5, -0.1, 1000.0])
def test_a_k_that_no_model_has_is_an_error(k):
    with pytest.raises(ValueError, match="K between 1 and the model's 144 heads"):
        resolve_k(k, 144)


def test_more_heads_than_the_model_has_are_an_error():
    with pytest.raises(ValueError, match="model's 6 heads.*got 7"):
        top_heads(SCORES, 7)


def test_jaccard_by_hand():
    assert jaccard([A, B, C], [B, C, D]) == 0.5
    assert jaccard([A], [A]) == 1 and jaccard([A], [B]) == 0 and jaccard([], []) == 0


@pytest.mark.parametrize("k, n", [(2, 4), (3, 7), (1, 6)])
def test_the_chance_level_of_jaccard_is_its_mean_over_all_pairs_of_sets(k, n):
    subsets = list(combinations(range(n), k))
    every = [jaccard(a, b) for a in subsets for b in subsets]
    assert abs(jaccard_by_chance(k, n) - np.mean(every)) < 0.01
