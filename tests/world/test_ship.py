"""Shipped weights are what was trained, answered without padding, with the numbers they have."""

import copy
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vseam_lib.causal.trace import record
from vseam_lib.triples import Category
from vseam_lib.vlm.load import load, shipped
from vseam_lib.world import ship
from vseam_lib.world.draw import draw
from vseam_lib.world.questions import ask
from vseam_lib.world.scene import sample_scene


@pytest.fixture(scope="module", params=shipped())
def vlm(request):
    """A model that answers Yes and No."""
    return load(request.param)


@pytest.fixture(scope="module")
def asked():
    """Questions of every category, of different lengths, each with a picture of its own."""
    found, rng = [], np.random.default_rng(0)
    for index in range(6):
        scene = sample_scene("heldout", index)
        found += [(draw(scene)[0], q.text) for c in Category if (q := ask(scene, c, rng))]
    assert len({len(text.split()) for _, text in found}) > 3
    return found


class Watched:
    """A processor that keeps what it made."""

    def __init__(self, processor):
        self.processor, self.made = processor, []

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, **given):
        self.made.append(self.processor(**given))
        return self.made[-1]


def test_no_prompt_is_padded_and_answers_are_those_of_asking_one_by_one(vlm, asked):
    watched = Watched(vlm.processor)
    images, texts = zip(*asked, strict=True)
    said = ship.answer(vlm.model, watched, vlm.family, images, texts, size=3)
    sizes = [len(made["input_ids"]) for made in watched.made]
    assert sum(sizes) == len(texts) and 1 < max(sizes) <= 3
    for made in watched.made:
        assert all((v == 1).all() for k, v in made.items() if k.endswith("attention_mask"))
    alone = [
        ship.answer(vlm.model, vlm.processor, vlm.family, [image], [text])[0]
        for image, text in asked
    ]
    assert said == alone
    assert set(said) == {"Yes", "No"}


def test_answers_are_the_adapters_top_tokens(vlm, asked):
    """Yes and No are capitalised, however the family spells them."""
    tok = vlm.processor.tokenizer
    plain = {vlm.answer_id("Yes"): "Yes", vlm.answer_id("No"): "No"}
    for image, text in asked[:8]:
        top = int(record(vlm, vlm.encode(Image.fromarray(image), [text], ["Yes"])).logits.argmax())
        said = ship.answer(vlm.model, vlm.processor, vlm.family, [image], [text])
        assert said == [plain.get(top, tok.decode(top).strip())]


def test_heldout_metrics_count_answers_on_the_four_pictures(monkeypatch):
    """A model that sees the truth is right, blind on a blank, and flips with the edit."""
    monkeypatch.setitem(ship.SCENES, "heldout", 25)
    truth = {}
    for index in range(25):
        for _, scene, q in ship.questions_of("heldout", index, 0):
            truth[draw(scene)[0].tobytes(), q.text] = q.answer
            truth[draw(q.counterfactual)[0].tobytes(), q.text] = ship.OTHER[q.answer]

    def oracle(model, processor, family, images, texts):
        seen = zip(images, texts, strict=True)
        return [truth.get((x.tobytes(), text), "nothing") for x, text in seen]

    monkeypatch.setattr(ship, "answer", oracle)
    rows = ship.heldout_metrics(None, None, "llava", per_category=5)
    assert list(rows) == [*map(str, Category), "mean"]
    for name, row in rows.items():
        assert (row["accuracy"], row["flips"], row["blank"]) == (100, 100, 0), name
        assert row["shuffled"] < 100
    assert {row["n"] for name, row in rows.items() if name != "mean"} == {5}
    assert "n" not in rows["mean"]


def test_what_is_shipped_is_measured_as_it_is_read_back(adapter32, tmp_path, monkeypatch):
    seen = {}

    def measure(model, processor, family):
        seen.update(state=model.state_dict(), family=family)
        return {"mean": {"accuracy": 50.0}}

    monkeypatch.setattr(ship, "heldout_metrics", measure)
    model = copy.deepcopy(adapter32.model)
    recipe = {"family": "llava", "seed": 3}
    metrics = ship.ship(model, adapter32.processor, recipe, tmp_path / "new")
    assert metrics == json.loads((tmp_path / "new/metrics.json").read_text())
    assert metrics["recipe"] == recipe and seen["family"] == "llava"
    assert metrics["parameters"] == sum(p.numel() for p in adapter32.model.parameters())
    for name, weight in adapter32.model.state_dict().items():
        assert torch.equal(seen["state"][name], weight.half().float()), name
    assert load(str(tmp_path / "new")).family == "llava"
