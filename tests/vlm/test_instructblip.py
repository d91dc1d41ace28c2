"""The contract of the InstructBLIP adapter, on a tiny model and on the 7B one without weights."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BlipImageProcessor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
    LlamaConfig,
    masking_utils,
)

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.replay import replay
from vseam_lib.causal.trace import record
from vseam_lib.vlm.adapter import Head
from vseam_lib.vlm.instructblip import InstructBlipAdapter
from vseam_lib.vlm.load import load
from vseam_lib.world.models import instructblip_processor, tokenizer

QUESTIONS = ["Is the car red?", "Is there a dog in this picture?", "Is the cat below the sofa?"]
QUERIES = 4


@pytest.fixture(scope="module")
def blip_7b():
    """Salesforce/instructblip-vicuna-7b in its full size on the meta device."""
    tok = tokenizer()
    config = InstructBlipConfig(
        vision_config=InstructBlipVisionConfig(
            hidden_size=1408, intermediate_size=6144, num_hidden_layers=39,
            num_attention_heads=16, image_size=224, patch_size=14,
        ),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=30523, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
            intermediate_size=3072, cross_attention_frequency=2, encoder_hidden_size=1408,
        ),
        text_config=LlamaConfig(
            vocab_size=32001, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
            num_attention_heads=32, max_position_embeddings=2048,
        ),
        num_query_tokens=32,
        image_token_index=tok.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    with torch.device("meta"):
        model = InstructBlipForConditionalGeneration(config).eval()
    images = BlipImageProcessor(size={"height": 224, "width": 224})
    processor = InstructBlipProcessor(
        images, tok, tokenizer(image_token=False), num_query_tokens=32
    )
    with pytest.MonkeyPatch.context() as patch:
        # asks whether a mask is all ones, to drop it; there is nothing to ask on the meta device
        patch.setattr(masking_utils, "_ignore_bidirectional_mask_sdpa", lambda *args: False)
        yield InstructBlipAdapter(model=model, processor=processor, revision="meta")


@pytest.fixture(scope="module")
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def genuine(blip, picture):
    """Logits of the genuine model on the genuine processor's output, at the last token.

    The processor pads questions of different length between image and text, and the Q-Former's on
    the left, which moves tokens to other positions. Here positions count tokens only.
    """

    @torch.no_grad()
    def logits(questions, edits=None):
        texts = [blip.text(q) for q in questions]
        batch = blip.processor(
            images=[picture] * len(texts), text=texts, padding=True, return_tensors="pt"
        )
        batch["pixel_values"] = batch["pixel_values"].double()
        batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
        read = blip.processor.qformer_tokenizer(
            texts, padding=True, padding_side="right", return_tensors="pt"
        )
        batch["qformer_input_ids"] = read["input_ids"]
        batch["qformer_attention_mask"] = read["attention_mask"]
        hooks = [
            blip.layers[k].self_attn.o_proj.register_forward_pre_hook(
                lambda module, args, edit=edit: (edit(args[0]),)
            )
            for k, edit in (edits or {}).items()
        ]
        try:
            return blip.model(**batch).logits[:, -1], batch
        finally:
            for hook in hooks:
                hook.remove()

    return logits


def test_the_7b_model_has_32_by_32_heads_of_128(blip_7b):
    assert (blip_7b.n_layers, blip_7b.n_heads, blip_7b.d_head) == (32, 32, 128)


def test_the_7b_image_span_is_its_32_queries_and_comes_first(blip_7b):
    with torch.no_grad():
        group = blip_7b.encode(Image.new("RGB", (500, 375)), QUESTIONS[:1], ["Yes"])
    words = len(blip_7b.processor.tokenizer(blip_7b.text(QUESTIONS[0]))["input_ids"])
    assert group.image == (0, 32)
    assert group.embeds.shape == (1, 32 + words, 4096)


def test_the_7b_model_records_and_replays_in_the_right_shapes(blip_7b):
    with torch.no_grad():
        group = blip_7b.encode(Image.new("RGB", (500, 375)), QUESTIONS[:1], ["Yes"])
    clean = record(blip_7b, group)
    assert clean.logits.shape == (1, 32001)
    assert [x.shape for x in clean.states] == [group.embeds.shape] * 33
    masked = HeadEdits.mask([[Head(30, h)] for h in range(8)], 32, 32)
    assert replay(blip_7b, clean, masked).shape == (8, 1, 32001)


def test_the_7b_queries_look_at_16_by_16_patches(blip_7b):
    looks = blip_7b.looks_at(Image.new("RGB", (500, 375)), QUESTIONS[0])
    assert looks.shape == (32, 256)
    assert blip_7b.cells(500, 375).shape == (256, 4)


def test_the_image_span_is_its_queries_and_comes_first(blip, picture):
    group = blip.encode(picture, QUESTIONS[:1], ["Yes"])
    words = blip.processor.tokenizer(blip.text(QUESTIONS[0]))["input_ids"]
    assert group.image == (0, QUERIES)
    assert group.ids.tolist() == [blip.image_token_id] * QUERIES + words
    assert group.last.tolist() == [QUERIES + len(words) - 1]


def test_the_tiny_model_has_3_by_4_heads_of_8(blip):
    assert (blip.n_layers, blip.n_heads, blip.d_head) == (3, 4, 8)


def test_a_recording_is_the_genuine_forward(blip, picture, genuine):
    found = [record(blip, blip.encode(picture, [q], ["Yes"])).logits for q in QUESTIONS]
    truth = torch.cat([genuine([q])[0] for q in QUESTIONS])
    assert (torch.cat(found) - truth).abs().max() < 1e-10
    assert truth.std(0).max() > 1e-3, "the questions must not all look alike"


def test_padding_that_moves_no_token_changes_no_answer(blip, picture, genuine):
    padded, batch = genuine(QUESTIONS)
    assert (batch["attention_mask"] == 0).any(), "some row must be padded"
    assert (batch["qformer_attention_mask"] == 0).any(), "for the Q-Former, too"
    ours = [record(blip, blip.encode(picture, [q], ["Yes"])).logits for q in QUESTIONS]
    assert (padded - torch.cat(ours)).abs().max() < 1e-5


def test_an_edit_that_changes_nothing_changes_nothing(blip, picture):
    clean = record(blip, blip.encode(picture, QUESTIONS[:1], ["Yes"]))
    same = replay(blip, clean, HeadEdits.none(3, 4, variants=2))
    assert (same - clean.logits).abs().max() == 0


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_replayed_suffix_is_the_whole_forward(blip, picture, genuine, change_head, layer):
    clean = record(blip, blip.encode(picture, QUESTIONS[1:2], ["Yes"]))
    out = replay(blip, clean, HeadEdits.mask([[Head(layer, 2)]], 3, 4))[0]
    twin, _ = genuine(QUESTIONS[1:2], {layer: change_head(4, 2, lambda own, rest: sum(rest) / 3)})
    assert (out - twin).abs().max() < 1e-10
    assert (out - clean.logits).abs().max() > 1e-4


def test_the_question_changes_the_image_tokens(blip, picture):
    one, two = (blip.encode(picture, [q], ["Yes"]).embeds[0, :QUERIES] for q in QUESTIONS[:2])
    assert (one - two).abs().max() > 1e-3


def test_several_questions_at_once_are_an_error(blip, picture):
    with pytest.raises(ValueError, match="one question at a time, got 2: in instructblip"):
        blip.encode(picture, QUESTIONS[:2], ["Yes", "No"])


def test_answers_are_written_in_lower_case(blip, picture):
    tok = blip.processor.tokenizer
    assert blip.answer_id("Yes") == tok.convert_tokens_to_ids("yes")
    assert blip.answer_id("No") == tok.convert_tokens_to_ids("no")
    assert blip.encode(picture, QUESTIONS[:1], ["No"]).gold.tolist() == [blip.answer_id("No")]


def test_a_processor_that_disagrees_on_the_number_of_queries_is_an_error(blip, picture):
    wrong = dataclasses.replace(blip, processor=instructblip_processor(queries=QUERIES + 1))
    with pytest.raises(ValueError, match="one run of 4 image tokens.*got 5"):
        wrong.encode(picture, QUESTIONS[:1], ["Yes"])


def test_the_prompt_is_the_papers(blip):
    assert blip.text("Is the car red?") == (
        "Question: Is the car red? Please answer the question using yes or no."
    )


def test_what_a_query_looks_at_adds_up_to_one_and_depends_on_the_question(blip, picture):
    one, two = (blip.looks_at(picture, q) for q in QUESTIONS[:2])
    assert one.shape == (QUERIES, 64) and one.dtype == torch.float64
    assert (one.sum(1) - 1).abs().max() < 1e-12 and (one >= 0).all()
    assert (one - two).abs().max() > 1e-6


def test_cells_are_where_the_processor_takes_its_pixels(blip):
    width, height = 192, 128
    for cell, (x, y, w, h) in enumerate(blip.cells(width, height)):
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[int(y) : int(y + h), int(x) : int(x + w)] = 255
        seen = blip.processor.image_processor(Image.fromarray(pixels), return_tensors="pt")
        patches = seen["pixel_values"][0].mean(0).unfold(0, 12, 12).unfold(1, 12, 12).mean((2, 3))
        light, dark = patches.flatten().topk(2).values.tolist()
        assert int(patches.argmax()) == cell and light - dark > 2


def test_a_saved_model_comes_back_whole(blip, picture, tmp_path):
    blip.model.save_pretrained(tmp_path)
    blip.processor.save_pretrained(tmp_path)
    loaded = load(str(tmp_path), dtype="float64")
    assert isinstance(loaded, InstructBlipAdapter) and not loaded.model.training
    state = loaded.model.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in blip.model.state_dict().items())
    ours, theirs = (
        record(m, m.encode(picture, QUESTIONS[:1], ["Yes"])).logits for m in (blip, loaded)
    )
    assert (ours - theirs).abs().max() < 1e-5
