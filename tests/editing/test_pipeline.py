import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vseam_lib.editing.counterfactual import Counterfactual, Refusal
from vseam_lib.editing.pipeline import (
    Tools,
    directory,
    edit_triples,
    item_seed,
    padded,
    window,
)
from vseam_lib.editing.powerpaint_items import Edited
from vseam_lib.editing.settings import EditSettings
from vseam_lib.triples import Box, VQATriple


class FakeRewriter:
    name = "fake"

    def rewrite(self, triples):
        return [
            Refusal(t.id, "no grammar", "odd")
            if t.question.startswith("Odd")
            else Counterfactual(
                triple_id=t.id,
                question=t.question.replace("red", "green"),
                old="red",
                new="green",
                answer=t.answer,
                rewriter="fake",
            )
            for t in triples
        ]


class FakeSegmenter:
    revision = "fake"

    def masks(self, image, boxes, *, allow_empty):
        assert allow_empty
        found = np.zeros((len(boxes), image.height, image.width), bool)
        for mask, (x, y, w, h) in zip(found, boxes, strict=True):
            mask[y : y + h, x : x + w] = w > 3
        return found


class FakeInpainter:
    """Paints the hole with a grey that tells the seed, and disturbs every other pixel."""

    revision, dtype, multiple = "fake", "float32", 8

    def __init__(self):
        self.calls, self.fail_at = [], None

    def edit_with_raw(self, images, masks, prompts, *, task, fitting, steps, guidance, seeds):
        out = []
        for image, mask, prompt, seed in zip(images, masks, prompts, seeds, strict=True):
            if prompt == self.fail_at:
                raise RuntimeError("out of memory")
            assert image.size == mask.shape[::-1] and not any(s % 8 for s in image.size)
            self.calls.append((prompt, task, fitting, steps, guidance))
            before = np.asarray(image)
            raw = np.where(mask[..., None], seed % 200, before ^ 1).astype(np.uint8)
            pasted = np.where(mask[..., None], raw, before)
            out.append(Edited(Image.fromarray(pasted), Image.fromarray(raw)))
        return out


@pytest.fixture
def tools():
    return Tools(FakeRewriter(), FakeSegmenter(), FakeInpainter(), lambda e: {"sum": e.mask.sum()})


@pytest.fixture
def triples(tmp_path):
    rng = np.random.default_rng(0)
    out = []
    for k in range(5):
        path = tmp_path / f"{k}.png"
        Image.fromarray(rng.integers(0, 256, (30, 44, 3), np.uint8)).save(path)
        out.append(
            VQATriple(
                str(k), str(k), path, "Is the car red?", "Yes", "color", (Box(5, 6, 12, 9),),
                names=("car",), attributes=(("red",),),
            )
        )  # fmt: skip
    return out


SETTINGS = EditSettings(window=0)


def test_an_edit_changes_the_mask_and_nothing_else(triples, tools, tmp_path):
    table = edit_triples(triples, SETTINGS, tools, tmp_path / "edits").set_index("id")
    for t in triples:
        row = table.loc[t.id]
        before, after = np.array(Image.open(t.image)), np.array(Image.open(row["image"]))
        mask, raw = np.array(Image.open(row["mask"])), np.array(Image.open(row["raw"]))
        assert (before == after)[~mask].all() and (before != raw)[~mask].all()
        assert (after[mask] == item_seed(0, f"{t.id}/0") % 200).all()
        assert (row["stage"], row["shows"], row["wanted"]) == ("edited", "red", "green")
        assert row["prompts"] == ["a green car"] and row["sum"] == mask.sum()


def test_without_compositing_the_raw_output_is_the_edit(triples, tools, tmp_path):
    raw = edit_triples(triples[:1], replace(SETTINGS, composite=False), tools, tmp_path / "e")
    images = [np.array(Image.open(raw.loc[0, k])) for k in ("image", "raw")]
    assert (images[0] == images[1]).all()


