"""An independent judge of edits: a small classifier of what a box of a picture shows.

It shares no weights, no data and no architecture with the models under analysis or with the
inpainter, and it never sees a prompt. It knows the embedded world only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from vseam_lib.triples import Box
from vseam_lib.vlm.load import WEIGHTS
from vseam_lib.world import ontology as o

NOTHING = "nothing"
KINDS: dict[str, tuple[str, ...]] = {
    "object": (NOTHING, *o.CLASSES),
    "color": tuple(o.COLORS),
    "material": o.MATERIALS,
    "action": o.ACTIONS,
}
CROP = 48  # pixels, both sides, of what the classifier sees
SURROUNDINGS = 0.2  # of a box's longer side, shown on each side of it


class Seen(NamedTuple):
    """What the judge takes a box to show, with its probability for each kind."""

    object: str
    color: str
    material: str
    action: str
    p: dict[str, float]


class Classifier(nn.Module):
    """Convolutions on one crop, and a read-out per kind."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for k in range(4):
            out = width * 2 ** min(k, 2)
            for stride in (1, 2):
                layers += [
                    nn.Conv2d(channels, out, 3, stride, 1, bias=False),
                    nn.BatchNorm2d(out),
                    nn.ReLU(),
                ]
                channels = out
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2))
        d = channels * (CROP // 16) ** 2
        self.read = nn.ModuleDict({kind: nn.Linear(d, len(v)) for kind, v in KINDS.items()})

    def forward(self, crops: Tensor) -> dict[str, Tensor]:
        """Logits per kind of crops ``(n, 3, 48, 48)`` in [-1, 1]."""
        hidden = self.body(crops)
        return {kind: read(hidden) for kind, read in self.read.items()}


def crop(image: Tensor, box: Box) -> Tensor:
    """A box with its surroundings, scaled to ``(3, 48, 48)``; beyond the picture it is grey.

    Args:
        image: ``(3, H, W)`` in [-1, 1].
    """
    pad = SURROUNDINGS * max(box.w, box.h)
    x0, y0, x1, y1 = box.x - pad, box.y - pad, box.x + box.w + pad, box.y + box.h + pad
    side = torch.arange(CROP) + 0.5
    height, width = image.shape[1:]
    x = (x0 + side * (x1 - x0) / CROP) / width * 2 - 1
    y = (y0 + side * (y1 - y0) / CROP) / height * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    return F.grid_sample(image[None], grid[None].to(image), align_corners=False)[0]


class Judge:
    """The shipped classifier.

    Args:
        folder: with ``model.safetensors``; the shipped one by default.

    Raises:
        FileNotFoundError: a folder without weights.
    """

    def __init__(self, folder: Path | str = WEIGHTS / "tiny-judge") -> None:
        path = Path(folder) / "model.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: expected the judge's weights; run `make weights`")
        self.model = Classifier()
        self.model.load_state_dict({k: v.float() for k, v in load_file(path).items()})
        self.model.eval().requires_grad_(False)

    @torch.no_grad()
    def look(self, image: Image.Image, boxes: Sequence[Box]) -> list[Seen]:
        """What each box of an RGB picture shows."""
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1) / 127.5 - 1
        for box in boxes:
            box.check(image.width, image.height, of="a box to be judged")
        logits = self.model(torch.stack([crop(pixels, box) for box in boxes]))
        best = {kind: x.softmax(-1).max(-1) for kind, x in logits.items()}
        return [
            Seen(
                **{kind: KINDS[kind][int(ids[k])] for kind, (_, ids) in best.items()},
                p={kind: float(p[k]) for kind, (p, _) in best.items()},
            )
            for k in range(len(boxes))
        ]
