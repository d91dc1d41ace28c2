"""Recipes are well-formed, and training from the command line writes models that load."""

import functools
import json
import sys

import pytest
import torch
import yaml
from PIL import Image

from vseam_lib.causal.trace import record
from vseam_lib.triples import Category
from vseam_lib.vlm.load import load
from vseam_lib.world import instructblip_stages, ship, train
from vseam_lib.world.items import FORMATS
from vseam_lib.world.statements import STATEMENTS

ALL = {path.stem: yaml.safe_load(path.read_text()) for path in train.RECIPES.glob("*.yml")}
RECIPES = {name: recipe for name, recipe in ALL.items() if recipe.get("family") in train.STAGES}
recipes = pytest.mark.parametrize("name", sorted(RECIPES))

MODEL = {"layers": 2, "heads": 3, "d_head": 8, "d_mlp": 48}
STAGE = {"steps": 2, "batch": 4, "lr": 1.0e-3}
PHASE = {"statements": [0.25, 0.30, 0.15, 0.10, 0.10, 0.10], "weights": {"caption": 0.5}}
MINIATURE = {
    "seed": 0,
    "processes": 1,
    "pool": 12,
    "vision": STAGE,
    "alignment": STAGE,
    "decoder": {
        "steps": 3,
        "lr": 1.0e-3,
        "images": 2,
        "head_dropout": [0.02, 0.15],
        "phases": [
            {"until": 0.5, "formats": [{"statement": 2, "open_short": 1}, {"caption": 1}], **PHASE},
            {"until": 1.0, "formats": [{"yes_no": 2}, {"open": 1}], **PHASE},
        ],
    },
}
MINIATURES = {
    "mini-llava": MINIATURE
    | {"family": "llava", "model": MODEL}
    | {"decoder": MINIATURE["decoder"] | {"alignment": 0.1}},
    "mini-instructblip": MINIATURE
    | {"family": "instructblip", "model": MODEL | {"queries": 3, "qformer_layers": 1}}
    | {"decoder": MINIATURE["decoder"] | {"decoder_share": 0.3}, "decoder_from": "mini-llava"},
}


def test_there_is_a_recipe_for_every_family():
    assert {recipe["family"] for recipe in RECIPES.values()} == set(train.STAGES)


@recipes
def test_phases_cover_the_whole_run_in_order(name):
    ends = [phase["until"] for phase in RECIPES[name]["decoder"]["phases"]]
    assert ends == sorted(ends) and ends[-1] == 1.0 and ends[0] > 0


@recipes
def test_shares_of_statements_sum_to_one_and_formats_are_known(name):
    for phase in RECIPES[name]["decoder"]["phases"]:
        assert len(phase["statements"]) == len(STATEMENTS)
        assert sum(phase["statements"]) == pytest.approx(1) and min(phase["statements"]) >= 0
        for together in phase["formats"]:
            assert together.keys() <= set(FORMATS) and min(together.values()) >= 1
            assert "open" not in together or len(together) == 1, "its prompt begins differently"
        named = {kind for together in phase["formats"] for kind in together}
        assert phase["weights"].keys() <= named


@recipes
def test_the_shipped_weights_are_those_of_the_recipe(name):
    metrics = json.loads((train.WEIGHTS / name / "metrics.json").read_text())
    shipped, recipe = metrics["recipe"], RECIPES[name]
    assert recipe | shipped == recipe, "the recipe changed after the weights were trained"
    assert (shipped["seed"], shipped["model"]) == (recipe["seed"], recipe["model"])
    decoder = load(name).text_config
    found = (
        decoder.num_hidden_layers, decoder.num_attention_heads, decoder.head_dim,
        decoder.intermediate_size,
    )  # fmt: skip
    assert found == tuple(recipe["model"][k] for k in ("layers", "heads", "d_head", "d_mlp"))


@recipes
def test_a_decoder_is_taken_from_a_recipe_of_the_same_size(name):
    source = RECIPES[name].get("decoder_from")
    if source:
        sizes = [{k: RECIPES[n]["model"][k] for k in MODEL} for n in (name, source)]
        assert sizes[0] == sizes[1] and RECIPES[source]["family"] == "llava"


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Trains miniatures as ``python -m vseam_lib.world.train`` does, but in this process."""
    for name, recipe in MINIATURES.items():
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr(train, "RECIPES", tmp_path)
    monkeypatch.setattr(instructblip_stages, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setitem(ship.SCENES, "heldout", 6)
    few = functools.partial(ship.heldout_metrics, per_category=3)
    monkeypatch.setattr(ship, "heldout_metrics", few)
    monkeypatch.setattr(torch.multiprocessing, "spawn", lambda work, given, nprocs: work(0, *given))
    threads = torch.get_num_threads()

    def run(name, out="training"):
        where = ["--out", str(tmp_path / out), "--to", str(tmp_path / "weights")]
        monkeypatch.setattr(sys, "argv", ["train", "--recipe", name, *where])
        train.main()
        return tmp_path / "weights" / name, tmp_path / out / name

    yield run
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")  # never right
def test_training_from_the_command_line_writes_models_that_load(trained):
    for name, recipe in MINIATURES.items():
        weights, out = trained(name)
        adapter = load(str(weights))
        assert adapter.family == recipe["family"]
        assert (adapter.n_layers, adapter.n_heads, adapter.d_head) == (2, 3, 8)
        group = adapter.encode(Image.new("RGB", (96, 96)), ["Is the car red?"], ["Yes"])
        assert torch.isfinite(record(adapter, group).logits).all()
        metrics = json.loads((weights / "metrics.json").read_text())
        assert metrics["recipe"] == recipe
        assert set(metrics["heldout"]) == {*map(str, Category), "mean"}
        assert {p.stem for p in out.glob("*.pt")} == {"vision", "alignment", "decoder"}
        rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        assert rows[0]["stage"] == "pool" and rows[-1]["stage"] == "shipped"
        assert rows[-1]["accuracy"] == metrics["heldout"]["mean"]["accuracy"]


@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value")
def test_a_training_killed_before_its_last_stage_saved_ships_the_same_weights(trained):
    weights, out = trained("mini-llava")
    whole = (weights / "model.safetensors").read_bytes()
    (out / "decoder.pt").unlink()
    trained("mini-llava")
    assert (weights / "model.safetensors").read_bytes() == whole
