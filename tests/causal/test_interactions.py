import numpy as np
import pytest

from vseam_lib.causal.interactions import (
    KINDS,
    READINGS,
    additivity,
    interaction_table,
    kinds_of,
    mean_interactions,
    reading,
    sign_flip_p,
)
from vseam_lib.causal.pairs import PairEffects, all_pairs
from vseam_lib.stats import clustered_mean
from vseam_lib.vlm.adapter import Head

HEADS = [Head(0, 0), Head(0, 1), Head(1, 0), Head(2, 3)]
IMAGES = [f"i{k // 3}" for k in range(90)]


def effects_with(interaction, *, noise=0.02, seed=0):
    """Log-odds of 90 triples about 30 images; pair ``k`` interacts by ``interaction[k]``."""
    rng = np.random.default_rng(seed)
    pairs = all_pairs(HEADS)
    at = {h: k for k, h in enumerate(HEADS)}
    alone = np.array([-0.9, -0.4, 0.3, 0.1]) + rng.normal(0, 0.3, (90, 4))
    beyond = np.asarray(interaction) + noise * rng.normal(size=(30, len(pairs))).repeat(3, axis=0)
    joint = np.stack([alone[:, at[a]] + alone[:, at[b]] for a, b in pairs], 1) + beyond
    return PairEffects([f"q{k}" for k in range(90)], HEADS, pairs, np.zeros(90), alone, joint)


def test_the_kind_of_a_pair_is_that_of_its_heads():
    kinds = kinds_of(all_pairs(HEADS), HEADS[:2], HEADS[2:])
    assert kinds == [KINDS[0], *[KINDS[2]] * 4, KINDS[1]]


@pytest.mark.parametrize(
    "both, first, second, neither, means",
    [
        # How likely the right answer is with both heads, without one or the other, without both.
        (1, 1, 1, 0, "one stands in for the other"),
        (1, 0, 0, 0, "one needs the other"),
        (0, 1, 1, 1, "one needs the other to harm"),
        (0, 0.1, 0.1, 1, "one stands in for the other's harm"),
        (0.5, 0, 1, 0, "the harmful one undoes the helpful one"),
        (0.5, 0, 1, 1, "the helpful one makes up for the harmful one"),
    ],
)
def test_an_interaction_is_read_by_what_either_head_does(both, first, second, neither, means):
    interaction = neither - first - second + both
    alone = (first - both or -1e-9, second - both or -1e-9)
    assert reading(*alone, interaction) == reading(*alone[::-1], interaction) == means
    assert means in sum(READINGS.values(), ())


def test_a_head_in_both_lists_or_in_none_has_no_kind():
    with pytest.raises(ValueError, match="got L0.H1 in both or in neither"):
        kinds_of(all_pairs(HEADS), HEADS[:2], HEADS[1:])
    with pytest.raises(ValueError, match="got L2.H3 in both or in neither"):
        kinds_of(all_pairs(HEADS), HEADS[:2], HEADS[2:3])


def test_the_table_holds_every_pair_and_finds_the_one_that_interacts():
    effects = effects_with([0, 0.3, 0, 0, 0, 0])
    kinds = kinds_of(effects.pairs, HEADS[:2], HEADS[2:])
    table = interaction_table(effects, IMAGES, kinds, unit="log-odds", flips=2000)
    assert table[["first", "second"]].agg("+".join, axis=1).tolist() == [
        "L0.H0+L0.H1", "L0.H0+L1.H0", "L0.H0+L2.H3", "L0.H1+L1.H0", "L0.H1+L2.H3", "L1.H0+L2.H3",
    ]  # fmt: skip
    assert table["apart"].tolist() == [0, 1, 2, 1, 2, 1]
    alone = table["first_alone"] + table["second_alone"]
    assert np.allclose(table["joint"] - alone, table["interaction"])
    assert ((table["low"] <= table["interaction"]) & (table["interaction"] <= table["high"])).all()
    assert (table["q"] >= table["p"] - 1e-12).all()
    assert (table["q"] < 0.05).tolist() == [False, True, False, False, False, False]


