"""Tiny models of the genuine classes, with genuine processors, built from nothing."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from torch import nn
from transformers import (
    BlipImageProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
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


def tokenizer(*, image_token: bool = True) -> PreTrainedTokenizerFast:
    """Word-level tokenizer over the world's vocabulary; prepends ``<s>`` like LLaVA's.

    ``image_token`` registers ``<image>`` as a special token.
    """
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
        additional_special_tokens=["<image>"] if image_token else [],
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


def text_config(layers: int, heads: int, d_head: int, d_mlp: int) -> LlamaConfig:
    """A Llama decoder over the world's vocabulary."""
    tok = tokenizer()
    return LlamaConfig(
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


@torch.no_grad()
def _initialise(module: nn.Module, writers: tuple[str, ...], layers: int) -> None:
    """Draw matrices at ``1 / sqrt(fan_in)`` and embeddings at 0.7.

    Weights that write to the residual stream (``writers``) start smaller. This suits narrow
    models; the libraries' default of 0.02 is meant for wide ones.
    """
    for name, weight in module.named_parameters():
        if weight.dim() >= 2:
            fan_in = weight[0].numel()
            std = 0.7 if "embed" in name and "patch" not in name else fan_in**-0.5
            weight.normal_(std=std / (2 * layers) ** 0.5 if name.endswith(writers) else std)


def llava(layers: int, heads: int, d_head: int, d_mlp: int) -> LlavaForConditionalGeneration:
    """An untrained LLaVA over the world's vocabulary."""
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text_config(layers, heads, d_head, d_mlp),
        image_token_id=tokenizer().convert_tokens_to_ids("<image>"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=(SIZE // PATCH) ** 2,
    )
    model = LlavaForConditionalGeneration(config)
    _initialise(model.model.language_model, ("o_proj.weight", "down_proj.weight"), layers)
    return model


def instructblip(
    layers: int, heads: int, d_head: int, d_mlp: int, queries: int = 16, qformer_layers: int = 4
) -> InstructBlipForConditionalGeneration:
    """An untrained InstructBLIP over the world's vocabulary.

    The Q-Former reads the instruction with the same words as the decoder and looks at the image
    in every layer. Its query tokens, zero in the library, start at random so that they differ.
    """
    vision = InstructBlipVisionConfig(
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=SIZE,
        patch_size=PATCH,
        initializer_range=0.02,
    )
    tok = tokenizer(image_token=False)
    qformer = InstructBlipQFormerConfig(
        vocab_size=len(tok),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=qformer_layers,
        num_attention_heads=4,
        max_position_embeddings=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tok.pad_token_id,
        cross_attention_frequency=1,
        encoder_hidden_size=128,
    )
    config = InstructBlipConfig(
        vision_config=vision,
        qformer_config=qformer,
        text_config=text_config(layers, heads, d_head, d_mlp),
        num_query_tokens=queries,
        image_token_index=tokenizer().convert_tokens_to_ids("<image>"),
    )
    model = InstructBlipForConditionalGeneration(config)
    _initialise(model.language_model.model, ("o_proj.weight", "down_proj.weight"), layers)
    _initialise(model.vision_model, ("projection.weight", "fc2.weight"), 4)
    _initialise_qformer(model.qformer)
    with torch.no_grad():
        model.query_tokens.normal_()
    return model


@torch.no_grad()
def _initialise_qformer(qformer: nn.Module) -> None:
    """Start as a reader that copies: attention passes on what it looks at, and queries look at
    patches that resemble them. Words and patches share one space after the alignment stage.
    """
    d = qformer.config.hidden_size
    for name, weight in qformer.named_parameters():
        if weight.dim() < 2:
            continue
        weight.normal_(std=0.3 * weight.shape[1] ** -0.5)
        if "crossattention" in name or name.endswith(
            ("value.weight", "attention.output.dense.weight")
        ):
            weight.add_(torch.eye(d))
    qformer.embeddings.word_embeddings.weight.normal_(std=0.7)
    qformer.embeddings.position_embeddings.weight.normal_(std=0.2)


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


def instructblip_processor(queries: int = 16) -> InstructBlipProcessor:
    """InstructBLIP's processor: squashes to 96 x 96 pixels, puts the query tokens first."""
    images = BlipImageProcessor(size={"height": SIZE, "width": SIZE})
    return InstructBlipProcessor(
        images, tokenizer(), tokenizer(image_token=False), num_query_tokens=queries
    )
