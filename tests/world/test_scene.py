"""Scenes, their pictures and their exact masks."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from vseam_lib.triples import Box
from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.glyphs import glyph
from vseam_lib.world.scene import SIZE, SPLITS, mask_box, sample_scene

DIGEST = """
import hashlib
from vseam_lib.world.draw import draw
from vseam_lib.world.scene import sample_scene
images = [draw(sample_scene("analysis", k, 3))[0].tobytes() for k in range(5)]
print(hashlib.sha256(b"".join(images)).hexdigest())
"""


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene("analysis", k) for k in range(60)]


def digest(*args):
    return hashlib.sha256(draw(sample_scene(*args))[0].tobytes()).hexdigest()


def test_a_seed_gives_the_same_pictures_in_another_process():
    other = subprocess.run(
        [sys.executable, "-c", DIGEST],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    images = [draw(sample_scene("analysis", k, 3))[0].tobytes() for k in range(5)]
    assert other.stdout.strip() == hashlib.sha256(b"".join(images)).hexdigest()


def test_splits_and_seeds_share_no_picture():
    keys = [(split, k, seed) for split in SPLITS for k in range(25) for seed in (0, 1)]
    assert len({digest(*key) for key in keys}) == len(keys)


def test_scene_ids_are_unique_over_splits():
    ids = [sample_scene(split, k).id for split in SPLITS for k in range(25)]
    assert len(set(ids)) == len(ids)


def test_an_unknown_split_names_the_known_ones():
    with pytest.raises(ValueError, match="train.*analysis.*heldout.*got 'val'"):
        sample_scene("val", 0)


def test_pictures_have_the_promised_form(scenes):
    for scene in scenes[:10]:
        image, owner = draw(scene)
        assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8
        assert owner.shape == (SIZE, SIZE)
        assert set(np.unique(owner)) <= set(range(-1, len(scene.objects)))


def test_classes_of_a_scene_are_distinct(scenes):
    for scene in scenes:
        names = [x.name for x in scene.objects]
        assert len(set(names)) == len(names) and set(names) <= set(o.CLASSES)


def test_only_furniture_has_a_material(scenes):
    for x in (x for scene in scenes for x in scene.objects):
        assert (x.material in o.MATERIALS) if x.name in o.INDOOR else (x.material is None)


def test_actions_fit_what_they_act_on(scenes):
    acting = [s for s in scenes if s.action]
    assert len(acting) > 20
    for scene in acting:
        assert scene.objects[scene.action.subject].name in o.PEOPLE
        assert scene.action.name in o.ACTIONS_ON[scene.objects[scene.action.object].name]


def test_a_mask_is_exactly_what_its_object_paints(scenes):
    """Leaving an object out changes its mask's pixels and no other pixel."""
    checked = 0
    for scene in scenes:
        k = len(scene.objects) - 1  # the last: without it the others keep their places
        if scene.action and k in (scene.action.subject, scene.action.object):
            continue
        image, owner = draw(scene)
        without, rest = draw(replace(scene, objects=scene.objects[:k]))
        mask, changed = owner == k, (image != without).any(-1)
        assert not (changed & ~mask).any()
        assert changed[mask].mean() > 0.9
        assert (rest[~mask] == owner[~mask]).all()
        checked += 1
    assert checked > 10


def test_a_visible_mask_lies_in_its_glyph(scenes):
    for scene in scenes[:20]:
        _, owner = draw(scene)
        for k, p in enumerate(scene.placed):
            alpha, *_ = glyph(p.glyph, p.size, p.flip)
            canvas = np.zeros((3 * SIZE, 3 * SIZE), bool)
            canvas[SIZE + p.y : SIZE + p.y + p.size, SIZE + p.x : SIZE + p.x + p.size] = alpha
            assert not ((owner == k) & ~canvas[SIZE : 2 * SIZE, SIZE : 2 * SIZE]).any()


