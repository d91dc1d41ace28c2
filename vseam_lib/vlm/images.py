"""Image files, decoded in full or refused by name."""

from __future__ import annotations

from pathlib import Path

from PIL import Image


def open_image(image: Image.Image | Path) -> Image.Image:
    """Decode an image fully, as RGB.

    Raises:
        FileNotFoundError, ValueError: naming the file.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if not Path(image).is_file():
        raise FileNotFoundError(f"{image}: expected an image file, found none")
    try:
        with Image.open(image) as opened:
            return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # PNG raises SyntaxError
        raise ValueError(
            f"{image}: expected a complete image, but decoding it failed ({error}); "
            "restore the file from its source"
        ) from error
