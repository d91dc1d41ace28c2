"""Questions: true, balanced, in the paper's wording, and turned round by their counterfactual."""

import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from vseam_lib.triples import Category
from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.export import SCENES, VISIBLE, questions_of
from vseam_lib.world.questions import ask, open_question, presence_question
from vseam_lib.world.scene import sample_scene

NOUN = "|".join(o.CLASSES)
WORDING = {
    Category.COLOR: rf"Is the ({NOUN}) ({'|'.join(o.COLORS)})\?",
    Category.MATERIAL: rf"Is the ({NOUN}) made of ({'|'.join(o.MATERIALS)})\?",
    Category.ANIMAL: rf"Is there a ({'|'.join(o.ANIMALS)}) in this picture\?",
    Category.VEHICLE: rf"Is there a ({'|'.join(o.VEHICLES)}) in this picture\?",
    Category.INDOOR: rf"Is there a ({'|'.join(o.INDOOR)}) in this picture\?",
    Category.SPATIAL: rf"Is the ({NOUN}) ({'|'.join(o.RELATIONS)}) the ({NOUN})\?",
    Category.ACTION: rf"Is the (man|woman) ({'|'.join(o.ACTIONS)}) the ({NOUN})\?",
}


def truth(text, category, scene):
    """The right answer, from what is in the scene alone."""
    words = re.fullmatch(WORDING[category], text).groups()
    objects = {x.name: x for x in scene.objects}
    if category is Category.COLOR:
        return objects[words[0]].color == words[1]
    if category is Category.MATERIAL:
        return objects[words[0]].material == words[1]
    if category is Category.ACTION:
        act, names = scene.action, list(objects)
        return (names[act.subject], act.name, names[act.object]) == words
    if category is Category.SPATIAL:
        one, two = (scene.placed[list(objects).index(words[k])] for k in (0, 2))
        dx = one.x + one.size / 2 - two.x - two.size / 2
        dy = one.y + one.size / 2 - two.y - two.size / 2
        return {
            "to the left of": -dx > abs(dy),
            "to the right of": dx > abs(dy),
            "above": -dy > abs(dx),
            "below": dy > abs(dx),
        }[words[1]]
    return words[0] in objects


@pytest.fixture(scope="module")
def analysis():
    """Scenes and questions of 150 of the analysis scenes."""
    return [(s, q) for k in range(150) for _, s, q in questions_of("analysis", k)]


@pytest.fixture(scope="module")
def many():
    """Questions of a thousand scenes per category, undrawn."""
    asked = defaultdict(list)
    for index in range(1000):
        scene, rng = sample_scene("heldout", index), np.random.default_rng(index)
        for category in Category:
            if question := ask(scene, category, rng):
                asked[category].append((scene, question))
    return asked


@pytest.mark.parametrize("category", Category)
def test_the_wording_is_the_papers(many, category):
    assert len(many[category]) > 300
    for _, question in many[category]:
        assert re.fullmatch(WORDING[category], question.text), question.text


@pytest.mark.parametrize("category", Category)
def test_every_answer_is_true_in_its_scene(many, category):
    for scene, question in many[category]:
        assert truth(question.text, category, scene) == (question.answer == "Yes"), question.text


@pytest.mark.parametrize("category", Category)
def test_every_counterfactual_scene_has_the_other_answer(many, category):
    for scene, question in many[category]:
        other = truth(question.text, category, question.counterfactual)
        assert other == (question.answer == "No"), (question.text, scene.id)


@pytest.mark.parametrize("category", Category)
def test_a_counterfactual_scene_differs_in_the_asked_objects_alone(many, category):
    for scene, question in many[category]:
        other = question.counterfactual
        assert (other.seed, other.place) == (scene.seed, scene.place)
        same = set(range(len(scene.objects))) - set(question.objects)
        assert all(other.objects[k] == scene.objects[k] for k in same)
        if category is Category.ACTION:
            assert other.objects == scene.objects and other.action != scene.action
        else:
            assert other.action == scene.action


@pytest.mark.parametrize("category", Category)
def test_yes_and_no_are_balanced_within_5_points(many, category):
    yes = np.mean([q.answer == "Yes" for _, q in many[category]])
    assert 0.45 < yes < 0.55


