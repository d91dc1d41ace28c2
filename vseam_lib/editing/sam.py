"""The architecture of a SAM, read off its weights (Kirillov et al., 2023, arXiv:2304.02643).

A checkpoint of ``segment_anything`` is a bare state dict. Its tensors' shapes determine the model:

1. widths, depths and the patch from the weights, the image from the position table and the patch;
2. the encoder's head size from the width of the relative position tables;
3. which blocks attend globally, and the window of the others, from the length of these tables:
   ``2 * side - 1`` for a square of ``side`` patches.

The number of heads of the mask decoder leaves no trace; it is 8 in every released SAM and here.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

DECODER_HEADS = 8
_SHOWN = 6  # keys that an error names
OFFICIAL = "sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth"


class Architecture(NamedTuple):
    """Sizes of a SAM; lengths in patches unless said otherwise."""

    image: int  # pixels, both sides
    patch: int  # pixels, both sides
    width: int
    depth: int
    heads: int
    mlp: int
    window: int
    global_blocks: tuple[int, ...]
    prompt_width: int
    mask_channels: int  # of the encoder of mask prompts, which boxes do not use
    decoder_depth: int
    decoder_mlp: int
    decoder_downsample: int
    masks: int  # mask tokens of the decoder: one for the single mask, then the alternatives
    iou_depth: int
    iou_width: int


def build_sam(a: Architecture) -> Sam:
    """A SAM of these sizes with fresh weights, in training mode."""
    grid = a.image // a.patch
    return Sam(
        image_encoder=ImageEncoderViT(
            img_size=a.image,
            patch_size=a.patch,
            embed_dim=a.width,
            depth=a.depth,
            num_heads=a.heads,
            mlp_ratio=(a.mlp + 0.5) / a.width,  # rounded down to ``mlp`` again
            out_chans=a.prompt_width,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=a.window,
            global_attn_indexes=a.global_blocks,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=a.prompt_width,
            image_embedding_size=(grid, grid),
            input_image_size=(a.image, a.image),
            mask_in_chans=a.mask_channels,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=a.masks - 1,
            transformer=TwoWayTransformer(
                depth=a.decoder_depth,
                embedding_dim=a.prompt_width,
                num_heads=DECODER_HEADS,
                mlp_dim=a.decoder_mlp,
                attention_downsample_rate=a.decoder_downsample,
            ),
            transformer_dim=a.prompt_width,
            iou_head_depth=a.iou_depth,
            iou_head_hidden_dim=a.iou_width,
        ),
    )


def architecture_of(state: Mapping[str, Tensor], *, source: str = "state dict") -> Architecture:
    """Sizes of the SAM with these weights.

    Args:
        state: a state dict of ``segment_anything``; only shapes are read, so that tensors on the
            meta device do.
        source: what the weights are, for messages.

    Raises:
        ValueError: tensors that are missing, not those of a SAM, or of sizes that contradict.
    """

    def shape(key: str) -> tuple[int, ...]:
        if key not in state:
            raise ValueError(
                f"{source}: expected the weights of a segment_anything model, found no {key!r} "
                f"among {len(state)} tensors ({_some(state)}); {_hint(state)}"
            )
        return tuple(state[key].shape)

    width, channels, patch, _ = shape("image_encoder.patch_embed.proj.weight")
    _, grid, _, _ = shape("image_encoder.pos_embed")
    depth = _count(state, "image_encoder.blocks")
    sides, head_sizes = [], set()
    for k in range(depth):
        length, head_size = shape(f"image_encoder.blocks.{k}.attn.rel_pos_h")
        sides.append((length + 1) // 2)
        head_sizes.add(head_size)
    windows = set(sides) - {grid}
    if channels != 3 or len(windows) > 1 or len(head_sizes) != 1:
        raise ValueError(
            f"{source}: expected 3 colour channels, one head size and one window, found "
            f"{channels}, {sorted(head_sizes)} and {sorted(windows)}; {_hint(state)}"
        )
    prompt_width, mask_channels = shape("prompt_encoder.mask_downscaling.6.weight")[:2]
    layers = "mask_decoder.transformer.layers"
    heads = "mask_decoder.iou_prediction_head.layers"
    return Architecture(
        image=grid * patch,
        patch=patch,
        width=width,
        depth=depth,
        heads=width // head_sizes.pop(),
        mlp=shape("image_encoder.blocks.0.mlp.lin1.weight")[0],
        window=windows.pop() if windows else grid,
        global_blocks=tuple(k for k, side in enumerate(sides) if side == grid),
        prompt_width=prompt_width,
        mask_channels=mask_channels,
        decoder_depth=_count(state, layers),
        decoder_mlp=shape(f"{layers}.0.mlp.lin1.weight")[0],
        decoder_downsample=prompt_width
        // shape(f"{layers}.0.cross_attn_token_to_image.q_proj.weight")[0],
        masks=shape("mask_decoder.mask_tokens.weight")[0],
        iou_depth=_count(state, heads),
        iou_width=shape(f"{heads}.0.weight")[0],
    )


def load_sam(path: Path) -> Sam:
    """The SAM of a checkpoint in float32, in evaluation mode and without gradients.

    Args:
        path: a bare state dict, ``.safetensors`` or a ``.pth`` / ``.pt`` without pickled objects.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that cannot be read, or whose tensors are not exactly those of a SAM.
    """
    state = read_weights(path)
    with torch.device("meta"):
        sam = build_sam(architecture_of(state, source=str(path)))
    wanted = {key: tuple(value.shape) for key, value in sam.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    problems = {
        "missing": wanted.keys() - found.keys(),
        "not part of a SAM": found.keys() - wanted.keys(),
        "of another shape": {k for k in wanted.keys() & found.keys() if wanted[k] != found[k]},
    }
    if any(problems.values()):
        lists = "; ".join(f"{what}: {_some(keys)}" for what, keys in problems.items() if keys)
        raise ValueError(
            f"{path}: expected exactly the tensors of a SAM of this size, found tensors {lists}. "
            f"Use an official checkpoint ({OFFICIAL}), or one of the same layout"
        )
    sam.load_state_dict({k: v.float() for k, v in state.items()}, assign=True)
    _restore_constants(sam)
    return sam.eval().requires_grad_(False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, without running any code that the file may hold.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a readable file of named tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a SAM checkpoint, found none; "
            f"download one of the official ones ({OFFICIAL})"
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path}: expected a complete .safetensors file or a .pth of tensors only, but "
            f"reading it failed ({first}); download it again"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        held = f"{type(state).__name__} of {_some(state)}" if isinstance(state, Mapping) else ""
        raise ValueError(
            f"{path}: expected a bare state dict, found a {held or type(state).__name__}; "
            "save the model's own state_dict() to a file"
        )
    return dict(state)


def _restore_constants(sam: Sam) -> None:
    """Fill what is in no checkpoint: mean and deviation of a pixel (ImageNet's, 0 to 255)."""
    sam.pixel_mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    sam.pixel_std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Length of a module list: the number of distinct indices after ``prefix``."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    return len({m[1] for m in map(pattern.match, state) if m})


def _some(keys) -> str:
    """The first few of some keys, and how many more there are."""
    named = sorted(map(str, keys))
    more = len(named) - _SHOWN
    return ", ".join(named[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _hint(state: Mapping[str, Tensor]) -> str:
    if any(key.startswith("vision_encoder.") for key in state):
        return "these are weights of transformers' SamModel; use the original checkpoint"
    if any(key.startswith(("image_encoder.trunk.", "memory_")) for key in state):
        return "these are weights of SAM 2, which is another model"
    return f"use an official checkpoint ({OFFICIAL})"
