import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from vseam_lib.editing import fidelity as f
from vseam_lib.triples import Box


@pytest.fixture
def before():
    return np.random.default_rng(0).integers(60, 190, (60, 80, 3)).astype(np.uint8)


@pytest.fixture
def mask():
    found = np.zeros((60, 80), bool)
    found[20:35, 30:50] = True
    return found


def changed(picture, where, by):
    out = picture.astype(int)
    out[where] += by
    return out.astype(np.uint8)


def test_an_untouched_outside_has_an_infinite_ratio_and_no_changed_pixel(before, mask):
    after = changed(before, mask, 40)
    assert f.outside_change(before, after, mask) == (np.inf, 0.0)
    assert f.outside_similarity(before, after, mask) == pytest.approx(1, abs=1e-9)
    assert f.inside_change(before, after, mask) == 40


def test_the_ratio_is_that_of_the_pixels_outside_alone(before, mask):
    after = changed(changed(before, ~mask, 5), mask, -60)
    psnr, share = f.outside_change(before, after, mask)
    assert psnr == pytest.approx(20 * np.log10(255 / 5))
    assert share == 0, "5 grey levels are not visible"


def test_a_pixel_counts_as_changed_if_one_channel_changes_visibly(before, mask):
    after = before.copy()
    after[0, :7, 1] += 9
    after[1, :7] += 8
    _, share = f.outside_change(before, after, mask)
    assert share == pytest.approx(7 / (~mask).sum())


def test_pictures_may_be_pil_or_arrays(before, mask):
    after = changed(before, ~mask, 5)
    pil = f.outside_change(Image.fromarray(before), Image.fromarray(after), mask)
    assert pil == f.outside_change(before, after, mask)


def test_structural_similarity_outside_does_not_see_the_mask(before, mask):
    noise = np.random.default_rng(1).normal(0, 20, before.shape)
    after = np.clip(before + noise, 0, 255).astype(np.uint8)
    found = f.outside_similarity(before, after, mask)
    other = f.outside_similarity(before, changed(after, mask, -50), mask)
    assert found == pytest.approx(other, abs=1e-9)
    whole = structural_similarity(before, after, channel_axis=2, data_range=255)
    assert found == pytest.approx(whole, abs=0.02), "the noise is the same everywhere"


def test_structural_similarity_sees_a_change_at_the_pictures_border(before, mask):
    after = before.copy()
    after[:3] = 0
    assert f.outside_similarity(before, after, mask) < 0.98


def test_without_room_for_a_window_there_is_no_structural_similarity(before, mask):
    far = np.ones_like(mask)
    far[:4] = False
    assert np.isnan(f.outside_similarity(before, before, far))
    assert np.isnan(f.outside_similarity(before[:5, :5], before[:5, :5], np.eye(5, dtype=bool)))
    with pytest.raises(ValueError, match="margin above 3"):
        f.outside_similarity(before, before, mask, margin=3)


def test_a_mask_of_the_whole_picture_leaves_no_outside(before):
    everything = np.ones(before.shape[:2], bool)
    assert f.outside_change(before, 255 - before, everything) == (np.inf, 0.0)
    assert np.isnan(f.outside_similarity(before, before, everything))


@pytest.mark.parametrize("measure", [f.outside_change, f.outside_similarity, f.inside_change])
def test_pictures_and_masks_that_do_not_belong_together_are_refused(measure, before, mask):
    with pytest.raises(ValueError, match="pictures of one size, got 80 x 60 before and 80 x 59"):
        measure(before, before[1:], mask)
    with pytest.raises(ValueError, match="expected 80 x 60 pixels like its image"):
        measure(before, before, mask[1:])
    with pytest.raises(ValueError, match="empty mask"):
        measure(before, before, np.zeros_like(mask))
    with pytest.raises(ValueError, match="after: expected uint8"):
        measure(before, before / 255, mask)


