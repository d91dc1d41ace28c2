import copy
from dataclasses import replace

import pytest
import torch

from vseam_lib.causal.budget import variant_bytes
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replay import replay, run_last_layer, run_layer
from vseam_lib.causal.trace import record
from vseam_lib.vlm.adapter import Head


def mean(own, others):
    return sum(others) / len(others)


def zero(own, others):
    return torch.zeros_like(own)


def times(factor):
    return lambda own, others: own * factor


@pytest.fixture(scope="module")
def clean(adapter, one_image, group_of):
    return record(adapter, group_of(adapter, one_image))


def test_editing_nothing_changes_nothing_exactly(adapter, clean):
    L, H = adapter.n_layers, adapter.n_heads
    nothing = HeadEdits.cat(
        [HeadEdits.mask([[]], L, H), HeadEdits.rescale([{Head(1, 1): 1.0}], L, H)]
    )
    assert (replay(adapter, clean, nothing) - clean.logits).abs().max() == 0


def test_a_variant_without_edits_is_unchanged_beside_one_with(adapter, clean):
    edits = HeadEdits.mask([[], [Head(0, 0)]], adapter.n_layers, adapter.n_heads)
    out = replay(adapter, clean, edits)
    assert (out[0] - clean.logits).abs().max() < 1e-12
    assert (out[1] - clean.logits).abs().max() > 1e-6


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("by, new", [("mean", mean), ("zero", zero)])
def test_masking_agrees_with_the_plain_forward(
    adapter, one_image, clean, plain, change_head, layer, by, new
):
    L, H = adapter.n_layers, adapter.n_heads
    edits = HeadEdits.mask([[Head(layer, h)] for h in range(H)], L, H, by=by)
    out = replay(adapter, clean, edits)
    for h in range(H):
        truth = plain(adapter, one_image, {layer: change_head(H, h, new)})
        assert (out[h] - truth).abs().max() < 1e-10
        assert (truth - clean.logits).abs().max() > 1e-6, "this edit must show"


def test_rescaling_heads_of_several_layers_agrees_with_the_plain_forward(
    adapter, one_image, clean, plain, change_head
):
    L, H = adapter.n_layers, adapter.n_heads
    factors = {Head(0, 1): 1.3, Head(0, 3): 0.1, Head(2, 2): 1.9}
    first, second = change_head(H, 1, times(1.3)), change_head(H, 3, times(0.1))
    truth = plain(
        adapter,
        one_image,
        {0: lambda z: second(first(z)), 2: change_head(H, 2, times(1.9))},
    )
    out = replay(adapter, clean, HeadEdits.rescale([factors], L, H))[0]
    assert (out - truth).abs().max() < 1e-10


def test_masking_several_heads_of_a_layer_agrees_with_the_plain_forward(
    adapter, one_image, clean, plain
):
    L, H = adapter.n_layers, adapter.n_heads

    def both(z):
        a = z.chunk(H, dim=-1)
        return torch.cat([a[0], mean(None, [a[0], a[2], a[3]]), a[2], mean(None, a[:3])], dim=-1)

    out = replay(adapter, clean, HeadEdits.mask([[Head(1, 1), Head(1, 3)]], L, H))[0]
    assert (out - plain(adapter, one_image, {1: both})).abs().max() < 1e-10


def test_variants_of_different_kinds_share_a_batch(adapter, one_image, clean, plain, change_head):
    L, H = adapter.n_layers, adapter.n_heads
    edits = HeadEdits.cat(
        [
            HeadEdits.mask([[Head(2, 0)]], L, H),
            HeadEdits.rescale([{Head(0, 2): 1.7}], L, H),
            HeadEdits.mask([[Head(1, 3)]], L, H, by="zero"),
        ]
    )
    twins = [
        {2: change_head(H, 0, mean)},
        {0: change_head(H, 2, times(1.7))},
        {1: change_head(H, 3, zero)},
    ]
    out = replay(adapter, clean, edits)
    for variant, twin in zip(out, twins, strict=True):
        assert (variant - plain(adapter, one_image, twin)).abs().max() < 1e-10


@pytest.mark.parametrize("name", ["adapter", "blip"])
@pytest.mark.parametrize("variants", [1.5, 4, 10**6])
def test_variants_of_any_order_give_what_each_gives_alone(
    request, triples, one_image, group_of, name, variants
):
    """They join a batch in the first layer that they change, and leave it in the order given."""
    adapter = request.getfixturevalue(name)
    group = group_of(adapter, one_image if adapter.shares_image else triples[:1])
    run, S = record(adapter, group), len(group.ids)
    L, H = adapter.n_layers, adapter.n_heads
    edits = HeadEdits.cat(
        [
            HeadEdits.mask([[Head(2, 0)], [], [Head(0, 1), Head(2, 3)], [Head(1, 0)]], L, H),
            HeadEdits.rescale([{Head(1, 2): 1.7}, {Head(0, 0): 1.0}, {Head(0, 2): 0.3}], L, H),
            HeadEdits.mask([[Head(2, 1), Head(1, 1)], [Head(0, 3)]], L, H, by="swap"),
        ]
    )
    swap = [torch.randn(S, H * adapter.d_head, generator=torch.manual_seed(k)) for k in range(L)]
    budget = variants * variant_bytes(adapter, S, S) / 2**20
    out = replay(adapter, run, edits, swap=swap, budget_mib=budget)
    for v in range(len(edits)):
        alone = replay(adapter, run, edits[v : v + 1], swap=swap)[0]
        assert (out[v] - alone).abs().max() < 1e-12
    assert torch.equal(out[1], run.logits) and torch.equal(out[5], run.logits)


