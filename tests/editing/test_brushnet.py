import copy

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from vseam_lib.editing import brushnet
from vseam_lib.editing.brushnet import BrushNet, guided, noise_and_condition, taps

FULL_SIZE = {"cross_attention_dim": 768}  # the rest of Stable Diffusion 1.5 is diffusers' default


def attend(attention, sample, text):
    return attention(sample, encoder_hidden_states=text, return_dict=False)[0]


def down(unet, sample, emb, text, meet):
    """The way down, written out; ``meet`` is applied wherever the two networks meet."""
    skips = [sample]
    sample = meet(sample)
    for block in unet.down_blocks:
        for k, resnet in enumerate(block.resnets):
            sample = resnet(sample, emb)
            if hasattr(block, "attentions"):
                sample = attend(block.attentions[k], sample, text)
            sample = meet(sample)
            skips.append(sample)
        if block.downsamplers:
            sample = meet(block.downsamplers[0](sample))
            skips.append(sample)
    return sample, skips


def up(unet, sample, skips, emb, text, meet):
    for block in unet.up_blocks:
        for k, resnet in enumerate(block.resnets):
            sample = resnet(torch.cat([sample, skips.pop()], 1), emb)
            if hasattr(block, "attentions"):
                sample = attend(block.attentions[k], sample, text)
            sample = meet(sample)
        if block.upsamplers:
            sample = meet(block.upsamplers[0](sample, skips[-1].shape[2:]))
    return sample


def by_hand(unet, sample, t, text, meet):
    """A UNet's forward without its output layer."""
    emb = unet.time_embedding(unet.get_time_embed(sample, t))
    sample, skips = down(unet, unet.conv_in(sample), emb, text, meet)
    sample = meet(unet.mid_block(sample, emb, encoder_hidden_states=text))
    return up(unet, sample, skips, emb, text, meet)


def residuals_by_hand(net, noisy, t, text, condition):
    said = []

    def note(sample):
        said.append(net.convs[len(said)](sample))
        return sample

    by_hand(net.unet, torch.cat([noisy, condition], 1), t, text, note)
    return said


def guided_by_hand(unet, net, noisy, t, base_text, text, condition):
    residuals = iter(residuals_by_hand(net, noisy, t, text, condition))
    sample = by_hand(unet, noisy, t, base_text, lambda s: s + next(residuals))
    assert next(residuals, None) is None
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(sample)))


@pytest.fixture(scope="module")
def nets(v2):
    return v2._paint.unet, v2._brushnet


@pytest.fixture
def inputs(layouts):
    """Latents that the UNet's levels do not divide, texts and what BrushNet is shown."""
    g = torch.Generator().manual_seed(0)
    return {
        "noisy": torch.randn(2, 4, 9, 6, generator=g),
        "t": torch.tensor(400),
        "base_text": torch.randn(2, 7, layouts.WIDTH, generator=g),
        "text": torch.randn(2, 5, layouts.WIDTH, generator=g),
        "condition": torch.randn(2, 5, 9, 6, generator=g),
    }


def run(unet, net, inputs):
    with torch.no_grad(), guided(unet, net, inputs["text"], inputs["condition"]):
        return unet(inputs["noisy"], inputs["t"], inputs["base_text"], return_dict=False)[0]


@torch.no_grad()
def test_hooks_add_what_the_forward_written_out_adds(nets, inputs):
    unet, net = nets
    expected = guided_by_hand(unet, net, **inputs)
    plain = unet(inputs["noisy"], inputs["t"], inputs["base_text"]).sample
    assert (plain - expected).abs().max() > 0.1
    torch.testing.assert_close(run(unet, net, inputs), expected)


@torch.no_grad()
def test_brushnet_says_what_its_forward_written_out_says(nets, inputs):
    net = nets[1]
    del inputs["base_text"]
    said = net(**inputs)
    assert len(said) == len(net.convs) == len(taps(net.unet))
    for ours, expected in zip(said, residuals_by_hand(net, **inputs), strict=True):
        torch.testing.assert_close(ours, expected)


