"""InstructBLIP with a decoder-only language model (Dai et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.looking import eager, grid


@dataclass(frozen=True, kw_only=True)
class InstructBlipAdapter(Adapter):
    """InstructBLIP: image tokens are the Q-Former's queries, which have read the question.

    They come first, before the start of the text, and have no place in the picture.
    """

    family: ClassVar[str] = "instructblip"
    shares_image: ClassVar[bool] = False
    spelling: ClassVar[Mapping[str, str]] = {"Yes": "yes", "No": "no"}  # as its prompt asks
    looks_through: ClassVar[str] = "the Q-Former's cross-attention"

    def image_features(self, batch) -> Tensor:
        """The queries' outputs, projected: ``(n_queries, d_model)``."""
        return self._queries(batch).pooler_output[0]

    def _queries(self, batch, **kwargs):
        return self.model.get_image_features(
            pixel_values=batch["pixel_values"].to(self.device, self.model.dtype),
            qformer_input_ids=batch["qformer_input_ids"].to(self.device),
            qformer_attention_mask=batch["qformer_attention_mask"].to(self.device),
            **kwargs,
        )

    def cells(self, width: int, height: int) -> np.ndarray:
        """The vision patches, ``(n_cells, 4)`` x, y, width and height in pixels of the original
        image; the processor squashes the whole image to a square.
        """
        return grid(0, 0, width, height, self._patches_per_side)

    @property
    def _patches_per_side(self) -> int:
        vision = self.model.config.vision_config
        return vision.image_size // vision.patch_size

    @torch.no_grad()
    def looks_at(self, image: Image.Image | Path, question: str) -> Tensor:
        """Where each query looks: ``(n_queries, n_patches)`` in float64, rows sum to 1.

        The Q-Former's cross-attention, averaged over its layers and heads; what goes to the class
        token, which has no place, is left out and the rest scaled up.

        Raises:
            RuntimeError: if the Q-Former gives no such weights.
        """
        batch = self.processor(
            images=[open_image(image)], text=[self.text(question)], return_tensors="pt"
        )
        with eager(self.model.vision_model), eager(self.model.qformer):
            found = self._queries(batch, output_attentions=True).qformer_outputs.cross_attentions
        n = self._patches_per_side**2
        if not found or any(x is None or x.shape[-1] != n + 1 for x in found):
            raise RuntimeError(
                f"expected cross-attention weights over {n} patches and a class token from the "
                f"Q-Former, got {[None if x is None else tuple(x.shape) for x in found or ()]}; "
                "this version of transformers does not return them under eager attention"
            )
        looks = torch.stack([x[0] for x in found]).double().mean((0, 1))[:, 1:]
        return looks / looks.sum(-1, keepdim=True)
