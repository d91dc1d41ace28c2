from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vseam_lib.editing import corrupt
from vseam_lib.editing.corrupt import NAMES, corrupted, on_edited
from vseam_lib.editing.perturb import METHODS
from vseam_lib.editing.settings import EditSettings
from vseam_lib.editing.tools import rewriter_for
from vseam_lib.vlm.images import open_image
from vseam_lib.world.draw import draw
from vseam_lib.world.export import question
from vseam_lib.world.oracle import edited_scene

SETTINGS = EditSettings()


@pytest.fixture
def where(world, tmp_path):
    return {"data": world, "split": "analysis", "root": tmp_path / "edits"}


def test_the_exact_edit_shows_what_the_rewriter_wanted(triples, where):
    found = corrupted("oracle", triples, SETTINGS, **where)
    rewriter = rewriter_for(SETTINGS, where["data"], where["split"])
    outcomes = rewriter.rewrite(triples)
    assert found.reverses and len(found.pictures) == len(triples)
    for t, outcome in zip(triples, outcomes, strict=True):
        drawn, _ = draw(edited_scene(t, outcome))
        assert (np.array(open_image(found.pictures[t.id])) == drawn).all()


def test_everything_that_an_embedded_rewriter_wants_can_be_drawn_and_is_new(triples, where):
    rewriter = rewriter_for(SETTINGS, where["data"], where["split"])
    for t, outcome in zip(triples, rewriter.rewrite(triples), strict=True):
        scene, _ = question(t.id)
        assert edited_scene(t, outcome) != scene


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.pure])
def test_a_perturbation_keeps_the_size_and_reverses_nothing(name, triples, where):
    found = corrupted(name, triples[:3], SETTINGS, **where)
    assert not found.reverses and set(found.pictures) == {t.id for t in triples[:3]}
    for t in triples[:3]:
        before, after = (np.array(open_image(p)) for p in (t.image, found.pictures[t.id]))
        assert before.shape == after.shape and (before != after).any()


def test_pictures_are_made_once(triples, where):
    first = corrupted("gaussian-30", triples[:2], SETTINGS, **where).pictures
    marks = {i: p.stat().st_mtime_ns for i, p in first.items()}
    again = corrupted("gaussian-30", triples[:3], SETTINGS, **where).pictures
    assert {i: again[i].stat().st_mtime_ns for i in marks} == marks and len(again) == 3
    other = corrupted("gaussian-30", triples[:2], replace(SETTINGS, seed=1), **where).pictures
    assert set(other.values()).isdisjoint(first.values())


def test_a_folder_of_pictures_is_taken_as_it_is(triples, edited, where):
    folder = next(iter(edited.values())).parent
    assert corrupted(str(folder), triples, SETTINGS, **where).pictures == edited


def test_only_accepted_inpaintings_are_used(triples, where, monkeypatch):
    table = pd.DataFrame(
        {
            "id": [t.id for t in triples[:3]],
            "image": [t.image for t in triples[:3]],
            "accepted": [True, False, True],
        }
    )
    monkeypatch.setattr(corrupt, "inpainted", lambda *args, **kwargs: table)
    found = corrupted("powerpaint", triples[:3], SETTINGS, **where)
    assert list(found.pictures) == [triples[0].id, triples[2].id]
    assert found.reverses and found.edits is table


def test_an_unknown_edit_is_refused_with_the_known_ones(triples, where):
    with pytest.raises(ValueError, match="gaussian-30.*got 'gausian'"):
        corrupted("gausian", triples, SETTINGS, **where)
    assert {"powerpaint", "oracle", "redraw", "masking"} <= set(NAMES)


def test_only_an_embedded_world_can_be_drawn_again(triples, where, tmp_path):
    with pytest.raises(ValueError, match="only the embedded world"):
        corrupted("oracle", triples, SETTINGS, **{**where, "data": tmp_path})


def test_edited_questions_have_the_other_answer_and_images_of_their_own(triples, edited):
    changed = on_edited(triples, edited)
    assert [t.id for t in changed] == [f"{t.id}/edited" for t in triples]
    for before, after in zip(triples, changed, strict=True):
        assert {before.answer, after.answer} == {"Yes", "No"}
        assert after.image == edited[before.id] and after.question == before.question
    assert len({t.image_id for t in changed}) == len(triples)
    same = on_edited(triples, edited, reversed_answer=False)
    assert [t.answer for t in same] == [t.answer for t in triples]
    assert on_edited(triples, {}) == []


def test_a_truncated_picture_is_named(triples, where, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(triples[0].image.read_bytes()[:200])
    with pytest.raises(ValueError, match="broken.png"):
        corrupted("gaussian-30", [replace(triples[0], image=broken)], SETTINGS, **where)


def test_grey_pictures_are_read_as_rgb(triples, where, tmp_path):
    grey = tmp_path / "grey.png"
    Image.open(triples[0].image).convert("L").save(grey)
    found = corrupted("masking", [replace(triples[0], image=grey)], SETTINGS, **where)
    assert open_image(next(iter(found.pictures.values()))).mode == "RGB"
