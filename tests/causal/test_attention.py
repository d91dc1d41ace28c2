import copy
import dataclasses
import json
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from vseam_lib import paper
from vseam_lib.causal import attention
from vseam_lib.causal.attention import (
    Regions,
    attention_rows,
    covered,
    maps,
    overlap,
    regions,
    set_maps,
)
from vseam_lib.causal.groups import resume
from vseam_lib.triples import Box, VQATriple
from vseam_lib.vlm.adapter import Head
from vseam_lib.vlm.llava import LlavaAdapter
from vseam_lib.vlm.looking import grid

QUESTIONS = ["Is the car red?", "Is there a dog in this picture?", "Is the cat below the sofa?"]


def asked(folder, size, boxes, question=QUESTIONS[0], name="a", seed=0):
    """A triple about a noise picture of ``size``; questions with one seed share the picture."""
    path = folder / f"{size[0]}x{size[1]}-{seed}.png"
    if not path.exists():
        pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return VQATriple(name, path.stem, path, question, "Yes", "color", boxes)


def eager_copy(adapter):
    """The genuine model with eager attention from the start, and its forward on a question."""
    model = copy.deepcopy(adapter.model)
    model.set_attn_implementation("eager")

    @torch.no_grad()
    def forward(triple):
        batch = adapter.processor(
            images=[Image.open(triple.image)],
            text=[adapter.text(triple.question)],
            return_tensors="pt",
        )
        batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
        out = model(**batch, output_attentions=True)
        at = (batch["input_ids"][0] == adapter.image_token_id).nonzero()[:, 0]
        found = out.get("attentions") or out.language_model_outputs.attentions
        return torch.stack([a[0, :, -1, at] for a in found])  # (L, H, image tokens)

    return model, forward


def pixel_by_pixel(weights, size, box, n, *, crop):
    """Weight inside a box and on the image, adding up pixels: each holds its token's weight over
    the token's area. ``crop`` keeps the central square, else the picture is squashed.
    """
    width, height = size
    side = (min(size), min(size)) if crop else size
    left, top = (width - side[0]) / 2, (height - side[1]) / 2
    inside = image = 0.0
    for x, y in product(range(width), range(height)):
        column, row = (x + 0.5 - left) * n / side[0], (y + 0.5 - top) * n / side[1]
        if 0 <= column < n and 0 <= row < n:
            mass = float(weights[int(row) * n + int(column)]) * n * n / (side[0] * side[1])
            image += mass
            if box.x <= x < box.x + box.w and box.y <= y < box.y + box.h:
                inside += mass
    return inside, image


@pytest.mark.parametrize("size", [(96, 96), (192, 128), (128, 192)])
def test_the_overlap_is_the_genuine_attention_added_up_over_pixels(adapter, tmp_path, size):
    box = Box(40, 30, 45, 38)
    triples = [asked(tmp_path, size, (box,), q, q) for q in QUESTIONS]
    seen = regions(adapter, triples)
    found = {of: overlap(adapter, seen, tmp_path, of=of) for of in ("image", "all")}
    forward = eager_copy(adapter)[1]
    for k, triple in enumerate(seen.triples):
        weights = forward(triple)
        for layer, head in [(0, 0), (1, 3), (2, 1)]:
            inside, image = pixel_by_pixel(weights[layer, head], size, box, 8, crop=True)
            assert found["image"][k, layer, head] == pytest.approx(100 * inside / image, rel=1e-5)
            assert found["all"][k, layer, head] == pytest.approx(100 * inside, rel=1e-5)
    assert found["image"].std(0).max() > 1e-3, "the questions must not all look alike"


def test_instructblip_looks_through_its_qformer(blip, tmp_path):
    size, box = (192, 128), Box(40, 30, 45, 38)
    triple = asked(tmp_path, size, (box,), QUESTIONS[1])
    found = overlap(blip, regions(blip, [triple]), tmp_path)[0]
    model, forward = eager_copy(blip)
    cross = []
    for layer in model.qformer.encoder.layer:
        layer.crossattention.attention.register_forward_hook(
            lambda module, args, out: cross.append(out[1][0])
        )
    weights = forward(triple)  # (L, H, queries)
    looks = np.zeros((4, 64))
    for query, patch in product(range(4), range(64)):
        looks[query, patch] = np.mean([c[h, query, 1 + patch] for c in cross for h in range(4)])
    looks /= looks.sum(1, keepdims=True)
    for layer, head in product(range(3), range(4)):
        patches = [sum(weights[layer, head, q] * looks[q, p] for q in range(4)) for p in range(64)]
        inside, image = pixel_by_pixel(patches, size, box, 8, crop=False)
        assert found[layer, head] == pytest.approx(100 * inside / image, rel=1e-5)
        assert image == pytest.approx(float(weights[layer, head].sum()), rel=1e-9)


