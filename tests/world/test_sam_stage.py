"""The small segmenter is trained on exact masks and shipped with what it was measured to do."""

import functools
import json
import sys

import numpy as np
import pytest
import torch
import yaml
from segment_anything import SamPredictor

from vseam_lib.editing.sam import architecture_of, build_sam, read_weights
from vseam_lib.editing.segment import load_segmenter
from vseam_lib.world import sam_stage
from vseam_lib.world.draw import draw
from vseam_lib.world.ontology import CLASSES
from vseam_lib.world.sam_stage import (
    NAME,
    architecture,
    corners,
    draw_masks,
    heldout_metrics,
    iou,
    jittered,
    mask_logits,
    mask_loss,
    prompts,
)
from vseam_lib.world.scene import SIZE, sample_scene

RECIPE = yaml.safe_load((sam_stage.RECIPES / f"{NAME}.yml").read_text())
SHIPPED = sam_stage.WEIGHTS / NAME
MINIATURE = RECIPE | {
    "pool": 5,
    "model": RECIPE["model"]
    | {"width": 24, "depth": 2, "mlp": 24, "window": 4, "global_blocks": [1]}
    | {"prompt_width": 16, "decoder_mlp": 16, "iou_width": 8},
    "sam": RECIPE["sam"]
    | {"batch": 2, "boxes": 2}
    | {"cycles": {"sam": {"steps": 2, "lr": 1.0e-3}, "fine": {"steps": 3, "lr": 1.0e-4}}},
}


@pytest.fixture(scope="module")
def pool():
    return draw_masks(12, visible=12, seed=0)


def test_training_objects_are_those_of_training_scenes_that_show(pool):
    for index, (shown, tight) in enumerate(pool.objects):
        image, owner = draw(sample_scene("train", index))
        assert np.array_equal(pool.images[index], image)
        sizes = {k: (owner == k).sum() for k in range(owner.max() + 1)}
        assert [k for k, n in sizes.items() if n >= 12] == shown.tolist()
        for k, (x0, y0, x1, y1) in zip(shown, tight, strict=True):
            mask = owner == k
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
            assert all(
                edge.any() for edge in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1])
            )


def test_jittered_boxes_have_an_area_inside_the_image_and_are_off_by_few_pixels():
    rng = np.random.default_rng(0)
    seen = set()
    for box in ([0, 0, 1, 1], [95, 94, 96, 96], [40, 30, 70, 80], [0, 0, 96, 96]):
        for _ in range(200):
            x0, y0, x1, y1 = new = jittered(np.array(box), 3, rng)
            assert 0 <= x0 < x1 <= SIZE and 0 <= y0 < y1 <= SIZE
            assert np.abs(new - box).max() <= 3
            seen |= set(new - box)
        assert np.array_equal(jittered(np.array(box), 0, rng), box)
    assert seen == set(range(-3, 4))


@pytest.mark.parametrize("exact", [0.0, 1.0])
def test_a_prompts_mask_is_that_of_the_object_in_its_box(pool, exact):
    recipe = RECIPE["sam"] | {"exact": exact}
    pick = np.array([3, 8, 3])
    boxes, targets = prompts(pool, pick, recipe, np.random.default_rng(0))
    assert boxes.shape == (3, recipe["boxes"], 4)
    assert targets.shape == (3, recipe["boxes"], SIZE, SIZE)
    off = [
        np.abs(corners(target) - box).max()
        for box, target in zip(boxes.reshape(-1, 4), targets.reshape(-1, SIZE, SIZE), strict=True)
    ]
    assert max(off) <= recipe["jitter"] and (max(off) == 0) == (exact == 1)


def test_training_computes_what_the_predictor_computes(pool):
    """A batch of pictures at once gives the logits of one picture at a time."""
    torch.manual_seed(0)
    sam = build_sam(architecture(MINIATURE)).eval().requires_grad_(False)
    pick = np.arange(3)
    boxes, _ = prompts(pool, pick, RECIPE["sam"], np.random.default_rng(0))
    logits, quality = mask_logits(sam, pool.images[pick], boxes)
    predictor = SamPredictor(sam)
    for b in pick:
        predictor.set_image(pool.images[b])
        for k in range(boxes.shape[1]):
            _, q, genuine = predictor.predict(
                box=boxes[b, k].astype(float), multimask_output=False, return_logits=True
            )
            np.testing.assert_allclose(logits[b, k], genuine[0], atol=1e-5)
            np.testing.assert_allclose(quality[b, k], q[0], atol=1e-5)


def test_the_loss_falls_with_better_masks_and_with_honest_quality():
    target = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    target[..., 20:60, 30:70] = True
    right = torch.where(target, 20.0, -20.0)
    shifted = right.roll(10, -1)
    one, none = torch.ones(1, 1), torch.zeros(1, 1)
    best, ious = mask_loss(right, one, target)
    assert best < 1e-3 and ious.item() == 1
    worse, ious = mask_loss(shifted, one, target)
    assert worse > best + 1 and ious.item() == pytest.approx(30 / 50)
    assert mask_loss(right, none, target)[0] == pytest.approx(best.item() + 1, abs=1e-5)


class BoxFiller:
    """Takes the whole box for the object."""

    def masks(self, image, boxes, *, allow_empty):
        out = np.zeros((len(boxes), SIZE, SIZE), bool)
        for k, (x, y, w, h) in enumerate(boxes):
            out[k, y : y + h, x : x + w] = True
        return out


