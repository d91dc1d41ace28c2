"""The training code computes what the genuine model computes, and resumes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from vseam_lib.triples import Category
from vseam_lib.vlm.prompts import template
from vseam_lib.world import ontology as o
from vseam_lib.world.draw import draw
from vseam_lib.world.items import FORMATS, Text, batch, draw_item
from vseam_lib.world.loop import Run, optimiser, schedule
from vseam_lib.world.models import llava_processor, tokenizer
from vseam_lib.world.pool import CLASS_ID, IGNORE, build, pixel_values
from vseam_lib.world.questions import ask, open_question, presence_question
from vseam_lib.world.scene import sample_scene
from vseam_lib.world.shared_prefix import answer_logits
from vseam_lib.world.statements import caption, statement

KINDS = ("yes_no", "open", "statement", "open_short")


@pytest.fixture(scope="module")
def pool():
    return build(3, first=0, seed=0)


@pytest.mark.parametrize("kind", ["yes_no", "open"])
def test_the_shared_prefix_forward_is_the_processor_path(adapter32, pool, kind):
    model, text, n = adapter32.model, Text(), 4
    with torch.no_grad():
        tower = model.model.vision_tower(pixel_values(pool.images)).last_hidden_state[:, 1:]
        ids, _, last, gold, _ = batch(text, {kind: n}, pool.scenes, np.random.default_rng(3))
        ours = answer_logits(model, tower, text.prefix(kind), ids, last, dtype=torch.float32)

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
    assert gold.tolist() == [tok.convert_tokens_to_ids(a) for _, a in asked]


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


def test_training_pictures_look_as_the_processor_shows_them(pool):
    seen = llava_processor().image_processor(
        [Image.fromarray(x) for x in pool.images], return_tensors="pt"
    )
    assert (pixel_values(pool.images) - seen["pixel_values"]).abs().max() < 1e-5


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_padded_on_the_right_after_its_last_token(pool, kind):
    text = Text()
    ids, _, last, gold, _ = batch(text, {kind: 5}, pool.scenes, np.random.default_rng(1))
    assert ids.shape[0] == len(last) == len(gold) == 15
    for row, at in zip(ids, last.tolist(), strict=True):
        assert (row[at + 1 :] == text.tok.pad_token_id).all()
        assert (row[: at + 1] != text.tok.pad_token_id).all()


def test_patch_labels_name_what_the_patch_shows(pool):
    for k, scene in enumerate(pool.scenes):
        _, owner = draw(scene)
        for cell in range(64):
            r, c = 12 * (cell // 8), 12 * (cell % 8)
            shown = owner[r : r + 12, c : c + 12]
            label, color = pool.patches[k][0, cell].item(), pool.patches[k][1, cell].item()
            if label == 0:
                assert (shown == -1).all()
            elif label != IGNORE:
                best = max(range(len(scene.objects)), key=lambda j, s=shown: (s == j).sum())
                assert CLASS_ID[scene.objects[best].name] == label
                assert list(o.COLORS).index(scene.objects[best].color) == color


def step(module, opt, seed):
    x = torch.randn(8, 5, generator=torch.manual_seed(seed))
    loss = F.mse_loss(module(x), x.sum(1, keepdim=True))
    opt.zero_grad()
    loss.backward()
    opt.step()


def new():
    torch.manual_seed(0)
    module = torch.nn.Linear(5, 1)
    return module, optimiser(module.parameters(), 0.1)


def test_a_training_that_resumes_ends_where_an_uninterrupted_one_does(tmp_path):
    whole, opt = new()
    for seed in range(4):
        step(whole, opt, seed)

    first, opt = new()
    step(first, opt, 0)
    step(first, opt, 1)
    Run(tmp_path, 0).save("decoder", 2, first, opt)
    (tmp_path / "decoder.part").write_bytes(b"a save that was killed")

    resumed, opt = new()
    with torch.no_grad():
        resumed.weight.zero_()
    assert Run(tmp_path, 0).resume("decoder", resumed, opt) == 2
    step(resumed, opt, 2)
    step(resumed, opt, 3)
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def test_a_training_without_checkpoint_starts_at_the_beginning(tmp_path):
    module, opt = new()
    before = module.weight.clone()
    assert Run(tmp_path, 0).resume("decoder", module, opt) == 0
    assert torch.equal(module.weight, before)


def test_stages_have_checkpoints_of_their_own(tmp_path):
    module, opt = new()
    Run(tmp_path, 0).save("vision", 7, module, opt)
    assert Run(tmp_path, 0).resume("decoder", module, opt) == 0
    assert Run(tmp_path, 0).resume("vision", module, opt) == 7


def test_only_the_first_process_writes(tmp_path):
    module, opt = new()
    run = Run(tmp_path, 1)
    run.save("vision", 7, module, opt)
    run.log(stage="vision")
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_warms_up_and_decays():
    rates = [schedule(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 20)
    peak = int(np.argmax(rates))
    assert rates[peak] == pytest.approx(1.0) and peak <= 20
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert 0.02 <= rates[-1] < 0.03
