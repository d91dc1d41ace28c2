"""Trains the shipped tiny LLaVA from nothing: ``python -m vseam_lib.world.train``.

1. The vision tower learns, patch by patch, the class, colour, material and pose that it shows,
   and from its class token which classes and which place the picture has.
2. With the tower frozen, projector and word embeddings are aligned: a patch resembles the words
   for what it shows.
3. Projector and decoder learn to answer: captions, short statements and one-word questions first,
   the paper's prompts last. The picture and the text before it are run once and shared by all
   questions about it (``shared_prefix``).

Whole heads are dropped at random in stage 3, so that no single head becomes indispensable. The
dropped value is zero, not the mean of the other heads: the paper's own intervention (Eq. 5) is
never part of the training.

Stages 1 and 3 save a checkpoint every few minutes and resume from it.
"""

from __future__ import annotations

import argparse
import socket
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from transformers import CLIPVisionModel

from vseam_lib.world import models
from vseam_lib.world import ontology as o
from vseam_lib.world.glyphs import POSES
from vseam_lib.world.items import FORMATS, Text, batch
from vseam_lib.world.loop import Run, average_gradients, optimiser, schedule
from vseam_lib.world.pool import IGNORE, Pool, build, pixel_values
from vseam_lib.world.shared_prefix import answer_logits
from vseam_lib.world.ship import ship

RECIPES = Path(__file__).parent / "recipes"
WEIGHTS = Path(__file__).parent / "weights"


class PatchReader(nn.Module):
    """Linear read-outs on the vision tower for stage 1."""

    def __init__(self, tower: CLIPVisionModel) -> None:
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


def train_vision(tower, pool: Pool, recipe: dict, run: Run, rng) -> None:
    """Stage 1."""
    reader = PatchReader(tower).train()
    params = list(reader.parameters())
    opt = optimiser(params, recipe["lr"])
    first = run.resume("vision", reader, opt)
    for step in range(first, recipe["steps"]):
        pick = rng.integers(len(pool.scenes), size=recipe["batch"])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, right = reader(
                pixel_values(pool.images[pick]), pool.patches[pick], pool.present[pick],
                pool.places[pick],
            )  # fmt: skip
        for p in params:
            p.grad = torch.zeros_like(p)
        loss.backward()
        average_gradients(params)
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.param_groups[0]["lr"] = schedule(step, recipe["steps"], recipe["lr"])
        opt.step()
        if step % 50 == 49:
            run.log(stage="vision", step=step + 1, loss=loss.item(), right=right)
        if step % 250 == 249 or step + 1 == recipe["steps"]:
            run.save("vision", step + 1, reader, opt)
    tower.eval().requires_grad_(False)


def encode(model, images: np.ndarray, size: int = 256) -> Tensor:
    """Vision features ``(n, 64, d)`` in bfloat16 of a whole pool."""
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return torch.cat([
            model.model.vision_tower(pixel_values(images[i : i + size])).last_hidden_state[:, 1:]
            .bfloat16()
            for i in range(0, len(images), size)
        ])  # fmt: skip


def words_of_patches(pool: Pool, text: Text) -> Tensor:
    """Token ids of the words for class, colour and material of every patch, ``(n, 64, 3)``."""
    tables = []
    for names in (("", *o.CLASSES), tuple(o.COLORS), o.MATERIALS):
        tables.append(torch.tensor([text.ids(w)[0] if w else IGNORE for w in names]))
    ids = [
        torch.where(labels >= 0, table[labels.clamp(min=0)], IGNORE)
        for labels, table in zip(pool.patches[:, :3].unbind(1), tables, strict=True)
    ]
    return torch.stack(ids, -1)


def alignment(model, features: Tensor, words: Tensor) -> Tensor:
    """Feature alignment, LLaVA's first stage patch by patch: a projected patch resembles the
    embeddings of the words for what it shows.

    Args:
        features: ``(B, 64, d_vision)``.
        words: ``(B, 64, 3)`` token ids, -100 where there is no word.
    """
    image = model.model.multi_modal_projector(features.float())
    table = model.model.language_model.embed_tokens.weight
    d = table.shape[1]
    logits = F.rms_norm(image, (d,)) @ F.rms_norm(table, (d,)).T / d**0.5
    log_p = logits.log_softmax(-1)
    said = words >= 0
    picked = log_p.gather(-1, words.clamp(min=0))
    return -(picked * said).sum() / said.sum()


