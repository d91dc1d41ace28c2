"""Stage 1: the vision tower learns what its patches show.

Patch by patch the class, colour, material and pose, and from the class token which classes and
which place the picture has. The read-outs are thrown away afterwards.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vseam_lib.world import ontology as o
from vseam_lib.world.glyphs import POSES
from vseam_lib.world.loop import Run, train
from vseam_lib.world.pool import IGNORE, Pool, pixel_values


class PatchReader(nn.Module):
    """Linear read-outs on the vision tower for stage 1."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        d = tower.config.hidden_size
        self.tower = tower
        sizes = [len(o.CLASSES) + 1, len(o.COLORS), len(o.MATERIALS), len(POSES)]
        self.patch = nn.ModuleList([nn.Linear(d, n) for n in sizes])
        self.where = nn.Linear(d, 16)
        self.present = nn.Linear(d, len(o.CLASSES))
        self.place = nn.Linear(d, len(o.PLACES))

    def forward(self, pixels, patches, present, places) -> tuple[Tensor, list[float]]:
        hidden = self.tower(pixel_values=pixels).last_hidden_state
        cls, cells = hidden[:, 0], hidden[:, 1:]
        loss, right = 0.0, []
        for k, read in enumerate(self.patch):
            logits = read(cells).float().flatten(0, 1)
            target = patches[:, k].flatten()
            loss = loss + F.cross_entropy(logits, target, ignore_index=IGNORE)
            seen = (target > 0) if k == 0 else (target >= 0)
            right.append((logits.argmax(-1) == target)[seen].float().mean().item())
        row = torch.arange(64).expand(len(cells), -1)
        where = self.where(cells).float()
        loss = loss + 0.2 * F.cross_entropy(where[..., :8].flatten(0, 1), (row // 8).flatten())
        loss = loss + 0.2 * F.cross_entropy(where[..., 8:].flatten(0, 1), (row % 8).flatten())
        loss = loss + F.binary_cross_entropy_with_logits(self.present(cls).float(), present)
        loss = loss + 0.3 * F.cross_entropy(self.place(cls).float(), places)
        return loss, right


def train_vision(tower: nn.Module, pool: Pool, recipe: dict, run: Run) -> None:
    """Train the tower and freeze it."""
    reader = PatchReader(tower).train()

    def loss_of(step: int, rng: np.random.Generator):
        pick = rng.integers(len(pool.scenes), size=recipe["batch"])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, right = reader(
                pixel_values(pool.images[pick]), pool.patches[pick], pool.present[pick],
                pool.places[pick],
            )  # fmt: skip
        return loss, {"loss": loss.item(), "right": right}

    train(run, "vision", reader, [(reader.parameters(), 1.0)], recipe, loss_of)
    tower.eval().requires_grad_(False)


@torch.no_grad()
def patch_features(tower: nn.Module, images: np.ndarray, size: int = 256) -> Tensor:
    """Vision features ``(n, 1 + 64, d)`` in bfloat16 of a whole pool, class token first."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return torch.cat([
            tower(pixel_values(images[i : i + size])).last_hidden_state.bfloat16()
            for i in range(0, len(images), size)
        ])  # fmt: skip