@torch.no_grad()
def test_every_residual_reaches_the_output(nets, inputs):
    unet, net = nets
    whole = run(unet, net, inputs)
    for k, conv in enumerate(net.convs):
        kept = conv.weight.clone()
        nn.init.zeros_(conv.weight)
        assert (run(unet, net, inputs) - whole).abs().max() > 1e-4, k
        conv.weight.copy_(kept)
    assert torch.equal(run(unet, net, inputs), whole)


@torch.no_grad()
def test_silent_convolutions_change_nothing(nets, inputs):
    unet, net = nets
    silent = copy.deepcopy(net)
    for weight in silent.convs.parameters():
        nn.init.zeros_(weight)
    plain = unet(inputs["noisy"], inputs["t"], inputs["base_text"]).sample
    assert torch.equal(run(unet, silent, inputs), plain)


def test_both_halves_of_guidance_see_the_same_picture(nets, inputs):
    """One picture, and a batch of its negative and its positive prompt."""
    unet, net = nets
    inputs["noisy"] = inputs["noisy"][:1].repeat(2, 1, 1, 1)
    inputs["condition"] = inputs["condition"][:1]
    ours = run(unet, net, inputs)
    inputs["condition"] = inputs["condition"].repeat(2, 1, 1, 1)
    assert torch.equal(ours, run(unet, net, inputs))


def hooks(*nets):
    modules = [m for net in nets for m in net.modules()]
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_hooks_are_gone_afterwards(nets, inputs):
    unet, net = nets
    run(unet, net, inputs)
    assert hooks(unet, net) == 0
    inputs["base_text"] = inputs["base_text"][..., :3]
    with pytest.raises(RuntimeError):
        run(unet, net, inputs)
    assert hooks(unet, net) == 0


@pytest.mark.parametrize("where", ["BrushNet", "the base UNet"])
def test_a_tap_that_never_fires_is_an_error(nets, inputs, monkeypatch, where):
    unet, net = nets

    def with_one_dead(of):
        found = taps(of)
        if (of is unet) == (where == "the base UNet"):
            found[3] = found[3]._replace(module=nn.Identity())
        return found

    monkeypatch.setattr(brushnet, "taps", with_one_dead)
    with pytest.raises(RuntimeError, match=f"{where}: expected .* 1 never did, first number 3"):
        run(unet, net, inputs)
    assert hooks(unet, net) == 0


def test_other_blocks_are_refused():
    other = UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=8,
    )
    with pytest.raises(ValueError, match="got AttnDownBlock2D, AttnUpBlock2D"):
        taps(other)


def test_full_size_has_the_published_names():
    with torch.device("meta"):
        config = dict(UNet2DConditionModel(**FULL_SIZE).config)
        net = BrushNet(config)
    shapes = {net.stored_name(k): tuple(v.shape) for k, v in net.state_dict().items()}
    assert len(net.convs) == 28
    assert shapes["conv_in_condition.weight"] == (320, 9, 3, 3)
    assert shapes["brushnet_down_blocks.0.weight"] == (320, 320, 1, 1)
    assert shapes["brushnet_down_blocks.11.bias"] == (1280,)
    assert shapes["brushnet_mid_block.weight"] == (1280, 1280, 1, 1)
    assert shapes["brushnet_up_blocks.0.weight"] == (1280, 1280, 1, 1)
    assert shapes["brushnet_up_blocks.14.weight"] == (320, 320, 1, 1)
    assert shapes["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"] == (1280, 768)
    assert "time_embedding.linear_1.weight" in shapes
    assert not any(name.startswith(("conv_out", "conv_norm_out")) for name in shapes)


def test_what_is_in_the_hole_is_not_shown(v2):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    masks = np.zeros((2, 16, 16), bool)
    masks[0, 4:9, 2:7] = masks[1, 1:6, 8:14] = True
    shown = []
    for fill in (0, 200):
        images[masks] = fill
        generators = [torch.Generator().manual_seed(k) for k in range(2)]
        shown.append(noise_and_condition(v2._paint.vae, images, masks, generators))
    (noise, condition), (again, same) = shown
    assert torch.equal(noise, again) and torch.equal(condition, same)
    assert torch.equal(condition[:, 4], 1 - torch.from_numpy(masks)[:, ::2, ::2].float())
    images[0, 0, 0] = 255 - images[0, 0, 0]
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    assert not torch.equal(
        noise_and_condition(v2._paint.vae, images, masks, generators)[1], condition
    )
