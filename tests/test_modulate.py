import numpy as np
import pytest

from vseam_lib.causal.ranking import HeadSets
from vseam_lib.causal.replay import replay
from vseam_lib.causal.trace import record
from vseam_lib.modulate import (
    NoFactors,
    permuted_in_layers,
    random_heads,
    rescale,
    rescaling_factors,
    table17_edits,
)
from vseam_lib.vlm.adapter import Head

L, H = 3, 4
A, B, C, D = Head(0, 0), Head(1, 1), Head(1, 3), Head(2, 2)
IMPORTANCE = {A: 0.5, B: 0.3, C: 0.1}
SETS = HeadSets(positive={A: 0.5, B: 0.3, C: 0.1}, negative={D: 0.2, Head(2, 0): 0.1})


def factors_of(edits):
    """Head to factor, for the heads that one variant changes."""
    scale, mix = edits.scale[0].numpy(), edits.mix[0].numpy()
    assert (mix == 0).all()
    return {Head(*map(int, at)): scale[tuple(at)] for at in np.argwhere(scale != 1)}


def test_equation_9_by_hand():
    lam = rescaling_factors(IMPORTANCE)
    assert lam[A] == 1 and lam[C] == 0
    assert lam[B] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "form, expected",
    [("ratio", [1, 0.6, 0.2]), ("raw", [0.5, 0.3, 0.1]), ("equal", [1, 1, 1])],
)
def test_other_forms_of_lambda_by_hand(form, expected):
    assert [rescaling_factors(IMPORTANCE, form)[h] for h in (A, B, C)] == pytest.approx(expected)


@pytest.mark.parametrize("importance", [{A: 0.4}, {A: 0.4, B: 0.4}], ids=["K = 1", "ties"])
def test_minmax_of_one_importance_is_an_error_with_the_remedy(importance):
    with pytest.raises(NoFactors, match="c_max - c_min, which is 0.*lam='ratio'"):
        rescaling_factors(importance)
    assert rescaling_factors(importance, "ratio") == dict.fromkeys(importance, 1.0)


@pytest.mark.parametrize("form", ["minmax", "ratio", "raw", "equal"])
def test_no_heads_have_no_factors(form):
    assert rescaling_factors({}, form) == {}


def test_equation_10_by_hand():
    factors = factors_of(rescale(SETS, L, H))
    assert factors == {A: 2.0, B: pytest.approx(1.5), D: 0.0}  # the least important keep 1


def test_strength_multiplies_lambda():
    factors = factors_of(rescale(SETS, L, H, strength=0.5))
    assert factors == {A: 1.5, B: pytest.approx(1.25), D: 0.5}


def test_a_head_in_both_sets_gets_both_factors():
    shared = HeadSets(positive={A: 0.5, B: 0.3}, negative={A: 0.1, D: 0.4})
    factors = factors_of(rescale(shared, L, H, lam="raw"))
    assert factors[A] == pytest.approx(1.5 * 0.9)


def test_factors_stay_between_0_and_2():
    factors = factors_of(rescale(SETS, L, H, strength=3))
    assert factors[A] == 2 and factors[D] == 0


def test_strength_0_changes_nothing_exactly(adapter, one_image, group_of):
    clean = record(adapter, group_of(adapter, one_image))
    edits = rescale(SETS, adapter.n_layers, adapter.n_heads, strength=0)
    assert (replay(adapter, clean, edits)[0] - clean.logits).abs().max() == 0


def test_rescaling_agrees_with_the_plain_forward(adapter, one_image, group_of, plain, change_head):
    clean = record(adapter, group_of(adapter, one_image))
    out = replay(adapter, clean, rescale(SETS, L, H, lam="ratio"))[0]
    factors = {
        (0, 0): 1 + 0.5 / 0.5, (1, 1): 1 + 0.3 / 0.5, (1, 3): 1 + 0.1 / 0.5,
        (2, 2): 1 - 0.2 / 0.2, (2, 0): 1 - 0.1 / 0.2,
    }  # fmt: skip

    def layer(index):
        def edit(z):
            for (k, h), factor in factors.items():
                if k == index:
                    z = change_head(H, h, lambda own, _, f=factor: own * f)(z)
            return z

        return edit

    truth = plain(adapter, one_image, {k: layer(k) for k in range(L)})
    assert (out - truth).abs().max() < 1e-10
    assert (out - clean.logits).abs().max() > 1e-4


