from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from vseam_lib.causal import heads
from vseam_lib.causal.heads import mask_every_head, sweep
from vseam_lib.causal.trace import record


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