def test_objects_exchange_places_one_after_the_other(triples, tools, tmp_path):
    t = replace(
        triples[0], category="spatial", question="Is the man left of the car?", answer="Yes",
        boxes=(Box(2, 4, 8, 9), Box(25, 10, 9, 9)), names=("man", "car"),
        attributes=(("red",), ("blue",)),
    )  # fmt: skip
    row = edit_triples([t], SETTINGS, tools, tmp_path / "edits").loc[0]
    assert [c[:2] for c in tools.inpainter.calls] == [("a blue car", "text"), ("a red man", "text")]
    after = np.array(Image.open(row["image"]))
    assert (after[8, 6] == item_seed(0, "0/0") % 200).all(), "the first step is kept"
    assert (after[14, 29] == item_seed(0, "0/1") % 200).all()


def test_what_cannot_be_edited_says_at_which_stage_it_stopped(triples, tools, tmp_path):
    odd = replace(triples[0], question="Odd question")
    boxless = replace(triples[1], boxes=(), names=(), attributes=())
    unseen = replace(triples[2], boxes=(Box(1, 1, 2, 2),))
    nameless = replace(triples[3], names=())
    table = edit_triples([odd, boxless, unseen, nameless], SETTINGS, tools, tmp_path / "edits")
    assert list(table["stage"]) == ["asked", "rewritten", "rewritten", "segmented"]
    for reason, words in zip(
        table["reason"], ("no grammar: odd", "no box", "finds nothing", "names"), strict=True
    ):
        assert words in reason
    assert table["image"].isna().all() and not tools.inpainter.calls


def test_a_second_run_edits_nothing_again(triples, tools, tmp_path):
    first = edit_triples(triples, SETTINGS, tools, tmp_path / "edits")
    tools.inpainter.calls.clear()
    again = edit_triples(triples[::-1], SETTINGS, tools, tmp_path / "edits")
    assert not tools.inpainter.calls
    assert again.iloc[::-1].reset_index(drop=True).equals(first)


def test_a_failure_keeps_the_chunks_before_it(triples, tools, tmp_path, monkeypatch):
    monkeypatch.setattr("vseam_lib.editing.pipeline.CHUNK", 2)
    broken = [*triples[:3], replace(triples[3], names=("bus",)), triples[4]]
    tools.inpainter.fail_at = "a green bus"
    with pytest.raises(RuntimeError, match="out of memory"):
        edit_triples(broken, SETTINGS, tools, tmp_path / "edits")
    tools.inpainter.fail_at = None
    tools.inpainter.calls.clear()
    table = edit_triples(broken, SETTINGS, tools, tmp_path / "edits")
    assert len(tools.inpainter.calls) == 3 and (table["stage"] == "edited").all()


def test_shards_together_are_the_whole(triples, tools, tmp_path):
    whole = edit_triples(triples, SETTINGS, tools, tmp_path / "whole").set_index("id")
    for k in range(2):
        edit_triples(triples, SETTINGS, tools, tmp_path / "parts", shard=(k, 2))
    tools.inpainter.calls.clear()
    parts = edit_triples(triples, SETTINGS, tools, tmp_path / "parts").set_index("id")
    assert not tools.inpainter.calls
    for one, other in zip(whole["image"], parts["image"], strict=True):
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("change", [{"steps": 3}, {"guidance": 1.0}, {"seed": 1}])
def test_other_settings_never_find_these_edits(triples, tools, tmp_path, change):
    other = replace(SETTINGS, **change)
    assert directory(tmp_path, SETTINGS, tools) != directory(tmp_path, other, tools)
    for t in (replace_tool(tools, "segmenter"), replace_tool(tools, "inpainter")):
        assert directory(tmp_path, SETTINGS, t) != directory(tmp_path, SETTINGS, tools)


def replace_tool(tools, name):
    new = type(getattr(tools, name))()
    new.revision = "another"
    return tools._replace(**{name: new})