@pytest.mark.parametrize("variants", [1.5, 5, 10**6])
def test_the_budget_does_not_change_the_result(adapter, clean, variants):
    S = len(clean.group.ids)
    budget = variants * variant_bytes(adapter, S, S) / 2**20
    edits = HeadEdits.mask([[h] for h in adapter.heads], adapter.n_layers, adapter.n_heads)
    out = replay(adapter, clean, edits, budget_mib=budget)
    assert (out - replay(adapter, clean, edits)).abs().max() < 1e-12


def test_a_budget_too_small_for_one_variant_is_an_error(adapter, clean):
    edits = HeadEdits.mask([[Head(0, 0)]], adapter.n_layers, adapter.n_heads)
    with pytest.raises(ValueError, match=r"at least \d+\.\d MiB for one variant.*raise budget_mib"):
        replay(adapter, clean, edits, budget_mib=0.01)


@pytest.mark.parametrize("name", ["adapter", "adapter32", "blip"])
@pytest.mark.parametrize("without", [{"replay_from": 3}, {"replay_from": 2}, {"caches": False}])
def test_every_shortcut_agrees_with_doing_without_it(
    request, triples, one_image, group_of, name, without
):
    adapter = request.getfixturevalue(name)
    group = group_of(adapter, one_image if adapter.shares_image else triples[:1])
    slow = replace(adapter, **without)
    L, H = adapter.n_layers, adapter.n_heads
    edits = HeadEdits.cat(
        [
            HeadEdits.mask([[h] for h in adapter.heads], L, H),
            HeadEdits.mask([[Head(0, 1), Head(2, 3)], [Head(2, 0)]], L, H, by="zero"),
            HeadEdits.mask([[Head(0, 2)], [Head(2, 1)]], L, H, by="swap"),
        ]
    )
    other = torch.randn(len(group.ids), H * adapter.d_head, generator=torch.manual_seed(0))
    fast, truth = (replay(a, record(a, group), edits, swap=[other] * L) for a in (adapter, slow))
    assert (fast - truth).abs().max() < (1e-5 if name == "adapter32" else 1e-12)
    assert (truth.std(0)).max() > 1e-6


@pytest.mark.parametrize("start", [3, 60])
def test_late_positions_run_on_recorded_keys_and_values_as_in_the_whole_sequence(
    adapter, one_image, group_of, start
):
    run = record(adapter, group_of(adapter, one_image), keep=["cache"])
    for layer in range(adapter.n_layers):
        part = run_layer(adapter, run, layer, run.states[layer][:, start:], start, run.cache[layer])
        assert (part - run.states[layer + 1][:, start:]).abs().max() < 1e-12


@pytest.mark.parametrize("start", [0, 60])
def test_the_last_layer_at_the_last_tokens_is_the_last_layer(adapter, one_image, group_of, start):
    run = record(adapter, group_of(adapter, one_image), keep=["cache"])
    k = adapter.n_layers - 1
    out = run_last_layer(adapter, run, run.states[k][:, start:], start, run.cache[k])
    assert (out - run.states[-1][:, run.group.last]).abs().max() < 1e-12


def test_attention_without_a_cache_is_named_with_the_field_that_turns_reuse_off(
    adapter, clean, monkeypatch
):
    attention = adapter.layers[-1].self_attn
    forward = attention.forward
    monkeypatch.setattr(
        attention, "forward", lambda *a, past_key_values=None, **k: forward(*a, **k)
    )
    edits = HeadEdits.mask([[Head(0, 0)]], adapter.n_layers, adapter.n_heads)
    with pytest.raises(RuntimeError, match="the adapter's field caches to False"):
        replay(adapter, clean, edits)
    slow = replace(adapter, caches=False)
    assert torch.isfinite(replay(slow, clean, edits)).all()


def test_bfloat16_is_replayed_in_bfloat16(one_image, group_of, adapter32):
    half = replace(adapter32, model=copy.deepcopy(adapter32.model).bfloat16())
    run = record(half, group_of(half, one_image))
    edits = HeadEdits.mask([[h] for h in half.heads], half.n_layers, half.n_heads)
    out = replay(half, run, edits)
    truth = replay(adapter32, record(adapter32, group_of(adapter32, one_image)), edits)
    assert run.states[0].dtype == torch.bfloat16 and out.dtype == torch.float32
    p, q = out.softmax(-1), truth.softmax(-1)
    assert (p - q).abs().max() < 0.1


def test_hooks_are_gone_afterwards(adapter, clean, hooks_of):
    replay(adapter, clean, HeadEdits.mask([[Head(0, 0)]], adapter.n_layers, adapter.n_heads))
    assert hooks_of(adapter) == []


def test_hooks_are_gone_after_an_error(adapter, clean, hooks_of, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError("out of memory")

    monkeypatch.setattr(adapter.layers[1].mlp, "forward", fail)
    with pytest.raises(MemoryError):
        replay(adapter, clean, HeadEdits.mask([[Head(0, 0)]], adapter.n_layers, adapter.n_heads))
    assert hooks_of(adapter) == []


def test_an_edit_that_never_takes_place_is_an_error(adapter, clean, hooks_of, monkeypatch):
    attention = adapter.layers[1].self_attn
    monkeypatch.setattr(attention, "forward", lambda hidden_states, **kwargs: (hidden_states, None))
    edits = HeadEdits.mask([[Head(0, 0), Head(1, 0)]], adapter.n_layers, adapter.n_heads)
    with pytest.raises(RuntimeError, match="layer 1 never took place"):
        replay(adapter, clean, edits)
    assert hooks_of(adapter) == []