@pytest.mark.parametrize("removal, mix", [("zero", 0), ("mean", 1)])
def test_rows_of_table_17_remove_or_rescale_their_own_heads(removal, mix):
    rows = table17_edits(SETS, L, H, removal=removal)
    assert list(rows) == ["w/o negative", "w/o positive", "rescaling"]
    for name, heads in (("w/o negative", SETS.negative), ("w/o positive", SETS.positive)):
        edit = rows[name]
        removed = {Head(*map(int, at)) for at in np.argwhere(edit.scale[0].numpy() == 0)}
        assert removed == set(heads)
        assert all(edit.mix[0, h.layer, h.head] == mix for h in heads)
        assert edit.mix.sum() == mix * len(heads)
    assert factors_of(rows["rescaling"]) == factors_of(rescale(SETS, L, H))


def test_without_a_form_of_lambda_the_rows_of_removal_stay():
    one = HeadSets({A: 0.4}, {D: 0.2})
    assert list(table17_edits(one, L, H, lam=None)) == ["w/o negative", "w/o positive"]
    with pytest.raises(NoFactors):
        table17_edits(one, L, H)


def test_an_unknown_form_is_not_a_lack_of_factors():
    with pytest.raises(ValueError) as error:
        rescaling_factors({A: 0.4}, "softmax")
    assert not isinstance(error.value, NoFactors)


def test_matched_random_heads_keep_layers_importance_and_what_is_shared():
    shared = HeadSets({A: 0.5, B: 0.3, C: 0.1}, {B: 0.2, D: 0.4})
    drawn = permuted_in_layers(shared, 60, L, H, seed=0)
    for sets in drawn:
        for own, new in zip(shared, sets, strict=True):
            assert [(h.layer, c) for h, c in new.items()] == [(h.layer, c) for h, c in own.items()]
        ((both,),) = [sets.positive.keys() & sets.negative.keys()]
        assert sets.positive[both] == 0.3 and sets.negative[both] == 0.2
        assert all(0 <= h.head < H for own in sets for h in own)
    assert {next(iter(sets.positive)).head for sets in drawn} == set(range(H))
    assert drawn == permuted_in_layers(shared, 60, L, H, seed=0)
    assert drawn[:5] == permuted_in_layers(shared, 5, L, H, seed=0)
    assert drawn != permuted_in_layers(shared, 60, L, H, seed=1)


def test_random_heads_depend_on_the_seed_alone():
    assert random_heads(4, 20, L, H, seed=1) == random_heads(4, 20, L, H, seed=1)
    assert random_heads(4, 20, L, H, seed=1) != random_heads(4, 20, L, H, seed=2)


def test_more_draws_begin_with_the_same_draws():
    assert random_heads(4, 30, L, H, seed=1)[:20] == random_heads(4, 20, L, H, seed=1)


def test_random_sets_have_no_repeats_and_respect_avoid():
    draws = random_heads(5, 200, L, H, seed=0, avoid=[A, D])
    assert len(draws) == 200 and all(len(set(d)) == 5 for d in draws)
    seen = set().union(*draws)
    assert seen == {Head(i, h) for i in range(L) for h in range(H)} - {A, D}


def test_more_random_heads_than_there_are_is_an_error():
    assert len(random_heads(10, 1, L, H, seed=0, avoid=[A, D])[0]) == 10
    with pytest.raises(ValueError, match="at most 10 heads.*n = 11"):
        random_heads(11, 1, L, H, seed=0, avoid=[A, D])


def test_unknown_switches_name_the_known_values():
    with pytest.raises(ValueError, match="minmax.*ratio.*raw.*equal.*got 'softmax'"):
        rescale(SETS, L, H, lam="softmax")
    with pytest.raises(ValueError, match="zero.*mean.*got 'noise'"):
        table17_edits(SETS, L, H, removal="noise")
