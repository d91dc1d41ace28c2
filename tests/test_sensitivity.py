import numpy as np
import pytest

from vseam_lib.causal.ranking import Scores, top_heads
from vseam_lib.modulate import rescale
from vseam_lib.sensitivity import Setting, setting_edits, settings

L, H = 3, 4
RNG = np.random.default_rng(0)
SCORES = Scores(RNG.normal(size=(L, H)), RNG.normal(size=(L, H)), 5, 5)
OPTIONS = {
    "ks": [1, 2, 4],
    "forms": ["minmax", "equal"],
    "strengths": [0.5, 1.0],
    "n_heads_total": 12,
}


def test_one_thing_varies_at_a_time_around_the_own_setting():
    varied = settings(k=3, lam="ratio", **OPTIONS)
    own = Setting(3, "ratio", 1.0)
    assert [s.k for s in varied["K"]] == [1, 2, 3, 4]
    assert all(s[1:] == own[1:] for s in varied["K"])
    assert [s.lam for s in varied["form"]] == ["ratio", "minmax", "equal"]
    assert [s.strength for s in varied["strength"]] == [0.5, 1.0]
    assert all(own in some for some in varied.values())


def test_a_share_of_the_heads_is_a_k_like_any_other():
    varied = settings(k=0.25, lam="minmax", **OPTIONS)
    assert [s.k for s in varied["K"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("strength", [-0.5, float("nan"), float("inf")])
def test_strengths_are_finite_and_not_negative(strength):
    with pytest.raises(ValueError, match="strengths of at least 0, got"):
        settings(k=3, lam="minmax", **OPTIONS | {"strengths": [strength]})


def test_k_above_the_number_of_heads_is_an_error():
    with pytest.raises(ValueError, match="12 heads.*got 13"):
        settings(k=3, lam="minmax", **OPTIONS | {"ks": [13]})


def test_edits_are_those_of_each_setting_alone():
    varied = settings(k=3, lam="minmax", **OPTIONS)
    wanted = [one for some in varied.values() for one in some]
    edits, left_out = setting_edits(SCORES, wanted, overlap="both")
    assert [name for name, _ in left_out] == ["K = 1, minmax, strength 1"]
    assert "c_max - c_min" in left_out[0][1]
    assert set(edits) == {one.name for one in wanted} - {left_out[0][0]}
    for one in wanted:
        if one.name in edits:
            sets = top_heads(SCORES, one.k, "both")
            alone = rescale(sets, L, H, lam=one.lam, strength=one.strength)
            assert bool((edits[one.name].scale == alone.scale).all())


def test_an_unknown_form_is_an_error_and_not_a_missing_edit():
    with pytest.raises(ValueError, match="got 'softmax'"):
        setting_edits(SCORES, [Setting(3, "softmax", 1.0)])
