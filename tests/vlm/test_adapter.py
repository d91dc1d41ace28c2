"""The contract of every adapter, on a tiny model and on LLaVA-1.5-7B without weights."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replay import replay
from vseam_lib.causal.trace import record
from vseam_lib.vlm.adapter import Head
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.llava import LlavaAdapter
from vseam_lib.world.models import llava, tokenizer

QUESTIONS = ["Is the car red?", "Is there a dog in this picture?", "Is the cat below the sofa?"]
ANSWERS = ["Yes", "No", "Yes"]


def processor(patch, crop):
    return LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": crop}, crop_size={"height": crop, "width": crop}
        ),
        tokenizer=tokenizer(),
        patch_size=patch,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )


@pytest.fixture(scope="module")
def llava_7b():
    """LLaVA-1.5-7B in its full size on the meta device: shapes without numbers."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
            image_size=336, patch_size=14, projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=32064, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
            num_attention_heads=32, max_position_embeddings=4096,
        ),
        image_token_id=tokenizer().convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config).eval()
    return LlavaAdapter(model=model, processor=processor(14, 336), revision="meta")


@pytest.fixture(scope="module")
def group_7b(llava_7b):
    with torch.no_grad():
        return llava_7b.encode(Image.new("RGB", (500, 375)), QUESTIONS, ANSWERS)


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    return Image.fromarray(pixels)


def test_the_7b_model_has_32_by_32_heads_of_128(llava_7b):
    assert (llava_7b.n_layers, llava_7b.n_heads, llava_7b.d_head) == (32, 32, 128)
    assert len(llava_7b.heads) == 1024
    assert str(llava_7b.heads[16 * 32 + 1]) == "L16.H1"


def lengths(adapter):
    """Tokens before the image, and after it per question, as the tokenizer counts them."""
    tok = adapter.processor.tokenizer
    ids = [tok(adapter.text(q))["input_ids"] for q in QUESTIONS]
    before = ids[0].index(adapter.image_token_id)
    return before, [len(i) - before - 1 for i in ids]


def test_the_7b_image_span_is_as_long_as_its_576_features(llava_7b, group_7b):
    before, after = lengths(llava_7b)
    assert group_7b.embeds.shape == (1, before + 576 + sum(after), 4096)
    assert group_7b.segments.bincount().tolist() == [before + 576, *after]
    assert llava_7b.cells(500, 375).shape == (576, 4)


def test_the_7b_model_records_and_replays_in_the_right_shapes(llava_7b, group_7b):
    clean = record(llava_7b, group_7b)
    assert clean.logits.shape == (3, 32064)
    assert [x.shape for x in clean.states[:-1]] == [group_7b.embeds.shape] * 32
    identity = replay(llava_7b, clean, HeadEdits.none(32, 32, variants=2))
    assert identity.shape == (2, 3, 32064)
    masked = HeadEdits.mask([[Head(30, h)] for h in range(8)], 32, 32)
    assert replay(llava_7b, clean, masked).shape == (8, 3, 32064)


def test_the_tiny_model_has_3_by_4_heads_of_8(adapter):
    assert (adapter.n_layers, adapter.n_heads, adapter.d_head) == (3, 4, 8)
    assert adapter.heads[5] == Head(1, 1)


def test_the_tiny_image_span_is_as_long_as_its_features(adapter, picture):
    before, after = lengths(adapter)
    group = adapter.encode(picture, QUESTIONS, ANSWERS)
    assert group.embeds.shape == (1, before + 64 + sum(after), 32)
    assert group.segments.bincount().tolist() == [before + 64, *after]
    assert group.gold.tolist() == [adapter.answer_id(a) for a in ANSWERS]


def test_a_question_sees_the_image_and_itself_and_no_other_question(adapter, picture):
    group = adapter.encode(picture, QUESTIONS, ANSWERS)
    seen = group.mask()[0, 0] == 0
    S = len(group.segments)
    for i in range(0, S, 7):
        for j in range(S):
            visible = j <= i and group.segments[j] in (0, group.segments[i])
            assert bool(seen[i, j]) == bool(visible)


def test_every_question_continues_the_shared_part(adapter, picture):
    before, after = lengths(adapter)
    group = adapter.encode(picture, QUESTIONS, ANSWERS)
    shared = before + 64
    expected = [*range(shared), *(shared + k for n in after for k in range(n))]
    assert group.positions().tolist() == [expected]
    assert group.positions()[0, group.last].tolist() == [shared + n - 1 for n in after]


