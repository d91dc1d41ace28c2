"""Packs a trained model for the repository, with its accuracy on held-out scenes.

Every held-out question is answered four times: on its picture, on a blank one, on the picture of
another question (both must lead to guessing), and on the counterfactual scene, whose right answer
is the other one.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from vseam_lib.triples import Category
from vseam_lib.vlm.load import ADAPTERS
from vseam_lib.vlm.prompts import template
from vseam_lib.world.draw import draw
from vseam_lib.world.export import SCENES, questions_of
from vseam_lib.world.scene import SIZE

OTHER = {"Yes": "No", "No": "Yes"}


@torch.no_grad()
def answer(model: nn.Module, processor, family: str, images, texts, size: int = 64) -> list[str]:
    """The most probable next token after the paper's prompt, as text, Yes and No capitalised.

    Only prompts of one length share a batch, so that none is padded: InstructBLIP's processor
    pads between image and text, which changes its answers.
    """
    prompt = template(family)
    plain = {spelled: answer for answer, spelled in ADAPTERS[family].spelling.items()}
    prompts = [prompt.format(image=processor.image_token, question=q) for q in texts]
    lengths = np.array([len(processor.tokenizer(p)["input_ids"]) for p in prompts])
    said = [""] * len(texts)
    for length in np.unique(lengths):
        for some in np.array_split(np.flatnonzero(lengths == length), -(-len(texts) // size)):
            if not len(some):
                continue
            batch = processor(
                images=[Image.fromarray(images[i]) for i in some],
                text=[prompts[i] for i in some],
                return_tensors="pt",
            )
            ids = model(**batch, logits_to_keep=1).logits[:, -1].argmax(-1)
            for i, k in zip(some, ids, strict=True):
                word = processor.tokenizer.decode(k).strip()
                said[i] = plain.get(word, word)
    return said


def heldout_metrics(
    model: nn.Module, processor, family: str, *, per_category: int = 200, seed: int = 0
) -> dict:
    """Accuracy per category, in per cent, under the four conditions.

    ``flips`` is the share of rightly answered questions whose answer changes to the other one on
    the counterfactual scene.
    """
    cases: dict[Category, list] = {c: [] for c in Category}
    for index in range(SCENES["heldout"]):
        for _, scene, question in questions_of("heldout", index, seed):
            if len(cases[question.category]) < per_category:
                cases[question.category].append((scene, question))
    rng = np.random.default_rng(seed)
    blank = np.full((SIZE, SIZE, 3), 128, np.uint8)
    out: dict[str, dict] = {}
    for category, found in cases.items():
        texts = [q.text for _, q in found]
        gold = np.array([q.answer for _, q in found])
        other = np.array([OTHER[g] for g in gold])
        clean = [draw(s)[0] for s, _ in found]
        edited = [draw(q.counterfactual)[0] for _, q in found]
        shift = int(rng.integers(1, len(clean)))
        said = {
            name: np.array(answer(model, processor, family, images, texts))
            for name, images in {
                "accuracy": clean,
                "blank": [blank] * len(clean),
                "shuffled": clean[shift:] + clean[:shift],
                "edited": edited,
            }.items()
        }
        right = said["accuracy"] == gold
        out[str(category)] = {
            "n": len(found),
            "accuracy": 100 * float(right.mean()),
            "yes_rate": 100 * float((said["accuracy"] == "Yes").mean()),
            "blank": 100 * float((said["blank"] == gold).mean()),
            "shuffled": 100 * float((said["shuffled"] == gold).mean()),
            "flips": 100 * float((said["edited"] == other)[right].sum() / max(1, right.sum())),
        }
    keys = ("accuracy", "yes_rate", "blank", "shuffled", "flips")
    out["mean"] = {k: float(np.mean([row[k] for row in out.values()])) for k in keys}
    return {k: {m: round(v, 2) for m, v in row.items()} for k, row in out.items()}


def ship(model: nn.Module, processor, recipe: dict, folder: Path) -> dict:
    """Write weights (float16), processor, recipe and metrics; return the metrics.

    Metrics are of the weights as shipped, read back from the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    processor.save_pretrained(folder)
    shipped = type(model).from_pretrained(folder, dtype=torch.float32).eval()
    metrics = {
        "heldout": heldout_metrics(shipped, processor, recipe["family"]),
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "recipe": recipe,
        "trained_with": {"torch": torch.__version__, "python": platform.python_version()},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    return metrics
