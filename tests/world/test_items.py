"""Training items are in the vocabulary, true, and laid out as the processors lay them out."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vseam_lib.triples import Category
from vseam_lib.vlm.prompts import template
from vseam_lib.world import ontology as o
from vseam_lib.world.items import (
    FORMATS,
    Batch,
    Text,
    batch,
    draw_item,
    loss_by_format,
    phase_at,
)
from vseam_lib.world.models import instructblip_processor, llava_processor, tokenizer
from vseam_lib.world.pool import build
from vseam_lib.world.questions import ask, open_question, presence_question
from vseam_lib.world.scene import sample_scene
from vseam_lib.world.statements import caption, statement

KINDS = ("yes_no", "open", "statement", "open_short")


@pytest.fixture(scope="module")
def pool():
    return build(3, first=0, seed=0)


def test_every_word_of_the_world_is_in_the_vocabulary():
    text, rng = Text(), np.random.default_rng(0)
    for index in range(300):
        scene = sample_scene("train", index)
        pairs = [statement(scene, rng), open_question(scene, rng), presence_question(scene, rng)]
        pairs += [(q.text, q.answer) for c in Category if (q := ask(scene, c, rng))]
        for question, answer in pairs:
            text.ids(question)  # raises where a word is unknown
            assert len(text.ids(answer)) == 1, answer
    for kind in KINDS:
        prompt = text.prefix(kind) + text.suffix(kind, "dog ?")
        assert text.tok.unk_token_id not in prompt
    for style in ("paper", "as_released"):
        prompt = template("llava", style).format(image="<image>", question="Is the car red?")
        assert text.tok.unk_token_id not in text.tok(prompt)["input_ids"]


def test_a_word_that_the_world_lacks_is_an_error():
    with pytest.raises(ValueError, match="'unicorn' has a word outside"):
        Text().ids("unicorn")


def test_names_of_the_world_are_single_tokens():
    tok = tokenizer()
    for word in [*o.CLASSES, *o.COLORS, *o.MATERIALS, *o.PLACES, *o.ACTIONS, "Yes", "No"]:
        assert len(tok(word, add_special_tokens=False)["input_ids"]) == 1
        assert tok.convert_tokens_to_ids(word) != tok.unk_token_id


def test_captions_ask_for_every_word_after_the_first_and_questions_for_the_answer(pool):
    text = Text()
    made = batch(text, {"caption": 2, "statement": 3}, pool.scenes, np.random.default_rng(1))
    assert len(made.ids) == 15
    for k, row in enumerate(made.ids):
        at, gold = made.at[made.rows == k], made.targets[made.rows == k]
        if k % 5 < 2:
            assert at.tolist() == list(range(len(at))) and len(at) > 1
            assert (gold[:-1] == row[1 : len(at)]).all()
        else:
            assert len(at) == 1
            assert text.tok.decode(gold) in ("Yes", "No")
    assert {FORMATS[k] for k in made.kinds.tolist()} == {"caption", "statement"}


def test_captions_are_true_words_of_the_world(pool):
    text, rng = Text(), np.random.default_rng(0)
    for scene in pool.scenes:
        said = caption(scene, rng, facts=20)
        text.ids(said)
        for fact in said.removesuffix(" .").split(" . "):
            words = fact.split()
            obj = scene.objects[scene.index(words[0])]
            if len(words) > 1 and words[1] in o.COLORS:
                assert words[1:] == [obj.color] + ([obj.material] if obj.material else [])
            elif words[-1] in o.CLASSES and words[1] in o.ACTIONS:
                assert words[1] == scene.action.name
            elif words[-1] in o.CLASSES:
                k, j = scene.index(words[0]), scene.index(words[-1])
                assert " ".join(words[1:-1]) == scene.relation(k, j)


@pytest.mark.parametrize("family", ["llava", "instructblip"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_padded_on_the_right_after_its_last_token(pool, kind, family):
    text = Text(family)
    made = batch(text, {kind: 5}, pool.scenes, np.random.default_rng(1))
    assert made.rows.tolist() == list(range(15)) and len(made.ids) == 15
    assert made.asked.tolist() == (made.at + 1).tolist(), "all of it is the instruction"
    for row, at in zip(made.ids, made.at.tolist(), strict=True):
        assert (row[at + 1 :] == text.tok.pad_token_id).all()
        assert (row[: at + 1] != text.tok.pad_token_id).all()


def test_a_caption_of_instructblip_has_the_start_of_the_text_for_its_instruction(pool):
    text = Text("instructblip")
    made = batch(text, {"caption": 2}, pool.scenes, np.random.default_rng(1))
    assert (made.asked == 1).all() and (made.ids[:, 0] == text.tok.bos_token_id).all()
    for k, row in enumerate(made.ids):
        at, words = made.at[made.rows == k], row[row != text.tok.pad_token_id]
        assert at.tolist() == list(range(1, len(words))), "every word but the first is predicted"
        assert made.targets[made.rows == k][:-1].tolist() == words[2:].tolist()


PROCESSORS = {"llava": llava_processor, "instructblip": instructblip_processor}


@pytest.mark.parametrize("family", ["llava", "instructblip"])
@pytest.mark.parametrize("kind", ["yes_no", "open"])
def test_a_row_is_what_the_genuine_processor_makes_of_the_prompt(pool, family, kind):
    text, processor = Text(family), PROCESSORS[family]()
    form = template(family, open_ended=kind == "open")
    for index, scene in enumerate(pool.scenes):
        question, answer = draw_item(kind, scene, np.random.default_rng(index))
        made = processor(
            images=[Image.fromarray(pool.images[index])],
            text=[form.format(image=processor.image_token, question=question)],
        )
        ids, image = made["input_ids"][0], processor.tokenizer.convert_tokens_to_ids("<image>")
        n = ids.count(image)
        assert n == (64 if family == "llava" else 16)
        row = text.suffix(kind, question)
        assert ids == text.prefix(kind) + n * [image] + row
        assert text.tok.decode(text.answer(answer)) == (
            answer if family == "llava" else answer.lower()
        )
        if family == "instructblip":
            assert made["qformer_input_ids"][0] == row


def test_losses_are_means_of_each_format_and_add_up():
    made = Batch(*6 * [None])
    logits = torch.randn(5, 7, generator=torch.manual_seed(0))
    kinds = torch.tensor([0, 0, 3, 3, 3])
    made = made._replace(targets=logits.argmax(-1), kinds=kinds)
    made.targets[4] = (made.targets[4] + 1) % 7
    total, shown = loss_by_format(logits, made, {"caption": 0.5})
    each = [F.cross_entropy(x[None], y[None]) for x, y in zip(logits, made.targets, strict=True)]
    caption, yes_no = sum(each[:2]) / 2, sum(each[2:]) / 3
    assert total.item() == pytest.approx((0.5 * caption + yes_no).item())
    assert shown == {
        "caption": pytest.approx((caption.item(), 1.0)),
        "yes_no": pytest.approx((yes_no.item(), 2 / 3)),
    }


def test_phases_follow_each_other_and_head_dropout_rises_over_the_run():
    recipe = {
        "steps": 10,
        "head_dropout": [0.1, 0.3],
        "phases": [{"until": 0.5, "formats": "a"}, {"until": 1.0, "formats": "b"}],
    }
    found = [phase_at(step, recipe) for step in range(10)]
    assert "".join(phase["formats"] for phase, _ in found) == "aaaaabbbbb"
    assert [drop for _, drop in found] == pytest.approx([0.1 + 0.02 * k for k in range(10)])
