from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import expit

from vseam_lib.causal import pairs as pairing
from vseam_lib.causal.heads import sweep
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.pairs import (
    PairEffects,
    all_pairs,
    mask_pairs,
    masked_log_odds,
    masked_run,
    matched_heads,
)
from vseam_lib.causal.replay import replay
from vseam_lib.causal.screening import log_odds
from vseam_lib.causal.trace import record
from vseam_lib.vlm.adapter import Head

HEADS = [Head(0, 1), Head(0, 3), Head(1, 0), Head(1, 2), Head(2, 0), Head(2, 3)]


def masked_in_layer(n_heads, masked, mask):
    """Eq. 5 for some heads of a layer at once: the mean of the others is of the layer as it was."""

    def change(z):
        before = list(z.chunk(n_heads, dim=-1))
        after = list(before)
        for h in masked:
            others = [a for k, a in enumerate(before) if k != h]
            after[h] = sum(others) / len(others) if mask == "mean" else before[h] * 0
        return torch.cat(after, dim=-1)

    return change


def plain_log_odds(adapter, triples, plain, heads, mask):
    """One full forward of the genuine model with a set of heads masked."""
    gold = torch.tensor([adapter.answer_id(t.answer) for t in triples])
    edits = {
        layer: masked_in_layer(adapter.n_heads, [h.head for h in heads if h.layer == layer], mask)
        for layer in {h.layer for h in heads}
    }
    return log_odds(plain(adapter, triples, edits), gold).numpy()


@pytest.mark.parametrize("mask", ["mean", "zero"])
def test_pairs_are_one_plain_forward_each(adapter, triples, plain, tmp_path, mask):
    triples = triples[:2][::-1]
    effects = mask_pairs(adapter, triples, all_pairs(HEADS), tmp_path, mask=mask)
    assert effects.ids == [t.id for t in triples]
    assert effects.heads == HEADS and effects.pairs == list(combinations(HEADS, 2))
    clean = plain_log_odds(adapter, triples, plain, [], mask)
    assert np.abs(effects.clean - clean).max() < 1e-8
    for k, head in enumerate(effects.heads):
        twin = plain_log_odds(adapter, triples, plain, [head], mask)
        assert np.abs(effects.single[:, k] - twin).max() < 1e-8
    for k, pair in enumerate(effects.pairs):
        twin = plain_log_odds(adapter, triples, plain, pair, mask)
        assert np.abs(effects.joint[:, k] - twin).max() < 1e-8, pair
    assert np.abs(effects.interaction()).max() > 1e-6, "some heads must interact"


def test_single_heads_are_those_of_the_sweep(adapter, triples, tmp_path):
    effects = mask_pairs(adapter, triples[:6], all_pairs(HEADS), tmp_path)
    swept = sweep(adapter, triples[:6], tmp_path)
    assert np.abs(expit(effects.clean) - swept.p).max() < 1e-10
    for k, head in enumerate(HEADS):
        delta = expit(effects.single[:, k]) - swept.p
        assert np.abs(delta - swept.delta[:, head.layer, head.head]).max() < 1e-10


def test_pairs_hold_for_instructblip(blip, triples, group_of):
    recording = record(blip, group_of(blip, triples[:1]))
    pairs = all_pairs(HEADS)
    found = masked_log_odds(blip, recording, HEADS, pairs)
    edits = HeadEdits.mask([*[[h] for h in HEADS], *pairs], blip.n_layers, blip.n_heads)
    twin = torch.stack([log_odds(x, recording.group.gold) for x in replay(blip, recording, edits)])
    assert (found - twin).abs().max() < 1e-10
    assert (found - log_odds(recording.logits, recording.group.gold)).abs().max() > 1e-4


@pytest.mark.parametrize("replay_from", [1, 2, 3])
def test_a_decoder_that_replays_late_or_never_gives_the_same(
    adapter, one_image, group_of, replay_from
):
    pairs = all_pairs(HEADS)
    recording = record(adapter, group_of(adapter, one_image))
    late = replace(adapter, replay_from=replay_from)
    found = masked_log_odds(late, record(late, group_of(late, one_image)), HEADS, pairs)
    assert (found - masked_log_odds(adapter, recording, HEADS, pairs)).abs().max() < 1e-9


def test_a_small_budget_changes_nothing_but_the_batches(adapter, one_image, group_of, monkeypatch):
    recording = record(adapter, group_of(adapter, one_image))
    pairs = all_pairs(HEADS)
    whole = masked_log_odds(adapter, recording, HEADS, pairs)
    sizes, plain_replay = [], pairing.replay

    def count(adapter, recording, edits, **kwargs):
        sizes.append(len(edits))
        return plain_replay(adapter, recording, edits, **kwargs)

    monkeypatch.setattr(pairing, "replay", count)
    monkeypatch.setattr(pairing, "BUDGET_MIB", {"cpu": 16 * recording.logits.numel() / 2**20})
    assert (masked_log_odds(adapter, recording, HEADS, pairs) - whole).abs().max() < 1e-10
    assert max(sizes) == 2, "two sets of logits fit"
    with pytest.raises(ValueError, match="raise budget_mib"):
        masked_log_odds(adapter, recording, HEADS, pairs, budget_mib=1e-6)