def train_alignment(model, pool: Pool, features: Tensor, text: Text, recipe: dict, run: Run, rng):
    """Stage 2: projector and word embeddings, by :func:`alignment` alone."""
    words = words_of_patches(pool, text)
    params = [*model.model.multi_modal_projector.parameters()]
    params.append(model.model.language_model.embed_tokens.weight)
    opt = optimiser(params, recipe["lr"])
    for step in range(recipe["steps"]):
        pick = rng.integers(len(pool.scenes), size=recipe["batch"])
        loss = alignment(model, features[pick], words[pick])
        for p in params:
            p.grad = torch.zeros_like(p)
        loss.backward()
        average_gradients(params)
        opt.param_groups[0]["lr"] = schedule(step, recipe["steps"], recipe["lr"])
        opt.step()
        if step % 50 == 49:
            run.log(stage="alignment", step=step + 1, loss=loss.item())


def train_decoder(
    model, pool: Pool, features: Tensor, text: Text, recipe: dict, run: Run, rng
) -> None:
    """Stage 3."""
    model.train()
    params = [p for p in model.parameters() if p.requires_grad]
    opt = optimiser(params, recipe["lr"])
    first, steps = run.resume("decoder", model, opt), recipe["steps"]
    low, high = recipe["head_dropout"]
    word_ids = words_of_patches(pool, text)
    shown: dict[str, list] = {}
    rng = np.random.default_rng([first, *rng.integers(2**31, size=2)])
    for step in range(first, steps):
        phase = next(x for x in recipe["phases"] if step / steps < x["until"])
        drop = low + (high - low) * step / steps
        pick = rng.integers(len(pool.scenes), size=recipe["images"])
        scenes = [pool.scenes[i] for i in pick]
        loss = recipe["alignment"] * alignment(model, features[pick], word_ids[pick])
        for together in phase["formats"]:  # formats of like length share a forward pass
            made = batch(text, together, scenes, rng, phase["statements"])
            prefix = text.prefix("open" if "open" in together else "yes_no")
            logits = answer_logits(
                model, features[pick], prefix, made.ids, made.at, rows=made.rows, drop=drop
            )
            losses = F.cross_entropy(logits, made.targets, reduction="none")
            right = (logits.argmax(-1) == made.targets).float()
            for kind in together:
                of = made.kinds == FORMATS.index(kind)
                loss = loss + losses[of].mean() * phase["weights"].get(kind, 1.0)
                shown.setdefault(kind, []).append(
                    (losses[of].mean().item(), right[of].mean().item())
                )
        for p in params:
            p.grad = torch.zeros_like(p)
        loss.backward()
        average_gradients(params)
        nn.utils.clip_grad_norm_(params, 1.0)
        opt.param_groups[0]["lr"] = schedule(step, steps, recipe["lr"])
        opt.step()
        if step % 25 == 24:
            mean = {k: np.mean(v, 0).round(3).tolist() for k, v in shown.items()}
            run.log(stage="decoder", step=step + 1, **mean)
            shown = {}
        if step % 100 == 99 or step + 1 == steps:
            run.save("decoder", step + 1, model, opt)


def work(rank: int, recipe: dict, out: Path, to: Path, port: int) -> None:
    """One of ``processes`` workers; gradients are averaged after every step."""
    torch.set_num_threads(1)
    if recipe["processes"] > 1:
        dist.init_process_group(
            "gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=recipe["processes"]
        )
    run = Run(out, rank)
    torch.manual_seed(recipe["seed"])
    model = models.llava(**recipe["model"])
    model.set_attn_implementation("eager")
    torch.manual_seed(recipe["seed"] + 1 + rank)
    rng = np.random.default_rng([recipe["seed"], rank])
    pool = build(recipe["pool"], first=rank * recipe["pool"], seed=recipe["seed"])
    run.log(stage="pool", scenes=len(pool.scenes))
    train_vision(model.model.vision_tower, pool, recipe["vision"], run, rng)
    text = Text()
    features = encode(model, pool.images)
    if not (out / "decoder.pt").exists():
        train_alignment(model, pool, features, text, recipe["alignment"], run, rng)
    train_decoder(model, pool, features, text, recipe["decoder"], run, rng)
    if rank == 0:
        metrics = ship(model.eval(), models.llava_processor(), "llava", recipe, to)
        run.log(stage="shipped", **metrics["heldout"]["mean"])
    if dist.is_initialized():
        dist.destroy_process_group()


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="tiny-llava", help="a recipe's name")
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--to", type=Path, default=WEIGHTS, help="where the weights go")
    args = parser.parse_args()
    recipe = yaml.safe_load((RECIPES / f"{args.recipe}.yml").read_text())
    out = args.out / args.recipe
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(
        work, (recipe, out, args.to / args.recipe, port), nprocs=recipe["processes"]
    )


if __name__ == "__main__":
    main()
