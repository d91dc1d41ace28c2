"""InstructBLIP as training runs it computes what the genuine model computes."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from vseam_lib.world.instructblip_stages import (
    HeadDropout,
    answer_logits,
    encode,
    queries,
    start_from,
)
from vseam_lib.world.items import Text, batch
from vseam_lib.world.models import instructblip, llava, tokenizer
from vseam_lib.world.pool import build, pixel_values


@pytest.fixture(scope="module")
def pool():
    return build(3, first=0, seed=0)


@pytest.fixture(scope="module")
def features(blip32, pool):
    """Vision features ``(3, 65, d)``."""
    with torch.no_grad():
        return blip32.model.vision_model(pixel_values(pool.images)).last_hidden_state


@pytest.fixture(scope="module")
def made(pool):
    """Four items about each picture, instructions of different length, padded on the right."""
    text = Text("instructblip")
    found = batch(text, {"caption": 1, "yes_no": 3}, pool.scenes, np.random.default_rng(2))
    assert len(set(found.asked.tolist())) > 2
    return found


@torch.no_grad()
def test_queries_are_the_genuine_image_features(blip32, pool, features, made):
    longest = int(made.asked.max())
    truth = blip32.model.get_image_features(
        pixel_values=pixel_values(pool.images).repeat_interleave(4, 0),
        qformer_input_ids=made.ids[:, :longest],
        qformer_attention_mask=(torch.arange(longest) < made.asked[:, None]).long(),
    ).pooler_output
    ours = queries(blip32.model, features, made.ids, made.asked)
    assert ours.shape == truth.shape == (12, 4, 32)
    assert (ours - truth).abs().max() < 1e-5
    assert truth[1:4].std(0).max() > 1e-2, "questions about a picture must not look alike"
    assert truth[[1, 5, 9]].std(0).max() > 1e-2, "nor pictures"


@torch.no_grad()
def test_padding_and_other_instructions_do_not_change_a_pictures_queries(
    blip32, pool, features, made
):
    ours = queries(blip32.model, features, made.ids, made.asked)
    for row, n in enumerate(made.asked.tolist()):
        alone = blip32.model.get_image_features(
            pixel_values=pixel_values(pool.images[[row // 4]]),
            qformer_input_ids=made.ids[row : row + 1, :n],
            qformer_attention_mask=torch.ones(1, n, dtype=torch.long),
        ).pooler_output[0]
        assert (ours[row] - alone).abs().max() < 1e-5


@torch.no_grad()
def test_logits_are_the_genuine_forwards(blip32, pool, features, made):
    """Of every predicted token: the words of a caption, and the answers to questions."""
    model = blip32.model
    ours = answer_logits(model, features, made.ids, made.asked, made.rows, made.at)
    for k, (row, at) in enumerate(zip(made.rows.tolist(), made.at.tolist(), strict=True)):
        n = int(made.asked[row])
        ids = 4 * [model.config.image_token_id] + made.ids[row, : at + 1].tolist()
        truth = model(
            pixel_values=pixel_values(pool.images[[row // 4]]),
            qformer_input_ids=made.ids[row : row + 1, :n],
            qformer_attention_mask=torch.ones(1, n, dtype=torch.long),
            input_ids=torch.tensor([ids]),
        ).logits[0, -1]
        assert (ours[k] - truth).abs().max() < 1e-5
    assert len(ours) > len(made.ids) and ours.std(0).max() > 1e-2


def test_a_pool_is_encoded_with_its_class_token_first(blip32, pool, features):
    found = encode(blip32.model, pool.images)
    assert found.shape == features.shape and found.dtype == torch.bfloat16
    assert (found.float() - features).abs().max() < 0.1 * features.abs().max()


class Layer(nn.Module):
    def __init__(self, heads, d_head):
        super().__init__()
        self.self_attn = nn.Module()
        self.self_attn.o_proj = nn.Identity()


def dropped(p, *, training=True, rows=4000):
    """What is left of ones ``(rows, 3 positions, 4 heads, 2)`` after head dropout."""
    layer = Layer(4, 2)
    dropout = HeadDropout(nn.ModuleList([layer]), heads=4)
    dropout.p = p
    torch.manual_seed(0)
    out = layer.self_attn.o_proj.train(training)(torch.ones(rows, 3, 8))
    return out.view(rows, 3, 4, 2)


def test_head_dropout_drops_whole_heads_of_whole_rows_and_keeps_the_mean():
    out = dropped(0.2)
    kept = out[:, 0, :, 0]
    assert torch.equal(out, kept[:, None, :, None].expand_as(out))
    assert set(kept.unique().tolist()) == {0.0, 1.25}
    assert (kept == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    together = ((kept[:, 0] == 0) & (kept[:, 1] == 0)).float().mean().item()
    assert together == pytest.approx(0.04, abs=0.015), "heads are dropped one by one"


@pytest.mark.parametrize("given", [{"p": 0.0}, {"p": 0.5, "training": False}])
def test_head_dropout_is_off_at_zero_and_in_evaluation(given):
    assert (dropped(**given) == 1).all()


def test_head_dropout_reaches_every_layer_of_the_decoder(blip32, features, made):
    model = copy.deepcopy(blip32.model).train()
    lm = model.language_model
    dropout = HeadDropout(lm.model.layers, 4)
    fed = []
    for layer in lm.model.layers:
        layer.self_attn.o_proj.register_forward_pre_hook(lambda m, args: fed.append(args[0]))
    dropout.p = 0.5
    with torch.no_grad():
        answer_logits(model, features, made.ids, made.asked, made.rows, made.at)
    assert len(fed) == len(lm.model.layers) == 3
    for z in fed:
        empty = (z.unflatten(-1, (4, -1)) == 0).all(-1).all(1)  # (rows, heads)
        assert empty.any() and not empty.all()


def test_a_decoder_starts_as_the_llavas_with_lower_case_answers_as_the_capitalised():
    torch.manual_seed(0)
    source, model = llava(2, 2, 4, 16), instructblip(2, 2, 4, 16, queries=2, qformer_layers=1)
    rest = {k: v.clone() for k, v in model.state_dict().items() if "language_model" not in k}
    start_from(model, source)
    ids = tokenizer().convert_tokens_to_ids
    own = dict(model.language_model.model.named_parameters())
    for name, weight in source.model.language_model.named_parameters():
        if name == "embed_tokens.weight":
            continue
        assert torch.equal(own[name], weight), name
    for ours, theirs in (
        (model.language_model.get_input_embeddings(), source.get_input_embeddings()),
        (model.language_model.get_output_embeddings(), source.get_output_embeddings()),
    ):
        expected = theirs.weight.clone()
        expected[ids(["yes", "no"])] = theirs.weight[ids(["Yes", "No"])]
        assert torch.equal(ours.weight, expected)
        assert not torch.equal(ours.weight, theirs.weight)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in rest.items())
