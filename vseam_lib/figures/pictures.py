"""Pictures with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from vseam_lib.figures.base import closed
from vseam_lib.triples import Box


def gallery(
    rows: Sequence[Sequence[np.ndarray | Image.Image | Path]],
    titles: Sequence[Sequence[str]],
    boxes: Sequence[Sequence[Sequence[Box]]] | None = None,
    *,
    columns: Sequence[str] = (),
) -> Figure:
    """A grid of pictures with titles; the first box of each is solid, the others dashed."""
    n, m = len(rows), max(len(r) for r in rows)
    figure, axes = plt.subplots(
        n, m, figsize=(2.35 * m, 2.95 * n), squeeze=False, layout="constrained"
    )
    for r in range(n):
        for c in range(m):
            ax = axes[r, c]
            ax.set_axis_off()
            if c >= len(rows[r]):
                continue
            picture = rows[r][c]
            if isinstance(picture, Path):
                with Image.open(picture) as opened:
                    picture = opened.convert("RGB")
            ax.imshow(picture, interpolation="nearest")
            head = f"{columns[c]}\n" if r == 0 and len(columns) > c else ""
            ax.set_title(head + titles[r][c], fontsize=9)
            for k, box in enumerate(boxes[r][c] if boxes else ()):
                ax.add_patch(
                    Rectangle(
                        (box.x - 0.5, box.y - 0.5), box.w, box.h, fill=False, lw=1.8,
                        ec="#ffd166" if k == 0 else "#ffffff", ls="-" if k == 0 else "--",
                    )
                )  # fmt: skip
    return closed(figure)
