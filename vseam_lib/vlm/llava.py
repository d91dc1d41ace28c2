"""LLaVA-1.5 and its relatives (Liu et al., 2023, 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vseam_lib.triples import Box
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.looking import grid


@dataclass(frozen=True, kw_only=True)
class LlavaAdapter(Adapter):
    """LLaVA: one image token per vision patch, in reading order."""

    family: ClassVar[str] = "llava"

    def token_boxes(self, width: int, height: int) -> list[Box]:
        """Pixel box of every image token in an original image of ``width`` x ``height``.

        CLIP's preprocessing scales the shorter side and crops the centre, so tokens cover a
        central square (or ``crop_size``) only; boxes are rounded to whole pixels.
        """
        left, top, side, n = self._crop(width, height)
        x = [round(left + k * side / n) for k in range(n + 1)]
        y = [round(top + k * side / n) for k in range(n + 1)]
        return [
            Box(x[c], y[r], x[c + 1] - x[c], y[r + 1] - y[r]) for r in range(n) for c in range(n)
        ]

    def _crop(self, width: int, height: int) -> tuple[float, float, float, int]:
        """Left, top and side in pixels of the square that is seen, and its patches per side."""
        images = self.processor.image_processor
        crop, edge = images.crop_size["height"], images.size["shortest_edge"]
        side = crop * min(width, height) / edge
        n = crop // self.model.config.vision_config.patch_size
        return (width - side) / 2, (height - side) / 2, side, n

    def cells(self, width: int, height: int) -> np.ndarray:
        """The places that image tokens look at, here their own: ``(n_cells, 4)`` x, y, width and
        height in pixels of the original image, not rounded.
        """
        left, top, side, n = self._crop(width, height)
        return grid(left, top, side, side, n)