def test_metrics_are_means_over_the_objects_that_questions_ask_about():
    metrics = heldout_metrics(BoxFiller(), scenes=5, jitter=2)
    wanted = {}
    for index in range(5):
        scene = sample_scene("heldout", index)
        _, owner = draw(scene)
        for k, obj in enumerate(scene.objects):
            mask = owner == k
            if mask.sum() >= 40:
                x0, y0, x1, y1 = corners(mask)
                wanted.setdefault(obj.name, []).append(mask.sum() / ((x1 - x0) * (y1 - y0)))
    tight = metrics["tight"]
    assert list(tight) == ["all", *(c for c in CLASSES if c in wanted)]
    everything = [v for values in wanted.values() for v in values]
    for name, values in (*wanted.items(), ("all", everything)):
        assert tight[name]["n"] == len(values)
        assert tight[name]["iou"] == pytest.approx(np.mean(values), abs=1e-4)
        assert tight[name]["below_0.5"] == pytest.approx(np.mean(np.less(values, 0.5)), abs=1e-4)
    assert metrics["off_by_2"]["all"]["n"] == tight["all"]["n"]
    assert metrics["off_by_2"]["all"]["iou"] < tight["all"]["iou"]


def test_iou_of_masks():
    a, b = np.zeros((2, 4, 4), bool)
    assert iou(a, b) == 1
    a[:2], b[1:3] = True, True
    assert iou(a, b) == pytest.approx(4 / 12) and iou(a, ~a) == 0 and iou(a, a) == 1


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains a miniature as ``python -m vseam_lib.world.sam_stage`` does."""
    (tmp_path / f"{NAME}.yml").write_text(yaml.safe_dump(MINIATURE))
    monkeypatch.setattr(sam_stage, "RECIPES", tmp_path)
    few = functools.partial(heldout_metrics, scenes=2)
    monkeypatch.setattr(sam_stage, "heldout_metrics", few)
    threads = torch.get_num_threads()

    def run(out):
        where = ["--out", str(tmp_path / out), "--to", str(tmp_path / f"{out}-weights")]
        monkeypatch.setattr(sys, "argv", ["sam_stage", *where])
        sam_stage.main()
        return tmp_path / f"{out}-weights" / NAME, tmp_path / out / NAME

    yield run
    torch.set_num_threads(threads)


def test_training_from_the_command_line_writes_a_model_that_loads(trained):
    weights, out = trained("one")
    assert {p.name for p in weights.iterdir()} == {"model.safetensors", "metrics.json"}
    segmenter = load_segmenter(weights / "model.safetensors")
    assert architecture_of(segmenter.sam.state_dict()) == architecture(MINIATURE)
    assert all(
        v.dtype == torch.float16 for v in read_weights(weights / "model.safetensors").values()
    )
    metrics = json.loads((weights / "metrics.json").read_text())
    assert metrics["recipe"] == MINIATURE
    assert metrics["heldout"] == heldout_metrics(segmenter, scenes=2)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert rows[0]["stage"] == "pool" and rows[-1]["stage"] == "shipped"


@pytest.mark.parametrize("cycle", ["sam", "fine"])
def test_a_killed_training_ships_the_same_weights(trained, monkeypatch, cycle):
    whole, _ = trained("whole")
    genuine = sam_stage.train

    class Killed(Exception):
        pass

    def dying(run, stage, module, groups, recipe, loss_of):
        def killed_at_one(step, rng):
            if stage == cycle and step == 1:
                raise Killed
            return loss_of(step, rng)

        genuine(run, stage, module, groups, recipe, killed_at_one, save_every=1)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(sam_stage, "train", dying)
        trained("killed")
    torch.manual_seed(123)
    again, _ = trained("killed")
    name = "model.safetensors"
    assert (again / name).read_bytes() == (whole / name).read_bytes()


def test_a_recipe_whose_masks_are_of_another_size_is_refused():
    with pytest.raises(ValueError, match="patch: 4"):
        architecture(RECIPE | {"model": RECIPE["model"] | {"patch": 8}})


# What is shipped


def test_the_shipped_weights_are_those_of_the_recipe():
    metrics = json.loads((SHIPPED / "metrics.json").read_text())
    assert metrics["recipe"] == RECIPE, "the recipe changed after the weights were trained"
    state = read_weights(SHIPPED / "model.safetensors")
    assert architecture_of(state) == architecture(RECIPE)
    assert (SHIPPED / "model.safetensors").stat().st_size <= 4e6


def test_the_shipped_metrics_reach_the_target_for_every_class():
    heldout = json.loads((SHIPPED / "metrics.json").read_text())["heldout"]
    assert set(heldout["tight"]) == {"all", *CLASSES}
    assert heldout["tight"]["all"]["iou"] >= 0.95
    assert min(row["iou"] for row in heldout["tight"].values()) >= 0.9


def test_shipped_metrics_can_be_measured_again():
    """On few scenes: the mean is near the shipped one."""
    shipped = json.loads((SHIPPED / "metrics.json").read_text())["heldout"]
    again = heldout_metrics(load_segmenter(NAME), scenes=12)
    for kind, rows in again.items():
        assert rows["all"]["iou"] == pytest.approx(shipped[kind]["all"]["iou"], abs=0.03)
