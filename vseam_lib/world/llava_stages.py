"""Stages 2 and 3 of the tiny LLaVA's training.

2. With the tower frozen, projector and word embeddings are aligned.
3. Projector and decoder learn to answer: captions, short statements and one-word questions first,
   the paper's prompts last. The picture and the text before it are run once and shared by all
   questions about it (``shared_prefix``).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from vseam_lib.world import models
from vseam_lib.world.alignment import naming, words_of_patches
from vseam_lib.world.items import Text, batch, loss_by_format, phase_at
from vseam_lib.world.loop import Run, train
from vseam_lib.world.pool import Pool
from vseam_lib.world.shared_prefix import answer_logits
from vseam_lib.world.vision_stage import patch_features


def build(recipe: dict) -> LlavaForConditionalGeneration:
    """An untrained model."""
    return models.llava(**recipe["model"])


def processor(recipe: dict) -> LlavaProcessor:
    """Its processor."""
    return models.llava_processor()


def tower(model: LlavaForConditionalGeneration):
    """Its vision tower."""
    return model.model.vision_tower


def encode(model, images: np.ndarray) -> Tensor:
    """Vision features ``(n, 64, d)`` of a whole pool."""
    return patch_features(tower(model), images)[:, 1:]


def alignment(model, features: Tensor, words: Tensor) -> Tensor:
    """Feature alignment, LLaVA's first stage patch by patch: a projected patch resembles the
    embeddings of the words for what it shows.

    Args:
        features: ``(B, 64, d_vision)``.
        words: ``(B, 64, 3)`` token ids, -100 where there is no word.
    """
    image = model.model.multi_modal_projector(features.float())
    return naming(image, model.model.language_model.embed_tokens.weight, words)


def train_alignment(model, pool: Pool, features: Tensor, text: Text, recipe: dict, run: Run):
    """Stage 2: projector and word embeddings, by :func:`alignment` alone."""
    words = words_of_patches(pool, text)

    def loss_of(step: int, rng: np.random.Generator):
        pick = rng.integers(len(pool.scenes), size=recipe["batch"])
        loss = alignment(model, features[pick], words[pick])
        return loss, {"loss": loss.item()}

    params = [
        *model.model.multi_modal_projector.parameters(),
        model.model.language_model.embed_tokens.weight,
    ]
    train(run, "alignment", model, [(params, 1.0)], recipe, loss_of)


def train_decoder(model, pool: Pool, features: Tensor, text: Text, recipe: dict, run: Run) -> None:
    """Stage 3."""
    model.train()
    word_ids = words_of_patches(pool, text)

    def loss_of(step: int, rng: np.random.Generator):
        phase, drop = phase_at(step, recipe)
        pick = rng.integers(len(pool.scenes), size=recipe["images"])
        scenes = [pool.scenes[i] for i in pick]
        loss, shown = recipe["alignment"] * alignment(model, features[pick], word_ids[pick]), {}
        for together in phase["formats"]:  # formats of like length share a forward pass
            made = batch(text, together, scenes, rng, phase["statements"])
            prefix = text.prefix("open" if "open" in together else "yes_no")
            logits = answer_logits(
                model, features[pick], prefix, made.ids, made.at, rows=made.rows, drop=drop
            )
            part, numbers = loss_by_format(logits, made, phase["weights"])
            loss, shown = loss + part, shown | numbers
        return loss, shown

    params = [p for p in model.parameters() if p.requires_grad]
    train(run, "decoder", model, [(params, 1.0)], recipe, loss_of)
