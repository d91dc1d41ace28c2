import json
import sys

import numpy as np
import pytest
import torch
import yaml

from vseam_lib.triples import Box
from vseam_lib.vlm.load import WEIGHTS
from vseam_lib.world import judge_stage
from vseam_lib.world.draw import draw
from vseam_lib.world.judge import CROP, KINDS, NOTHING, Judge, crop
from vseam_lib.world.scene import SIZE, sample_scene

RECIPE = yaml.safe_load(judge_stage.RECIPE.read_text())


def examples(n):
    rng = np.random.default_rng(0)
    for index in range(n):
        scene = sample_scene("train", index)
        image, owner = draw(scene)
        made = judge_stage.example(scene, image, owner, rng)
        if made:
            yield scene, image, owner, made


def test_labels_are_what_the_box_shows():
    kinds = set()
    for scene, image, owner, (shown, box, says) in examples(150):
        inside = owner[box.y : box.y + box.h, box.x : box.x + box.w]
        if "action" in says:
            assert says["action"] == scene.action.name
            assert {scene.action.subject, scene.action.object} <= set(np.unique(inside))
        elif says["object"] == NOTHING:
            assert (shown != image).any(), "the object was taken out"
        else:
            k = scene.index(says["object"])
            assert (inside == k).any() and says["color"] == scene.objects[k].color
            assert says.get("material") == scene.objects[k].material
        kinds |= set(says)
    assert kinds == set(KINDS)


def test_a_crop_shows_the_box_with_its_surroundings():
    image = torch.full((3, 40, 60), -1.0)
    image[:, 10:20, 20:30] = 1.0
    seen = crop(image, Box(20, 10, 10, 10))
    assert seen.shape == (3, CROP, CROP)
    assert seen[:, CROP // 2, CROP // 2].min() > 0.9 and seen[:, 0, 0].max() < -0.9
    beyond = crop(image, Box(50, 30, 10, 10))
    assert (beyond[:, -1, -1] == 0).all(), "beyond the picture it is grey"


def test_batches_have_a_label_for_every_kind_or_none():
    drawn = [(s, image, owner) for s, image, owner, _ in examples(12)]
    crops, labels = judge_stage.batch(drawn, 16, np.random.default_rng(0))
    assert crops.shape == (16, 3, CROP, CROP) and labels.keys() == KINDS.keys()
    for kind, target in labels.items():
        assert len(target) == 16
        assert ((target == judge_stage.IGNORE) | (target < len(KINDS[kind]))).all()


def test_training_from_the_command_line_writes_a_judge_that_loads(tmp_path, monkeypatch):
    recipe = {"seed": 0, "pool": 12, "train": {"steps": 2, "batch": 8, "lr": 1e-3}}
    (tmp_path / "mini.yml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(judge_stage, "accuracy", lambda judge: {"object": 0.0})
    threads = torch.get_num_threads()
    places = ["--recipe", tmp_path / "mini.yml", "--out", tmp_path / "o", "--to", tmp_path / "w"]
    monkeypatch.setattr(sys, "argv", ["train", *map(str, places)])
    judge_stage.main()
    torch.set_num_threads(threads)
    Judge(tmp_path / "w")
    assert json.loads((tmp_path / "w" / "metrics.json").read_text())["recipe"] == recipe


def test_the_shipped_judge_is_that_of_the_recipe_and_knows_the_world():
    metrics = json.loads((WEIGHTS / "tiny-judge" / "metrics.json").read_text())
    assert metrics["recipe"] == RECIPE
    assert set(metrics["heldout"]) == {*KINDS, NOTHING}
    assert min(metrics["heldout"].values()) > 90
    again = judge_stage.accuracy(Judge(), scenes=12)
    assert np.mean(list(again.values())) > 85


@pytest.mark.parametrize("most", [0.0, 0.4])
def test_a_looser_box_stays_in_the_picture(most):
    rng = np.random.default_rng(0)
    for _ in range(50):
        judge_stage.looser(Box(80, 2, 16, 30), rng, most).check(SIZE, SIZE)