def test_p_is_the_share_of_sign_flips_that_reach_the_mean():
    """All 2^5 flips, listed."""
    values = np.array([3.0, 1.0, -2.0, 4.0, 0.5])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 5)).reshape(5, -1).T
    exact = (np.abs(signs @ values) >= abs(values.sum()) - 1e-9).mean()
    (p,) = sign_flip_p(values[:, None], list("abcde"), flips=40_000)
    assert p == pytest.approx(exact, abs=0.01)


def test_whole_images_flip():
    """Four equal answers about one image are one piece of evidence, not four."""
    values = np.ones((16, 1))
    alone = sign_flip_p(values, [str(k) for k in range(16)], flips=4000)
    shared = sign_flip_p(values, [str(k // 4) for k in range(16)], flips=4000)
    assert alone < 0.002
    assert shared == pytest.approx(2 / 16, abs=0.02)


def test_effects_without_interaction_are_rarely_called_one():
    rng, found = np.random.default_rng(0), []
    for trial in range(15):
        values = rng.normal(size=(24, 40)).repeat(3, axis=0) + rng.normal(size=(72, 40))
        found.append(sign_flip_p(values, [str(k // 3) for k in range(72)], flips=400, seed=trial))
    assert 0.03 < (np.concatenate(found) <= 0.05).mean() < 0.07


def test_a_mean_of_zero_has_p_1_and_no_p_is_0():
    values = np.c_[np.zeros(30), np.ones(30)]
    p = sign_flip_p(values, [str(k) for k in range(30)], flips=500)
    assert p.tolist() == [1.0, 1 / 501]


@pytest.mark.parametrize(
    "values, images, flips",
    [([[1.0], [np.nan]], "ab", 10), ([[1.0], [2.0]], "a", 10), ([[1.0], [2.0]], "ab", 0)],
)
def test_values_that_cannot_be_flipped_are_refused(values, images, flips):
    with pytest.raises(ValueError, match="finite values, one image per row"):
        sign_flip_p(np.array(values), list(images), flips=flips)


def test_mean_interactions_average_the_pairs_of_a_kind():
    effects = effects_with([0.2, 0, 0, 0, 0, -0.4])
    kinds = kinds_of(effects.pairs, HEADS[:2], HEADS[2:])
    found = mean_interactions(effects, IMAGES, kinds, unit="log-odds", seed=3)
    assert set(found) == set(KINDS)
    values = effects.interaction("log-odds")
    assert found[KINDS[2]] == clustered_mean(values[:, 1:5].mean(1), IMAGES, seed=3)
    assert found[KINDS[0]].low > 0 > found[KINDS[1]].high


def test_effects_that_add_up_explain_everything():
    adding = additivity(effects_with(np.zeros(6), noise=0), IMAGES, unit="log-odds", draws=50)
    assert adding == pytest.approx((1, 1, 1))
    other = effects_with([0.8, -0.5, 0.4, 0, 0, -0.9])
    found = additivity(other, IMAGES, unit="log-odds", draws=200)
    joint = other.joint_change("log-odds").mean(0)
    missed = other.interaction("log-odds").mean(0)
    assert found.mean == pytest.approx(1 - (missed**2).sum() / ((joint - joint.mean()) ** 2).sum())
    assert found.low < found.mean < found.high < 0.9


def test_additivity_needs_two_pairs_and_two_images():
    effects = effects_with(np.zeros(6))
    with pytest.raises(ValueError, match="got 6 and 1"):
        additivity(effects, ["i"] * 90)
    one = PairEffects(
        effects.ids, HEADS, effects.pairs[:1], effects.clean, effects.single, effects.joint[:, :1]
    )
    with pytest.raises(ValueError, match="got 1 and 30"):
        additivity(one, IMAGES)