def test_instructblip_names_another_quantity(blip, adapter):
    assert adapter.looks_through == ""
    assert blip.looks_through == "the Q-Former's cross-attention"


@pytest.mark.parametrize("family", ["adapter", "blip"])
def test_a_box_of_the_whole_picture_holds_all_of_the_attention(family, tmp_path, request):
    model = request.getfixturevalue(family)
    seen = regions(model, [asked(tmp_path, (120, 90), (Box(0, 0, 120, 90),))])
    np.testing.assert_allclose(overlap(model, seen, tmp_path), 100, rtol=1e-6)
    np.testing.assert_allclose(seen.area, 100)


@pytest.mark.parametrize("family", ["adapter", "blip"])
def test_complementary_boxes_add_up_to_the_whole_picture(family, tmp_path, request):
    model = request.getfixturevalue(family)
    parts = [Box(0, 0, 57, 90), Box(57, 0, 63, 33), Box(57, 33, 63, 57)]
    triples = [asked(tmp_path, (120, 90), (b,), name=str(k)) for k, b in enumerate(parts)]
    seen = regions(model, triples)
    np.testing.assert_allclose(overlap(model, seen, tmp_path).sum(0), 100, rtol=1e-6)
    assert seen.area.sum() == pytest.approx(100)


def test_a_cell_counts_by_the_covered_part_of_its_area():
    cells = grid(0, 0, 20, 20, 2)
    np.testing.assert_allclose(covered(Box(5, 0, 10, 5), cells), [0.25, 0.25, 0, 0])
    np.testing.assert_allclose(covered(Box(30, 0, 5, 5), cells), 0)


def test_a_grid_is_cut_in_reading_order():
    assert grid(2, 1, 6, 4, 2).tolist() == [[2, 1, 3, 2], [5, 1, 3, 2], [2, 3, 3, 2], [5, 3, 3, 2]]


def test_weights_sum_to_one_and_skip_the_other_questions(adapter, one_image, group_of):
    group = group_of(adapter, one_image)
    rows = attention_rows(adapter, group)
    assert rows.shape == (len(one_image), 3, 4, len(group.segments))
    torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:3]).double(), atol=1e-6, rtol=0)
    for q, row in enumerate(rows):
        others = (group.segments != 0) & (group.segments != q + 1)
        assert (row[..., others] == 0).all()


def test_a_question_looks_the_same_alone_and_among_others(adapter, one_image):
    together = maps(adapter, one_image)
    alone = torch.cat([maps(adapter, [t]) for t in one_image])
    assert (together - alone).abs().max() < 1e-6


def implementations(adapter):
    configs = [adapter.model.config, adapter.decoder.config, adapter.text_config]
    if adapter.family == "instructblip":
        configs += [adapter.model.qformer.config, adapter.model.vision_model.config]
    return [c._attn_implementation for c in configs]


@pytest.mark.parametrize("family", ["adapter", "blip"])
def test_the_attention_implementation_and_hooks_are_as_before(family, tmp_path, request):
    model = request.getfixturevalue(family)
    hooks = [len(x.self_attn._forward_hooks) for x in model.layers]
    before = implementations(model)
    assert set(before) == {"sdpa"}
    maps(model, [asked(tmp_path, (96, 96), (Box(1, 1, 5, 5),))])
    assert implementations(model) == before
    assert [len(x.self_attn._forward_hooks) for x in model.layers] == hooks


def test_they_are_as_before_after_an_error(adapter, one_image, group_of, monkeypatch):
    group, before = group_of(adapter, one_image), implementations(adapter)

    def fail(*args):
        assert adapter.decoder.config._attn_implementation == "eager"
        raise KeyError("in the middle")

    monkeypatch.setattr(attention, "whole", fail)
    hooks = [len(x.self_attn._forward_hooks) for x in adapter.layers]
    with pytest.raises(KeyError, match="in the middle"):
        attention_rows(adapter, group)
    assert implementations(adapter) == before
    assert [len(x.self_attn._forward_hooks) for x in adapter.layers] == hooks


