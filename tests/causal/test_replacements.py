from itertools import product

import numpy as np
import pytest
import torch

from vseam_lib.causal import heads
from vseam_lib.causal.groups import by_image, resume
from vseam_lib.causal.heads import sweep
from vseam_lib.causal.replacements import align_outputs, donor_of, mean_outputs
from vseam_lib.causal.trace import Recording
from vseam_lib.vlm.group import Group


@pytest.fixture(params=["adapter", "blip"])
def vlm(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def some(triples):
    """Two or three questions about each of four images, of different length."""
    images = list(dict.fromkeys(t.image_id for t in triples))[:4]
    found = []
    for k, image in enumerate(images):
        found += [t for t in triples if t.image_id == image][: 2 + k % 2]
    counts = [sum(t.image_id == i for t in found) for i in images]
    assert len(set(counts)) > 1 and len({len(t.question.split()) for t in found}) > 1
    return found


@pytest.fixture
def outputs_of(vlm, plain):
    """The genuine model's head outputs ``(T, D)`` per layer on one triple."""

    def run(triple):
        seen = {}

        def keep(layer):
            return lambda z: seen.setdefault(layer, z)

        plain(vlm, [triple], {k: keep(k) for k in range(vlm.n_layers)})
        return [seen[k][0] for k in range(vlm.n_layers)]

    return run


def shared_length(vlm, triple, group_of):
    return group_of(vlm, [triple]).image[1]


def test_the_mean_is_over_every_position_of_every_group(vlm, some, outputs_of, group_of):
    """A position that questions share counts once."""
    groups = by_image(vlm, some)
    found = mean_outputs(vlm, groups)
    kept = [[] for _ in range(vlm.n_layers)]
    for group in groups:
        for n, triple in enumerate(group):
            start = shared_length(vlm, triple, group_of) if n else 0
            for layer, z in enumerate(outputs_of(triple)):
                kept[layer].append(z[start:])
    for layer, z in enumerate(found):
        assert z.shape == (1, vlm.n_heads * vlm.d_head)
        assert (z[0] - torch.cat(kept[layer]).mean(0)).abs().max() < 1e-12


@pytest.mark.parametrize("n", [2, 3, 17])
@pytest.mark.parametrize("seed", [0, 1])
def test_every_image_lends_once_and_never_to_itself(n, seed):
    images = [f"image {k:02}" for k in range(n)]
    donor = donor_of(images, seed)
    assert sorted(donor) == list(range(n))
    assert (donor != np.arange(n)).all()
    assert np.array_equal(donor, donor_of(images, seed))


def test_groups_of_one_image_borrow_from_one_other_image_in_turns():
    images = list("aaabbcddd")
    for seed in range(5):
        donor = donor_of(images, seed)
        for image in "abcd":
            own = [k for k, name in enumerate(images) if name == image]
            (lender,) = {images[donor[k]] for k in own}
            assert lender != image
            theirs = [k for k, name in enumerate(images) if name == lender]
            assert donor[own].tolist() == [theirs[n % len(theirs)] for n in range(len(own))]


def test_another_seed_lends_otherwise():
    images = [str(k) for k in range(17)]
    assert not np.array_equal(donor_of(images, 0), donor_of(images, 1))


@pytest.mark.parametrize("images", [[], ["a"], ["a", "a"]])
def test_a_single_image_has_no_donor(images):
    with pytest.raises(ValueError, match="at least two images to resample from, got [01]"):
        donor_of(images, 0)


def made_of(*lengths):
    """A group with a shared part and questions of these lengths, and its run with outputs that
    name segment and position in it.
    """
    segments = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    at = torch.cat([torch.arange(n) for n in lengths])
    S = len(at)
    group = Group(torch.zeros(1, S, 4), segments, None, None, (0, lengths[0]), at)
    z = torch.stack([segments, at], -1).double()[None]  # (1, S, 2)
    return Recording(group, [], [], None, {"heads": [z, z + 100]})


@pytest.mark.parametrize(
    "mine, theirs, expected",
    [
        ((2, 3), (2, 3), [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]),
        ((2, 2), (2, 4), [(0, 0), (0, 1), (1, 2), (1, 3)]),  # from the question's end
        ((2, 4), (2, 2), [(0, 0), (0, 1), (1, 0), (1, 0), (1, 0), (1, 1)]),  # first one repeats
        ((1, 2, 1), (1, 2, 3), [(0, 0), (1, 0), (1, 1), (2, 2)]),
        ((1, 1, 1, 1), (1, 2, 3), [(0, 0), (1, 1), (2, 2), (1, 1)]),  # questions take turns
        ((1, 1), (1, 2, 3), [(0, 0), (1, 1)]),
    ],
)
def test_image_positions_keep_their_place_and_questions_are_aligned_at_the_end(
    mine, theirs, expected
):
    found = align_outputs(made_of(*theirs), made_of(*mine).group)
    assert [tuple(map(int, z)) for z in found[0]] == expected
    assert torch.equal(found[1], found[0] + 100)


def test_a_donor_with_another_prompt_or_image_size_is_refused():
    with pytest.raises(ValueError, match="a donor with 2 shared positions, got 3; resample among"):
        align_outputs(made_of(3, 4), made_of(2, 4).group)


def aligned_by_hand(z, other, shared):
    """Other outputs ``(T', D)`` at the positions of ``z`` ``(T, D)``."""
    rows = []
    for t in range(len(z)):
        from_end = len(z) - 1 - t
        rows.append(other[t] if t < shared else other[max(shared, len(other) - 1 - from_end)])
    return torch.stack(rows)


def plain_sweep(vlm, triples, given, plain, change_head):
    """Eq. 6, one full forward of the genuine model per head, whose output becomes the given one.

    Args:
        given: triple id to head outputs ``(T or 1, D)`` per layer.
    """
    delta = torch.empty(len(triples), vlm.n_layers, vlm.n_heads, dtype=torch.float64)
    for n, triple in enumerate(triples):
        gold = vlm.answer_id(triple.answer)
        clean = plain(vlm, [triple])[0].softmax(-1)[gold]
        for layer, h in product(range(vlm.n_layers), range(vlm.n_heads)):
            new = given[triple.id][layer].chunk(vlm.n_heads, -1)[h]
            edit = change_head(vlm.n_heads, h, lambda own, rest, new=new: new.expand_as(own))
            delta[n, layer, h] = plain(vlm, [triple], {layer: edit})[0].softmax(-1)[gold] - clean
    return delta.numpy()


def test_masking_by_the_mean_of_the_data_set_is_a_plain_forward_per_head(
    vlm, some, plain, change_head, tmp_path
):
    means = mean_outputs(vlm, by_image(vlm, some))
    effects = sweep(vlm, some, tmp_path, mask="dataset")
    truth = plain_sweep(vlm, some, {t.id: means for t in some}, plain, change_head)
    assert effects.ids == [t.id for t in some]
    assert np.abs(effects.delta - truth).max() < 1e-10
    assert np.abs(truth).max() > 1e-4


def test_masking_by_another_run_is_a_plain_forward_per_head(
    vlm, some, plain, change_head, outputs_of, group_of, tmp_path
):
    effects = sweep(vlm, some, tmp_path, mask="resample", seed=2)
    groups = by_image(vlm, some)
    given = {}
    for group, d in zip(groups, donor_of([g[0].image_id for g in groups], 2), strict=True):
        for n, triple in enumerate(group):
            other = groups[d][n % len(groups[d])]
            shared = shared_length(vlm, triple, group_of)
            given[triple.id] = [
                aligned_by_hand(z, lent, shared)
                for z, lent in zip(outputs_of(triple), outputs_of(other), strict=True)
            ]
    truth = plain_sweep(vlm, some, given, plain, change_head)
    assert np.abs(effects.delta - truth).max() < 1e-10
    assert np.abs(truth).max() > 1e-4


def test_every_triple_borrows_from_another_image(vlm, triples, tmp_path, monkeypatch):
    lent, encode = [], heads.encode_group

    def watch(adapter, group):
        lent.append({t.image_id for t in group})
        return encode(adapter, group)

    monkeypatch.setattr(heads, "encode_group", watch)
    sweep(vlm, triples[:14], tmp_path, mask="resample")
    own, other = lent[::2], lent[1::2]
    assert own and not any(a & b for a, b in zip(own, other, strict=True))


@pytest.mark.parametrize("mask", ["dataset", "resample"])
def test_another_set_of_triples_is_another_store(adapter, some, tmp_path, mask):
    fewer = [t for t in some if t.image_id != some[0].image_id]
    whole = sweep(adapter, some, tmp_path, mask=mask)
    part = sweep(adapter, fewer, tmp_path, mask=mask)
    assert not np.allclose(part.delta, whole.of(fewer).delta)
    assert len(list(tmp_path.iterdir())) == 2


def test_another_seed_is_another_store_only_where_it_matters(adapter, some, tmp_path):
    runs = [sweep(adapter, some, tmp_path, mask="resample", seed=seed) for seed in (0, 1)]
    assert not np.allclose(runs[0].delta, runs[1].delta)
    assert len(list(tmp_path.iterdir())) == 2
    for seed in (0, 1):
        sweep(adapter, some, tmp_path, mask="dataset", seed=seed)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("mask", ["dataset", "resample"])
def test_a_killed_sweep_goes_on_as_if_uninterrupted(adapter, some, tmp_path, mask, monkeypatch):
    whole = sweep(adapter, some, tmp_path / "whole", mask=mask)
    monkeypatch.setattr(heads, "resume", lambda *a, **k: resume(*a, **k, part=1))
    replay, calls = heads.mask_every_head, []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return replay(*args, **kwargs)

    monkeypatch.setattr(heads, "mask_every_head", killed)
    with pytest.raises(KeyboardInterrupt):
        sweep(adapter, some, tmp_path / "killed", mask=mask)
    again = sweep(adapter, some, tmp_path / "killed", mask=mask)
    assert len(calls) == 3 + len(by_image(adapter, some)) - 2
    assert np.array_equal(again.delta, whole.delta)


def test_a_sweep_of_one_image_cannot_resample(adapter, one_image, tmp_path):
    with pytest.raises(ValueError, match="at least two images"):
        sweep(adapter, one_image, tmp_path, mask="resample")