@pytest.mark.parametrize("category", Category)
def test_the_asked_object_comes_first(many, category):
    for scene, question in many[category]:
        name = scene.objects[question.objects[0]].name
        if category.level == "object":
            assert o.GROUP_OF[name] == category
            assert (name in question.text) == (question.answer == "Yes")
        else:
            assert question.text.startswith(f"Is the {name} ")


@pytest.mark.parametrize("category", Category)
def test_the_full_answer_tells_the_truth(many, category):
    for scene, question in many[category][:100]:
        obj = scene.objects[question.objects[0]]
        said = {
            Category.COLOR: f"The {obj.name} is {obj.color}.",
            Category.MATERIAL: f"The {obj.name} is made of {obj.material}.",
            Category.ACTION: f"The {obj.name} is {scene.action and scene.action.name} the ",
        }.get(category)
        if category.level == "object":
            said = f"{question.answer}, there is a {obj.name} in this picture."
        if said:
            assert question.full_answer.startswith(said)
        else:
            assert truth(f"Is t{question.full_answer[1:-1].replace(' is', '')}?", category, scene)


def test_asked_objects_show_before_and_after(analysis):
    for scene, question in analysis:
        for shown in (scene, question.counterfactual):
            _, owner = draw(shown)
            assert all((owner == k).sum() >= VISIBLE for k in question.objects), question.text


def test_pictures_change_where_the_question_looks_only(analysis):
    for scene, question in analysis[:250]:
        (image, owner), (other, new) = draw(scene), draw(question.counterfactual)
        asked = np.isin(owner, question.objects) | np.isin(new, question.objects)
        assert (image[~asked] == other[~asked]).all(), question.text
        assert (image[asked] != other[asked]).any(), question.text


def test_there_are_200_analysis_triples_per_category(analysis):
    counts = Counter(q.category for _, q in analysis)
    assert SCENES["analysis"] >= 150
    expected = {c: counts[c] * SCENES["analysis"] / 150 for c in Category}
    assert min(expected.values()) > 230, expected  # 200, and room for chance


def test_presence_questions_are_true_and_balanced():
    rng, yes = np.random.default_rng(0), []
    for index in range(400):
        scene = sample_scene("train", index)
        text, answer = presence_question(scene, rng)
        name = re.fullmatch(r"Is there a (\w+) in the image\?", text).group(1)
        assert scene.has(name) == (answer == "Yes")
        yes.append(answer == "Yes")
    assert 0.43 < np.mean(yes) < 0.57


def test_open_questions_have_the_answer_that_the_scene_gives():
    rng, kinds = np.random.default_rng(0), Counter()
    for index in range(400):
        scene = sample_scene("train", index)
        text, answer = open_question(scene, rng)
        objects = {x.name: x for x in scene.objects}
        if match := re.fullmatch(r"what is the color of the (\w+)", text):
            assert objects[match[1]].color == answer
        elif match := re.fullmatch(r"what is the (\w+) made of", text):
            assert objects[match[1]].material == answer
        elif match := re.fullmatch(r"where is the (\w+)", text):
            assert match[1] in objects and scene.place == answer
        elif match := re.fullmatch(r"how many (\w+) are there", text):
            group = {"animals": "animal", "vehicles": "vehicle", "people": "person"}.get(match[1])
            count = sum(group in (None, o.GROUP_OF[name]) for name in objects)
            assert ("zero", "one", "two", "three", "four", "five", "six")[count] == answer
        elif match := re.fullmatch(r"what is the (\w+) doing with the (\w+)", text):
            assert scene.action.name == answer and {match[1], match[2]} <= objects.keys()
        elif match := re.fullmatch(r"what is the (man|woman) (\w+)", text):
            act = scene.action
            assert (act.name, scene.objects[act.object].name) == (match[2], answer)
        else:
            match = re.fullmatch(
                r"what is (to the left of|to the right of|above|below) the (\w+)", text
            )
            question = f"Is the {answer} {match[1]} the {match[2]}?"
            assert truth(question, Category.SPATIAL, scene), text
        kinds[text.split()[0]] += 1
    assert set(kinds) == {"what", "where", "how"}
