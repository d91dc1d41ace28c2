from functools import partial
from itertools import combinations

import numpy as np
import pytest

from vseam_lib.causal.heads import Effects
from vseam_lib.causal.ranking import (
    Scores,
    causal_scores,
    jaccard,
    jaccard_by_chance,
    resolve_k,
    score_bands,
    stability,
    top_heads,
)
from vseam_lib.stats import clustered_band, resampled_clusters
from vseam_lib.vlm.adapter import Head

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


def random_effects(n=40, images=9, seed=0):
    """Effects of 2 x 5 heads on questions about shared images, with each question's image."""
    rng = np.random.default_rng(seed)
    effects = Effects(
        [str(i) for i in range(n)],
        rng.normal(size=(n, 2, 5)),
        np.full(n, 0.5),
        rng.random(n) < 0.6,
    )
    return effects, [f"image {i}" for i in rng.integers(images, size=n)]


@pytest.mark.parametrize("score", ["signed", "relu"])
def test_bands_are_those_of_the_right_and_of_the_wrong_triples(score):
    effects, images = random_effects()
    bands = score_bands(effects, images, score)
    means = causal_scores(effects, score)
    clip = {"signed": lambda x, side: x, "relu": lambda x, side: np.where(x * side > 0, x, 0)}
    for band, mean, member, side in zip(
        bands, means[:2], (effects.right, ~effects.right), (-1, 1), strict=True
    ):
        values = clip[score](effects.delta[member], side)
        truth = clustered_band(values, [i for i, m in zip(images, member, strict=True) if m])
        np.testing.assert_allclose(band, truth, atol=1e-15)
        np.testing.assert_allclose(band.mean, mean, atol=1e-15)
        assert (band.low <= band.mean).all() and (band.mean <= band.high).all()


def test_bands_need_two_images_on_each_side():
    effects = effects_of([True, True, True, False])
    with pytest.raises(ValueError, match="at least two clusters"):
        score_bands(effects, list("abcd"))


@pytest.mark.parametrize("analysis", [score_bands, partial(stability, k=2)])
def test_bands_and_stability_need_right_and_wrong_answers(analysis):
    with pytest.raises(ValueError, match="D_incorrect is empty"):
        analysis(effects_of([True] * 4), list("abcd"))


@pytest.mark.parametrize("analysis", [score_bands, partial(stability, k=2)])
def test_bands_and_stability_know_no_other_score_than_the_means_do(analysis):
    with pytest.raises(ValueError, match="expected a score in.*got 'abs'"):
        analysis(effects_of([True, True, False, False]), list("abab"), score="abs")


def resampled_by_hand(effects, images, k, score, draws, seed):
    """Draw images with replacement, put their triples in a row, average and sort (Eq. 7).

    Per side: how often each head is among the first ``k``, as a share of the draws that have
    triples on the side, and each such draw's overlap with the list of the full sample.
    """
    names = sorted(set(images))
    heads = [Head(*at) for at in np.ndindex(effects.delta.shape[1:])]
    full = top_heads(causal_scores(effects, score), k, "both")
    shares, overlaps = {}, {}
    for side, sign in (("positive", -1), ("negative", 1)):
        values = sign * effects.delta
        values = np.maximum(values, 0) if score == "relu" else values
        lists = []
        for counts in resampled_clusters(len(names), draws, seed).astype(int):
            rows = [
                i
                for name, n in zip(names, counts, strict=True)
                for i in n * [i for i, image in enumerate(images) if image == name]
                if effects.right[i] == (side == "positive")
            ]
            if rows:
                gain = sum(values[i] for i in rows) / len(rows)
                lists.append(sorted(heads, key=lambda h, g=gain: -g[h])[: resolve_k(k, len(heads))])
        often = [sum(h in found for found in lists) / len(lists) for h in heads]
        shares[side] = np.reshape(often, effects.delta.shape[1:])
        overlaps[side] = [jaccard(found, list(getattr(full, side))) for found in lists]
    return shares, overlaps


@pytest.mark.parametrize("score", ["signed", "relu"])
@pytest.mark.parametrize("k", [3, 0.2])
def test_stability_is_resampling_images_and_ranking_again(score, k):
    effects, images = random_effects()
    found = stability(effects, images, k, score, draws=60, seed=3)
    shares, overlaps = resampled_by_hand(effects, images, k, score, 60, 3)
    for side in ("positive", "negative"):
        share = getattr(found, side)
        assert np.array_equal(share, shares[side])
        assert found.jaccard[side] == pytest.approx(np.mean(overlaps[side]), abs=1e-12)
        assert share.sum() == pytest.approx(resolve_k(k, 10))
        assert ((0 < share) & (share < 1)).any(), "the lists must vary"


def test_draws_without_a_right_or_a_wrong_triple_are_left_out():
    effects, images = random_effects(n=12, images=4)
    only = np.array([image == images[0] for image in images])
    effects = Effects(effects.ids, effects.delta, effects.p, only)  # right on one image alone
    found = stability(effects, images, 3, draws=40)
    shares, overlaps = resampled_by_hand(effects, images, 3, "signed", 40, 0)
    assert len(overlaps["positive"]) < 40, "some draws must miss the image"
    assert set(found.positive.ravel()) == {0.0, 1.0} and found.jaccard["positive"] == 1
    assert np.array_equal(found.positive, shares["positive"])
    assert np.array_equal(found.negative, shares["negative"])


def test_a_list_of_all_heads_never_changes():
    effects, images = random_effects()
    found = stability(effects, images, 10, draws=20)
    assert found.jaccard == {"positive": 1, "negative": 1}
    assert (found.positive == 1).all() and (found.negative == 1).all()


def test_stability_of_more_heads_than_there_are_is_an_error():
    effects, images = random_effects()
    with pytest.raises(ValueError, match="model's 10 heads.*got 11"):
        stability(effects, images, 11)


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
