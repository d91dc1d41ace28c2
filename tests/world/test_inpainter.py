"""The small inpainter: its parts, what it learns from, and that it loads as PowerPaint."""

import json
import re
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from vseam_lib.editing.powerpaint import load_inpainter
from vseam_lib.editing.task_tokens import TASK_TOKENS, task_prompts
from vseam_lib.vlm.load import WEIGHTS
from vseam_lib.world import inpainter, inpainter_items, inpainter_metrics, inpainter_stages
from vseam_lib.world.draw import draw
from vseam_lib.world.ontology import MATERIALS
from vseam_lib.world.questions import vocabulary
from vseam_lib.world.scene import SIZE, sample_scene

RECIPE = yaml.safe_load(inpainter_stages.RECIPE.read_text())
SIZES = {"vae": [8, 16], "unet": [16, 24, 32], "text": 16, "text_layers": 1}
MINIATURE = {
    "seed": 0,
    "processes": 1,
    "pool": 8,
    "sizes": SIZES,
    "vae": {
        "steps": 2,
        "lr": 1e-3,
        "kl": 1e-8,
        "objects": 4.0,
        "phases": [
            {"until": 0.5, "window": [32, 2], "near": False, "edges": 1.0, "texture": 0.0},
            {"until": 1.0, "window": [16, 4], "near": True, "edges": 0.5, "texture": 8.0},
        ],
    },
    "text": {"steps": 2, "batch": 2, "lr": 1e-3},
    "unet": {
        "steps": 4,
        "lr": 1e-3,
        "outside": 0.1,
        "early": 0.6,
        "levels": 2,
        "textured": 0.0,
        "phases": [
            {"until": 0.5, "windows": [[40, 2]]},
            {"until": 1.0, "windows": [[64, 2], [96, 1]]},
        ],
    },
    "materials": {
        "steps": 2,
        "lr": 1e-3,
        "outside": 0.1,
        "early": 0.8,
        "levels": 1,
        "textured": 0.6,
        "phases": [{"until": 1.0, "windows": [[32, 2]]}],
    },
}


def test_every_word_of_the_world_and_of_its_prompts_is_one_token():
    tok = inpainter.tokenizer()
    words = re.findall(
        "[a-z]+", " ".join([*vocabulary(), inpainter.NEGATIVE, inpainter.EMPTY]).lower()
    )
    assert all(len(tok.tokenize(word)) == 1 for word in words)
    assert len(tok.tokenize("zebra")) > 1
    assert tok.get_vocab() == inpainter.tokenizer().get_vocab(), "two processes agree"


def test_the_negative_prompt_is_the_one_that_editing_uses():
    told = task_prompts("text", "a red car")
    assert told.unwanted.first.text == inpainter.NEGATIVE
    assert task_prompts("removal", "").wanted.first.text.strip() == inpainter.EMPTY


def test_every_training_prompt_fits_and_ends_in_its_task_token():
    tok, rng = inpainter.tokenizer(), np.random.default_rng(0)
    seen = set()
    for index in range(60):
        scene = sample_scene("train", index)
        made = inpainter_items.item(scene, *draw(scene), 96, rng)
        if made is None:
            continue
        pieces = tok.tokenize(made.prompt)
        assert len(pieces) + 2 <= tok.model_max_length
        token = pieces[-1].removesuffix("_9")
        assert pieces[-10:] == [f"{token}_{k}" for k in range(10)]
        seen.add(token)
    assert seen == {t.lower() for t in TASK_TOKENS}


def test_only_what_is_to_be_left_out_differs_from_the_scene():
    rng = np.random.default_rng(1)
    changed = 0
    for index in range(160):
        scene = sample_scene("train", index)
        image, owner = draw(scene)
        made = inpainter_items.item(scene, image, owner, 96, rng)
        if made is None:
            continue
        differs = (made.image != image).any(-1)
        changed += differs.any()
        if "P_ctxt" not in made.prompt:
            assert not differs.any()
        assert made.mask[differs].all(), "what is gone lies under the mask"
    assert changed > 3


