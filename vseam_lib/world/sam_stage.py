"""Trains the small segmenter on the embedded world: ``python -m vseam_lib.world.sam_stage``.

A ``segment_anything`` model small enough for one core learns to segment the object in a box.

1. Scenes of the training split are drawn once, with every object's exact visible mask.
2. A step takes some scenes and boxes of their objects, tight or off by some pixels.
3. The single-mask output learns the mask (cross entropy and Dice loss), the quality head its IoU.

The training resumes from its latest checkpoint. What is shipped are float16 weights, and the
metrics next to them are of these weights, read back, on held-out scenes.
"""

from __future__ import annotations

import argparse
import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import Tensor

from vseam_lib.editing.sam import Architecture, build_sam
from vseam_lib.editing.segment import Segmenter, load_segmenter
from vseam_lib.triples import Box
from vseam_lib.vlm.load import WEIGHTS
from vseam_lib.world.draw import draw
from vseam_lib.world.export import SCENES, VISIBLE
from vseam_lib.world.loop import Run, train
from vseam_lib.world.ontology import CLASSES
from vseam_lib.world.scene import SIZE, mask_box, sample_scene

RECIPES = Path(__file__).parent / "recipes"
NAME = "tiny-sam"


class Masks(NamedTuple):
    """Training scenes.

    Attributes:
        images: ``(n, 96, 96, 3)`` uint8.
        owners: ``(n, 96, 96)`` int8, which object each pixel shows.
        objects: per scene the objects that show, and their tight corners ``(k, 4)``: x0, y0, x1,
            y1 in pixels, the last two exclusive.
    """

    images: np.ndarray
    owners: np.ndarray
    objects: list[tuple[np.ndarray, np.ndarray]]