def changes(scene):
    """Every kind of change that this scene allows: name, changed scene, objects concerned."""
    k = next((k for k, x in enumerate(scene.objects) if x.material), None)
    color = next(c for c in o.COLORS if c != scene.objects[0].color)
    yield "color", scene.with_color(0, color), {0}
    if k is not None:
        material = next(m for m in o.MATERIALS if m != scene.objects[k].material)
        yield "material", scene.with_material(k, material), {k}
    free = [k for k in range(len(scene.objects)) if not scene.action or k not in acting(scene)]
    if free:
        group = o.GROUPS[o.GROUP_OF[scene.objects[free[0]].name]]
        names = [m for m in group if not scene.has(m)]
        if names:
            yield "class", scene.with_class(free[0], names[0]), {free[0]}
    if len(free) > 1:
        yield "swap", scene.with_swapped(free[0], free[1]), set(free[:2])
    if scene.action:
        names = o.ACTIONS_ON[scene.objects[scene.action.object].name]
        action = next(a for a in names if a != scene.action.name)
        yield "action", scene.with_action(action), acting(scene)


def acting(scene):
    return {scene.action.subject, scene.action.object}


def test_a_change_touches_the_pixels_of_the_changed_objects_only(scenes):
    seen = set()
    for scene in scenes[:40]:
        image, owner = draw(scene)
        for kind, changed, concerned in changes(scene):
            after, new = draw(changed)
            union = np.isin(owner, list(concerned)) | np.isin(new, list(concerned))
            assert (image[~union] == after[~union]).all(), kind
            assert (owner[~union] == new[~union]).all(), kind
            assert (image[union] != after[union]).any(), kind
            seen.add(kind)
    assert seen == {"color", "material", "class", "swap", "action"}


def test_objects_that_a_change_does_not_concern_keep_their_masks_where_not_occluded(scenes):
    for scene in scenes[:40]:
        _, owner = draw(scene)
        for _, changed, concerned in changes(scene):
            _, new = draw(changed)
            moved = np.isin(owner, list(concerned)) | np.isin(new, list(concerned))
            for k in set(range(len(scene.objects))) - concerned:
                assert not (((owner == k) ^ (new == k)) & ~moved).any()


def test_a_new_color_or_material_keeps_every_mask(scenes):
    for scene in scenes[:40]:
        _, owner = draw(scene)
        for kind, changed, _ in changes(scene):
            if kind in ("color", "material"):
                assert (draw(changed)[1] == owner).all()


def test_a_swap_reverses_the_side(scenes):
    for scene in scenes:
        for kind, changed, concerned in changes(scene):
            if kind == "swap":
                a, b = sorted(concerned)
                (ax, ay), (bx, by) = scene.centre(a), scene.centre(b)
                (cx, cy), (dx, dy) = changed.centre(a), changed.centre(b)
                assert np.sign(round((ax - bx) / 2)) == -np.sign(round((cx - dx) / 2))
                assert np.sign(round((ay - by) / 2)) == -np.sign(round((cy - dy) / 2))


def test_changes_that_make_no_scene_are_refused(scenes):
    acting_scene = next(s for s in scenes if s.action)
    still = next(s for s in scenes if not s.action)
    animal = next((s, k) for s in scenes for k, x in enumerate(s.objects) if x.name in o.ANIMALS)
    with pytest.raises(ValueError, match="no material"):
        animal[0].with_material(animal[1], "wood")
    with pytest.raises(ValueError, match="already has a"):
        still.with_class(0, still.objects[1].name)
    with pytest.raises(ValueError, match="expected one of"):
        acting_scene.with_action("eating")
    with pytest.raises(ValueError, match="no action to change"):
        still.with_action("riding")
    with pytest.raises(KeyError, match="has no 'unicorn'"):
        still.index("unicorn")


def test_an_unknown_glyph_names_the_known_ones():
    with pytest.raises(KeyError, match="no glyph 'unicorn'.*bicycle"):
        glyph("unicorn", 20, False)


def test_mask_box_is_tight():
    mask = np.zeros((8, 9), bool)
    mask[2, 3] = mask[5, 6] = True
    assert mask_box(mask) == Box(3, 2, 4, 4)
    with pytest.raises(ValueError, match="at least one pixel"):
        mask_box(mask & False)