@pytest.mark.parametrize("size", [40, 64, 96])
def test_a_window_shows_its_mask(size):
    rng = np.random.default_rng(2)
    for index in range(40):
        scene = sample_scene("train", index)
        made = inpainter_items.item(scene, *draw(scene), size, rng)
        if made is None:
            continue
        assert made.image.shape == (size, size, 3) and made.mask.shape == (size, size)
        assert made.mask.any()


def test_phrases_are_true_of_the_scene():
    rng = np.random.default_rng(3)
    for index in range(60):
        scene = sample_scene("train", index)
        for k, obj in enumerate(scene.objects):
            said = inpainter_items.object_phrase(scene, k, rng)
            assert obj.name in said
            for word in set(said.replace("?", "").split()) - {obj.name}:
                if word in ("red", "green", "blue", "yellow", "white", "black", "brown"):
                    assert word == obj.color
                if word in MATERIALS:
                    assert word == obj.material


def test_textured_examples_name_a_material_wherever_the_scene_shows_one():
    rng = np.random.default_rng(4)
    named = {0.0: 0, 1.0: 0}
    for index in range(60):
        scene = sample_scene("train", index)
        image, owner = draw(scene)
        made_of = {
            obj.material
            for k, obj in enumerate(scene.objects)
            if obj.material and (owner == k).sum() >= 40
        }
        for textured in named:
            made = inpainter_items.item(scene, image, owner, 32, rng, textured=textured)
            said = set(made.prompt.replace("?", "").split()) & set(MATERIALS)
            assert said <= made_of
            named[textured] += bool(said)
            if textured and made_of and inpainter.NEGATIVE not in made.prompt:
                assert said or made.prompt.startswith("P_")
    assert named[1.0] > 2 * named[0.0]


@pytest.fixture
def miniature(tmp_path, monkeypatch):
    """Trains as ``python -m vseam_lib.world.inpainter_stages`` does, but in this process."""
    recipe = tmp_path / "mini.yml"
    recipe.write_text(yaml.safe_dump(MINIATURE))
    monkeypatch.setattr(inpainter_stages, "heldout_success", lambda folder: {"color": 0.0})
    monkeypatch.setattr(torch.multiprocessing, "spawn", lambda work, given, nprocs: work(0, *given))
    threads = torch.get_num_threads()
    places = ["--recipe", str(recipe), "--out", str(tmp_path / "out"), "--to", str(tmp_path / "w")]
    monkeypatch.setattr(sys, "argv", ["train", *places])

    def run():
        inpainter_stages.main()
        return tmp_path / "w", tmp_path / "out"

    yield run
    torch.set_num_threads(threads)


def test_training_from_the_command_line_writes_an_inpainter_that_edits(miniature):
    folder, out = miniature()
    loaded = load_inpainter(folder)
    assert (loaded.layout, loaded.multiple) == ("v1 merged", 2)
    image = Image.new("RGB", (SIZE, SIZE), "gray")
    mask = np.zeros((SIZE, SIZE), bool)
    mask[20:40, 30:60] = True
    (edited,) = loaded.edit([image], [mask], ["a red car"], seeds=[0], steps=2, guidance=1.0)
    changed = (np.array(edited) != np.array(image)).any(-1)
    assert changed.any() and not changed[~mask].any()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["recipe"] == MINIATURE and metrics["parameters"] > 0
    assert {p.stem for p in out.glob("*.pt")} == {"vae", "text", "unet", "materials"}


def test_the_shipped_inpainter_is_that_of_the_recipe_and_small():
    folder = WEIGHTS / "tiny-powerpaint"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["recipe"] == RECIPE, "the recipe changed after the weights were trained"
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 25e6
    assert load_inpainter("tiny-powerpaint").layout == "v1 merged"


def test_the_shipped_inpainter_edits_as_measured():
    floors = {"color": 80, "material": 60, "removal": 90, "spatial": 70}
    floors |= {"animal": 70, "vehicle": 70, "indoor": 70}
    measured = json.loads((WEIGHTS / "tiny-powerpaint" / "metrics.json").read_text())["heldout"]
    assert measured.keys() >= floors.keys()
    again = inpainter_metrics.heldout_success(
        WEIGHTS / "tiny-powerpaint", per_category=4, scenes=16
    )
    assert set(again) == set(measured)
    assert again["color"] >= 50 and again["removal"] >= 50
    for name, floor in floors.items():
        assert measured[name] >= floor
