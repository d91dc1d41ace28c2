import numpy as np
import pytest

from vseam_lib.stats import clustered_mean


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


@pytest.mark.parametrize(
    ("values", "clusters", "said"),
    [
        ([1.0, 2.0], ["a"], "one cluster per value"),
        ([1.0, np.nan], ["a", "b"], "finite"),
        ([1.0, 2.0], ["a", "a"], "at least two clusters"),
    ],
)
def test_unusable_samples_are_refused(values, clusters, said):
    with pytest.raises(ValueError, match=said):
        clustered_mean(values, clusters)
