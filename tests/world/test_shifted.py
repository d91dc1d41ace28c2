"""Scenes unlike the others, in POPE's and COCO-QA's layouts."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from vseam_lib.sources.cocoqa import read_cocoqa
from vseam_lib.sources.pope import SUBSETS, read_pope
from vseam_lib.world import draw as usual
from vseam_lib.world import export, shifted
from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.questions import OPEN_KINDS, open_kind, open_questions
from vseam_lib.world.scene import USUAL, VISIBLE, sample_scene
from vseam_lib.world.shifted import SHIFTED, draw_shifted, pope_lines, shifted_scene

# Of the scenes that the shipped models were trained and measured on.
DIGESTS = {
    "train": "90c64a7c65aa11f4",
    "analysis": "caa29965d639297f",
    "heldout": "0ceac719f45ecc3e",
}


@pytest.fixture(scope="module")
def scenes():
    return [shifted_scene(k) for k in range(30)]


@pytest.mark.parametrize("split", DIGESTS)
def test_the_usual_scenes_are_what_they_were(split):
    digest = hashlib.sha256()
    for k in (0, 1, 2, 500):
        scene = sample_scene(split, k)
        digest.update(repr(scene).encode())
        digest.update(draw(scene)[0].tobytes())
    assert digest.hexdigest()[:16] == DIGESTS[split]


def test_a_scene_is_the_same_every_time(scenes):
    assert shifted_scene(3) == scenes[3] != shifted_scene(3, seed=1)
    assert np.array_equal(draw_shifted(scenes[3])[0], draw_shifted(shifted_scene(3))[0])
    pictures = {draw_shifted(s)[0].tobytes() for s in scenes[:10]}
    assert len(pictures) == len({s.id for s in scenes[:10]}) == 10
    assert not {s.id[0] for s in scenes} & {sample_scene(x, 0).id[0] for x in DIGESTS}


def test_every_object_is_smaller_than_any_of_its_part_elsewhere(scenes):
    for part in ("target", "person", "other"):
        assert getattr(SHIFTED, part)[1] <= getattr(USUAL, part)[0]
    sizes = [x.size for s in scenes for x in s.objects]
    usual_sizes = [x.size for k in range(30) for x in sample_scene("analysis", k).objects]
    assert np.mean(sizes) < np.mean(usual_sizes) - 4
    for scene in scenes:
        acting = {scene.action.subject, scene.action.object} if scene.action else set()
        rest = [x.size for k, x in enumerate(scene.objects) if k not in acting]
        assert max(rest) < USUAL.other[0]


def test_scenes_are_as_full_as_the_fullest_elsewhere(scenes):
    def counts(of):
        return {
            acts: {len(s.objects) for s in of if bool(s.action) is acts} for acts in (True, False)
        }

    elsewhere = counts([sample_scene("train", k) for k in range(60)])
    assert counts(scenes) == {acts: {max(n)} for acts, n in elsewhere.items()}


def test_places_have_colours_seen_nowhere_else():
    shades = np.linspace(0.8, 1.12, 9)[:, None]  # how light a scene may be elsewhere
    for place, (sky, ground) in shifted.GROUND.items():
        for tone in (sky, ground):
            known = np.concatenate([shades * np.array(t) for t in usual._GROUND[place]])
            assert np.linalg.norm(known - np.array(tone), axis=1).min() > 25, (place, tone)


def test_backgrounds_are_lower_and_noisier_and_more_cluttered():
    assert shifted.HORIZON[0] > 46 and shifted.CLUTTER[0] > 10 and shifted.NOISE[0] >= 16

    def noise(image, owner):
        """Spread of neighbouring pixels of the background."""
        apart = np.diff(image.astype(float), axis=1)
        behind = (owner[:, 1:] < 0) & (owner[:, :-1] < 0)
        return np.median(np.abs(apart[behind]))

    here = [noise(*draw_shifted(shifted_scene(k))) for k in range(8)]
    there = [noise(*draw(sample_scene("heldout", k))) for k in range(8)]
    assert np.mean(here) > 1.2 * np.mean(there)


def test_objects_are_painted_as_everywhere_and_all_show(scenes):
    for scene in scenes[:8]:
        (image, owner), (known, known_owner) = draw_shifted(scene), draw(scene)
        assert np.array_equal(owner, known_owner) and image.dtype == np.uint8
        assert np.array_equal(image[owner >= 0], known[owner >= 0])
        assert (image[owner < 0] != known[owner < 0]).any(-1).mean() > 0.95
        assert min(Counter(owner[owner >= 0].tolist()).values()) >= VISIBLE
        assert set(owner[owner >= 0].tolist()) == set(range(len(scene.objects)))


def test_no_class_prefers_a_colour_as_in_training(scenes):
    def usual_share(of):
        return np.mean([x.color in o.USUAL_COLORS[x.name] for s in of for x in s.objects])

    by_chance = 2 / len(o.COLORS)
    assert usual_share([sample_scene("train", k) for k in range(60)]) > by_chance + 0.15
    assert abs(usual_share(scenes) - by_chance) < 0.09


@pytest.mark.parametrize("subset", SUBSETS)
def test_rows_alternate_and_tell_the_truth(scenes, subset):
    rows = pope_lines(scenes, subset)
    assert [r["label"] for r in rows] == ["yes", "no"] * (3 * len(scenes))
    assert [r["question_id"] for r in rows] == list(range(1, len(rows) + 1))
    for k, scene in enumerate(scenes):
        own = rows[6 * k : 6 * k + 6]
        assert {r["image"] for r in own} == {f"{scene.id}.png"}
        assert len({r["text"] for r in own}) == 6
        for r in own:
            name = r["text"].removeprefix("Is there a ").removesuffix(" in the image?")
            assert scene.has(name) == (r["label"] == "yes")


def test_subsets_share_their_yes_rows_and_differ_in_the_absent(scenes):
    rows = {s: pope_lines(scenes, s) for s in SUBSETS}
    assert len({json.dumps(r[::2]) for r in rows.values()}) == 1
    assert len({json.dumps(r[1::2]) for r in rows.values()}) == 3
    with pytest.raises(ValueError, match="random.*popular.*adversarial.*'rare'"):
        pope_lines(scenes, "rare")


def absent_of(rows):
    return [r["text"].split()[3] for r in rows if r["label"] == "no"]


def test_popular_objects_are_frequent_and_adversarial_ones_keep_company(scenes):
    often = Counter(x.name for s in scenes for x in s.objects)
    together = Counter(
        (a.name, b.name) for s in scenes for a in s.objects for b in s.objects if a != b
    )

    def mean(subset, of):
        rows = pope_lines(scenes, subset)
        near = [r["text"].split()[3] for r in rows if r["label"] == "yes"]
        return np.mean([of(*pair) for pair in zip(near, absent_of(rows), strict=True)])

    def frequency(near, name):
        return often[name]

    def company(near, name):
        return together[near, name]

    assert mean("popular", frequency) > 1.2 * mean("random", frequency)
    assert mean("adversarial", company) > 1.2 * mean("random", company)
    for k, scene in enumerate(scenes):  # the first absent object of a picture is the most frequent
        first = absent_of(pope_lines(scenes, "popular")[6 * k : 6 * k + 2])[0]
        assert often[first] == max(n for name, n in often.items() if not scene.has(name))


def test_the_readers_take_what_is_written(tmp_path):
    shifted.export_pope(tmp_path / "pope", images=3)
    shifted.export_cocoqa(tmp_path / "cocoqa", images=3)
    pope, cocoqa = read_pope(tmp_path / "pope"), read_cocoqa(tmp_path / "cocoqa")
    assert len(pope) == 3 * 3 * 6
    assert Counter(q.kind for q in cocoqa) == dict.fromkeys(
        ("object", "number", "color", "location"), 3
    )
    assert not {q.image_id for q in pope} & {q.image_id for q in cocoqa}
    assert np.array_equal(np.asarray(Image.open(pope[0].image)), draw_shifted(shifted_scene(0))[0])
    again = tmp_path / "again"
    shifted.export_pope(again, images=3)
    for path in sorted(p for p in again.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "pope" / path.relative_to(again)).read_bytes()


def test_one_command_writes_everything_and_the_marker_last(tmp_path, monkeypatch):
    order = []
    for module, name in ((shifted, "export_pope"), (shifted, "export_cocoqa"), (export, "export")):
        monkeypatch.setattr(module, name, lambda out, seed, name=name: order.append((name, out)))
    monkeypatch.setattr("sys.argv", ["export", "--out", str(tmp_path)])
    export.main()
    assert order == [
        ("export_pope", tmp_path / "pope"),
        ("export_cocoqa", tmp_path / "cocoqa"),
        ("export", tmp_path),
    ]


def test_open_questions_come_one_of_a_kind_and_true(scenes):
    for k, scene in enumerate(scenes):
        found = open_questions(scene, np.random.default_rng(k))
        assert {"color", "place", "count"} <= set(found)
        assert ("action" in found) == bool(scene.action)
        for kind, (_, answer) in found.items():
            assert open_kind(answer) == kind and answer in OPEN_KINDS[kind]
        assert found["place"][1] == scene.place
        name = found["color"][0].split()[-1]
        assert scene.objects[scene.index(name)].color == found["color"][1]
    with pytest.raises(ValueError, match="got 'violet'"):
        open_kind("violet")


def test_open_questions_are_about_exported_pictures(world):
    asked = export.read_open(world, "heldout")
    assert {q.kind for q in asked} <= set(OPEN_KINDS) and len({q.id for q in asked}) == len(asked)
    assert all(q.image.is_file() and q.image.stem == q.image_id for q in asked)
    first = [q for q in asked if q.image_id == asked[0].image_id]
    assert export.read_open(world, "heldout", scenes=1) == first
    with pytest.raises(ValueError, match="'val' split, found analysis, heldout, train"):
        export.read_open(world, "val")
    with pytest.raises(ValueError, match="another data set"):
        export.read_open(world / "images", "heldout")
