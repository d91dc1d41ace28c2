from pathlib import Path

import numpy as np
import pytest

from vseam_lib.editing.counterfactual import Counterfactual
from vseam_lib.editing.plan import grown, loose_box, phrase, plan, steps_by_turn
from vseam_lib.triples import Box, VQATriple


def triple(category, question, answer="Yes", names=("car",), attributes=(("red",),)):
    boxes = tuple(Box(10 + 40 * k, 20, 20, 10) for k in range(len(names)))
    return VQATriple(
        "1", "1", Path("1.png"), question, answer, category, boxes, names=names,
        attributes=attributes,
    )  # fmt: skip


def rewritten(t, question, old, new):
    return Counterfactual(
        triple_id=t.id, question=question, old=old, new=new, answer=t.answer, rewriter="test"
    )


def silhouettes(t):
    masks = np.zeros((len(t.boxes), 64, 96), bool)
    for mask, (x, y, w, h) in zip(masks, t.boxes, strict=True):
        mask[y : y + h, x : x + w] = True
        mask[y, x] = False
    return masks


COLOR = triple("color", "Is the car red?")
GREEN = rewritten(COLOR, "Is the car green?", "red", "green")
PAIR = {"names": ("man", "horse"), "attributes": (("red",), ("white",))}


def test_a_color_is_painted_in_the_shape_of_the_object():
    (step,) = plan(COLOR, GREEN, silhouettes(COLOR))
    assert (step.task, step.prompt) == ("shape", "a green car")
    inside = silhouettes(COLOR)[0]
    assert step.mask[inside].all() and not step.mask[loose_box(inside) == 0].any()


def test_of_a_no_question_the_asked_color_is_painted():
    t = triple("color", "Is the car blue?", "No")
    (step,) = plan(t, rewritten(t, "Is the car red?", "blue", "red"), silhouettes(t))
    assert step.prompt == "a blue car"


def test_a_material_keeps_the_color():
    t = triple("material", "Is the chair made of wood?", names=("chair",),
               attributes=(("wood", "red", "tall"),))  # fmt: skip
    (step,) = plan(t, rewritten(t, "Is the chair made of metal?", "wood", "metal"), silhouettes(t))
    assert step.prompt == "a red metal chair"


def test_an_object_is_replaced_within_a_box_by_one_of_its_color():
    t = triple("animal", "Is there a dog in this picture?", names=("dog",),
               attributes=(("brown", "wood"),))  # fmt: skip
    question = "Is there an elephant in this picture?"
    (step,) = plan(t, rewritten(t, question, "dog", "elephant"), silhouettes(t))
    assert (step.task, step.prompt) == ("text", "a brown elephant")
    rows, columns = np.nonzero(step.mask)
    assert step.mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert step.mask[silhouettes(t)[0]].all()


def test_a_spatial_relation_is_reversed_by_exchanging_the_objects():
    t = triple("spatial", "Is the man to the left of the horse?", **PAIR)
    question = "Is the man to the right of the horse?"
    first, second = plan(
        t, rewritten(t, question, "to the left of", "to the right of"), silhouettes(t)
    )
    assert [first.prompt, second.prompt] == ["a white horse", "a red man"]
    assert first.mask[silhouettes(t)[0]].all() and second.mask[silhouettes(t)[1]].all()


def test_an_action_is_painted_in_one_box_around_both():
    t = triple("action", "Is the man riding the horse?", **PAIR)
    (step,) = plan(
        t, rewritten(t, "Is the man feeding the horse?", "riding", "feeding"), silhouettes(t)
    )
    assert step.prompt == "a red man feeding a white horse"
    assert step.mask[silhouettes(t).any(0)].all()


@pytest.mark.parametrize(
    "answer, prompt", [("Yes", "Is the car green?"), ("No", "Is the car red?")]
)
def test_the_papers_prompt_is_the_question_that_the_edit_makes_true(answer, prompt):
    t = triple("color", "Is the car red?", answer)
    counterfactual = rewritten(t, "Is the car green?", "red", "green")
    (step,) = plan(t, counterfactual, silhouettes(t), prompt="question")
    assert step.prompt == prompt


def test_an_article_fits_its_word():
    t = triple("color", "Is the car red?", attributes=(("orange",),))
    assert phrase(t, 0) == "an orange car"
    assert phrase(t, 0, name="bus") == "an orange bus"


def test_masks_stop_at_the_edge_of_the_picture():
    mask = np.zeros((30, 40), bool)
    mask[:12, 33:] = True
    assert loose_box(mask).shape == mask.shape
    assert loose_box(mask)[0, 39] and not loose_box(mask)[20, 39]
    assert grown(mask).sum() > mask.sum()


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t, m: (t, m[:0]), "one silhouette per box"),
        (lambda t, m: (triple("color", "Is the car red?", names=(), attributes=()), m[:0]),
         "at least one"),
    ],
)  # fmt: skip
def test_silhouettes_must_match_the_boxes(change, message):
    t, masks = change(COLOR, silhouettes(COLOR))
    with pytest.raises(ValueError, match=message):
        plan(t, GREEN, masks)


def test_a_relation_needs_both_boxes():
    t = triple("spatial", "Is the man to the left of the horse?", names=("man",))
    other = rewritten(t, "Is the man to the right of the horse?", "left", "right")
    with pytest.raises(ValueError, match="both objects"):
        plan(t, other, silhouettes(t))


def test_a_phrase_needs_names_and_an_unknown_prompt_is_refused():
    t = triple("color", "Is the car red?")
    nameless = VQATriple(t.id, t.image_id, t.image, t.question, t.answer, t.category, t.boxes)
    with pytest.raises(ValueError, match="prompt='question'"):
        plan(nameless, GREEN, silhouettes(t))
    with pytest.raises(ValueError, match="sentence"):
        plan(t, GREEN, silhouettes(t), prompt="sentence")


def test_steps_are_grouped_by_turn():
    step = plan(COLOR, GREEN, silhouettes(COLOR))[0]
    turns = steps_by_turn([[step], [step, step], []])
    assert [[k for k, _ in turn] for turn in turns] == [[0, 1], [1]]
