import copy
from dataclasses import replace

import pytest
import torch
from PIL import Image

from vseam_lib.causal import patching
from vseam_lib.causal.budget import variant_bytes
from vseam_lib.causal.patching import (
    Pair,
    check_pair,
    effects,
    masks,
    patched_logits,
    record_pair,
)
from vseam_lib.causal.trace import record
from vseam_lib.vlm.spans import spans

ADAPTERS = ["adapter", "blip"]


@pytest.fixture(scope="module", params=ADAPTERS)
def vlm(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def case(triples, edited):
    triple = next(t for t in triples if t.category == "color")
    return triple, edited[triple.id]


@pytest.fixture(scope="module")
def pair(vlm, case):
    return pair_of(vlm, case)


def pair_of(vlm, case):
    triple, other = case
    return record_pair(vlm, triple.image, other, triple.question, triple.answer)


def some_spans(pair):
    """Spans that take every path of the engine."""
    start, end = pair.clean.group.image
    S = len(pair.clean.group.ids)
    found = {
        "image": range(start, end),
        "half the image": range(start, (start + end) // 2),
        "question": range(end, S),
        "one word": [end + 3],
        "two words": [end + 2, S - 2],
        "last": [S - 1],
        "everything": range(S),
        "image and a word": [*range(start, end), end + 2],
    }
    return found | ({"before the image": range(start)} if start else {})


@torch.no_grad()
def plainly(vlm, case, site, layer, where):
    """One full forward of the genuine model on the edited image, with the clean run's output of
    one module put in at some positions.
    """
    triple, other = case
    block = vlm.layers[layer]
    module = {"block": block, "attn": block.self_attn, "mlp": block.mlp}[site]
    seen = []

    def run(path):
        batch = vlm.processor(
            images=[Image.open(path).convert("RGB")],
            text=[vlm.text(triple.question)],
            return_tensors="pt",
        )
        pixels = batch.pop("pixel_values").to(vlm.model.dtype)
        return vlm.model(**batch, pixel_values=pixels, use_cache=False).logits[0, -1]

    def keep(m, args, out):
        seen.append(out if isinstance(out, torch.Tensor) else out[0])

    def put(m, args, out):
        old = out if isinstance(out, torch.Tensor) else out[0]
        new = old.clone()
        new[0, where] = seen[0][0, where]
        return new if isinstance(out, torch.Tensor) else (new, *out[1:])

    handle = module.register_forward_hook(keep)
    run(triple.image)
    handle.remove()
    handle = module.register_forward_hook(put)
    try:
        return run(other)
    finally:
        handle.remove()


@pytest.mark.parametrize("site", patching.SITES)
def test_patching_is_equation_1_by_a_plain_forward_per_patch(vlm, case, pair, site):
    found = some_spans(pair)
    where = masks(found, len(pair.clean.group.ids))
    out = patched_logits(vlm, pair, site, where)
    for layer in range(vlm.n_layers):
        for k in range(len(found)):
            truth = plainly(vlm, case, site, layer, where[k])
            assert (out[layer, k] - truth).abs().max() < 1e-10, (layer, list(found)[k])
    assert (out - pair.corrupted.logits).abs().max() > 1e-4


@pytest.mark.parametrize("site", patching.SITES)
@pytest.mark.parametrize("without", [{"replay_from": 3}, {"caches": False}])
def test_every_shortcut_agrees_with_doing_without_it(vlm, case, pair, site, without):
    where = masks(some_spans(pair), len(pair.clean.group.ids))
    slow = replace(vlm, **without)
    truth = patched_logits(slow, pair_of(slow, case), site, where)
    assert (patched_logits(vlm, pair, site, where) - truth).abs().max() < 1e-12


@pytest.mark.parametrize("site", patching.SITES)
def test_shortcuts_agree_in_float32(adapter32, case, site):
    pair = pair_of(adapter32, case)
    where = masks(some_spans(pair), len(pair.clean.group.ids))
    slow = replace(adapter32, replay_from=3)
    truth = patched_logits(slow, pair, site, where)
    assert (patched_logits(adapter32, pair, site, where) - truth).abs().max() < 1e-5


@pytest.mark.parametrize("site", patching.SITES)
def test_a_clean_run_patched_into_itself_changes_nothing_exactly(vlm, pair, site):
    same = Pair(pair.clean, pair.clean)
    where = masks(some_spans(pair), len(pair.clean.group.ids))
    found = effects(vlm, same, patched_logits(vlm, same, site, where))
    assert all(value.abs().max() == 0 for value in found.values())


def test_a_clean_run_patched_into_itself_changes_nothing_without_shortcuts(vlm, pair):
    same, slow = Pair(pair.clean, pair.clean), replace(vlm, replay_from=vlm.n_layers)
    where = masks(spans(vlm, pair.clean.group), len(pair.clean.group.ids))
    found = effects(slow, same, patched_logits(slow, same, "block", where))
    assert all(value.abs().max() < 1e-12 for value in found.values())


@pytest.mark.parametrize("site", patching.SITES)
def test_positions_before_the_image_have_no_effect_exactly(adapter, case, site):
    pair = pair_of(adapter, case)
    start, S = pair.clean.group.image[0], len(pair.clean.group.ids)
    assert start > 0
    where = masks({str(i): [i] for i in range(start)}, S)
    assert (
        effects(adapter, pair, patched_logits(adapter, pair, site, where))["logit"].abs().max() == 0
    )
    slow = replace(adapter, replay_from=3)
    assert effects(slow, pair, patched_logits(slow, pair, site, where))["logit"].abs().max() < 1e-12
    for states in zip(pair.clean.states, pair.corrupted.states, strict=True):
        assert torch.equal(states[0][:, :start], states[1][:, :start])


def test_patching_the_whole_question_after_the_last_block_gives_the_clean_logit(vlm, pair):
    where = masks(spans(vlm, pair.clean.group), len(pair.clean.group.ids))
    out = patched_logits(vlm, pair, "block", where)
    assert (out[-1, 1] - pair.clean.logits[0]).abs().max() < 1e-12
    assert (out[-1, 0] - pair.corrupted.logits[0]).abs().max() < 1e-12


def test_patching_everything_after_any_block_gives_the_clean_logit(vlm, pair):
    where = masks({"all": range(len(pair.clean.group.ids))}, len(pair.clean.group.ids))
    out = patched_logits(vlm, pair, "block", where)
    assert (out[:, 0] - pair.clean.logits[0]).abs().max() < 1e-12


def test_the_ends_of_the_image_and_question_curves_agree_up_to_what_layer_0_reads(vlm, pair):
    """What the question lacks after block 0 is what its own tokens read from the image there."""
    S, end = len(pair.clean.group.ids), pair.clean.group.image[1]
    where = masks({"image": range(end), "both": range(S)}, S)
    out = patched_logits(vlm, pair, "block", where, [0])
    assert (out[0, 1] - pair.clean.logits[0]).abs().max() < 1e-12
    read = (pair.clean.states[1] - pair.corrupted.states[1])[:, end:].abs().max()
    assert ((out[0, 0] - pair.clean.logits[0]).abs().max() > 1e-12) == (read > 1e-12)


def test_layers_can_be_chosen_in_any_order(vlm, pair):
    where = masks({"last": [-1 % len(pair.clean.group.ids)]}, len(pair.clean.group.ids))
    every = patched_logits(vlm, pair, "mlp", where)
    some = patched_logits(vlm, pair, "mlp", where, [2, 0])
    assert (some - every[[2, 0]]).abs().max() < 1e-12


def test_the_budget_does_not_change_the_result(vlm, pair):
    S = len(pair.clean.group.ids)
    where = masks({str(i): [i] for i in range(S)}, S)
    budget = 2.5 * variant_bytes(vlm, S, S) / 2**20
    for site in patching.SITES:
        out = patched_logits(vlm, pair, site, where, budget_mib=budget)
        assert (out - patched_logits(vlm, pair, site, where)).abs().max() < 1e-12
    with pytest.raises(ValueError, match="raise budget_mib"):
        patched_logits(vlm, pair, "block", where, budget_mib=1e-4)


def test_metrics_are_what_their_names_say(vlm, pair, case):
    yes, no = vlm.answer_id("Yes"), vlm.answer_id("No")
    gold, other = (yes, no) if case[0].answer == "Yes" else (no, yes)
    found = effects(vlm, pair, pair.clean.logits)
    clean, corrupted = pair.clean.logits[0], pair.corrupted.logits[0]
    assert found["logit"].item() == (clean - corrupted)[gold].item()
    assert found["probability"].item() == pytest.approx(
        (clean.softmax(-1) - corrupted.softmax(-1))[gold].item(), abs=1e-12
    )
    assert found["difference"].item() == pytest.approx(
        ((clean - corrupted)[gold] - (clean - corrupted)[other]).item(), abs=1e-12
    )


def test_hooks_are_gone_afterwards_and_after_an_error(vlm, pair, monkeypatch):
    def hooks():
        return [h for layer in vlm.layers for m in layer.modules() for h in m._forward_hooks]

    before = len(hooks())
    where = masks({"last": [len(pair.clean.group.ids) - 1]}, len(pair.clean.group.ids))
    patched_logits(vlm, pair, "attn", where)
    assert len(hooks()) == before

    def fail(*args, **kwargs):
        raise MemoryError("out of memory")

    monkeypatch.setattr(vlm.layers[1].mlp, "forward", fail)
    with pytest.raises(MemoryError):
        patched_logits(vlm, pair, "attn", where)
    assert len(hooks()) == before


def test_a_module_that_never_runs_is_an_error(vlm, pair, monkeypatch):
    idle = torch.nn.Identity()
    monkeypatch.setattr(type(vlm), "module", lambda self, layer, site: idle)
    where = masks({"last": [len(pair.clean.group.ids) - 1]}, len(pair.clean.group.ids))
    with pytest.raises(RuntimeError, match="Identity was not called"):
        patched_logits(vlm, pair, "attn", where)


def test_images_of_different_size_are_an_error(adapter, case, tmp_path):
    triple, other = case
    Image.open(other).resize((80, 96)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"clean image's size \(96, 96\), got \(80, 96\)"):
        record_pair(adapter, triple.image, tmp_path / "small.png", triple.question, "Yes")


def test_runs_of_different_length_are_an_error(adapter, case):
    triple, other = case
    one = record(adapter, adapter.encode(triple.image, [triple.question], ["Yes"]))
    two = record(adapter, adapter.encode(other, ["Is there a dog in this picture?"], ["Yes"]))
    with pytest.raises(ValueError, match="same tokens, got"):
        check_pair(Pair(one, two))
    both = record(adapter, adapter.encode(other, [triple.question] * 2, ["Yes"] * 2))
    with pytest.raises(ValueError, match="one question per pair, got 2"):
        check_pair(Pair(both, both))


def test_masks_sites_and_layers_that_do_not_fit_are_errors(adapter, case):
    pair = pair_of(adapter, case)
    S = len(pair.clean.group.ids)
    where = torch.zeros(1, S, dtype=torch.bool)
    with pytest.raises(ValueError, match=rf"boolean mask \(variants, {S} positions\)"):
        patched_logits(adapter, pair, "block", where[:, 1:])
    with pytest.raises(ValueError, match="boolean mask"):
        patched_logits(adapter, pair, "block", where.float())
    with pytest.raises(ValueError, match="layers 0-2, got 'q' and"):
        patched_logits(adapter, pair, "q", where)
    with pytest.raises(ValueError, match=r"got 'block' and \[3\]"):
        patched_logits(adapter, pair, "block", where, [3])
    with pytest.raises(
        ValueError, match=rf"span 'word': expected positions in 0-{S - 1}, got \[\]"
    ):
        masks({"word": []}, S)
    with pytest.raises(ValueError, match="expected positions"):
        masks({"word": [S]}, S)


def test_an_answer_other_than_yes_or_no_has_no_difference(adapter, case):
    pair = pair_of(adapter, case)
    word = pair.clean.group._replace(gold=torch.tensor([adapter.answer_id("red")]))
    run = copy.copy(pair.clean)
    object.__setattr__(run, "group", word)
    with pytest.raises(ValueError, match="Yes/No question"):
        effects(adapter, Pair(run, run), run.logits)
