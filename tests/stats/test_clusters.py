import numpy as np
import pytest

from vseam_lib.stats import clustered_band, clustered_mean, resampled_clusters


def test_the_interval_covers_the_truth_as_often_as_it_promises():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        shared = rng.normal(0, 1, 60).repeat(4)
        values = 0.3 + shared + rng.normal(0, 1, 240)
        clusters = [str(c) for c in np.arange(60).repeat(4)]
        interval = clustered_mean(values, clusters, draws=400, seed=trial)
        covered += interval.low <= 0.3 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99


def test_questions_that_share_an_image_widen_the_interval():
    values = np.random.default_rng(1).normal(0, 1, 50).repeat(4)
    alone = clustered_mean(values, [str(i) for i in range(200)])
    shared = clustered_mean(values, [str(i) for i in np.arange(50).repeat(4)])
    assert shared.high - shared.low > 1.5 * (alone.high - alone.low)
    assert shared.mean == alone.mean


def test_constant_values_give_a_point():
    assert clustered_mean([2.0] * 6, list("aabbcc")) == (2.0, 2.0, 2.0)


def samples(*shape, seed=0):
    """Values of 30 samples in 8 clusters of unequal size."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(30, *shape)), [f"c{k}" for k in rng.integers(8, size=30)]


@pytest.mark.parametrize("shape", [(), (4,), (2, 3)])
@pytest.mark.parametrize("level", [0.95, 0.5])
def test_a_band_is_resampling_clusters_one_by_one(shape, level):
    values, clusters = samples(*shape)
    band = clustered_band(values, clusters, level=level, draws=50, seed=2)
    names = sorted(set(clusters))
    means = []
    for counts in resampled_clusters(len(names), 50, 2).astype(int):
        rows = []
        for name, n in zip(names, counts, strict=True):
            rows += n * [i for i, cluster in enumerate(clusters) if cluster == name]
        means.append(values[rows].mean(0))
    assert all(v.shape == shape for v in band)
    np.testing.assert_allclose(band.mean, values.mean(0), atol=1e-12)
    np.testing.assert_allclose(band.low, np.quantile(means, (1 - level) / 2, axis=0), atol=1e-12)
    np.testing.assert_allclose(band.high, np.quantile(means, (1 + level) / 2, axis=0), atol=1e-12)


def test_every_draw_has_as_many_clusters_as_there_are():
    counts = resampled_clusters(8, 500, 0)
    assert counts.shape == (500, 8) and (counts.sum(1) == 8).all()
    assert counts.mean(0) == pytest.approx(np.ones(8), abs=0.2)
    assert np.array_equal(counts, resampled_clusters(8, 500, 0))
    assert not np.array_equal(counts, resampled_clusters(8, 500, 1))
    with pytest.raises(ValueError, match="read-only"):
        counts[0, 0] = 7


def test_the_interval_of_one_number_is_its_band():
    values, clusters = samples()
    interval = clustered_mean(values, clusters, draws=70, seed=4)
    assert interval == tuple(map(float, clustered_band(values, clusters, draws=70, seed=4)))


def test_bands_are_pointwise():
    values, clusters = samples(3)
    band = clustered_band(values, clusters, draws=60)
    alone = clustered_band(values[:, 1], clusters, draws=60)
    np.testing.assert_allclose([v[1] for v in band], alone, atol=1e-12)


def test_an_interval_says_whether_it_excludes_zero():
    values = 1 + samples()[0] / 10
    assert clustered_mean(values, samples()[1]).excludes_zero
    assert clustered_mean(-values, samples()[1]).excludes_zero
    assert not clustered_mean(values - values.mean(), samples()[1]).excludes_zero


@pytest.mark.parametrize(
    ("values", "clusters", "said"),
    [
        ([1.0, 2.0], ["a"], "one cluster per value, got 1 for 2"),
        ([1.0, np.nan], ["a", "b"], "finite values, got 1 others"),
        ([[1.0, np.inf], [2.0, np.inf]], ["a", "b"], "finite values, got 2 others"),
        ([1.0, 2.0], ["a", "a"], "at least two clusters"),
        ([], [], "at least two clusters"),
    ],
)
@pytest.mark.parametrize("of", [clustered_band, clustered_mean])
def test_unusable_samples_are_refused(of, values, clusters, said):
    with pytest.raises(ValueError, match=said):
        of(values, clusters)
