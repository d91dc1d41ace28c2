"""Trains the shipped small inpainter from nothing: ``python -m vseam_lib.world.inpainter_stages``.

1. The autoencoder learns to restore windows of pictures; its latents are scaled to unit variance.
2. The text encoder learns to keep the words of a prompt apart.
3. UNet, text encoder and task tokens learn to restore what a mask hides, from the latent of the
   picture with the hole filled grey, the mask and the prompt. The loss counts mostly inside the
   mask, since edits are pasted into the original.
4. They go on with more objects whose material the prompt names, many of them close up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionInpaintPipeline
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from vseam_lib.world import inpainter
from vseam_lib.world.draw import draw
from vseam_lib.world.inpainter_items import Item, cut_inside, item
from vseam_lib.world.inpainter_metrics import heldout_success
from vseam_lib.world.loop import Run, command_line, join, leave, spawn, train
from vseam_lib.world.questions import pick
from vseam_lib.world.scene import SIZE, Scene, sample_scene

RECIPE = Path(__file__).parent / "recipes" / "tiny-powerpaint.yml"
CELL = 4  # pixels, side of the cells in which fine textures are compared
Drawn = tuple[Scene, np.ndarray, np.ndarray]


def pool(n: int, *, first: int, seed: int) -> list[Drawn]:
    """Training scenes as drawn: scene, image and owner."""
    scenes = (sample_scene("train", index, seed) for index in range(first, first + n))
    return [(scene, *draw(scene)) for scene in scenes]


def pixels(images: np.ndarray) -> Tensor:
    """``(n, S, S, 3)`` uint8 to ``(n, 3, S, S)`` in [-1, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def roughness(images: Tensor) -> Tensor:
    """Mean absolute deviation from the surroundings in cells of :data:`CELL` pixels.

    It tells a fine texture from a flat colour even where its phase is off.
    """
    smooth = F.avg_pool2d(images, CELL + 1, 1, CELL // 2, count_include_pad=False)
    return F.avg_pool2d((images - smooth).abs(), CELL)


def cut_anywhere(side: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """A random window of a picture."""
    y, x = rng.integers(0, SIZE - side + 1, 2)
    return slice(y, y + side), slice(x, x + side)


def cut_near(
    scene: Scene, image: np.ndarray, owner: np.ndarray, side: int, rng: np.random.Generator
) -> tuple[slice, slice]:
    """A window around an object, one that has a material if there is any."""
    shown = np.unique(owner[owner >= 0]).tolist()
    textured = [k for k in shown if scene.objects[k].material]
    k = pick(rng, textured or shown)
    return cut_inside(owner == k, side, rng)


def train_vae(
    pipe: StableDiffusionInpaintPipeline, drawn: list[Drawn], recipe: dict, run: Run
) -> None:
    """Train the autoencoder, freeze it, and set its scaling factor."""
    vae = pipe.vae.train().to(memory_format=torch.channels_last)

    def loss_of(step: int, rng: np.random.Generator):
        phase = next(p for p in recipe["phases"] if step < p["until"] * recipe["steps"])
        side, batch = phase["window"]
        cuts, shown = [], []
        for k in rng.integers(len(drawn), size=batch):
            window = cut_near(*drawn[k], side, rng) if phase["near"] else cut_anywhere(side, rng)
            cuts.append(drawn[k][1][window])
            shown.append(drawn[k][2][window] >= 0)
        target = pixels(np.stack(cuts))
        on_object = torch.from_numpy(np.stack(shown))[:, None].float()
        weight = 1 + recipe["objects"] * on_object
        if not phase["near"] and rng.random() < 0.3:  # holes are filled with grey
            y, x = rng.integers(0, side - 16, 2)
            h, w = rng.integers(12, 40, 2)
            target[:, :, y : y + h, x : x + w] = 0
        with torch.autocast("cpu", dtype=torch.bfloat16):
            posterior = vae.encode(target).latent_dist
            restored = vae.decode(posterior.sample()).sample.float()
        off = restored - target
        error = (off.abs() * weight).mean()
        edges = sum((off.diff(dim=d).abs() * weight.narrow(d, 1, side - 1)).mean() for d in (2, 3))
        rough = (roughness(restored) - roughness(target)).abs() * F.avg_pool2d(on_object, CELL)
        loss = error + phase["edges"] * edges + phase["texture"] * rough.mean()
        loss = loss + recipe["kl"] * posterior.kl().float().mean()
        return loss, {"loss": loss.item(), "grey levels": 127.5 * off.abs().mean().item()}

    train(run, "vae", vae, [(vae.parameters(), 1.0)], recipe, loss_of)
    vae.eval().requires_grad_(False)
    some = pixels(np.stack([image for _, image, _ in drawn[:256]]))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        scale = 1 / float(vae.encode(some).latent_dist.mode().float().std())
    vae.register_to_config(scaling_factor=scale)


def train_text(
    pipe: StableDiffusionInpaintPipeline, drawn: list[Drawn], recipe: Mapping, run: Run
) -> None:
    """Teach the text encoder to tell from the mean of its outputs which tokens a prompt has.

    Attention begins as a mean, so that the UNet then finds colours and classes at once. (Stable
    Diffusion's text encoder comes trained, too.)
    """
    text, size = pipe.text_encoder.train(), len(pipe.tokenizer)
    reader = nn.ModuleList([text, nn.Linear(text.config.hidden_size, size)])

    def loss_of(step: int, rng: np.random.Generator):
        made = (item(*drawn[rng.integers(len(drawn))], SIZE, rng) for _ in range(recipe["batch"]))
        ids = token_ids(pipe, [i.prompt for i in made if i])
        has = torch.zeros(len(ids), size).scatter_(1, ids, 1.0)
        told = reader[1](text(ids).last_hidden_state.mean(1))
        loss = size * F.binary_cross_entropy_with_logits(told, has)
        return loss, {"loss": loss.item()}

    train(run, "text", reader, [(reader.parameters(), 1.0)], recipe, loss_of)


def token_ids(pipe: StableDiffusionInpaintPipeline, prompts: list[str]) -> Tensor:
    """Token ids of prompts, ``(n, LENGTH)``."""
    return pipe.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids


class Painter(nn.Module):
    """UNet and text encoder, which learn together."""

    def __init__(self, pipe: StableDiffusionInpaintPipeline) -> None:
        super().__init__()
        self.unet, self.text = pipe.unet, pipe.text_encoder
        self.unet.to(memory_format=torch.channels_last)


def loss_of_items(
    pipe: StableDiffusionInpaintPipeline,
    items: list[Item],
    *,
    outside: float,
    early: float,
    levels: int,
) -> Tensor:
    """Velocity loss of a batch at random noise levels, weighted by the mask.

    Args:
        outside: weight of a latent outside the mask; inside it is 1.
        early: below 1, high noise levels are drawn more often.
        levels: noise levels at which each item is seen; encoding it costs as much as one.
    """
    target = pixels(np.stack([i.image for i in items]))
    mask = torch.from_numpy(np.stack([i.mask for i in items]))[:, None].float()
    scale, at = pipe.vae.config.scaling_factor, pipe.scheduler
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        clean = pipe.vae.encode(target).latent_dist.sample().float() * scale
        hidden = pipe.vae.encode(target * (mask < 0.5)).latent_dist.sample().float() * scale
    mask = F.interpolate(mask, size=clean.shape[-2:])
    clean, hidden, mask = (x.repeat(levels, 1, 1, 1) for x in (clean, hidden, mask))
    noise = torch.randn_like(clean)
    share = torch.rand(len(clean)) ** early  # more often early in sampling, where text decides
    t = (share * at.config.num_train_timesteps).long().clamp(max=at.config.num_train_timesteps - 1)
    noisy = at.add_noise(clean, noise, t)
    ids = token_ids(pipe, [i.prompt for i in items])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        text = pipe.text_encoder(ids).last_hidden_state.repeat(levels, 1, 1)
        said = pipe.unet(torch.cat([noisy, mask, hidden], 1), t, text).sample.float()
    error = (said - at.get_velocity(clean, noise, t)).square().mean(1, keepdim=True)
    weight = outside + (1 - outside) * mask
    return (error * weight).sum() / weight.sum()


def train_painter(
    pipe: StableDiffusionInpaintPipeline, drawn: list[Drawn], recipe: Mapping, run: Run, stage: str
) -> None:
    """Train UNet, text encoder and task tokens."""
    painter = Painter(pipe).train().requires_grad_(True)
    painter.unet.set_attn_processor(AttnProcessor())  # faster on a CPU than the fused one

    def loss_of(step: int, rng: np.random.Generator):
        phase = next(p for p in recipe["phases"] if step < p["until"] * recipe["steps"])
        # The same window size in all processes, so that none waits for another.
        at = np.random.default_rng([run.seed, step]).choice(len(phase["windows"]))
        size, batch = phase["windows"][at]
        items: list[Item] = []
        while len(items) < batch:
            made = item(*drawn[rng.integers(len(drawn))], size, rng, textured=recipe["textured"])
            items += [made] if made else []
        loss = loss_of_items(pipe, items, **{k: recipe[k] for k in ("outside", "early", "levels")})
        return loss, {f"loss {size}": loss.item()}

    train(run, stage, painter, [(painter.parameters(), 1.0)], recipe, loss_of)
    painter.unet.set_attn_processor(AttnProcessor2_0())
    painter.eval().requires_grad_(False)


def work(rank: int, recipe: dict, out: Path, to: Path, port: int) -> None:
    """One of ``processes`` workers; gradients are averaged after every step."""
    torch.set_num_threads(1)
    join(rank, recipe["processes"], port)
    run = Run(out, rank, recipe["seed"])
    torch.manual_seed(recipe["seed"])
    pipe = inpainter.build(recipe["sizes"])
    drawn = pool(recipe["pool"], first=rank * recipe["pool"], seed=recipe["seed"])
    run.log(stage="pool", scenes=len(drawn))
    train_vae(pipe, drawn, recipe["vae"], run)
    train_text(pipe, drawn, recipe["text"], run)
    for stage in ("unet", "materials"):
        train_painter(pipe, drawn, recipe[stage], run, stage)
    if rank == 0:
        metrics = ship(pipe, recipe, to)
        run.log(stage="shipped", **metrics["heldout"])
    leave()


def ship(pipe: StableDiffusionInpaintPipeline, recipe: dict, folder: Path) -> dict:
    """Write all parts (float16) in PowerPaint's merged layout, and what they can do."""
    parts = (pipe.unet, pipe.vae, pipe.text_encoder)
    for part in parts:
        part.half()
    pipe.register_modules(tokenizer=inpainter.tokenizer())  # one that training has not set up
    pipe.save_pretrained(folder)
    metrics = {
        "heldout": heldout_success(folder),
        "parameters": sum(p.numel() for part in parts for p in part.parameters()),
        "recipe": recipe,
        "trained_with": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    return metrics


def main() -> None:
    """Train from the command line."""
    recipe, out, to = command_line(__doc__.splitlines()[0], RECIPE)
    spawn(work, recipe["processes"], recipe, out, to)


if __name__ == "__main__":
    main()
