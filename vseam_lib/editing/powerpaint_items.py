"""Items to be painted: checked before anything runs, painted in batches of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vseam_lib.editing.pictures import check_mask, check_rgb


class Item(NamedTuple):
    """One checked item.

    Attributes:
        image: ``(H, W, 3)`` uint8.
        mask: ``(H, W)`` bool, True where it is painted.
        prompt: what to paint.
        seed: of all its random draws.
    """

    image: np.ndarray
    mask: np.ndarray
    prompt: str
    seed: int

    @property
    def mask_image(self) -> Image.Image:
        """The mask in black and white, as diffusers expects it."""
        return Image.fromarray(self.mask.astype(np.uint8) * 255)


class Edited(NamedTuple):
    """One edited picture.

    Attributes:
        image: the edit inside the mask, the original outside, exactly.
        raw: what the model returned.
    """

    image: Image.Image
    raw: Image.Image

    @classmethod
    def of(cls, item: Item, raw: np.ndarray) -> Edited:
        """Paste the original back outside the mask."""
        pasted = np.where(item.mask[..., None], raw, item.image)
        return cls(Image.fromarray(pasted), Image.fromarray(raw))


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a batch is sampled.

    Attributes:
        steps: of the scheduler.
        guidance: scale of classifier-free guidance; at most 1 runs without it.
        negative: what not to paint.
        batch: pictures per forward.
    """

    steps: int
    guidance: float
    negative: str
    batch: int

    def __post_init__(self) -> None:
        for name, value in (("steps", self.steps), ("batch", self.batch)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"expected {name} to be a whole number from 1, got {value!r}")
        if not self.guidance >= 0:
            raise ValueError(f"expected a guidance of at least 0, got {self.guidance}")
        if self.negative and not self.guided:
            raise ValueError(
                f"expected guidance above 1 for the negative prompt {self.negative!r}, got "
                f"{self.guidance}; without guidance nothing reads it"
            )

    @property
    def guided(self) -> bool:
        """Whether every step also runs on the negative prompt."""
        return self.guidance > 1

    def options(self, items: Sequence[Item]) -> dict[str, object]:
        """Arguments of a diffusers pipeline for items of one size."""
        height, width = items[0].mask.shape
        return {
            "height": height,
            "width": width,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "generator": [torch.Generator("cpu").manual_seed(i.seed) for i in items],
            "output_type": "np",
        }

    def embeds(
        self, read: Callable[..., Tensor], wanted: Sequence, unwanted: Sequence
    ) -> dict[str, Tensor | None]:
        """A pipeline's embeddings, ``(B, T, d)`` each; without guidance there is one."""
        negative = torch.cat([read(u) for u in unwanted]) if self.guided else None
        return {
            "prompt_embeds": torch.cat([read(w) for w in wanted]),
            "negative_prompt_embeds": negative,
        }


def checked_items(
    images: Sequence[Image.Image],
    masks: Sequence[np.ndarray] | None,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    multiple: int,
) -> list[Item]:
    """One item per picture.

    Args:
        images: RGB.
        masks: ``(H, W)`` bool; ``None`` for masks that cover everything.
        prompts: one per image.
        seeds: one per image.
        multiple: of pixels that widths and heights must be.

    Raises:
        TypeError, ValueError: naming the item, and what was expected of it.
    """
    if isinstance(prompts, str):
        raise TypeError("expected a sequence of prompts, got one string; pass [prompt]")
    given = {"images": images, "masks": masks, "prompts": prompts, "seeds": seeds}
    counts = {name: len(v) for name, v in given.items() if v is not None}
    if len(set(counts.values())) > 1:
        raise ValueError(
            "expected one of each per item, got "
            + ", ".join(f"{n} {name}" for name, n in counts.items())
        )
    items = []
    for k, (image, prompt, seed) in enumerate(zip(images, prompts, seeds, strict=True)):
        try:
            pixels = np.asarray(check_rgb(image, of=f"image {k}"))
        except OSError as error:  # a file that is decoded only now
            raise ValueError(
                f"image {k}: expected a complete image, but decoding it failed ({error}); restore "
                "the file, and open files with vseam_lib.vlm.images.open_image"
            ) from error
        height, width = pixels.shape[:2]
        if height % multiple or width % multiple:
            near = " x ".join(
                str(max(multiple, multiple * round(n / multiple))) for n in (width, height)
            )
            raise ValueError(
                f"image {k}: expected width and height in multiples of {multiple} pixels, the "
                f"autoencoder's factor, got {width} x {height}; resize image and mask to {near}"
            )
        if masks is None:
            mask = np.ones((height, width), bool)
        else:
            mask = check_mask(masks[k], (width, height), of=f"mask {k}")
        if not mask[::multiple, ::multiple].any():
            raise ValueError(
                f"mask {k}: expected a mask that is left at the latents' {multiple} times coarser "
                f"grid, its {int(mask.sum())} pixels fall between the grid; dilate it"
            )
        if not isinstance(seed, (int, np.integer)) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed {k}: expected a whole number from 0, got {seed!r}")
        items.append(Item(pixels, mask, prompt, int(seed)))
    return items


def by_size(
    items: Sequence[Item], batch: int, paint: Callable[[list[Item]], np.ndarray]
) -> list[np.ndarray]:
    """Paint items in batches of one size.

    Args:
        items: in any order.
        batch: items per call, at most.
        paint: returns ``(n, H, W, 3)`` in [0, 1] for n items of one size.

    Returns:
        ``(H, W, 3)`` uint8 per item, in the order of the items.

    Raises:
        ValueError: a painted picture with values that are not finite.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for k, item in enumerate(items):
        groups.setdefault(item.mask.shape, []).append(k)
    out: dict[int, np.ndarray] = {}
    for group in groups.values():
        for start in range(0, len(group), batch):
            part = group[start : start + batch]
            painted = paint([items[k] for k in part])
            for k, picture in zip(part, painted, strict=True):
                if not np.isfinite(picture).all():
                    raise ValueError(
                        f"item {k}: expected a picture, got values that are not finite; load the "
                        "inpainter with dtype='float32', and check its weights"
                    )
                out[k] = (picture * 255).round().astype(np.uint8)
    return [out[k] for k in range(len(items))]
