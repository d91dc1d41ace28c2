"""Trains the shipped tiny models from nothing: ``python -m vseam_lib.world.train``.

1. The vision tower learns what its patches show (``vision_stage``).
2. Words and patches are aligned (``alignment``).
3. The rest of the model learns to answer (``llava_stages``, ``instructblip_stages``).

Whole heads are dropped at random in stage 3, so that no single head becomes indispensable. The
dropped value is zero, not the mean of the other heads: the paper's own intervention (Eq. 5) is
never part of the training.

Every stage saves a checkpoint every few minutes and resumes from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import yaml

from vseam_lib.vlm.load import WEIGHTS
from vseam_lib.world import instructblip_stages, llava_stages
from vseam_lib.world.items import Text
from vseam_lib.world.loop import Run, join, leave, spawn
from vseam_lib.world.pool import build
from vseam_lib.world.ship import ship
from vseam_lib.world.vision_stage import train_vision

RECIPES = Path(__file__).parent / "recipes"
STAGES = {"llava": llava_stages, "instructblip": instructblip_stages}


def work(rank: int, recipe: dict, out: Path, to: Path, port: int) -> None:
    """One of ``processes`` workers; gradients are averaged after every step."""
    torch.set_num_threads(1)
    join(rank, recipe["processes"], port)
    stages, seed = STAGES[recipe["family"]], recipe["seed"]
    run = Run(out, rank, seed)
    torch.manual_seed(seed)
    model = stages.build(recipe)
    model.set_attn_implementation("eager")
    pool = build(recipe["pool"], first=rank * recipe["pool"], seed=seed)
    run.log(stage="pool", scenes=len(pool.scenes))
    train_vision(stages.tower(model), pool, recipe["vision"], run)
    text, features = Text(recipe["family"]), stages.encode(model, pool.images)
    for name, stage in (
        ("alignment", stages.train_alignment),
        ("decoder", stages.train_decoder),
    ):
        stage(model, pool, features, text, recipe[name], run)
    if rank == 0:
        metrics = ship(model.eval(), stages.processor(recipe), recipe, to)
        run.log(stage="shipped", **metrics["heldout"]["mean"])
    leave()


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tiny-llava", help="a recipe's name")
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--to", type=Path, default=WEIGHTS, help="where the weights go")
    args = parser.parse_args()
    recipe = yaml.safe_load((RECIPES / f"{args.recipe}.yml").read_text())
    out = args.out / args.recipe
    spawn(work, recipe["processes"], recipe, out, args.to / args.recipe)


if __name__ == "__main__":
    main()