class Finds:
    """A segmenter that finds a given mask."""

    def __init__(self, found):
        self.found, self.asked = found, []

    def masks(self, image, boxes, *, allow_empty=False):
        self.asked.append((boxes, allow_empty))
        return np.stack([self.found] * len(boxes))


@pytest.mark.parametrize("shift, iou", [(0, 1.0), (5, 15 / 25), (20, 0.0)])
def test_iou_is_of_the_object_before_and_after(before, mask, shift, iou):
    segmenter = Finds(np.roll(mask, shift, axis=1))
    box = Box(30, 20, 20, 15)
    found = f.resegmentation_iou(segmenter, Image.fromarray(before), box, mask)
    assert found == pytest.approx(iou)
    assert segmenter.asked == [([box], True)]


def test_an_object_that_is_gone_has_no_overlap(before, mask):
    nothing = Finds(np.zeros_like(mask))
    assert f.resegmentation_iou(nothing, Image.fromarray(before), Box(30, 20, 20, 15), mask) == 0
    with pytest.raises(ValueError, match="silhouette: expected 80 x 60"):
        f.resegmentation_iou(nothing, Image.fromarray(before), Box(30, 20, 20, 15), mask.T)


def test_the_second_model_judges_by_its_own_answers(adapter32, plain, triples, edited):
    yes, no = adapter32.answer_id("Yes"), adapter32.answer_id("No")

    def right(triple, image):
        logits = plain(adapter32, [dataclasses.replace(triple, image=image)])[0]
        return bool(logits[yes] > logits[no]) == (triple.answer == "Yes")

    seen = set()
    for triple in triples[:12]:
        clean, after = right(triple, triple.image), right(triple, edited[triple.id])
        wanted = (not after) if clean else None
        got = f.second_model_success(adapter32, triple, triple.image, edited[triple.id])
        assert got is wanted
        seen.add(got)
    assert {None, False} <= seen


def test_a_model_that_changes_its_mind_confirms_the_edit(triples, monkeypatch):
    triple = next(t for t in triples if t.answer == "No")
    says = {"before": False, "after": True}
    monkeypatch.setattr(f, "_says_yes", lambda adapter, image, question: says[image])
    assert f.second_model_success(None, triple, "before", "after") is True
    assert f.second_model_success(None, triple, "before", "before") is False
    assert f.second_model_success(None, triple, "after", "before") is None


def test_a_report_measures_the_edit_and_the_raw_output_apart(before, mask):
    raw = changed(changed(before, ~mask, 9), mask, 30)
    after = np.where(mask[..., None], raw, before)
    before, after, raw = (Image.fromarray(x) for x in (before, after, raw))
    report = f.fidelity(before, after, mask, raw=raw, iou=0.5, cosine=0.9, success=True)
    assert (report.psnr, report.changed) == (np.inf, 0.0)
    assert report.ssim == pytest.approx(1, abs=1e-9)
    assert (report.raw_psnr, report.raw_changed) == f.outside_change(before, raw, mask)
    assert report.raw_changed == 1 and report.raw_ssim < 1
    assert report.inside == 30 and report.mask_share == mask.mean()
    assert (report.iou, report.cosine, report.success) == (0.5, 0.9, True)
    assert json.loads(json.dumps(report.row())) == report.row()


def test_a_summary_stays_finite_where_the_outside_is_untouched():
    reports = pd.DataFrame(
        {
            "category": ["color", "color", "color", "action"],
            "psnr": [np.inf, 30.0, 20.0, np.inf],
            "inside": [10.0, 20.0, 30.0, 5.0],
            "success": [True, False, None, True],
        }
    )
    color, action = f.summarise(reports).to_dict("records")
    assert (color["n"], color["psnr"], color["inside"]) == (3, 25, 20)
    assert color["untouched"] == pytest.approx(1 / 3)
    assert color["success"] == 0.5, "of the edits that were judged"
    assert action["untouched"] == 1 and np.isnan(action["psnr"])
    assert "iou" not in color
    with pytest.raises(ValueError, match="expected a column 'model'"):
        f.summarise(reports, by="model")
