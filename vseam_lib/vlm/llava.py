"""LLaVA-1.5 and its relatives (Liu et al., 2023, 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vseam_lib.triples import Box
from vseam_lib.vlm.adapter import Adapter


@dataclass(frozen=True, kw_only=True)
class LlavaAdapter(Adapter):
    """LLaVA: one image token per vision patch, in reading order."""

    family: ClassVar[str] = "llava"

    def token_boxes(self, width: int, height: int) -> list[Box]:
        """Pixel box of every image token in an original image of ``width`` x ``height``.

        CLIP's preprocessing scales the shorter side and crops the centre, so tokens cover a
        central square (or ``crop_size``) only; boxes are rounded to whole pixels.
        """
        images = self.processor.image_processor
        crop, edge = images.crop_size["height"], images.size["shortest_edge"]
        patch = self.model.config.vision_config.patch_size
        scale = min(width, height) / edge
        left, top = (width - crop * scale) / 2, (height - crop * scale) / 2
        side, n = patch * scale, crop // patch
        return [
            Box(
                round(left + c * side), round(top + r * side),
                round(left + (c + 1) * side) - round(left + c * side),
                round(top + (r + 1) * side) - round(top + r * side),
            )
            for r in range(n)
            for c in range(n)
        ]  # fmt: skip
