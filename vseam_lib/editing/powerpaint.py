"""Edits pictures with PowerPaint (Zhuang et al., 2024) through stock diffusers.

1. The task's prompts are embedded, task tokens expanded (:mod:`vseam_lib.editing.task_tokens`),
   and mixed by the fitting degree.
2. Version 1 runs diffusers' ``StableDiffusionInpaintPipeline`` on them; version 2 runs its
   ``StableDiffusionPipeline`` while BrushNet adds to the UNet (:mod:`vseam_lib.editing.brushnet`).
3. The original is pasted back outside the mask. The autoencoder's round trip changes every pixel,
   by 6 to 14 grey levels on average in the authors' own published pairs; the paste undoes that.

Every random draw of an item, the autoencoder's included, comes from a generator of its own seed
on the CPU. An item is therefore the same in any batch, up to rounding (one grey level in few
pixels); the authors' release draws from the global generator and depends on what came before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from torch import Tensor

from vseam_lib.editing.brushnet import guided, noise_and_condition
from vseam_lib.editing.powerpaint_files import Parts, read_parts
from vseam_lib.editing.powerpaint_items import Edited, Item, Sampling, by_size, checked_items
from vseam_lib.editing.task_tokens import TaskPrompts, task_prompts

DTYPES = ("float32", "bfloat16")


def load_inpainter(
    folder: str | Path,
    *,
    base: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    variant: str | None = None,
) -> Inpainter:
    """Load PowerPaint for editing, from any of the layouts in which it is published.

    Args:
        folder: a shipped model's name (``tiny-powerpaint``), a directory, or a Hugging Face id;
            see :mod:`vseam_lib.editing.powerpaint_files` for the layouts.
        base: for a v1 overlay, the Stable-Diffusion-1.5-inpainting directory or id under it.
        device: ``cpu``, ``cuda``, ...
        dtype: ``float32``, or ``bfloat16`` to run the UNets under autocast, about twice as fast
            on processors with AMX; weights and latents stay float32.
        variant: of the weight files, such as ``fp16`` for ``model.fp16.safetensors``.

    Raises:
        FileNotFoundError: no such checkpoint, no known layout, or a missing file.
        ValueError: an unknown dtype, a missing or superfluous base, damaged files, or missing,
            unexpected or misshapen weights, which are listed.
    """
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype in {', '.join(DTYPES)}, got {dtype!r}")
    return Inpainter(read_parts(folder, base=base, variant=variant), device=device, dtype=dtype)


class Inpainter:
    """PowerPaint, ready to edit; made by :func:`load_inpainter`.

    Attributes:
        layout: ``v1 overlay``, ``v1 merged`` or ``v2``.
        revision: digest of the weights, for result keys, which also need ``dtype``.
        multiple: widths and heights are multiples of this many pixels, the autoencoder's factor;
            the UNet pads what its own levels do not divide.
    """

    def __init__(self, parts: Parts, *, device: str = "cpu", dtype: str = "float32") -> None:
        self.layout, self.revision = parts.layout, parts.revision
        self.device, self.dtype = torch.device(device), dtype
        self._encoder, self._base_encoder = parts.encoder, parts.base_encoder
        self._brushnet = parts.brushnet
        stock = {
            "vae": parts.vae,
            "text_encoder": (parts.base_encoder or parts.encoder).model,
            "tokenizer": parts.encoder.tokenizer,
            "unet": parts.unet,
            "scheduler": parts.scheduler,
            "safety_checker": None,
            "feature_extractor": None,
            "requires_safety_checker": False,
        }
        if self._brushnet is None:
            self._paint = self._repaint = StableDiffusionInpaintPipeline(**stock)
        else:
            self._paint = StableDiffusionPipeline(**stock)
            self._repaint = StableDiffusionImg2ImgPipeline(**stock)
            self._encoder.model.to(self.device)
            self._brushnet.to(self.device)
        for pipe in (self._paint, self._repaint):
            pipe.set_progress_bar_config(disable=True)
            pipe.to(self.device)
        networks = [parts.unet, *([self._brushnet] if self._brushnet else [])]
        for module in (*networks, parts.vae):
            module.to(memory_format=torch.channels_last)  # faster convolutions
        if dtype == "bfloat16":
            for network in networks:
                network.forward = _in_bfloat16(network.forward, self.device.type)
        self.multiple: int = self._paint.vae_scale_factor

    def edit(
        self,
        images: Sequence[Image.Image],
        masks: Sequence[np.ndarray],
        prompts: Sequence[str],
        *,
        composite: bool = True,
        **options: Any,
    ) -> list[Image.Image]:
        """:meth:`edit_with_raw`, returning of each picture one version only.

        Args:
            composite: the one with the original pasted back outside the mask.
            options: of :meth:`edit_with_raw`, ``seeds`` among them.
        """
        edited = self.edit_with_raw(images, masks, prompts, **options)
        return [e.image if composite else e.raw for e in edited]

    def edit_with_raw(
        self,
        images: Sequence[Image.Image],
        masks: Sequence[np.ndarray],
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        task: str = "text",
        fitting: float = 1.0,
        steps: int = 20,
        guidance: float = 7.5,
        negative: str = "",
        batch: int = 8,
    ) -> list[Edited]:
        """Repaint the masked part of each picture, at the picture's own size.

        Args:
            images: RGB; sizes may differ, those of one size are painted together.
            masks: ``(H, W)`` bool, True where the picture is repainted.
            prompts: what to paint; may be empty for ``task="removal"``.
            seeds: one per item.
            task: ``text``, ``removal`` or ``shape``, see
                :func:`vseam_lib.editing.task_tokens.task_prompts`.
            fitting: for ``task="shape"``, how closely the mask's shape is filled, from 0 to 1.
            steps: of the scheduler.
            guidance: scale of classifier-free guidance; at most 1 runs without it.
            negative: what not to paint; needs guidance.
            batch: pictures per forward.

        Returns:
            Each picture with and without the original pasted back, in order.

        Raises:
            TypeError, ValueError: an argument that does not fit, naming the item.
        """
        if not 0 <= fitting <= 1:
            raise ValueError(f"expected a fitting degree from 0 to 1, got {fitting}")
        if fitting != 1 and task != "shape":
            raise ValueError(
                f"expected a fitting degree with task='shape' only, got {fitting} with {task!r}"
            )
        sampling = Sampling(steps=steps, guidance=guidance, negative=negative, batch=batch)
        items = checked_items(images, masks, prompts, seeds, multiple=self.multiple)
        said = self._prompts(task, items, negative)

        def paint(part: list[Item]) -> np.ndarray:
            told = [said[item.prompt] for item in part]
            common = sampling.options(part)
            if self._brushnet is None:
                return self._paint(
                    image=[Image.fromarray(i.image) for i in part],
                    mask_image=[i.mask_image for i in part],
                    **self._task_embeds(told, fitting, sampling),
                    **common,
                ).images
            return self._paint_guided(part, told, fitting, sampling, common)

        edited = by_size(items, batch, paint)
        return [Edited.of(item, raw) for item, raw in zip(items, edited, strict=True)]

    def redraw(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[str],
        *,
        seeds: Sequence[int],
        strength: float = 0.75,
        steps: int = 20,
        guidance: float = 7.5,
        negative: str = "",
        batch: int = 8,
    ) -> list[Image.Image]:
        """Redraw whole pictures, a baseline without a region (paper, Tables 10 to 12).

        Version 1 inpaints under a full mask from a partly noised picture; version 2 runs
        image-to-image on its base model, without BrushNet. The paper does not say how strong
        its redrawing was; 0.75 is that of diffusers' own examples, and a guess.

        Args:
            images: RGB.
            prompts: what the pictures are to show.
            seeds: one per item.
            strength: share of the noise that is added, between 0 and 1, exclusive.
            steps: of the whole schedule, of which ``strength`` are run.
            guidance, negative, batch: as for :meth:`edit`.

        Raises:
            TypeError, ValueError: an argument that does not fit, naming the item.
        """
        if not 0 < strength < 1 or int(steps * strength) < 1:
            raise ValueError(
                f"expected a strength between 0 and 1 that leaves at least one step, got "
                f"{strength} of {steps} steps"
            )
        sampling = Sampling(steps=steps, guidance=guidance, negative=negative, batch=batch)
        items = checked_items(images, None, prompts, seeds, multiple=self.multiple)
        said = self._prompts("text", items, negative)

        def repaint(part: list[Item]) -> np.ndarray:
            told = [said[item.prompt] for item in part]
            options = sampling.options(part) | {
                "image": [Image.fromarray(i.image) for i in part],
                "strength": strength,
            }
            if self._brushnet is None:
                options["mask_image"] = [i.mask_image for i in part]
                return self._repaint(**self._task_embeds(told, 1.0, sampling), **options).images
            del options["height"], options["width"]
            return self._repaint(**self._base_embeds(told, sampling), **options).images

        return [Image.fromarray(raw) for raw in by_size(items, batch, repaint)]

    def _prompts(self, task: str, items: list[Item], negative: str) -> dict[str, TaskPrompts]:
        """The prompts of each distinct text, all of them within the token limit."""
        version = 1 if self._brushnet is None else 2
        said = {
            text: task_prompts(task, text, negative, version=version)
            for text in dict.fromkeys(item.prompt for item in items)
        }
        for told in said.values():
            for prompt in {*told.wanted, *told.unwanted}:
                self._encoder.ids(prompt)
            for prompt in (told.base, told.base_unwanted):
                if prompt is not None:
                    self._base_encoder.ids(prompt)
        return said

    def _task_embeds(
        self, told: list[TaskPrompts], fitting: float, sampling: Sampling
    ) -> dict[str, Tensor | None]:
        """What the network that knows the task tokens reads."""
        read = partial(self._encoder.mix, fitting=fitting)
        return sampling.embeds(read, [t.wanted for t in told], [t.unwanted for t in told])

    def _base_embeds(self, told: list[TaskPrompts], sampling: Sampling) -> dict[str, Tensor | None]:
        """What version 2's base model reads."""
        read = self._base_encoder.embed
        return sampling.embeds(read, [t.base for t in told], [t.base_unwanted for t in told])

    def _paint_guided(
        self,
        part: list[Item],
        told: list[TaskPrompts],
        fitting: float,
        sampling: Sampling,
        options: dict,
    ) -> np.ndarray:
        """Version 2: the base model paints, BrushNet shows it the picture."""
        noise, condition = noise_and_condition(
            self._paint.vae,
            np.stack([i.image for i in part]),
            np.stack([i.mask for i in part]),
            options["generator"],
        )
        task = self._task_embeds(told, fitting, sampling)
        halves = [task[k] for k in ("negative_prompt_embeds", "prompt_embeds")]
        text = torch.cat([half for half in halves if half is not None])
        with guided(self._paint.unet, self._brushnet, text, condition):
            return self._paint(latents=noise, **self._base_embeds(told, sampling), **options).images


def _in_bfloat16(forward: Callable, device_type: str) -> Callable:
    """A network's forward under autocast, its outputs in float32 for what follows."""

    def run(*args, **kwargs):
        with torch.autocast(device_type, torch.bfloat16):
            out = forward(*args, **kwargs)
        return tuple(o.float() for o in out)

    return run
