import pytest
import torch

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.trace import record, replay
from vseam_lib.vlm.adapter import Head


def mean(own, others):
    return sum(others) / len(others)


def zero(own, others):
    return torch.zeros_like(own)


def times(factor):
    return lambda own, others: own * factor


def hooks_of(adapter):
    """Those that the engine sets; transformers keeps forward hooks of its own."""
    return [h for m in adapter.model.modules() for h in m._forward_pre_hooks]


@pytest.fixture(scope="module")
def clean(adapter, one_image, group_of):
    return record(adapter, group_of(adapter, one_image))


def test_a_clean_recording_is_the_genuine_forward(adapter, one_image, clean, plain):
    truth = plain(adapter, one_image)
    assert (clean.logits - truth).abs().max() < 1e-10
    assert truth.std(0).max() > 1e-3, "the questions must not all look alike"


def test_a_clean_recording_is_the_genuine_forward_of_a_left_padded_batch(
    adapter, one_image, clean, plain
):
    assert (clean.logits - plain(adapter, one_image, pad=True)).abs().max() < 1e-5


def test_a_single_question_gives_what_it_gives_among_others(adapter, one_image, clean, group_of):
    for k, triple in enumerate(one_image):
        alone = record(adapter, group_of(adapter, [triple])).logits[0]
        assert (alone - clean.logits[k]).abs().max() < 1e-10


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


@pytest.mark.parametrize("rows", [1, 250, 10**6])
def test_chunks_do_not_change_the_result(adapter, clean, rows):
    edits = HeadEdits.mask([[h] for h in adapter.heads], adapter.n_layers, adapter.n_heads)
    assert (
        replay(adapter, clean, edits, rows=rows) - replay(adapter, clean, edits)
    ).abs().max() < (1e-11)


def test_hooks_are_gone_afterwards(adapter, one_image, group_of):
    clean = record(adapter, group_of(adapter, one_image))
    replay(adapter, clean, HeadEdits.mask([[Head(0, 0)]], adapter.n_layers, adapter.n_heads))
    assert hooks_of(adapter) == []


def test_hooks_are_gone_after_an_error(adapter, one_image, clean, group_of, monkeypatch):
    group = group_of(adapter, one_image)

    def fail(*args, **kwargs):
        raise MemoryError("out of memory")

    monkeypatch.setattr(adapter.layers[1].mlp, "forward", fail)
    with pytest.raises(MemoryError):
        record(adapter, group)
    assert hooks_of(adapter) == []
    with pytest.raises(MemoryError):
        replay(adapter, clean, HeadEdits.mask([[Head(0, 0)]], adapter.n_layers, adapter.n_heads))
    assert hooks_of(adapter) == []


def test_an_edit_that_never_takes_place_is_an_error(adapter, clean, monkeypatch):
    attention = adapter.layers[1].self_attn
    monkeypatch.setattr(attention, "forward", lambda hidden_states, **kwargs: (hidden_states, None))
    edits = HeadEdits.mask([[Head(0, 0), Head(1, 0)]], adapter.n_layers, adapter.n_heads)
    with pytest.raises(RuntimeError, match=r"layers \[1\] never took place"):
        replay(adapter, clean, edits)
    assert hooks_of(adapter) == []


def test_a_decoder_layer_that_is_not_called_is_an_error(adapter, one_image, group_of, monkeypatch):
    group = group_of(adapter, one_image)
    monkeypatch.setattr(adapter.decoder.config, "num_hidden_layers", 2)
    with pytest.raises(RuntimeError, match="each of 3 decoder layers, saw 2"):
        record(adapter, group)
    assert hooks_of(adapter) == []
