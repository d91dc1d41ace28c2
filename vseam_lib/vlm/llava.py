"""LLaVA-1.5 and its relatives (Liu et al., 2023, 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.looking import grid


@dataclass(frozen=True, kw_only=True)
class LlavaAdapter(Adapter):
    """LLaVA: one image token per vision patch, in reading order."""

    family: ClassVar[str] = "llava"

    def cells(self, width: int, height: int) -> np.ndarray:
        """The places that image tokens look at, here their own: ``(n_cells, 4)`` x, y, width and
        height in pixels of the original image, not rounded.

        CLIP's preprocessing scales the shorter side and crops the centre, so tokens cover a
        central square (or ``crop_size``) only.
        """
        images = self.processor.image_processor
        crop, edge = images.crop_size["height"], images.size["shortest_edge"]
        side = crop * min(width, height) / edge
        n = crop // self.model.config.vision_config.patch_size
        return grid((width - side) / 2, (height - side) / 2, side, side, n)
