"""Tiny models of the genuine classes, with genuine processors, built from nothing."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vseam_lib.world.questions import vocabulary
from vseam_lib.world.scene import SIZE

PATCH = 12
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>"]


def tokenizer() -> PreTrainedTokenizerFast:
    """Word-level tokenizer over the world's vocabulary; prepends ``<s>`` like LLaVA's."""
    ids = {w: k for k, w in enumerate([*SPECIAL, *vocabulary()])}
    core = Tokenizer(WordLevel(ids, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", ids["<s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        padding_side="left",
    )


def vision_config(layers: int = 4, width: int = 128, heads: int = 4) -> CLIPVisionConfig:
    """CLIP vision tower on 96-pixel images: 8 x 8 patches of 12 pixels."""
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=SIZE,
        patch_size=PATCH,
        projection_dim=width,
    )


def llava(layers: int, heads: int, d_head: int, d_mlp: int) -> LlavaForConditionalGeneration:
    """An untrained LLaVA over the world's vocabulary.

    Weights start at ``1 / sqrt(fan_in)``, those that write to the residual stream smaller, as
    suits a narrow decoder; the library's default of 0.02 is meant for wide ones.
    """
    tok = tokenizer()
    text = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=heads * d_head,
        intermediate_size=d_mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=512,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 5e5},
    )
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_id=tok.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIZE // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    lm = model.model.language_model
    with torch.no_grad():
        for name, weight in lm.named_parameters():
            if weight.dim() == 2:
                std = 0.7 if "embed" in name else weight.shape[1] ** -0.5
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= (2 * layers) ** 0.5
                weight.normal_(std=std)
    return model


def llava_processor() -> LlavaProcessor:
    """LLaVA's processor: CLIP preprocessing at 96 pixels and image-token expansion."""
    images = CLIPImageProcessor(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer(),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )
