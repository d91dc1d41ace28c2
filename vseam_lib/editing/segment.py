"""Masks of the objects in boxes, by SAM (paper, section 4.1; Kirillov et al., 2023).

1. The picture is encoded once, which takes nearly all of the time; a few encodings are kept.
2. Every box is a prompt of its own, decoded to a single mask: SAM's alternatives are for
   ambiguous prompts such as points.

The official checkpoints and the small model that comes with the repository load alike.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from vseam_lib.editing.pictures import check_rgb
from vseam_lib.editing.sam import OFFICIAL, load_sam
from vseam_lib.triples import Box
from vseam_lib.vlm.load import WEIGHTS

SHIPPED = ("tiny-sam",)
DTYPES = ("float32", "bfloat16")


def load_segmenter(
    name_or_path: str | Path, *, device: str = "cpu", dtype: str = "float32"
) -> Segmenter:
    """Load a segmenter; its architecture is read off the weights.

    Args:
        name_or_path: ``tiny-sam``, which comes with the repository and knows the embedded world
            only, or a checkpoint file: an official ``.pth``, or ``.safetensors`` of that layout.
        device: ``cpu``, ``cuda``, ...
        dtype: ``float32``, or ``bfloat16`` to encode images under autocast, which more than
            halves the time of the official models on a CPU.

    Raises:
        ValueError: an unknown dtype, or a file that does not hold exactly a SAM.
        FileNotFoundError: neither a shipped name nor a file.
    """
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype in {', '.join(DTYPES)}, got {dtype!r}")
    path = Path(name_or_path)
    if str(name_or_path) in SHIPPED:
        path = WEIGHTS / path / "model.safetensors"
    elif not path.is_file():
        raise FileNotFoundError(
            f"no segmenter {str(name_or_path)!r}; expected a shipped one ({', '.join(SHIPPED)}) "
            f"or a checkpoint file such as {OFFICIAL}"
        )
    sam = load_sam(path).to(device)
    with open(path, "rb") as f:
        digest = hashlib.file_digest(f, "sha256").hexdigest()[:16]
    return Segmenter(sam, revision=f"{digest}-{dtype}", dtype=dtype)


class Segmenter:
    """Masks of objects from boxes.

    Args:
        sam: in evaluation mode, on its device.
        revision: digest of everything that changes a mask, for the keys of results.
        dtype: ``float32`` or ``bfloat16``, of the image encoder.
        keep: how many pictures' embeddings are kept, the least recently used goes first.
    """

    def __init__(self, sam: Sam, *, revision: str, dtype: str = "float32", keep: int = 4) -> None:
        if keep < 1:
            raise ValueError(f"expected to keep at least 1 embedding, got keep={keep}")
        self.sam, self.revision, self.dtype, self.keep = sam, revision, dtype, keep
        self._encoded: OrderedDict[str, SamPredictor] = OrderedDict()

    def masks(
        self,
        image: Image.Image | np.ndarray,
        boxes: Sequence[Box],
        *,
        allow_empty: bool = False,
    ) -> np.ndarray:
        """One mask per box, ``(n, H, W)`` bool of the image's size.

        Args:
            image: PIL RGB, or uint8 ``(H, W, 3)``.
            boxes: in pixels of the image, at least one. Each is decoded alone, so that its mask
                does not depend on the others.
            allow_empty: accept a mask without pixels instead of raising.

        Raises:
            TypeError: an image or a box of another type.
            ValueError: an image that is not RGB, a box without area or outside the image, or a
                box in which nothing was found.
        """
        pixels = check_rgb(image)
        height, width = pixels.shape[:2]
        boxes = check_boxes(boxes, (width, height))
        predictor = self._predictor(pixels)
        found = np.zeros((len(boxes), height, width), bool)
        for k, (x, y, w, h) in enumerate(boxes):
            corners = np.array([x, y, x + w, y + h], np.float64)
            found[k] = predictor.predict(box=corners, multimask_output=False)[0][0]
            if not (allow_empty or found[k].any()):
                raise ValueError(
                    f"box {k}, {tuple(boxes[k])} of the {width} x {height} image: expected a mask, "
                    "SAM found no pixel; check that the box and the picture belong together, or "
                    "pass allow_empty=True"
                )
        return found

    def union(
        self,
        image: Image.Image | np.ndarray,
        boxes: Sequence[Box],
        *,
        allow_empty: bool = False,
    ) -> np.ndarray:
        """The pixels ``(H, W)`` bool of any of the boxes' masks; see :meth:`masks`."""
        return self.masks(image, boxes, allow_empty=allow_empty).any(0)

    def _predictor(self, pixels: np.ndarray) -> SamPredictor:
        """A predictor that holds this picture's embedding."""
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
        if digest in self._encoded:
            self._encoded.move_to_end(digest)
            return self._encoded[digest]
        predictor = SamPredictor(self.sam)
        # The decoder stays in float32: it costs little, and bfloat16 would round a box's corners to
        # a coarser grid than pixels.
        half = self.dtype == "bfloat16"
        with torch.autocast(self.sam.device.type, dtype=torch.bfloat16, enabled=half):
            predictor.set_image(pixels)
        predictor.features = predictor.features.float()
        self._encoded[digest] = predictor
        if len(self._encoded) > self.keep:
            self._encoded.popitem(last=False)
        return predictor


def check_boxes(boxes: Sequence[Box], size: tuple[int, int]) -> list[Box]:
    """The boxes, if there is at least one and each has an area and lies inside the image.

    Args:
        boxes: :class:`~vseam_lib.triples.Box` only, as a plain tuple does not say whether it holds
            a width and a height or a second corner.
        size: ``(width, height)`` of the image in pixels.

    Raises:
        TypeError: something else than a list of ``Box``.
        ValueError: no box, or one that does not fit, by its position and name.
    """
    if isinstance(boxes, Box):
        raise TypeError(f"expected a list of boxes, got the single {boxes}; pass [box]")
    boxes, (width, height) = list(boxes), size
    if not boxes:
        raise ValueError("expected at least one box, got none; there is nothing to segment")
    for k, box in enumerate(boxes):
        if not isinstance(box, Box):
            raise TypeError(
                f"box {k}: expected a vseam_lib.triples.Box(x, y, w, h), got {box!r}; "
                "of two corners make Box(x0, y0, x1 - x0, y1 - y0)"
            )
        if not all(math.isfinite(side) for side in box):
            raise ValueError(f"box {k}: expected finite numbers, got {tuple(box)}")
        try:
            box.check(width, height, of=f"box {k}")
        except ValueError as error:
            x, y, right, bottom = box
            if 0 <= x < right <= width and 0 <= y < bottom <= height:
                raise ValueError(
                    f"{error}. As two corners it would fit: make Box({x}, {y}, {right - x}, "
                    f"{bottom - y}) of it"
                ) from None
            raise
    return boxes
