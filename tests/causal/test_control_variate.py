from itertools import combinations

import numpy as np
import pytest

from vseam_lib.causal.control_variate import by_share, control_variate, difference_estimate
from vseam_lib.causal.heads import Effects
from vseam_lib.causal.ranking import causal_scores

IMAGES = np.repeat(list("abcdef"), 2)  # two questions about each image
RNG = np.random.default_rng(0)
EXACT = RNG.normal(size=(12, 3, 2))
ESTIMATED = 0.7 * EXACT + 0.3 * RNG.normal(size=(12, 3, 2))


def estimate_from(images, beta=1.0, exact=EXACT, estimated=ESTIMATED, clusters=IMAGES):
    sampled = np.isin(clusters, list(images))
    return difference_estimate(exact[sampled], estimated, clusters, sampled, beta)


@pytest.mark.parametrize("beta", [0.0, 1.0, 0.4, "fitted"])
def test_with_all_images_swept_it_is_equation_7(beta):
    found = estimate_from("abcdef", beta)
    np.testing.assert_allclose(found.mean, EXACT.mean(0), atol=1e-14)
    assert (found.se == 0).all()


def test_the_difference_estimate_by_hand():
    sampled = np.array([True, True, False, False])
    found = difference_estimate([1.0, 3.0], [2.0, 2.0, 5.0, 7.0], list("abcd"), sampled)
    assert found.mean == 4.0 + 0.0  # mean of the estimates, mean of the errors -1 and 1
    assert found.se == pytest.approx(np.sqrt((1 - 2 / 4) * 2 / 2))  # (1 - m/N) s^2 / m, s^2 = 2
    alone = difference_estimate([1.0, 3.0], [2.0, 2.0, 5.0, 7.0], list("abcd"), sampled, 0.0)
    assert alone.mean == 2.0


@pytest.mark.parametrize("beta", [0.0, 1.0, 0.4])
@pytest.mark.parametrize("n", [2, 3, 5])
def test_over_all_draws_of_images_it_is_unbiased_and_so_is_its_variance(n, beta):
    draws = [estimate_from(images, beta) for images in combinations("abcdef", n)]
    means = np.array([d.mean for d in draws])
    np.testing.assert_allclose(means.mean(0), EXACT.mean(0), atol=1e-13)
    np.testing.assert_allclose(
        np.mean([d.se**2 for d in draws], 0), ((means - EXACT.mean(0)) ** 2).mean(0), atol=1e-13
    )