def corners(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Tight corners of a mask, the last two exclusive."""
    box = mask_box(mask)
    return box.x, box.y, box.x + box.w, box.y + box.h


def draw_masks(n: int, *, visible: int, seed: int) -> Masks:
    """Draw training scenes ``0`` ... ``n - 1`` with the objects of at least ``visible`` pixels."""
    images, owners, objects = [], [], []
    for index in range(n):
        scene = sample_scene("train", index, seed)
        image, owner = draw(scene)
        shown = [k for k in range(len(scene.objects)) if (owner == k).sum() >= visible]
        images.append(image)
        owners.append(owner)
        objects.append((np.array(shown), np.array([corners(owner == k) for k in shown])))
    return Masks(np.stack(images), np.stack(owners), objects)


def jittered(box: np.ndarray, by: int, rng: np.random.Generator) -> np.ndarray:
    """Corners ``(4,)`` with every side moved by up to ``by`` pixels, inside the image."""
    x0, y0, x1, y1 = box + rng.integers(-by, by + 1, 4)
    x0, y0 = np.clip([x0, y0], 0, np.array(box[2:]) - 1)
    x1, y1 = np.clip([x1, y1], (x0 + 1, y0 + 1), SIZE)
    return np.array([x0, y0, x1, y1])


def prompts(masks: Masks, pick: np.ndarray, recipe: dict, rng) -> tuple[np.ndarray, np.ndarray]:
    """Corners ``(B, boxes, 4)`` and masks ``(B, boxes, 96, 96)`` of some scenes' objects."""
    boxes, targets = [], []
    for i in pick:
        shown, tight = masks.objects[i]
        for j in rng.integers(len(shown), size=recipe["boxes"]):
            exact = rng.random() < recipe["exact"]
            boxes.append(tight[j] if exact else jittered(tight[j], recipe["jitter"], rng))
            targets.append(masks.owners[i] == shown[j])
    shape = len(pick), recipe["boxes"]
    return np.stack(boxes).reshape(*shape, 4), np.stack(targets).reshape(*shape, SIZE, SIZE)


def mask_logits(sam: Sam, images: np.ndarray, boxes: np.ndarray) -> tuple[Tensor, Tensor]:
    """Single-mask logits ``(B, K, 96, 96)`` and predicted IoUs ``(B, K)`` of ``K`` boxes per image.

    The released decoder takes one image at a time, hence ``vmap`` over images.
    """
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    features = sam.image_encoder(sam.preprocess(pixels))  # (B, C, 24, 24)
    B, K = boxes.shape[:2]
    flat = torch.from_numpy(boxes).float().flatten(0, 1)
    sparse, dense = sam.prompt_encoder(points=None, boxes=flat, masks=None)
    where = sam.prompt_encoder.get_dense_pe()

    def decode(feature: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        return sam.mask_decoder(
            image_embeddings=feature[None],
            image_pe=where,
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )

    masks, quality = torch.vmap(decode)(
        features, sparse.unflatten(0, (B, K)), dense.unflatten(0, (B, K))
    )
    return masks[:, :, 0].float(), quality[:, :, 0].float()


def mask_loss(logits: Tensor, quality: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Loss, and the IoU ``(B, K)`` of the predicted masks with ``target`` ``(B, K, H, W)``."""
    truth = target.float()
    p = logits.sigmoid()
    dice = 1 - (2 * (p * truth).sum((-1, -2)) + 1) / ((p + truth).sum((-1, -2)) + 1)
    # Per pixel of the object, because objects cover a few per cent of the picture; the bound keeps
    # nearly hidden ones from outweighing all others.
    bce = F.binary_cross_entropy_with_logits(logits, truth, reduction="none").sum((-1, -2))
    bce = bce / truth.sum((-1, -2)).clamp(min=100)
    mine = logits > 0
    both, either = (mine & target).sum((-1, -2)), (mine | target).sum((-1, -2))
    ious = both / either.clamp(min=1)
    return bce.mean() + dice.mean() + F.mse_loss(quality, ious), ious


def train_sam(sam: Sam, masks: Masks, recipe: dict, run: Run) -> None:
    """Train on box prompts, in cycles of the learning rate that each resume by themselves."""

    def loss_of(step: int, rng: np.random.Generator):
        pick = rng.integers(len(masks.images), size=recipe["batch"])
        boxes, target = prompts(masks, pick, recipe, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, quality = mask_logits(sam, masks.images[pick], boxes)
        loss, ious = mask_loss(logits, quality, torch.from_numpy(target))
        return loss, {"loss": loss.item(), "iou": ious.mean().item()}

    for name, cycle in recipe["cycles"].items():
        train(run, name, sam, [(sam.parameters(), 1.0)], cycle, loss_of)
    sam.eval().requires_grad_(False)


def architecture(recipe: dict) -> Architecture:
    """The sizes under ``model`` of a recipe.

    Raises:
        ValueError: sizes at which the decoder's masks, four to a patch, are not the scenes' size.
    """
    model = recipe["model"]
    if (model["image"], model["patch"]) != (SIZE, 4):
        raise ValueError(
            f"expected image: {SIZE} and patch: 4 in the recipe, so that masks are learnt at the "
            f"scenes' {SIZE} pixels, got {model['image']} and {model['patch']}"
        )
    return Architecture(**model | {"global_blocks": tuple(model["global_blocks"])})


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean masks, 0 to 1; 1 where both are empty."""
    either = (a | b).sum()
    return float((a & b).sum() / either) if either else 1.0


def heldout_metrics(
    segmenter: Segmenter, *, scenes: int = SCENES["heldout"], jitter: int = 2, seed: int = 0
) -> dict:
    """IoU with the exact masks, for tight boxes and for boxes off by up to ``jitter`` pixels.

    Objects count that show as many pixels as a question asks for
    (:data:`~vseam_lib.world.export.VISIBLE`).

    Returns:
        Per kind of box, over all objects and per class: how many, the mean IoU, and the shares of
        objects above 0.9 and below 0.5; all of them 0 to 1.
    """
    rng = np.random.default_rng(seed)
    scores: dict[str, dict[str, list[float]]] = {"tight": {}, f"off_by_{jitter}": {}}
    for index in range(scenes):
        scene = sample_scene("heldout", index, seed)
        image, owner = draw(scene)
        for k, obj in enumerate(scene.objects):
            truth = owner == k
            if truth.sum() < VISIBLE:
                continue
            tight = np.array(corners(truth))
            for kind, (x0, y0, x1, y1) in zip(
                scores, (tight, jittered(tight, jitter, rng)), strict=True
            ):
                box = Box(int(x0), int(y0), int(x1 - x0), int(y1 - y0))
                mask = segmenter.masks(image, [box], allow_empty=True)[0]
                for name in ("all", obj.name):
                    scores[kind].setdefault(name, []).append(iou(mask, truth))
    return {
        kind: {name: _summary(rows[name]) for name in ("all", *CLASSES) if name in rows}
        for kind, rows in scores.items()
    }


def _summary(values: list[float]) -> dict:
    ious = np.array(values)
    return {
        "n": len(ious),
        "iou": round(float(ious.mean()), 4),
        "above_0.9": round(float((ious > 0.9).mean()), 4),
        "below_0.5": round(float((ious < 0.5).mean()), 4),
    }


def ship(sam: Sam, recipe: dict, folder: Path) -> dict:
    """Write float16 weights and their metrics, measured after reading them back."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    save_file({k: v.half().contiguous() for k, v in sam.state_dict().items()}, path)
    segmenter = load_segmenter(path)
    metrics = {
        "heldout": heldout_metrics(segmenter),
        "parameters": sum(p.numel() for p in segmenter.sam.parameters()),
        "recipe": recipe,
        "trained_with": {
            "torch": torch.__version__,
            "segment-anything": version("segment-anything"),
            "python": platform.python_version(),
        },
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    return metrics


def main() -> None:
    """Train from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/training"))
    parser.add_argument("--to", type=Path, default=WEIGHTS, help="where the weights go")
    args = parser.parse_args()
    recipe = yaml.safe_load((RECIPES / f"{NAME}.yml").read_text())
    torch.set_num_threads(1)
    run = Run(args.out / NAME, 0, recipe["seed"])
    torch.manual_seed(recipe["seed"])
    sam = build_sam(architecture(recipe)).train()
    stage = recipe["sam"]
    masks = draw_masks(recipe["pool"], visible=stage["visible"], seed=recipe["seed"])
    run.log(stage="pool", scenes=len(masks.images))
    train_sam(sam, masks, stage, run)
    metrics = ship(sam, recipe, args.to / NAME)
    run.log(stage="shipped", **metrics["heldout"]["tight"]["all"])


if __name__ == "__main__":
    main()
