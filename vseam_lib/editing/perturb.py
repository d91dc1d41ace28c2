"""Perturbations to compare semantic edits with (paper, appendix C.1, Tables 10-12).

The paper gives an "intensity" without a unit. Read as per cent it reproduces the order of its
Table 10, as grey levels it does not:

1. Gaussian noise: independent per pixel and channel, standard deviation ``intensity`` per cent
   of 255.
2. Salt-and-pepper noise: ``intensity`` per cent of the pixels, half of them black and half
   white, all channels together.
3. Masking: the asked object is filled with one colour.
4. Full redraw and semantic edit need an inpainter, see :mod:`vseam_lib.editing.powerpaint`.

Noise is a function of a seed and the triple's id alone (:func:`item_rng`). The same generator
gives the same noise at all intensities, only stronger, so that intensities can be compared.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from vseam_lib.editing.pictures import check_mask, check_rgb
from vseam_lib.triples import Box

FULL = {"percent": 100, "uint8": 255}  # the intensity that stands for the full range
FILLS = ("black", "mean")


class Method(NamedTuple):
    """A row of Tables 10-12.

    Attributes:
        label: for figures and tables.
        kind: ``"gaussian"``, ``"salt-and-pepper"`` or ``"masking"``, which :func:`perturb` makes;
            ``"redraw"`` and ``"semantic"`` come from an inpainter.
        intensity: of noise, as printed.
    """

    label: str
    kind: str
    intensity: int | None = None

    @property
    def pure(self) -> bool:
        """Whether it needs no model."""
        return self.kind in ("gaussian", "salt-and-pepper", "masking")


METHODS: dict[str, Method] = {
    **{f"gaussian-{i}": Method(f"Gaussian noise {i}", "gaussian", i) for i in (10, 30, 50, 80)},
    **{
        f"salt-and-pepper-{i}": Method(f"salt-and-pepper noise {i}", "salt-and-pepper", i)
        for i in (10, 30, 50, 80)
    },
    "masking": Method("masking", "masking"),
    "redraw": Method("full redraw", "redraw"),
    "semantic": Method("semantic edit", "semantic"),
}


def item_rng(seed: int, triple_id: str) -> np.random.Generator:
    """Randomness of one item, whatever was perturbed before it.

    Raises:
        ValueError: a negative seed.
    """
    if seed < 0:
        raise ValueError(f"expected a seed of at least 0, got {seed}")
    digest = hashlib.sha256(triple_id.encode()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32).tolist()])


def gaussian(
    image: Image.Image, intensity: float, *, scale: str, rng: np.random.Generator
) -> Image.Image:
    """Add Gaussian noise, rounded and clipped to 0 ... 255.

    Args:
        intensity: standard deviation, in per cent of 255 or in grey levels.
        scale: ``"percent"`` (the tables' reading) or ``"uint8"`` for grey levels.
        rng: of the item, see :func:`item_rng`.

    Raises:
        ValueError: an image that is not RGB, an unknown scale, or an intensity outside it.
    """
    pixels = check_rgb(image)
    sigma = 255 * _share(intensity, scale)
    noisy = pixels + sigma * rng.standard_normal(pixels.shape)
    return Image.fromarray(np.rint(noisy).clip(0, 255).astype(np.uint8))


def salt_and_pepper(
    image: Image.Image, intensity: float, *, scale: str, rng: np.random.Generator
) -> Image.Image:
    """Set a share of the pixels to black or white, exactly half each; an odd one is black.

    Args:
        intensity: share of the pixels, in per cent or in parts of 255.
        scale: ``"percent"`` (the tables' reading) or ``"uint8"``.
        rng: of the item, see :func:`item_rng`.

    Raises:
        ValueError: as :func:`gaussian`.
    """
    pixels = check_rgb(image).copy()
    height, width, _ = pixels.shape
    order = rng.permutation(height * width)
    hit = order[: round(_share(intensity, scale) * len(order))]
    flat = pixels.reshape(-1, 3)
    flat[hit[0::2]] = 0
    flat[hit[1::2]] = 255
    return Image.fromarray(pixels)


def masked(image: Image.Image, region: np.ndarray, *, fill: str = "black") -> Image.Image:
    """Fill a region with one colour.

    Args:
        region: ``(H, W)`` bool: an object's mask, or its box from :func:`box_region`.
        fill: ``"black"``, or ``"mean"`` for the mean colour of the whole picture.

    Raises:
        TypeError, ValueError: an image that is not RGB, a region that is no mask of the image's
            size, an empty one, or an unknown fill.
    """
    if fill not in FILLS:
        raise ValueError(f"expected a fill in {', '.join(FILLS)}, got {fill!r}")
    pixels = check_rgb(image).copy()
    region = check_mask(region, check_rgb(image).shape[1::-1], of="region")
    pixels[region] = 0 if fill == "black" else np.rint(pixels.mean((0, 1))).astype(np.uint8)
    return Image.fromarray(pixels)


def box_region(boxes: Sequence[Box], size: tuple[int, int]) -> np.ndarray:
    """The pixels ``(H, W)`` bool of any of the boxes.

    Args:
        size: ``(width, height)`` of the image.

    Raises:
        ValueError: no box, or one that leaves the image.
    """
    if not boxes:
        raise ValueError("expected at least one box, got none; there is nothing to mask")
    width, height = size
    region = np.zeros((height, width), bool)
    for k, box in enumerate(boxes):
        box.check(width, height, of=f"box {k}")
        region[box.y : box.y + box.h, box.x : box.x + box.w] = True
    return region


def perturb(
    name: str,
    image: Image.Image,
    region: np.ndarray,
    rng: np.random.Generator,
    *,
    scale: str = "percent",
    fill: str = "black",
) -> Image.Image:
    """A picture perturbed by one of the :data:`METHODS` that need no model.

    Args:
        region: ``(H, W)`` bool, what masking fills; noise covers the whole picture.
        scale: of the noise's intensity, ``"percent"`` or ``"uint8"``.
        fill: of masking, ``"black"`` or ``"mean"``.

    Raises:
        ValueError: an unknown method or one that needs an inpainter; else as the methods.
    """
    pure = [known for known, method in METHODS.items() if method.pure]
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown perturbation {name!r}, expected one of {', '.join(pure)}{hint}")
    method = METHODS[name]
    if not method.pure:
        raise ValueError(
            f"{name!r} is painted by a model, expected one of {', '.join(pure)}; use "
            f"Inpainter.{'redraw' if name == 'redraw' else 'edit'}"
        )
    # Refuse a wrong region whichever method is asked for: a loop over all methods then fails at
    # its first picture instead of at masking.
    region = check_mask(region, check_rgb(image).shape[1::-1], of="region")
    if method.kind == "masking":
        return masked(image, region, fill=fill)
    noise = gaussian if method.kind == "gaussian" else salt_and_pepper
    return noise(image, method.intensity, scale=scale, rng=rng)


def _share(intensity: float, scale: str) -> float:
    """An intensity as a share of the full range."""
    if scale not in FULL:
        raise ValueError(f"expected a scale in {', '.join(FULL)}, got {scale!r}")
    if not (math.isfinite(intensity) and 0 <= intensity <= FULL[scale]):
        raise ValueError(
            f"expected an intensity from 0 to {FULL[scale]} on the scale {scale!r}, got {intensity}"
        )
    return intensity / FULL[scale]