def test_a_masked_run_leaves_the_recording_and_the_model_as_they_were(
    adapter, one_image, group_of, hooks_of
):
    recording = record(adapter, group_of(adapter, one_image))
    states, hooks = [x.clone() for x in recording.states], len(hooks_of(adapter))
    run = masked_run(adapter, recording, Head(1, 2))
    assert len(recording.states) == adapter.n_layers + 1
    assert all(torch.equal(a, b) for a, b in zip(recording.states, states, strict=True))
    assert len(hooks_of(adapter)) == hooks
    assert torch.equal(run.states[1], states[1]) and not torch.equal(run.states[2], states[2])


def test_behind_the_last_layer_nothing_can_be_replayed(adapter, one_image, group_of):
    recording = record(adapter, group_of(adapter, one_image))
    with pytest.raises(ValueError, match="layers 0 to 1, got L2.H0"):
        masked_run(adapter, recording, Head(2, 0))


def test_a_second_call_computes_nothing(adapter, triples, tmp_path, monkeypatch):
    pairs = all_pairs(HEADS[:3])
    first = mask_pairs(adapter, triples[:5], pairs, tmp_path)

    def fail(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(pairing, "record", fail)
    again = mask_pairs(adapter, triples[:5], [(b, a) for a, b in pairs], tmp_path)
    assert np.array_equal(first.joint, again.joint) and again.pairs == first.pairs
    fewer = mask_pairs(adapter, triples[1:3][::-1], pairs, tmp_path)
    assert np.array_equal(fewer.joint, first.joint[[2, 1]])
    for other in ({"mask": "zero"}, {"pairs": pairs[:2]}):
        with pytest.raises(AssertionError, match="computed again"):
            mask_pairs(adapter, triples[:5], **({"pairs": pairs, "store": tmp_path} | other))


def effects_of(clean, single, joint):
    a, b = Head(0, 0), Head(1, 0)
    values = (np.array([clean]), np.array([single]), np.array([[joint]]))
    return PairEffects(["q"], [a, b], [(a, b)], *values)


def test_the_interaction_is_what_goes_beyond_the_sum():
    effects = effects_of(clean=2.0, single=[1.0, 1.5], joint=-1.0)
    assert effects.joint_change("log-odds") == -3
    assert effects.single_changes("log-odds") == (-1, -0.5)
    assert effects.interaction("log-odds") == -1.5
    p = expit([2.0, 1.0, 1.5, -1.0])
    assert effects.interaction()[0, 0] == pytest.approx(p[3] - p[1] - p[2] + p[0])


def test_heads_that_add_up_in_log_odds_interact_in_a_saturated_probability():
    effects = effects_of(clean=5.0, single=[3.0, 3.0], joint=1.0)
    assert effects.interaction("log-odds") == 0
    assert effects.interaction() < -0.1
    with pytest.raises(ValueError, match="unit in .*probability.*got 'percent'"):
        effects.interaction("percent")


def test_all_pairs_are_ordered_by_layer_and_come_once():
    heads = [Head(2, 1), Head(0, 5), Head(2, 0), Head(0, 5)]
    assert all_pairs(heads) == [
        (Head(0, 5), Head(2, 0)),
        (Head(0, 5), Head(2, 1)),
        (Head(2, 0), Head(2, 1)),
    ]
    assert len(all_pairs(Head(k // 4, k % 4) for k in range(40))) == 780


def test_matches_lie_in_the_same_layers_and_are_no_heads_of_the_list():
    to = HEADS[1:5]
    found = matched_heads(HEADS, to, 3, 5, seed=0)
    assert list(found) == to
    assert [h.layer for h in found.values()] == [h.layer for h in to]
    assert len(set(found.values())) == len(to) and not set(found.values()) & set(HEADS)
    assert found == matched_heads(HEADS, to, 3, 5, seed=0) != matched_heads(HEADS, to, 3, 5, seed=1)


def test_a_layer_without_other_heads_takes_matches_from_the_nearest():
    heads = [Head(0, 0), Head(0, 1), Head(0, 2), Head(2, 0)]
    found = matched_heads(heads, heads, 4, 4, seed=0)
    assert found[Head(2, 0)].layer == 2
    layers = [found[h].layer for h in heads[:3]]
    assert sorted(layers) == [0, 1, 1] and len(set(found.values())) == 4


def test_more_heads_than_others_have_no_match():
    heads = [Head(0, h) for h in range(4)] + [Head(1, 0)]
    with pytest.raises(ValueError, match="at most 3 heads to match.*the 5 given, got 4"):
        matched_heads(heads, heads[:4], 2, 4, seed=0)


@pytest.mark.parametrize(
    "pairs, said",
    [
        ([], "got 0 of which 0 are different"),
        ([(Head(0, 0), Head(0, 0))], "1 pair a head with itself"),
        ([(Head(0, 0), Head(1, 0)), (Head(1, 0), Head(0, 0))], "got 2 of which 1 are different"),
        ([(Head(0, 0), Head(3, 0))], "no head L3.H0"),
    ],
)
def test_pairs_that_cannot_be_masked_are_refused(adapter, triples, tmp_path, pairs, said):
    with pytest.raises(ValueError, match=said):
        mask_pairs(adapter, triples[:1], pairs, tmp_path)


def test_an_unknown_mask_names_the_known_ones(adapter, triples, tmp_path):
    with pytest.raises(ValueError, match="mean.*zero.*got 'dataset'"):
        mask_pairs(adapter, triples[:1], all_pairs(HEADS), tmp_path, mask="dataset")
