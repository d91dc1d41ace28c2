"""Stages 2 and 3 of the tiny InstructBLIP's training.

2. With the tower frozen, the Q-Former's words are aligned with the patches, and the projection with
   the decoder's words.
3. Q-Former, projection and decoder learn to answer together. As in the paper's model, the decoder
   starts from a language model that exists already, here the tiny LLaVA's; the Q-Former starts
   from nothing and reads the instruction together with the picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlavaForConditionalGeneration,
)

from vseam_lib.vlm.load import WEIGHTS
from vseam_lib.world import models
from vseam_lib.world.alignment import naming, words_of_patches
from vseam_lib.world.items import Text, batch, loss_by_format, phase_at
from vseam_lib.world.loop import Run, train
from vseam_lib.world.pool import Pool
from vseam_lib.world.vision_stage import patch_features


def build(recipe: dict) -> InstructBlipForConditionalGeneration:
    """A model that is untrained but for its decoder, which is the named shipped LLaVA's."""
    model = models.instructblip(**recipe["model"])
    start_from(
        model,
        LlavaForConditionalGeneration.from_pretrained(
            WEIGHTS / recipe["decoder_from"], dtype=torch.float32
        ),
    )
    return model


def processor(recipe: dict) -> InstructBlipProcessor:
    """Its processor."""
    return models.instructblip_processor(recipe["model"]["queries"])


def tower(model: InstructBlipForConditionalGeneration):
    """Its vision tower."""
    return model.vision_model


def encode(model, images: np.ndarray) -> Tensor:
    """Vision features ``(n, 65, d)`` of a whole pool, class token first."""
    return patch_features(tower(model), images)


def start_from(
    model: InstructBlipForConditionalGeneration, llava: LlavaForConditionalGeneration
) -> None:
    """Copy the decoder of a LLaVA; lower-case answers start as their capitalised forms."""
    state = {f"model.{k}": v for k, v in llava.model.language_model.state_dict().items()}
    state["lm_head.weight"] = llava.lm_head.weight
    lm = model.language_model
    lm.load_state_dict(state)
    ids = models.tokenizer().convert_tokens_to_ids
    with torch.no_grad():
        for weight in (lm.get_input_embeddings().weight, lm.get_output_embeddings().weight):
            weight[ids(["yes", "no"])] = weight[ids(["Yes", "No"])]


def train_alignment(model, pool: Pool, features: Tensor, text: Text, recipe: dict, run: Run):
    """Stage 2: words of the Q-Former resemble patches that show what they name; a projected
    patch resembles the decoder's words for what it shows.
    """
    words = words_of_patches(pool, text)
    table = model.qformer.embeddings.word_embeddings.weight
    known = model.language_model.get_input_embeddings().weight.detach()

    def loss_of(step: int, rng: np.random.Generator):
        pick = rng.integers(len(pool.scenes), size=recipe["batch"])
        patches = features[pick, 1:].float()
        loss = naming(patches, table, words[pick])
        loss = loss + naming(model.language_projection(patches), known, words[pick])
        return loss, {"loss": loss.item()}

    params = [table, *model.language_projection.parameters()]
    train(run, "alignment", model, [(params, 1.0)], recipe, loss_of)


def queries(model, features: Tensor, ids: Tensor, asked: Tensor) -> Tensor:
    """The picture as the decoder sees it, for several instructions per picture.

    The genuine Q-Former, except that a picture's keys and values are made once for all its
    instructions: queries do not see each other in cross-attention, so they may share a row.

    Args:
        features: ``(B, 65, d)``.
        ids: ``(B*n, T)`` instructions, right-padded, grouped by picture.
        asked: ``(B*n,)`` length of each.

    Returns:
        ``(B*n, n_queries, d_model)``.
    """
    qformer, Q = model.qformer, model.query_tokens.shape[1]
    N, B = len(ids), len(features)
    T = int(asked.max())
    x = qformer.embeddings(
        input_ids=ids[:, :T], query_embeds=model.query_tokens.expand(N, -1, -1)
    )  # (N, Q + T, d)
    seen = torch.cat([torch.ones(N, Q, dtype=torch.bool), torch.arange(T) < asked[:, None]], 1)
    mask = torch.zeros(N, 1, 1, Q + T).masked_fill(~seen[:, None, None], -1e4)
    for layer in qformer.encoder.layer:
        x = layer.attention(x, attention_mask=mask)
        looking = x[:, :Q].reshape(B, -1, x.shape[-1])  # (B, n * Q, d)
        looking = layer.crossattention(looking, encoder_hidden_states=features)
        x = torch.cat(
            [
                layer.feed_forward_chunk_query(looking.reshape(N, Q, -1)),
                layer.feed_forward_chunk(x[:, Q:]),
            ],
            1,
        )
    return model.language_projection(x[:, :Q])


def answer_logits(
    model, features: Tensor, ids: Tensor, asked: Tensor, rows: Tensor, at: Tensor
) -> Tensor:
    """Logits ``(M, vocab)`` in float32 at tokens ``at`` of the rows ``rows`` of ``ids``."""
    image = queries(model, features, ids, asked)
    words = model.language_model.get_input_embeddings()(ids)
    x = torch.cat([image, words.to(image.dtype)], 1)
    hidden = model.language_model.model(inputs_embeds=x, use_cache=False).last_hidden_state
    return model.language_model.lm_head(hidden[rows, image.shape[1] + at]).float()


class HeadDropout:
    """Zeroes whole heads of whole rows at random; a forward pre-hook of every ``o_proj``."""

    def __init__(self, layers: nn.ModuleList, heads: int) -> None:
        self.p, self.heads = 0.0, heads
        for layer in layers:
            layer.self_attn.o_proj.register_forward_pre_hook(self)

    def __call__(self, module, args):
        if not self.p or not module.training:
            return None
        kept = (torch.rand(len(args[0]), 1, self.heads, 1) >= self.p) / (1 - self.p)
        return ((args[0].unflatten(-1, (self.heads, -1)) * kept.to(args[0])).flatten(-2),)


def train_decoder(model, pool: Pool, features: Tensor, text: Text, recipe: dict, run: Run) -> None:
    """Stage 3."""
    model.train()
    tower(model).eval()
    lm = model.language_model
    dropout = HeadDropout(lm.model.layers, model.config.text_config.num_attention_heads)

    def loss_of(step: int, rng: np.random.Generator):
        phase, dropout.p = phase_at(step, recipe)
        pick = rng.integers(len(pool.scenes), size=recipe["images"])
        scenes = [pool.scenes[i] for i in pick]
        loss, shown = 0.0, {}
        for together in phase["formats"]:  # formats of like length share a forward pass
            made = batch(text, together, scenes, rng, phase["statements"])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = answer_logits(
                    model, features[pick].float(), made.ids, made.asked, made.rows, made.at
                )
            part, numbers = loss_by_format(logits, made, phase["weights"])
            loss, shown = loss + part, shown | numbers
        return loss, shown

    others = [
        p for n, p in model.named_parameters() if p.requires_grad and "language_model" not in n
    ]
    groups = [(others, 1.0), (lm.parameters(), recipe["decoder_share"])]
    train(run, "decoder", model, groups, recipe, loss_of)
