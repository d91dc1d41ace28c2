import numpy as np
import pytest
from PIL import Image

from vseam_lib.editing.counterfactual import Counterfactual
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.triples import Box, Category, by_category
from vseam_lib.vlm.images import open_image
from vseam_lib.world.draw import draw
from vseam_lib.world.export import export, question
from vseam_lib.world.judge import Judge
from vseam_lib.world.oracle import allowed, around, redraw, success


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    export(root, scenes={"analysis": 40})
    return by_category(read_gqa(root / "gqa", "analysis"))


def counterfactual(t, wanted, shown="what it shows"):
    old, new = (shown, wanted) if t.answer == "Yes" else (wanted, shown)
    return Counterfactual(
        triple_id=t.id, question=t.question + "?", old=old, new=new, answer=t.answer, rewriter="t"
    )


def worlds_own(t):
    """The world's own counterfactual scene, and what of it is wanted."""
    scene, asked = question(t.id)
    k, other = asked.objects[0], asked.counterfactual
    wanted = {
        Category.COLOR: lambda: other.objects[k].color,
        Category.MATERIAL: lambda: other.objects[k].material,
        Category.SPATIAL: lambda: other.relation(*asked.objects),
        Category.ACTION: lambda: other.action.name,
    }.get(t.category, lambda: other.objects[k].name)()
    return other, wanted


def test_the_redrawn_scene_is_the_worlds_own_counterfactual(groups):
    assert list(groups) == list(Category)
    for members in groups.values():
        for t in members[:4]:
            other, wanted = worlds_own(t)
            edited = np.array(redraw(t, counterfactual(t, wanted)))
            assert (edited == draw(other)[0]).all()
            assert (edited != np.array(open_image(t.image))).any()


def test_the_judge_tells_exact_edits_from_originals(groups):
    judge = Judge()
    right = {True: [], False: []}
    for members in groups.values():
        for t in members[:10]:
            wanted = worlds_own(t)[1]
            c = counterfactual(t, wanted)
            for edited, image in ((True, redraw(t, c)), (False, open_image(t.image))):
                right[edited].append(success(judge, image, t, c) == edited)
    assert np.mean(right[True]) > 0.85 and np.mean(right[False]) > 0.95


def test_a_picture_without_its_object_shows_nothing(groups):
    judge, found = Judge(), []
    for t in groups[Category.ANIMAL][:20]:
        scene, asked = question(t.id)
        image = Image.fromarray(draw(scene, without=asked.objects)[0])
        found.append(judge.look(image, t.boxes[:1])[0].object)
    assert found.count("nothing") >= 16


def test_leaving_an_object_out_changes_only_its_pixels(groups):
    scene, asked = question(groups[Category.COLOR][0].id)
    (whole, owner), (less, left) = draw(scene), draw(scene, without=asked.objects)
    hidden = np.isin(owner, asked.objects)
    assert (whole == less)[~hidden].all() and (owner == left)[~hidden].all()
    assert not np.isin(left, asked.objects).any()


def test_what_an_action_excludes_is_not_allowed(groups):
    for t in groups[Category.ACTION]:
        scene, asked = question(t.id)
        assert scene.action.name in allowed(t)
    for t in groups[Category.COLOR]:
        assert allowed(t) is None
    for category in (Category.ANIMAL, Category.INDOOR):
        for t in groups[category]:
            scene, asked = question(t.id)
            if scene.action and scene.action.object == asked.objects[0]:
                assert scene.objects[asked.objects[0]].name in allowed(t)


def test_an_impossible_change_and_a_foreign_triple_are_refused(groups):
    t = groups[Category.SPATIAL][0]
    scene, asked = question(t.id)
    with pytest.raises(ValueError, match="does not put"):
        redraw(t, counterfactual(t, scene.relation(*asked.objects)))
    with pytest.raises(ValueError, match="names"):
        success(Judge(), open_image(t.image), nameless(t), counterfactual(t, "above"))


def nameless(t):
    return type(t)(t.id, t.image_id, t.image, t.question, t.answer, t.category, t.boxes)


def test_a_box_around_boxes_holds_them():
    assert around([Box(3, 4, 5, 6), Box(1, 8, 2, 9)]) == Box(1, 4, 7, 13)
    with pytest.raises(FileNotFoundError, match="make weights"):
        Judge("nowhere")
    with pytest.raises(ValueError, match="leaves the"):
        Judge().look(Image.new("RGB", (96, 96)), [Box(90, 0, 20, 10)])
