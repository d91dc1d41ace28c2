"""How well the small inpainter edits pictures of held-out scenes, by the independent judge."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from vseam_lib.editing.pipeline import edit_triples, item_seed
from vseam_lib.editing.plan import grown
from vseam_lib.editing.settings import EditSettings
from vseam_lib.editing.tools import load_tools
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.triples import Category, sample
from vseam_lib.vlm.images import open_image
from vseam_lib.world.export import export
from vseam_lib.world.judge import NOTHING, Judge

SCENES = 200


def heldout_success(
    folder: Path, *, per_category: int = 40, scenes: int = SCENES, seed: int = 0
) -> dict[str, float]:
    """Per cent of edits in which the judge sees what was wanted, per category, and of removals.

    The whole pipeline runs with its default settings: rewriter, segmenter, and this inpainter.

    Args:
        folder: of the inpainter.
        per_category: questions of each category.
    """
    settings = replace(EditSettings(), inpainter=str(folder))
    judge = Judge()
    with tempfile.TemporaryDirectory() as scratch:
        export(Path(scratch), seed, scenes={"heldout": scenes})
        data = Path(scratch) / "gqa"
        triples = sample(read_gqa(data, "heldout"), per_category, seed)
        tools = load_tools(settings, data, "heldout")
        table = edit_triples(triples, settings, tools, Path(scratch) / "edits")
        colored = [t for t in triples if t.category is Category.COLOR]
        images = [open_image(t.image) for t in colored]
        cleared = tools.inpainter.edit(
            images,
            [
                grown(tools.segmenter.union(image, t.boxes))
                for image, t in zip(images, colored, strict=True)
            ],
            [""] * len(colored),
            task="removal",
            steps=settings.steps,
            guidance=settings.guidance,
            seeds=[item_seed(seed, t.id) for t in colored],
        )
    found = {
        category: 100 * float(part["success"].fillna(False).astype(bool).mean())
        for category, part in table.groupby("category", sort=False)
    }
    gone = [
        judge.look(image, t.boxes[:1])[0].object == NOTHING
        for image, t in zip(cleared, colored, strict=True)
    ]
    return {k: round(v, 2) for k, v in (found | {"removal": 100 * float(np.mean(gone))}).items()}
