"""The decoder as training runs it computes what the genuine model computes."""

import numpy as np
import pytest
import torch
from PIL import Image

from vseam_lib.vlm.prompts import template
from vseam_lib.world.items import Text, batch, draw_item
from vseam_lib.world.pool import build, pixel_values
from vseam_lib.world.shared_prefix import answer_logits


@pytest.fixture(scope="module")
def pool():
    return build(3, first=0, seed=0)


@pytest.mark.parametrize("kind", ["yes_no", "open"])
def test_the_shared_prefix_forward_is_the_processor_path(adapter32, pool, kind):
    model, text, n = adapter32.model, Text(), 4
    with torch.no_grad():
        tower = model.model.vision_tower(pixel_values(pool.images)).last_hidden_state[:, 1:]
        made = batch(text, {kind: n}, pool.scenes, np.random.default_rng(3))
        ours = answer_logits(
            model, tower, text.prefix(kind), made.ids, made.at, dtype=torch.float32
        )

    rng = np.random.default_rng(3)
    asked = [draw_item(kind, scene, rng) for scene in pool.scenes for _ in range(n)]
    form = template("llava", open_ended=kind == "open")
    inputs = adapter32.processor(
        images=[Image.fromarray(pool.images[k // n]) for k in range(3 * n)],
        text=[form.format(image="<image>", question=q) for q, _ in asked],
        padding=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        truth = model(**inputs).logits[:, -1]
    assert (ours - truth).abs().max() < 1e-5
    assert truth.std(0).max() > 1e-2, "the questions must not all look alike"
    tok = text.tok
    assert made.targets.tolist() == [tok.convert_tokens_to_ids(a) for _, a in asked]


def test_every_word_of_a_caption_is_predicted_as_the_genuine_forward_does(adapter32, pool):
    model, text = adapter32.model, Text()
    made = batch(text, {"caption": 1, "statement": 2}, pool.scenes, np.random.default_rng(0))
    prefix = text.prefix("caption")
    with torch.no_grad():
        tower = model.model.vision_tower(pixel_values(pool.images)).last_hidden_state[:, 1:]
        ours = answer_logits(
            model, tower, prefix, made.ids, made.at, rows=made.rows, dtype=torch.float32
        )
        for k, (row, at) in enumerate(zip(made.rows.tolist(), made.at.tolist(), strict=True)):
            ids = prefix + 64 * [model.config.image_token_id] + made.ids[row, : at + 1].tolist()
            truth = model(
                input_ids=torch.tensor([ids]), pixel_values=pixel_values(pool.images[[row // 3]])
            ).logits[0, -1]
            assert (ours[k] - truth).abs().max() < 1e-5


def test_a_question_does_not_see_the_other_questions(adapter32, pool):
    model, text = adapter32.model, Text()
    tower = model.model.vision_tower(pixel_values(pool.images[:1])).last_hidden_state[:, 1:]
    ids, _, last, *_ = batch(text, {"yes_no": 3}, pool.scenes[:1], np.random.default_rng(0))
    other = ids.clone()
    other[1:] = ids[[2, 1]]
    run = [
        answer_logits(model, tower, text.prefix("yes_no"), i, at, dtype=torch.float32)
        for i, at in ((ids, last), (other, last[[0, 2, 1]]))
    ]
    assert (run[0][0] - run[1][0]).abs().max() < 1e-6
    assert (run[0][1:] - run[1][[2, 1]]).abs().max() < 1e-6


def test_dropping_heads_changes_the_answer_and_dropping_none_does_not(adapter32, pool):
    model, text = adapter32.model, Text()
    tower = model.model.vision_tower(pixel_values(pool.images)).last_hidden_state[:, 1:]
    ids, _, last, *_ = batch(text, {"yes_no": 2}, pool.scenes, np.random.default_rng(0))

    def run(drop):
        return answer_logits(
            model, tower, text.prefix("yes_no"), ids, last, drop=drop, dtype=torch.float32
        )

    assert torch.equal(run(0.0), run(0.0))
    assert (run(0.5) - run(0.0)).abs().max() > 1e-3
