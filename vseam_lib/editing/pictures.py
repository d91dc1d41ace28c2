"""Strict checks of pictures and masks, before a library reinterprets them silently.

The image editors' libraries accept masks of another size, empty masks, and masks of 0 and 1 that
they read as nothing, and segmenters accept floating-point images. Here all of them are refused.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def check_rgb(image: Image.Image | np.ndarray, *, of: str = "image") -> np.ndarray:
    """The pixels of an RGB picture, ``(H, W, 3)`` uint8; a view where the input is an array.

    Args:
        image: a PIL image of mode RGB, or a uint8 array ``(H, W, 3)``.
        of: what the image is, for the message.

    Raises:
        TypeError: neither a PIL image nor an array.
        ValueError: another mode, shape or dtype, or no pixels.
    """
    if isinstance(image, Image.Image):
        if image.mode != "RGB":
            raise ValueError(
                f"{of}: expected a PIL image of mode 'RGB', got {image.mode!r}; "
                f"{_remedy_of_mode(image.mode)}"
            )
        pixels = np.asarray(image)
    elif isinstance(image, np.ndarray):
        pixels = image
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f"{of}: expected an array (H, W, 3), got {pixels.shape}; "
                f"{_remedy_of_shape(pixels.shape)}"
            )
        if pixels.dtype != np.uint8:
            raise ValueError(
                f"{of}: expected uint8 values from 0 to 255, got {pixels.dtype}; "
                "scale to 0 ... 255, round, and convert with .astype(np.uint8)"
            )
    else:
        raise TypeError(
            f"{of}: expected a PIL image or a NumPy array, got {type(image).__name__}; "
            "decode files with vseam_lib.vlm.images.open_image"
        )
    if not pixels.size:
        raise ValueError(f"{of}: expected at least one pixel, got the shape {pixels.shape}")
    return pixels


def check_mask(mask: np.ndarray, size: tuple[int, int], *, of: str = "mask") -> np.ndarray:
    """The mask, if it is a boolean array ``(H, W)`` of the image's size with a pixel set.

    Args:
        mask: True where the image may change.
        size: ``(width, height)`` of the image, as ``PIL.Image.size``.
        of: what the mask is, for the message.

    Raises:
        TypeError: not an array (PIL masks included).
        ValueError: another dtype, shape or size, or an empty mask.
    """
    if not isinstance(mask, np.ndarray):
        raise TypeError(
            f"{of}: expected a boolean array (H, W), got {type(mask).__name__}; "
            "of a PIL image in mode 'L' take np.asarray(mask) > 127"
        )
    if mask.ndim != 2:
        raise ValueError(
            f"{of}: expected one channel (H, W), got the shape {mask.shape}; "
            "take the channel that holds the mask and compare it with a threshold"
        )
    if mask.dtype != np.bool_:
        raise ValueError(
            f"{of}: expected booleans, got {mask.dtype} values up to {mask.max(initial=0)}; use "
            "mask > 0 for 0/1, mask > 127 for 0 ... 255, mask > 0.5 for probabilities"
        )
    width, height = size
    if mask.shape != (height, width):
        raise ValueError(
            f"{of}: expected {width} x {height} pixels like its image, got "
            f"{mask.shape[1]} x {mask.shape[0]}; make the mask from this very image"
        )
    if not mask.any():
        raise ValueError(f"{of}: expected at least one pixel set, got an empty mask")
    return mask


def _remedy_of_mode(mode: str) -> str:
    if mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return "paste it on a background of your choice, image.convert('RGB') would drop alpha"
    if mode == "P":
        return "use image.convert('RGB') if the palette has no transparency"
    if mode.startswith(("I", "F")):
        return "scale its values to 0 ... 255 first, image.convert('RGB') would clip them"
    return "use image.convert('RGB')"


def _remedy_of_shape(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "a grey picture needs np.stack([image] * 3, axis=-1)"
    if len(shape) == 3 and shape[2] == 4:
        return "composite the alpha channel on a background of your choice first"
    if len(shape) == 3 and shape[0] == 3:
        return "channels come last: image.transpose(1, 2, 0)"
    if len(shape) == 4:
        return "pass one picture at a time"
    return "pass one RGB picture"
