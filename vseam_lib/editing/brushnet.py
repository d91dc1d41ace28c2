"""BrushNet, PowerPaint v2's second network, as two stock UNets that talk through forward hooks.

BrushNet (Ju et al., 2024) is a UNet without an output layer. It reads the noisy latent, the
latent of the picture with a black hole, and which latents are kept. What it computes after each
layer passes a 1x1 convolution and is added at the same place of the base model:

1. ``conv_in``: added to what enters the first block, not to its skip connection;
2. down blocks: after each resnet (and its attention, if any) and after the downsampler, so that
   the skip connections carry it;
3. the middle block: after it;
4. up blocks: after each resnet (and its attention) and after the upsampler.

diffusers has neither BrushNet nor a way to add residuals there; hooks on
:class:`UNet2DConditionModel` do both.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

CONDITION = 5  # channels: four of the masked picture's latent, one of what is kept
_BLOCKS = ("DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D")
_MIDDLES = ("UNetMidBlock2DCrossAttn", "UNetMidBlock2D")


class Tap(NamedTuple):
    """A place where the two networks meet.

    Attributes:
        module: its output is what BrushNet reads there, and what is added to in the base model.
        channels: of that output.
        stored: the place's name in the authors' files, after ``brushnet_``.
    """

    module: nn.Module
    channels: int
    stored: str


def taps(unet: UNet2DConditionModel) -> list[Tap]:
    """Taps in order: ``conv_in``, the down blocks', the middle block, the up blocks'.

    Raises:
        ValueError: a UNet of other blocks, whose layers run in another order.
    """
    odd = {type(b).__name__ for b in (*unet.down_blocks, *unet.up_blocks)} - set(_BLOCKS)
    odd |= {type(unet.mid_block).__name__} - set(_MIDDLES)
    if odd:
        raise ValueError(
            f"expected a UNet of {', '.join((*_BLOCKS, *_MIDDLES))}, got {', '.join(sorted(odd))}; "
            "BrushNet is defined for the blocks of Stable Diffusion 1.5"
        )
    down: list[tuple[nn.Module, int]] = [(unet.conv_in, unet.conv_in.out_channels)]
    up: list[tuple[nn.Module, int]] = []
    for places, blocks in ((down, unet.down_blocks), (up, unet.up_blocks)):
        for block in blocks:
            layers = getattr(block, "attentions", None) or block.resnets
            ends = getattr(block, "downsamplers", None) or getattr(block, "upsamplers", None) or ()
            places += [(m, block.resnets[-1].out_channels) for m in (*layers, *ends)]
    middle = Tap(unet.mid_block, unet.mid_block.resnets[-1].out_channels, "mid_block")
    return [
        *(Tap(*place, f"down_blocks.{k}") for k, place in enumerate(down)),
        middle,
        *(Tap(*place, f"up_blocks.{k}") for k, place in enumerate(up)),
    ]


class BrushNet(nn.Module):
    """The network that reads the picture; its weights have the authors' names on disk.

    Args:
        config: of the base model's UNet.
    """

    def __init__(self, config: dict) -> None:
        super().__init__()
        # Without the private keys: diffusers notes there which values are defaults, and takes its
        # own for them whatever they are changed to.
        public = {k: v for k, v in config.items() if not k.startswith("_")}
        public["in_channels"] += CONDITION
        self.unet = UNet2DConditionModel.from_config(public)
        self.unet.conv_norm_out, self.unet.conv_out = nn.Identity(), nn.Identity()
        meetings = taps(self.unet)
        self.convs = nn.ModuleList(nn.Conv2d(tap.channels, tap.channels, 1) for tap in meetings)
        self._stored = [f"brushnet_{tap.stored}" for tap in meetings]

    def stored_name(self, name: str) -> str:
        """What the authors' files call an entry of this module's state."""
        where, _, rest = name.partition(".")
        if where == "convs":
            k, _, rest = rest.partition(".")
            return f"{self._stored[int(k)]}.{rest}"
        return re.sub(r"^conv_in\.", "conv_in_condition.", rest)

    def forward(self, noisy: Tensor, t: Tensor, text: Tensor, condition: Tensor) -> list[Tensor]:
        """What to add at each tap.

        Args:
            noisy: latents, ``(B, 4, h, w)``.
            t: time step.
            text: embeddings of the task tokens, ``(B, T, d)``.
            condition: ``(B, 5, h, w)``, see :func:`noise_and_condition`.
        """
        said: dict[int, Tensor] = {}

        def keep(k: int):
            def hook(module, args, output):
                said[k] = _first(output)

            return hook

        handles = [
            tap.module.register_forward_hook(keep(k)) for k, tap in enumerate(taps(self.unet))
        ]
        try:
            self.unet(torch.cat([noisy, condition], 1), t, text, return_dict=False)
        finally:
            for handle in handles:
                handle.remove()
        _check_all_fired(said, len(self.convs), "BrushNet")
        return [conv(said[k]) for k, conv in enumerate(self.convs)]


@contextmanager
def guided(
    unet: UNet2DConditionModel, brushnet: BrushNet, text: Tensor, condition: Tensor
) -> Iterator[None]:
    """While this lasts, every forward of the base UNet gets BrushNet's residuals.

    Args:
        unet: the base model's.
        brushnet: made from its configuration.
        text: what BrushNet reads, ``(B, T, d)``; B as in the base's batch, guidance included.
        condition: ``(B or B / 2, 5, h, w)``; with guidance both halves see the same.

    Raises:
        RuntimeError: a forward that did not pass every tap; its output would be silently wrong.
    """
    pending: dict[int, Tensor] = {}
    fired: set[int] = set()

    def ask(module, args, kwargs):
        noisy, t = args[:2]
        both = condition.repeat(noisy.shape[0] // condition.shape[0], 1, 1, 1)
        fired.clear()
        pending.update(enumerate(brushnet(noisy, t, text, both)))

    def enter_first_block(module, args, kwargs):
        fired.add(0)
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + pending[0]}

    def add(k: int):
        def hook(module, args, output):
            fired.add(k)
            if isinstance(output, tuple):
                return (output[0] + pending[k], *output[1:])
            return output + pending[k]

        return hook

    def check(module, args, output):
        _check_all_fired(fired, len(pending), "the base UNet")
        pending.clear()

    _, *rest = taps(unet)
    handles = [
        unet.register_forward_pre_hook(ask, with_kwargs=True),
        unet.down_blocks[0].register_forward_pre_hook(enter_first_block, with_kwargs=True),
        *(tap.module.register_forward_hook(add(k)) for k, tap in enumerate(rest, start=1)),
        unet.register_forward_hook(check),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def noise_and_condition(
    vae: AutoencoderKL, images: np.ndarray, masks: np.ndarray, generators: list[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """What the base model starts from, and what BrushNet is shown beside it.

    The order of the draws, noise before the autoencoder's, is that of diffusers' own inpainting.

    Args:
        vae: encodes the pictures with black holes.
        images: ``(B, H, W, 3)`` uint8.
        masks: ``(B, H, W)`` bool, True in the hole.
        generators: one per picture, on the CPU.

    Returns:
        noise: ``(B, 4, h, w)``.
        condition: ``(B, 5, h, w)``, the pictures' latents, and 1 where the picture is kept.
    """
    hole = torch.from_numpy(masks)[:, None]
    shown = (2 * (torch.from_numpy(images).permute(0, 3, 1, 2) / 255) - 1).masked_fill(hole, -1)
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    shape = (1, vae.config.latent_channels, *(n // factor for n in masks.shape[1:]))
    noise = torch.cat([torch.randn(shape, generator=g) for g in generators]).to(vae.device)
    hidden = torch.cat(
        [
            vae.encode(one[None].to(vae.device)).latent_dist.sample(g)
            for one, g in zip(shown, generators, strict=True)
        ]
    )
    kept = nn.functional.interpolate(1 - hole.float(), size=hidden.shape[-2:]).to(vae.device)
    return noise, torch.cat([hidden * vae.config.scaling_factor, kept], 1)


def _first(output: Tensor | tuple) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _check_all_fired(fired: Collection[int], n: int, where: str) -> None:
    silent = [k for k in range(n) if k not in fired]
    if silent:
        raise RuntimeError(
            f"{where}: expected every forward to pass {n} taps, {len(silent)} never did, first "
            f"number {silent[0]}; this version of diffusers runs its blocks in another way, so "
            "use the one pinned in constraints.txt"
        )
