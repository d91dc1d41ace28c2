"""A small PowerPaint of the genuine classes: Stable Diffusion's inpainting parts with task tokens.

The parts and their names are those of a Stable-Diffusion-inpainting directory; the tokenizer and
the text encoder know PowerPaint's three task tokens (Zhuang et al., 2024), ten vectors each. The
scheduler predicts velocity at zero terminal signal-to-noise ratio, so that few steps suffice and
the darkest and lightest colours can be reached (Lin et al., 2024).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vseam_lib.editing.task_tokens import TASK_TOKENS, VECTORS
from vseam_lib.world.questions import vocabulary
from vseam_lib.world.scene import SIZE

LENGTH = 32  # tokens of a prompt; shorter than CLIP's 77, so that a word has more weight
NEGATIVE = ", worst quality, low quality, normal quality, bad quality, blurry"
EMPTY = "empty scene blur"


def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer in which each word of the world, and of PowerPaint's prompts, is one token.

    Any other text falls apart into pieces.
    """
    words = re.findall("[a-z]+", " ".join([*vocabulary(), NEGATIVE, EMPTY]).lower())
    merges = byte_pairs(dict.fromkeys(words))
    shown = [*string.digits, *string.ascii_lowercase, *string.punctuation]
    pieces = [*shown, *(c + "</w>" for c in shown), *(a + b for a, b in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: k for k, piece in enumerate(dict.fromkeys(pieces))}
    made = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)
    made.add_tokens([f"{task}_{k}" for task in TASK_TOKENS for k in range(VECTORS)])
    return made


def byte_pairs(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair merges in the order in which they make each word whole, the commonest pair first.

    Ties go by the alphabet, where the trainer of ``tokenizers`` decides by chance.
    """
    parts = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges = []
    while counts := Counter(pair for word in parts for pair in pairwise(word)):
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        for word in parts:
            k = 0
            while k + 1 < len(word):
                if (word[k], word[k + 1]) == best:
                    word[k : k + 2] = [word[k] + word[k + 1]]
                k += 1
    return merges


def task_prompt(text: str, task_token: str) -> str:
    """The text followed by the ten vectors of a task token."""
    return " ".join([text, *(f"{task_token}_{k}" for k in range(VECTORS))]).strip()


def build(sizes: Mapping) -> StableDiffusionInpaintPipeline:
    """Untrained parts for 96-pixel pictures.

    Args:
        sizes: ``vae`` and ``unet`` (channels per level), ``text`` (width), ``text_layers``.
    """
    tok = tokenizer()
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(sizes["vae"]),
        up_block_types=("UpDecoderBlock2D",) * len(sizes["vae"]),
        block_out_channels=tuple(sizes["vae"]),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIZE,
    )
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tok),
            hidden_size=sizes["text"],
            intermediate_size=4 * sizes["text"],
            num_hidden_layers=sizes["text_layers"],
            num_attention_heads=4,
            max_position_embeddings=tok.model_max_length,
            bos_token_id=tok.bos_token_id,
            eos_token_id=tok.eos_token_id,
            pad_token_id=tok.pad_token_id,
        )
    )
    with torch.no_grad():  # words first: the layers begin as small corrections of them
        text.get_input_embeddings().weight.mul_(2)
        for name, weight in text.named_parameters():
            if name.endswith(("out_proj.weight", "fc2.weight")):
                weight.mul_(0.2)
    levels = len(sizes["unet"])
    unet = UNet2DConditionModel(
        sample_size=SIZE // 2 ** (len(sizes["vae"]) - 1),
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        block_out_channels=tuple(sizes["unet"]),
        layers_per_block=1,
        cross_attention_dim=sizes["text"],
        attention_head_dim=4,
        norm_num_groups=8,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )
    return StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tok,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
