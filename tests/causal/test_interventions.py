import pytest
import torch

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.vlm.adapter import Head

L, H, D = 3, 4, 8


def heads_of(rows, seed=0):
    return torch.randn(rows, 5, H * D, dtype=torch.float64, generator=torch.manual_seed(seed))


def test_masking_by_mean_is_equation_5():
    z = heads_of(2)
    a = z.view(2, 5, H, D)
    edited = HeadEdits.mask([[Head(1, 2)]], L, H).apply(1, z).view(2, 5, H, D)
    torch.testing.assert_close(edited[:, :, 2], (a[:, :, 0] + a[:, :, 1] + a[:, :, 3]) / 3)
    assert torch.equal(edited[:, :, [0, 1, 3]], a[:, :, [0, 1, 3]])


def test_masking_by_zero_empties_the_head_alone():
    z = heads_of(2)
    edited = HeadEdits.mask([[Head(0, 3)]], L, H, by="zero").apply(0, z)
    assert (edited[..., 3 * D :] == 0).all()
    assert torch.equal(edited[..., : 3 * D], z[..., : 3 * D])


@pytest.mark.parametrize("rows", [1, 5], ids=["one vector", "a vector per position"])
def test_a_swapped_head_is_the_one_given_and_the_others_stay(rows):
    z, other = heads_of(2), heads_of(1, seed=1)[0, :rows]
    edited = HeadEdits.mask([[Head(1, 2)], [Head(1, 0)]], L, H, by="swap").apply(1, z, other)
    for k, head in enumerate((2, 0)):
        a = edited[k].view(5, H, D)
        assert torch.equal(a[:, head], other.view(rows, H, D)[:, head].expand(5, -1))
        rest = [h for h in range(H) if h != head]
        assert torch.equal(a[:, rest], z[k].view(5, H, D)[:, rest])


def test_edits_that_swap_need_outputs_of_the_layers_shape():
    edits = HeadEdits.mask([[Head(1, 2)]], L, H, by="swap")
    for other in (None, torch.zeros(4, H * D), torch.zeros(5, H * D - 1)):
        with pytest.raises(ValueError, match=r"layer 1: .* swap in of shape \(1 or 5, 32\), got"):
            edits.apply(1, heads_of(1), other)
    z = heads_of(1)
    assert torch.equal(edits.apply(0, z), z), "a layer without swaps needs none"


def test_heads_masked_together_all_see_the_unmasked_others():
    z = heads_of(1)
    a = z.view(1, 5, H, D)
    edited = HeadEdits.mask([[Head(0, 0), Head(0, 1)]], L, H).apply(0, z).view(1, 5, H, D)
    torch.testing.assert_close(edited[:, :, 0], a[:, :, [1, 2, 3]].mean(2))
    torch.testing.assert_close(edited[:, :, 1], a[:, :, [0, 2, 3]].mean(2))


def test_rescaling_multiplies_the_head_by_its_factor():
    z = heads_of(1)
    edited = HeadEdits.rescale([{Head(2, 1): 1.3, Head(2, 2): 0.7}], L, H).apply(2, z)
    assert torch.equal(edited[..., D : 2 * D], z[..., D : 2 * D] * 1.3)
    assert torch.equal(edited[..., 2 * D : 3 * D], z[..., 2 * D : 3 * D] * 0.7)
    assert torch.equal(edited[..., :D], z[..., :D])


@pytest.mark.parametrize(
    "edits",
    [
        HeadEdits.none(L, H),
        HeadEdits.mask([[]], L, H),
        HeadEdits.rescale([{Head(1, 1): 1.0}], L, H),
    ],
    ids=["none", "mask no head", "factor 1"],
)
def test_an_edit_that_changes_nothing_changes_nothing(edits):
    z = heads_of(3)
    assert (edits.apply(1, z) - z).abs().max() == 0
    assert edits.starts().tolist() == [L] * len(edits)
    assert not edits.touched(1)


@pytest.mark.parametrize("rows", [1, 2], ids=["one row for all", "a row each"])
def test_every_variant_is_edited_in_its_own_way(rows):
    z = heads_of(rows)
    edited = HeadEdits.mask([[Head(0, 0)], [Head(0, 1)]], L, H, by="zero").apply(0, z)
    assert edited.shape == (2, 5, H * D)
    first, second = z[0], z[rows - 1]
    assert (edited[0, :, :D] == 0).all() and torch.equal(edited[0, :, D:], first[:, D:])
    assert (edited[1, :, D : 2 * D] == 0).all() and torch.equal(edited[1, :, :D], second[:, :D])


def test_a_variant_starts_at_the_first_layer_that_it_changes():
    edits = HeadEdits.mask([[Head(2, 0)], [Head(1, 3), Head(2, 1)]], L, H)
    assert edits.starts().tolist() == [2, 1]
    assert HeadEdits.mask([[Head(1, 0)], []], L, H, by="swap").starts().tolist() == [1, L]
    assert HeadEdits.rescale([{Head(2, 3): 0.5}], L, H).starts().tolist() == [2]
    assert [edits.touched(k) for k in range(L)] == [False, True, True]


def test_cat_and_slice_keep_the_order_of_variants():
    a = HeadEdits.mask([[Head(0, 0)], [Head(0, 1)]], L, H)
    b = HeadEdits.rescale([{Head(1, 1): 2.0}], L, H)
    c = HeadEdits.mask([[Head(2, 2)]], L, H, by="swap")
    every = HeadEdits.cat([a, b, c])
    assert len(every) == 4
    assert every[2:].scale[0, 1, 1] == 2 and every[:1].mix[0, 0, 0] == 1
    assert every[3:].swap[0, 2, 2] == 1 and not every[:3].swap.any()


@pytest.mark.parametrize("head", [Head(3, 0), Head(0, 4), Head(-1, 0), Head(0, -1)])
def test_a_head_that_the_model_lacks_is_refused(head):
    with pytest.raises(ValueError, match=r"no head L-?\d\.H-?\d; this model has layers 0-2.*0-3"):
        HeadEdits.mask([[head]], L, H)
    with pytest.raises(ValueError, match="no head"):
        HeadEdits.rescale([{head: 0.5}], L, H)


def test_an_unknown_mask_names_the_known_ones():
    with pytest.raises(ValueError, match="'mean', 'zero' or 'swap', got 'median'"):
        HeadEdits.mask([[Head(0, 0)]], L, H, by="median")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", ["scale", "mix", "swap"])
def test_a_factor_that_is_not_finite_is_refused(which, value):
    factors = {name: torch.zeros(1, L, H) for name in ("scale", "mix", "swap")}
    factors[which][0, 1, 1] = value
    with pytest.raises(ValueError, match="finite"):
        HeadEdits(**factors)


@pytest.mark.parametrize("shape", [(2, L, H), (1, L, H + 1), (L, H)])
def test_scale_mix_and_swap_must_have_one_shape(shape):
    ones = torch.ones(1, L, H)
    with pytest.raises(ValueError, match="one shape"):
        HeadEdits(ones, torch.zeros(shape))
    with pytest.raises(ValueError, match="one shape"):
        HeadEdits(ones, ones, torch.zeros(shape))