def test_grouped_queries_still_have_one_output_per_head(plain, triples, change_head, group_of):
    """Fewer keys and values than heads: heads are counted on ``o_proj``."""
    config = llava(layers=2, heads=4, d_head=8, d_mlp=48).config
    config.text_config.num_key_value_heads = 2
    torch.manual_seed(1)
    model = LlavaForConditionalGeneration(config).eval().requires_grad_(False).double()
    grouped = LlavaAdapter(model=model, processor=processor(12, 96), revision="grouped")
    assert grouped.n_heads == 4
    clean = record(grouped, group_of(grouped, triples[:2]))
    out = replay(grouped, clean, HeadEdits.mask([[Head(0, 3)]], 2, 4))[0]
    twin = {0: change_head(4, 3, lambda own, others: sum(others) / 3)}
    assert (out - plain(grouped, triples[:2], twin)).abs().max() < 1e-10


def test_padding_on_the_left_does_not_change_an_answer(adapter, picture):
    batch = adapter.processor(
        images=[picture] * 3,
        text=[adapter.text(q) for q in QUESTIONS],
        padding=True,
        return_tensors="pt",
    )
    assert (batch["attention_mask"][:, 0] == 0).any(), "some row must be padded on the left"
    with torch.no_grad():
        batch["pixel_values"] = batch["pixel_values"].double()
        padded = adapter.model(**batch).logits[:, -1]
        ours = record(adapter, adapter.encode(picture, QUESTIONS, ANSWERS)).logits
    assert (padded - ours).abs().max() < 1e-5


def test_the_order_of_questions_does_not_change_an_answer(adapter, picture):
    order = [2, 0, 1]
    a = record(adapter, adapter.encode(picture, QUESTIONS, ANSWERS)).logits
    b = record(
        adapter,
        adapter.encode(picture, [QUESTIONS[k] for k in order], [ANSWERS[k] for k in order]),
    ).logits
    assert (a[order] - b).abs().max() < 1e-10


@pytest.mark.parametrize("width", [30, 33])
def test_an_o_proj_that_is_no_multiple_of_d_head_is_an_error(adapter, width):
    model = llava(layers=3, heads=4, d_head=8, d_mlp=48)
    model.get_decoder().layers[1].self_attn.o_proj = nn.Linear(width, 32)
    with pytest.raises(ValueError, match=f"layer 1: o_proj takes {width} features, no multiple"):
        dataclasses.replace(adapter, model=model)


def test_a_layer_with_another_number_of_heads_is_an_error(adapter):
    model = llava(layers=3, heads=4, d_head=8, d_mlp=48)
    model.get_decoder().layers[2].self_attn.o_proj = nn.Linear(24, 32)
    with pytest.raises(ValueError, match="layer 2 has 3 heads and layer 0 has 4"):
        dataclasses.replace(adapter, model=model)


def test_answers_are_read_after_the_prompt(adapter):
    tok = adapter.processor.tokenizer
    assert adapter.answer_id("Yes") == tok.convert_tokens_to_ids("Yes")
    assert adapter.answer_id("No") == tok.convert_tokens_to_ids("No")
    assert adapter.answer_id("Yes") != adapter.answer_id("yes")


def test_an_answer_of_several_tokens_is_scored_by_its_first_and_says_so(adapter, picture):
    with pytest.warns(UserWarning, match="'red car' has 2 tokens; .* those of the first, 'red'"):
        group = dataclasses.replace(adapter).encode(picture, QUESTIONS[:1], ["red car"])
    assert group.gold.tolist() == [adapter.answer_id("red")]


def test_an_answer_of_one_token_warns_of_nothing(adapter, recwarn):
    dataclasses.replace(adapter).answer_id("Yes")
    assert not recwarn


class Padding:
    """A processor that pads, as one does whose saved settings say so."""

    def __init__(self, processor):
        self.processor = processor

    def __getattr__(self, name):
        return getattr(self.processor, name)

    def __call__(self, **given):
        return self.processor(**given, padding="max_length", max_length=200)


@pytest.mark.parametrize("name", ["adapter", "blip"])
def test_a_processor_that_pads_is_an_error_that_names_the_padding(request, picture, name):
    adapter = request.getfixturevalue(name)
    padding = dataclasses.replace(adapter, processor=Padding(adapter.processor))
    with pytest.raises(ValueError, match=r"without padding, got \d+ padding tokens.*max_length"):
        padding.encode(picture, QUESTIONS[:1], ["Yes"])


@pytest.mark.parametrize("answer", ["Ja", "zebra", ""])
def test_an_answer_that_is_no_token_is_an_error(adapter, picture, answer):
    with pytest.raises(ValueError, match=f"answer '{answer}' is no token.*'Yes' or 'No'"):
        adapter.encode(picture, QUESTIONS[:1], [answer])


