from dataclasses import replace

import pytest
import torch

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replay import replay
from vseam_lib.causal.trace import record
from vseam_lib.vlm.adapter import Head


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


def test_what_a_recording_keeps_is_what_the_modules_gave(adapter, one_image, group_of, hooks_of):
    run = record(adapter, group_of(adapter, one_image), keep=["attn", "mlp", "heads", "cache"])
    for k, layer in enumerate(adapter.layers):
        attn, mlp, z = (run.kept(name)[k] for name in ("attn", "mlp", "heads"))
        assert (run.states[k] + attn + mlp - run.states[k + 1]).abs().max() < 1e-12
        assert (layer.self_attn.o_proj(z) - attn).abs().max() < 1e-12
    assert hooks_of(adapter) == []


def test_what_was_not_kept_is_named(adapter, clean):
    with pytest.raises(KeyError, match="did not keep 'mlp'"):
        clean.kept("mlp")
    with pytest.raises(ValueError, match=r"got \['logits'\]"):
        record(adapter, clean.group, keep=["logits"])


def test_a_decoder_that_cannot_be_replayed_is_named_with_the_field_that_turns_replay_off(
    adapter, one_image, group_of
):
    """The decoder here adds 1 before layer 1 whenever it runs as a whole."""
    inside = []
    handles = [
        adapter.decoder.register_forward_pre_hook(lambda m, a: inside.append(True)),
        adapter.decoder.register_forward_hook(lambda m, a, o: inside.clear()),
        adapter.layers[1].register_forward_pre_hook(
            lambda m, args: (args[0] + 1, *args[1:]) if inside else None
        ),
    ]
    try:
        with pytest.raises(RuntimeError, match="between layers 0 and 1.*replay_from to 1 or more"):
            record(adapter, group_of(adapter, one_image))
        inside.clear()
        careful = replace(adapter, replay_from=1)
        run = record(careful, group_of(adapter, one_image))
        edits = HeadEdits.mask([[Head(0, 1)], [Head(2, 1)]], 3, 4)
        fast = torch.cat([replay(careful, run, edits[i : i + 1]) for i in range(2)])
        truth = replay(replace(adapter, replay_from=3), run, edits)
        assert (fast - truth).abs().max() < 1e-12
    finally:
        for handle in handles:
            handle.remove()


def test_a_decoder_layer_that_is_not_called_is_an_error(
    adapter, one_image, group_of, hooks_of, monkeypatch
):
    group = group_of(adapter, one_image)
    monkeypatch.setattr(adapter.decoder.config, "num_hidden_layers", 2)
    with pytest.raises(RuntimeError, match="each of 3 decoder layers.*saw {'layers': 2}"):
        record(adapter, group)
    assert hooks_of(adapter) == []


def test_hooks_are_gone_after_an_error(adapter, one_image, group_of, hooks_of, monkeypatch):
    group = group_of(adapter, one_image)

    def fail(*args, **kwargs):
        raise MemoryError("out of memory")

    monkeypatch.setattr(adapter.layers[1].mlp, "forward", fail)
    with pytest.raises(MemoryError):
        record(adapter, group)
    assert hooks_of(adapter) == []