def test_another_filter_finds_the_same_edits(triples, tools, tmp_path):
    stricter = replace(SETTINGS, filter={"psnr": 99})
    assert directory(tmp_path, SETTINGS, tools) == directory(tmp_path, stricter, tools)
    about = json.loads((directory(tmp_path, SETTINGS, tools) / "settings.txt").read_text())
    assert about["inpainter"] == "fake-float32" and "filter" not in about


def test_a_picture_drawn_again_is_edited_again(triples, tools, tmp_path):
    edit_triples(triples, SETTINGS, tools, tmp_path / "edits")
    tools.inpainter.calls.clear()
    Image.new("RGB", (44, 30)).save(triples[2].image)
    edit_triples(triples, SETTINGS, tools, tmp_path / "edits")
    assert len(tools.inpainter.calls) == 1


def test_a_window_shows_the_mask_and_its_surroundings():
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask = np.zeros((70, 90), bool)
        y, x, h, w = *rng.integers(0, 50, 2), *rng.integers(1, 20, 2)
        mask[y : y + h, x : x + w] = True
        left, top, right, bottom = window(mask, 32)
        assert (right - left, bottom - top) == (32, 32)
        inside = np.pad(mask, 4, constant_values=False)[top : bottom + 8, left : right + 8]
        assert inside.sum() == mask.sum() and 0 <= left <= 58 and 0 <= top <= 38
        room = min(x - left, y - top, right - x - w, bottom - y - h)
        assert room >= 4 or 0 in (left, top) or right == 90 or bottom == 70


@pytest.mark.parametrize("side, size", [(0, 8), (32, 30), (80, 8)])
def test_a_mask_that_fits_no_window_gets_the_whole_picture(side, size):
    mask = np.zeros((70, 90), bool)
    mask[20 : 20 + size, 10 : 10 + size] = True
    assert window(mask, side) == (0, 0, 90, 70)


def test_a_window_changes_nothing_outside_itself(triples, tools, tmp_path):
    small = replace(triples[0], boxes=(Box(20, 10, 5, 5),))
    row = edit_triples([small], EditSettings(window=16), tools, tmp_path / "e").loc[0]
    before, raw = np.array(Image.open(small.image)), np.array(Image.open(row["raw"]))
    mask = np.array(Image.open(row["mask"]))
    left, top, right, bottom = window(mask, 16)
    changed = (before != raw).any(-1)
    assert changed[top:bottom, left:right].all() and changed.sum() == 256
    after = np.array(Image.open(row["image"]))
    assert ((before != after).any(-1) == mask).all()


def test_padding_repeats_the_edge_and_masks_nothing_new():
    picture = np.random.default_rng(0).integers(0, 256, (5, 9, 3), np.uint8)
    wide = np.asarray(padded(Image.fromarray(picture), 8))
    assert wide.shape == (8, 16, 3) and (wide[:5, :9] == picture).all()
    assert (wide[5:, :9] == picture[4]).all() and (wide[:5, 9:] == picture[:, 8:]).all()
    mask = padded(np.ones((5, 9), bool), 8)
    assert mask.shape == (8, 16) and mask.sum() == 45


@pytest.mark.parametrize(
    "values, message",
    [
        ({"step": 3}, "did you mean 'steps'"),
        ({"steps": "three"}, "expected steps like 4"),
        ({"composite": 1}, "expected composite like True"),
        ({"steps": True}, "expected steps like 4"),
        ({"steps": 0}, "at least 1 step"),
        ({"fitting": 1.5}, "fitting degree"),
        ({"prompt": "poem"}, "poem"),
    ],
)
def test_a_setting_that_does_not_exist_or_fit_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EditSettings.of(values)


def test_a_profile_sets_what_it_names():
    settings = EditSettings.of({"guidance": 3, "filter": {"psnr": 20.0}})
    assert (settings.guidance, settings.filter, settings.steps) == (3, {"psnr": 20.0}, 4)