def test_a_processor_that_disagrees_on_the_patch_size_is_an_error(adapter, picture):
    wrong = dataclasses.replace(adapter, processor=processor(16, 96))
    with pytest.raises(ValueError, match="one run of 64 image tokens.*got 36.*patch size"):
        wrong.encode(picture, QUESTIONS, ANSWERS)


def test_image_tokens_that_are_not_one_run_are_an_error(adapter):
    image = adapter.image_token_id
    assert adapter.image_span([1, image, image, 7], 2) == (1, 3)
    for ids in ([image, 7, image], [7], [image] * 3):
        with pytest.raises(ValueError, match="one run of 2 image tokens"):
            adapter.image_span(ids, 2)


@pytest.mark.parametrize("answers", [[], ["Yes"]])
def test_every_question_needs_an_answer(adapter, picture, answers):
    with pytest.raises(ValueError, match="one answer per question"):
        adapter.encode(picture, QUESTIONS[: 2 * len(answers)], answers)


def test_a_missing_image_is_an_error_that_names_it(adapter, tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.jpg: expected an image"):
        adapter.encode(tmp_path / "gone.jpg", QUESTIONS, ANSWERS)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "garbled"])
def test_a_damaged_image_is_an_error_that_names_it(picture, tmp_path, suffix, damage):
    path = tmp_path / f"damaged.{suffix}"
    picture.save(path)
    whole = path.read_bytes()
    broken = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "garbled": whole[:20] + bytes(30) + whole[50:],
    }
    path.write_bytes(broken[damage])
    with pytest.raises(ValueError, match=f"damaged.{suffix}: expected a complete image"):
        open_image(path)


def test_a_png_with_a_damaged_chunk_is_an_error_that_names_it(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    path = tmp_path / "damaged.png"
    Image.fromarray(noise).save(path)
    parts = path.read_bytes().split(b"IDAT")
    path.write_bytes(b"IDAT".join(parts[:2]) + bytes(4) + b"IDAT".join(parts[2:]))
    with pytest.raises(ValueError, match="damaged.png: expected a complete image"):
        open_image(path)


def test_images_of_other_modes_become_rgb(tmp_path):
    for mode in ("L", "P", "RGBA"):
        Image.new(mode, (5, 4)).save(tmp_path / "image.png")
        opened = open_image(tmp_path / "image.png")
        assert opened.mode == "RGB" and opened.size == (5, 4)


def test_an_unknown_prompt_names_the_known_ones(adapter):
    with pytest.raises(ValueError, match="no prompt llava/terse; expected one of llava/paper"):
        dataclasses.replace(adapter, prompt="terse")


def test_the_prompt_is_the_papers(adapter):
    assert adapter.text("Is the car red?") == (
        "USER: <image>\nQuestion: Is the car red? "
        "Please answer the question using Yes or No. ASSISTANT:"
    )


SIZES = [(96, 96), (192, 128), (128, 192)]


def pixel_cells(adapter, width, height):
    """The cells of a picture in whole pixels: left, top, right, bottom."""
    cells = adapter.cells(width, height)
    return np.concatenate([cells[:, :2], cells[:, :2] + cells[:, 2:]], 1).round().astype(int)


@pytest.mark.parametrize("width, height", SIZES)
def test_cells_tile_the_crop(adapter, width, height):
    covered = np.zeros((height, width), int)
    for left, top, right, bottom in pixel_cells(adapter, width, height):
        assert left >= 0 and top >= 0 and right <= width and bottom <= height
        covered[top:bottom, left:right] += 1
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    assert (covered[top : top + side, left : left + side] == 1).all()
    assert covered.sum() == side * side


@pytest.mark.parametrize("width, height", SIZES)
def test_cells_are_in_reading_order(adapter, width, height):
    corners = [tuple(c) for c in adapter.cells(width, height)[:, 1::-1]]
    assert len(corners) == 64
    assert corners == sorted(corners)


@pytest.mark.parametrize("width, height", SIZES)
def test_cells_are_where_the_processor_takes_its_pixels(adapter, width, height):
    for token, (left, top, right, bottom) in enumerate(pixel_cells(adapter, width, height)):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[top:bottom, left:right] = 255
        seen = adapter.processor.image_processor(Image.fromarray(pixels), return_tensors="pt")
        patches = seen["pixel_values"][0].mean(0).unfold(0, 12, 12).unfold(1, 12, 12).mean((2, 3))
        assert int(patches.argmax()) == token
        light, dark = patches.flatten().topk(2).values.tolist()
        assert light - dark > 2, "one patch holds all of the light"


def test_cells_of_the_7b_model_stay_inside_the_image(llava_7b):
    x, y, w, h = llava_7b.cells(500, 375).T
    assert (x >= 0).all() and (x + w <= 500).all() and (y >= 0).all() and (y + h <= 375).all()
    assert (w * h).sum() == pytest.approx(375**2)