def population(seed, images=300, heads=4):
    """Images with one to six questions whose errors share a part; estimates of half the size."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(1, 7, images))
    effect = rng.normal(-0.1, 0.1, (images, heads))[image] + rng.normal(0, 0.1, (len(image), heads))
    error = rng.normal(0, 0.03, (images, heads))[image] + rng.normal(0, 0.02, (len(image), heads))
    return effect, 0.5 * effect + error, image.astype(str)


@pytest.fixture(scope="module")
def simulated():
    """Errors and standard errors over seeded draws of 60 of 300 images, for three estimators."""
    exact, estimated, image = population(seed=1)
    names, rng, found = np.unique(image), np.random.default_rng(2), {}
    for _ in range(400):
        drawn = rng.choice(names, 60, replace=False)
        for beta in (0.0, 1.0, "fitted"):
            e = estimate_from(drawn, beta, exact, estimated, image)
            found.setdefault(beta, []).append((e.mean - exact.mean(0), e.se, e.beta))
    return {b: [np.array(x) for x in zip(*rows, strict=True)] for b, rows in found.items()}


@pytest.mark.parametrize("beta", [0.0, 1.0, "fitted"])
def test_with_images_of_unequal_size_it_is_nearly_unbiased_and_its_error_bars_cover(
    simulated, beta
):
    error, se, _ = simulated[beta]
    noise = error.std(0) / np.sqrt(len(error))
    assert (np.abs(error.mean(0)) < 4 * noise).all()
    covered = (np.abs(error) < 1.96 * se).mean()
    assert 0.92 < covered < 0.97
    assert se.mean() == pytest.approx(error.std(), rel=0.1)


def test_the_estimates_take_variance_out(simulated):
    spread = {b: rows[0].std() for b, rows in simulated.items()}
    assert spread[1.0] < 0.75 * spread[0.0]
    assert spread["fitted"] < 0.6 * spread[0.0]
    assert simulated["fitted"][2].mean() == pytest.approx(1.7, abs=0.2)


def test_questions_of_an_image_count_together():
    exact, estimated, image = population(seed=3)
    sampled = np.isin(image, np.unique(image)[:80])
    together = difference_estimate(exact[sampled], estimated, image, sampled)
    each = np.arange(len(image)).astype(str)
    apart = difference_estimate(exact[sampled], estimated, each, sampled)
    np.testing.assert_allclose(together.mean, apart.mean)
    assert (together.se > 1.2 * apart.se).all()


def test_a_constant_estimate_gets_no_coefficient():
    found = estimate_from("abc", "fitted", estimated=np.ones_like(EXACT))
    assert found.beta == 0
    np.testing.assert_allclose(found.mean, EXACT[:6].mean(0))


def effects_of(delta, right, ids=None):
    n = len(delta)
    return Effects(ids or [f"q{k}" for k in range(n)], delta, np.full(n, 0.5), np.asarray(right))


RIGHT = np.tile([True, False], 6)  # one question per image rightly, one wrongly answered
ALL, SCREENED = effects_of(EXACT, RIGHT), effects_of(ESTIMATED, RIGHT)


def some(rows):
    return effects_of(EXACT[rows], RIGHT[rows], [f"q{k}" for k in rows])


def test_both_averages_are_estimated_from_their_own_questions():
    found = control_variate(some([5, 0, 1, 8, 9, 4]), SCREENED, IMAGES)
    good = ESTIMATED[::2].mean(0) + (EXACT - ESTIMATED)[[0, 4, 8]].mean(0)
    bad = ESTIMATED[1::2].mean(0) + (EXACT - ESTIMATED)[[1, 5, 9]].mean(0)
    np.testing.assert_allclose(found.scores.c_correct, good, atol=1e-14)
    np.testing.assert_allclose(found.scores.c_incorrect, bad, atol=1e-14)
    assert (found.scores.n_correct, found.scores.n_incorrect) == (6, 6)
    assert found.se_correct.shape == found.se_incorrect.shape == (3, 2)
    assert found.beta_correct == found.beta_incorrect == 1


def test_with_everything_swept_the_controlled_scores_are_the_exact_ones():
    found = control_variate(ALL, SCREENED, IMAGES, "fitted")
    truth = causal_scores(ALL)
    np.testing.assert_allclose(found.scores.c_correct, truth.c_correct, atol=1e-14)
    np.testing.assert_allclose(found.scores.c_incorrect, truth.c_incorrect, atol=1e-14)


def test_what_a_sub_sample_would_have_given():
    table = by_share(ALL, SCREENED, IMAGES, (0.5, 1.0), k=2, draws=30)
    assert list(table["side"].unique()) == ["positive", "negative"]
    assert list(table["beta"].unique()) == ["0.0", "1.0", "fitted"]
    full = table[table["share"] == 1]
    assert (full[["recall", "covered"]] == 1).to_numpy().all() and (full["images"] == 6).all()
    assert np.abs(full[["se", "error"]]).to_numpy().max() < 1e-12
    half = table[table["share"] == 0.5].set_index(["side", "beta"])
    assert (half["images"] == 3).all() and half["recall"].between(0, 1).all()
    for side in ("positive", "negative"):
        assert half.loc[(side, "1.0"), "error"] < half.loc[(side, "0.0"), "error"]


def test_a_side_with_one_image_has_no_rows():
    right = np.arange(12) > 1  # only image a is answered wrongly
    table = by_share(effects_of(EXACT, right), effects_of(ESTIMATED, right), IMAGES, [0.5], k=2)
    assert set(table["side"]) == {"positive"}


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_a_share_that_is_none_is_an_error(share):
    with pytest.raises(ValueError, match="shares of the images above 0 and up to 1"):
        by_share(ALL, SCREENED, IMAGES, [share], k=2)


def test_shapes_that_do_not_fit_are_an_error():
    sampled = np.isin(IMAGES, ["a", "b"])
    for exact, clusters in ((EXACT[:3], IMAGES), (EXACT[:4], IMAGES[:-1]), (EXACT[:4, 0], IMAGES)):
        with pytest.raises(ValueError, match="expected N estimates with their clusters"):
            difference_estimate(exact, ESTIMATED, clusters, sampled)


def test_an_image_swept_in_part_is_an_error():
    with pytest.raises(ValueError, match=r"some questions of 1 images only \(b\).*split_by_image"):
        difference_estimate(EXACT[:3], ESTIMATED, IMAGES, np.arange(12) < 3)


@pytest.mark.parametrize("images", ["", "a"])
def test_fewer_than_two_images_are_an_error(images):
    with pytest.raises(ValueError, match="at least two of 6 images in the sub-sample"):
        estimate_from(images)


def test_exact_effects_that_were_not_screened_are_an_error():
    other = effects_of(EXACT[:2], RIGHT[:2], ["q0", "elsewhere"])
    with pytest.raises(ValueError, match=r"got 1 others \(elsewhere\); screen them too"):
        control_variate(other, SCREENED, IMAGES)


def test_effects_of_two_models_are_an_error():
    other = Effects(ALL.ids, ALL.delta, ALL.p + 0.2, ALL.right)
    with pytest.raises(ValueError, match="one model and prompt.*differs by up to 0.20"):
        control_variate(other, SCREENED, IMAGES)


def test_an_empty_subset_is_an_error():
    right = np.ones(12, bool)
    with pytest.raises(ValueError, match="D_incorrect is empty"):
        control_variate(effects_of(EXACT, right), effects_of(ESTIMATED, right), IMAGES)
