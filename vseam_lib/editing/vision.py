"""What a model's own vision tower makes of pictures (paper, appendix C.1, Tables 10-12).

The paper compares a picture and its perturbed version by the cosine of their features in LLaVA's
vision tower and leaves open which features; :data:`POOLS` offers the three that can be meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.images import open_image

POOLS = ("pooled", "projected", "patches")


@torch.no_grad()
def features(
    adapter: Adapter,
    images: Sequence[Image.Image | Path],
    *,
    pool: str = "pooled",
    instruction: str | None = None,
    batch: int = 16,
) -> Tensor:
    """What the model's own vision tower makes of pictures, ``(n, d)`` float32 on the CPU.

    Pictures that are equal pixel by pixel are encoded once.

    Args:
        pool: ``"pooled"``, the tower's class token (Tables 10-12, as far as they say);
            ``"projected"``, the mean of the image tokens that the decoder reads; ``"patches"``,
            the mean of the patches that the model's connector reads, without the class token.
        instruction: the question that InstructBLIP's Q-Former reads while it makes the projected
            tokens, set in the model's prompt; ``None`` stands for the empty question. No other
            feature depends on a question.
        batch: pictures per forward.

    Raises:
        ValueError: an unknown pool, no pictures, an empty batch, or an instruction that nothing
            would read.
        FileNotFoundError, ValueError: an image that is missing or cannot be decoded.
    """
    if pool not in POOLS:
        raise ValueError(f"expected a pool in {', '.join(POOLS)}, got {pool!r}")
    if not len(images):
        raise ValueError("expected at least one picture, got none")
    if batch < 1:
        raise ValueError(f"expected a batch of at least 1 picture, got {batch}")
    if instruction is not None and (pool != "projected" or adapter.shares_image):
        raise ValueError(
            f"expected no instruction, got {instruction!r}: pool={pool!r} of {adapter.family} "
            "does not depend on a question; leave it out"
        )
    encode = {"pooled": _pooled, "patches": _patches}.get(pool) or (
        lambda adapter, pictures: _projected(adapter, pictures, instruction or "")
    )
    place: dict[str, int] = {}
    order, waiting, encoded = [], [], []
    for image in images:
        picture = open_image(image)
        digest = _digest(picture)
        if digest not in place:
            place[digest] = len(place)
            waiting.append(picture)
        order.append(place[digest])
        if len(waiting) == batch:
            encoded.append(encode(adapter, waiting).float().cpu())
            waiting = []
    if waiting:
        encoded.append(encode(adapter, waiting).float().cpu())
    return torch.cat(encoded)[order]


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of the rows of two ``(n, d)`` tensors, ``(n,)`` in float64.

    Raises:
        ValueError: other or unequal shapes, or a row that is zero or not finite.
    """
    if a.dim() != 2 or a.shape != b.shape:
        raise ValueError(
            f"expected two tensors (n, d) of one shape, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    a, b = a.double(), b.double()
    norms = torch.stack([a.norm(dim=-1), b.norm(dim=-1)])  # (2, n)
    if not (norms.isfinite() & (norms > 0)).all():
        raise ValueError(
            "expected finite features other than zero, which have an angle; if the model runs in "
            "half precision, try dtype='float32'"
        )
    return ((a * b).sum(-1) / norms.prod(0)).clamp(-1, 1)


def similarity(
    adapter: Adapter,
    before: Sequence[Image.Image | Path],
    after: Sequence[Image.Image | Path],
    *,
    pool: str = "pooled",
    instruction: str | None = None,
    batch: int = 16,
) -> Tensor:
    """Cosine of pictures and their changed versions in the model's vision tower, ``(n,)``.

    Arguments and errors are those of :func:`features`.
    """
    if len(before) != len(after):
        raise ValueError(
            f"expected one changed picture per picture, got {len(after)} for {len(before)}"
        )
    both = features(
        adapter, [*before, *after], pool=pool, instruction=instruction, batch=batch
    )  # (2 n, d)
    return cosine(both[: len(before)], both[len(before) :])


def _digest(picture: Image.Image) -> str:
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()


def _tower(adapter: Adapter, pictures: Sequence[Image.Image], **kwargs):
    images = adapter.processor.image_processor(images=list(pictures), return_tensors="pt")
    pixels = images["pixel_values"].to(adapter.device, adapter.model.dtype)
    return adapter.model.get_encoder(modality="image")(pixel_values=pixels, **kwargs)


def _pooled(adapter: Adapter, pictures: Sequence[Image.Image]) -> Tensor:
    return _tower(adapter, pictures).pooler_output


def _patches(adapter: Adapter, pictures: Sequence[Image.Image]) -> Tensor:
    """Of the layers that the connector reads: LLaVA's configuration names them (its last but one),
    a Q-Former reads the tower's output.
    """
    layers = getattr(adapter.model.config, "vision_feature_layer", None)
    if layers is None:
        return _tower(adapter, pictures).last_hidden_state[:, 1:].mean(1)
    layers = [layers] if isinstance(layers, int) else list(layers)
    states = _tower(adapter, pictures, output_hidden_states=True).hidden_states
    return torch.cat([states[layer] for layer in layers], dim=-1)[:, 1:].mean(1)


def _projected(adapter: Adapter, pictures: Sequence[Image.Image], instruction: str) -> Tensor:
    inputs = adapter.processor(
        images=list(pictures),
        text=[adapter.text(instruction)] * len(pictures),
        return_tensors="pt",
    )
    reads = {k: v.to(adapter.device) for k, v in inputs.items() if k.startswith("qformer_")}
    pixels = inputs["pixel_values"].to(adapter.device, adapter.model.dtype)
    tokens = adapter.model.get_image_features(pixel_values=pixels, **reads).pooler_output
    return torch.stack([t.mean(0) for t in tokens])