def test_a_model_that_gives_no_weights_is_an_error(adapter, one_image, group_of, monkeypatch):
    monkeypatch.setattr(adapter.decoder, "set_attn_implementation", lambda name: None)
    with pytest.raises(RuntimeError, match="weights of 3 layers, got 0.*even under eager"):
        attention_rows(adapter, group_of(adapter, one_image))


def test_a_qformer_that_gives_no_weights_is_an_error(blip, tmp_path, monkeypatch):
    monkeypatch.setattr(blip.model.qformer, "set_attn_implementation", lambda name: None)
    triple = asked(tmp_path, (96, 96), ())
    with pytest.raises(RuntimeError, match="64 patches and a class token from the Q-Former, got"):
        blip.looks_at(triple.image, triple.question)


def test_weights_that_do_not_sum_to_one_are_an_error(adapter, one_image, group_of):
    double = adapter.layers[1].self_attn.register_forward_hook(
        lambda module, args, out: (out[0], 2 * out[1])
    )
    with double, pytest.raises(RuntimeError, match="sum to 1, got sums off by 1"):
        attention_rows(adapter, group_of(adapter, one_image))


def test_triples_whose_object_cannot_be_seen_are_counted(adapter, tmp_path):
    size = (200, 100)  # the crop is the central 100 pixels
    boxes = {"a": (Box(60, 10, 20, 20),), "b": (), "c": (Box(2, 2, 40, 40),), "d": ()}
    triples = [asked(tmp_path, size, b, name=name) for name, b in boxes.items()]
    absent = dataclasses.replace(triples[0], id="e", answer="No", category="animal")
    there = dataclasses.replace(triples[0], id="f", answer="No")  # Is the car red? No.
    seen = regions(adapter, [*triples, absent, there])
    assert [t.id for t in seen.triples] == ["a", "f"] and seen.covers.shape == (2, 64)
    counts = {"asked object absent": 1, "no box": 2, "box outside the crop": 1}
    assert seen.left_out == counts
    assert seen.area == pytest.approx([100 * 400 / 100**2] * 2)
    with pytest.raises(ValueError, match="got none of 4.*'no box': 2, 'box outside the crop': 1"):
        regions(adapter, [*triples[1:], absent])


def test_the_asked_object_is_the_first_box(adapter, tmp_path):
    two = (Box(0, 0, 48, 48), Box(48, 48, 48, 48))
    seen = regions(adapter, [asked(tmp_path, (96, 96), two)])
    np.testing.assert_array_equal(seen.covers[0], covered(two[0], adapter.cells(96, 96)))


def test_instructblip_sees_the_whole_picture(blip, tmp_path):
    triple = asked(tmp_path, (200, 100), (Box(0, 0, 50, 50),))
    assert regions(blip, [triple]).area == pytest.approx(12.5)


def test_a_family_without_places_is_an_error(adapter, tmp_path):
    class Placeless(LlavaAdapter):
        def cells(self, width, height):
            return None

    model = Placeless(**{f.name: getattr(adapter, f.name) for f in dataclasses.fields(adapter)})
    with pytest.raises(ValueError, match="image tokens of llava have no place.*cells"):
        regions(model, [asked(tmp_path, (96, 96), (Box(1, 1, 5, 5),))])


