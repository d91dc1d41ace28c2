import math

import numpy as np
import pytest
from scipy import stats

from vseam_lib.stats import Paired, effect_sizes


def pairs_of(gained, lost, same=30, per_image=1):
    new = np.r_[np.ones(gained), np.zeros(lost), np.ones(same)]
    old = np.r_[np.zeros(gained), np.ones(lost), np.ones(same)]
    return Paired(new, old, [str(k // per_image) for k in range(len(new))])


def test_sizes_of_a_difference_known_by_counting():
    found = effect_sizes(pairs_of(15, 5, same=30))
    assert found.change.mean == pytest.approx(100 * 10 / 50)
    assert found.odds_ratio.mean == pytest.approx(3)
    assert found.g.mean == pytest.approx(0.25)
    assert (found.gained, found.lost) == (15, 5)


@pytest.mark.parametrize(("gained", "lost"), [(15, 5), (1, 7), (6, 0), (0, 6)])
def test_independent_questions_have_clopper_pearson_intervals(gained, lost):
    found = effect_sizes(pairs_of(gained, lost))
    exact = stats.binomtest(gained, gained + lost).proportion_ci(0.95, "exact")
    assert found.g[1:] == pytest.approx([exact.low - 0.5, exact.high - 0.5])
    odds = [s / (1 - s) if s < 1 else math.inf for s in exact]
    assert found.odds_ratio[1:] == pytest.approx(odds)


def test_sharing_images_widens_every_interval():
    alone, shared = effect_sizes(pairs_of(20, 12)), effect_sizes(pairs_of(20, 12, per_image=4))
    for ours, theirs in zip(alone[:3], shared[:3], strict=True):
        assert theirs.mean == ours.mean
        assert theirs.high - theirs.low > 1.3 * (ours.high - ours.low)


def test_losing_nothing_still_bounds_the_odds_ratio_from_below():
    found = effect_sizes(pairs_of(8, 0))
    assert found.odds_ratio.mean == found.odds_ratio.high == math.inf
    assert 1 < found.odds_ratio.low < math.inf


@pytest.mark.parametrize("value", [0, 1])
def test_without_a_changed_question_only_the_difference_is_known(value):
    pairs = Paired(np.full(9, value), np.full(9, value), list("aabbccddd"))
    found = effect_sizes(pairs)
    assert found.change == (0, 0, 0)
    assert math.isnan(found.odds_ratio.mean) and found.odds_ratio[1:] == (0, math.inf)
    assert math.isnan(found.g.mean) and found.g[1:] == (-0.5, 0.5)


def test_averaged_answers_have_no_odds_ratio():
    with pytest.raises(ValueError, match="averages over draws"):
        effect_sizes(Paired([1, 0], [0.5, 1], ["a", "b"]))
