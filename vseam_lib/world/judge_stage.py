"""Trains the judge of edits from nothing: ``python -m vseam_lib.world.judge_stage``.

It learns from boxes of every looseness: around objects, around places where an object was left
out, and around a person with what they act on.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from vseam_lib.triples import Box
from vseam_lib.world.draw import draw
from vseam_lib.world.judge import KINDS, NOTHING, Classifier, Judge, crop
from vseam_lib.world.loop import Run, command_line, train
from vseam_lib.world.questions import pick
from vseam_lib.world.scene import SIZE, Scene, mask_box, sample_scene

RECIPE = Path(__file__).parent / "recipes" / "tiny-judge.yml"
IGNORE = -100
SHOWN = 40  # pixels of an object that must show
Drawn = tuple[Scene, np.ndarray, np.ndarray]
Example = tuple[np.ndarray, Box, dict[str, str]]


def example(scene: Scene, image: np.ndarray, owner: np.ndarray, rng) -> Example | None:
    """A picture, a box and what it shows: an object, nothing, or an action."""
    shown = [k for k in range(len(scene.objects)) if (owner == k).sum() >= SHOWN]
    if not shown:
        return None
    act, kind = scene.action, rng.random()
    if act and {act.subject, act.object} <= set(shown) and kind < 0.3:
        box = mask_box(np.isin(owner, [act.subject, act.object]))
        return image, looser(box, rng), {"action": act.name}
    k = pick(rng, shown)
    box = looser(mask_box(owner == k), rng)
    if kind < 0.42:
        image, left = draw(scene, without=(k,))
        if (left[box.y : box.y + box.h, box.x : box.x + box.w] >= 0).mean() > 0.15:
            return None  # something else is seen there
        return image, box, {"object": NOTHING}
    obj = scene.objects[k]
    says = {"object": obj.name, "color": obj.color}
    return image, box, says | ({"material": obj.material} if obj.material else {})


def looser(box: Box, rng, most: float = 0.4) -> Box:
    """The box with each side moved out by up to a share of its size, or a little in."""
    left, top, right, bottom = rng.uniform(-0.08, most, 4) * max(box.w, box.h)
    x0, y0 = max(0, int(box.x - left)), max(0, int(box.y - top))
    x1 = min(SIZE, int(np.ceil(box.x + box.w + right)))
    y1 = min(SIZE, int(np.ceil(box.y + box.h + bottom)))
    return Box(x0, y0, x1 - x0, y1 - y0).check(SIZE, SIZE)


def batch(drawn: list[Drawn], n: int, rng) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Crops ``(n, 3, 48, 48)`` and per kind the index of what each shows, or -100."""
    crops, labels = [], {kind: [] for kind in KINDS}
    while len(crops) < n:
        made = example(*drawn[rng.integers(len(drawn))], rng)
        if made is None:
            continue
        image, box, says = made
        pixels = torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1
        if rng.random() < 0.4:  # inpainted pixels are smoother than drawn ones
            pixels = F.avg_pool2d(F.pad(pixels[None], (1, 1, 1, 1), "replicate"), 3, 1)[0]
        crops.append(crop(pixels, box))
        for kind, values in KINDS.items():
            labels[kind].append(values.index(says[kind]) if kind in says else IGNORE)
    return torch.stack(crops), {kind: torch.tensor(v) for kind, v in labels.items()}


def accuracy(judge: Judge, *, scenes: int = 400, seed: int = 0) -> dict[str, float]:
    """Per kind, per cent of boxes in held-out scenes that are judged rightly."""
    right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
    for index in range(scenes):
        scene = sample_scene("heldout", index, seed)
        rng = np.random.default_rng([seed, index])
        for _ in range(4):
            made = example(scene, *draw(scene), rng)
            if made is None:
                continue
            (seen,) = judge.look(Image.fromarray(made[0]), [made[1]])
            for kind, value in made[2].items():
                name = NOTHING if value == NOTHING else kind
                right.setdefault(name, []).append(getattr(seen, kind) == value)
    return {kind: round(100 * float(np.mean(v)), 2) for kind, v in right.items()}


def main() -> None:
    """Train from the command line."""
    recipe, out, to = command_line(__doc__.splitlines()[0], RECIPE)
    torch.set_num_threads(1)
    torch.manual_seed(recipe["seed"])
    run = Run(out, 0, recipe["seed"])
    scenes = [sample_scene("train", 100_000 + k, recipe["seed"]) for k in range(recipe["pool"])]
    drawn = [(scene, *draw(scene)) for scene in scenes]
    model = Classifier().train()

    def loss_of(step: int, rng: np.random.Generator):
        crops, labels = batch(drawn, recipe["train"]["batch"], rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(crops)
        loss, shown = torch.zeros(()), {}
        for kind, target in labels.items():
            asked = target != IGNORE
            if asked.any():
                loss = loss + F.cross_entropy(logits[kind].float()[asked], target[asked])
                said = logits[kind].argmax(-1)
                shown[kind] = (said == target)[asked].float().mean().item()
        return loss, {"loss": loss.item(), **shown}

    train(run, "judge", model, [(model.parameters(), 1.0)], recipe["train"], loss_of)
    ship(model, recipe, to)


def ship(model: Classifier, recipe: dict, folder: Path) -> None:
    """Write weights (float16), recipe and held-out accuracy of the weights as shipped."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    metrics = {
        "heldout": accuracy(Judge(folder)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "recipe": recipe,
        "trained_with": {"torch": torch.__version__, "python": platform.python_version()},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")


if __name__ == "__main__":
    main()