def test_what_the_store_holds_is_not_computed_again(adapter, triples, tmp_path, monkeypatch):
    seen = regions(adapter, [t for t in triples if t.boxes][:6])
    sets = {"positive": [Head(0, 1), Head(2, 2)], "negative": [Head(1, 0)]}
    first = overlap(adapter, seen, tmp_path)
    drawn = set_maps(adapter, seen.triples, sets, tmp_path)

    def fail(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(attention, "attention_rows", fail)
    np.testing.assert_array_equal(overlap(adapter, seen, tmp_path), first)
    again = set_maps(adapter, seen.triples[::-1], sets, tmp_path)
    np.testing.assert_array_equal(again["negative"][::-1], drawn["negative"])
    moved = dataclasses.replace(seen.triples[0], boxes=(Box(1, 1, 9, 9),))
    for change in (
        lambda: overlap(adapter, regions(adapter, [moved]), tmp_path),
        lambda: set_maps(adapter, seen.triples, {"positive": [Head(0, 0)]}, tmp_path),
        lambda: set_maps(adapter, seen.triples, sets, tmp_path, of="all"),
    ):
        with pytest.raises(AssertionError, match="computed again"):
            change()


def test_a_killed_run_resumes(adapter, triples, tmp_path, monkeypatch):
    seen = regions(adapter, [t for t in triples if t.boxes])
    whole = overlap(adapter, seen, tmp_path / "whole")
    monkeypatch.setattr(attention, "resume", partial(resume, part=2))
    calls, rows = [], attention_rows

    def stop_at_the_fourth(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return rows(*args)

    monkeypatch.setattr(attention, "attention_rows", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        overlap(adapter, seen, tmp_path / "killed")
    np.testing.assert_array_equal(overlap(adapter, seen, tmp_path / "killed"), whole)
    images = len({t.image_id for t in seen.triples})
    assert len(calls) == 4 + images - 2, "two images were stored before the stop"


def test_maps_of_sets_are_means_over_heads(adapter, triples, tmp_path):
    seen = regions(adapter, [t for t in triples if t.boxes][:5])
    heads = [Head(0, 1), Head(2, 2), Head(2, 3)]
    every = overlap(adapter, seen, tmp_path)
    drawn = set_maps(adapter, seen.triples, {"set": heads}, tmp_path)["set"]
    np.testing.assert_allclose(drawn.sum(1), 100)
    np.testing.assert_allclose(
        (drawn * seen.covers).sum(1), np.mean([every[:, h.layer, h.head] for h in heads], 0)
    )
    whole = set_maps(adapter, seen.triples, {"set": heads}, tmp_path, of="all")["set"]
    np.testing.assert_allclose(
        (whole * seen.covers).sum(1),
        np.mean([overlap(adapter, seen, tmp_path, of="all")[:, h[0], h[1]] for h in heads], 0),
    )
    assert (whole.sum(1) < 100).all()


def test_a_head_that_gives_the_image_nothing_has_no_overlap():
    part, image = torch.tensor([0.0, 0.2]), torch.tensor([0.0, 0.4])
    assert attention._share(part, image, "image").tolist() == [0, 50]


def test_regions_of_a_category_are_its_rows(adapter, triples):
    seen = regions(adapter, [t for t in triples if t.boxes])
    some = seen.of("animal")
    assert some.triples == [t for t in seen.triples if t.category == "animal"] and some.triples
    np.testing.assert_array_equal(some.covers, seen.covers[seen.at("animal")])
    assert seen.at("color").dtype == int and len(Regions([], seen.covers, {}).at("color")) == 0


@pytest.mark.parametrize("call", ["overlap", "set_maps"])
def test_an_unknown_denominator_names_the_known_ones(adapter, tmp_path, call):
    triple = asked(tmp_path, (96, 96), (Box(1, 1, 5, 5),))
    with pytest.raises(ValueError, match="image.*all.*got 'text'"):
        if call == "overlap":
            overlap(adapter, regions(adapter, [triple]), tmp_path, of="text")
        else:
            set_maps(adapter, [triple], {"set": [Head(0, 0)]}, tmp_path, of="text")


def test_a_set_without_heads_is_an_error(adapter, triples, tmp_path):
    with pytest.raises(ValueError, match="heads in every set, got none in negative"):
        set_maps(adapter, triples[:1], {"positive": [Head(0, 0)], "negative": []}, tmp_path)
    with pytest.raises(ValueError, match="heads in every set, got none in any"):
        set_maps(adapter, triples[:1], {}, tmp_path)


def test_the_key_of_the_store_names_the_quantity(adapter, blip, tmp_path):
    for name, model in (("llava", adapter), ("instructblip", blip)):
        seen = regions(model, [asked(tmp_path, (96, 96), (Box(10, 10, 30, 30),), name=name)])
        overlap(model, seen, tmp_path / name)
        (about,) = (tmp_path / name).glob("*/key.json")
        assert json.loads(about.read_text())["through"] == model.looks_through


def test_table_14_has_two_categories_two_sides_and_two_models():
    table = paper.table(14).set_index(["category", "side", "model"])["overlap"]
    assert len(table) == 8 and table.index.is_unique
    assert (table[:, "positive"] > 5 * table[:, "negative"]).all()
