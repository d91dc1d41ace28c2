"""Reads PowerPaint's checkpoints in the layouts in which they are published.

``v1 overlay`` (JunhaoZhuang/PowerPaint-v1): ``unet/unet.safetensors`` and
``text_encoder/text_encoder.safetensors``, or in its older revision
``unet/diffusion_pytorch_model.safetensors`` and ``text_encoder/pytorch_model.bin``; everything
else comes from a Stable-Diffusion-1.5-inpainting directory, the base.

``v1 merged`` (Sanster/PowerPaint-V1-stable-diffusion-inpainting, and the shipped model): a whole
diffusers directory whose tokenizer has ``P_ctxt_0`` ... ``P_obj_9``.

``v2`` (JunhaoZhuang/PowerPaint_v2, PowerPaint-v2-1): ``PowerPaint_Brushnet/`` with BrushNet and
its text encoder, and ``realisticVisionV60B1_v51VAE/``, a diffusers directory.

The components are read by :mod:`vseam_lib.editing.powerpaint_components`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel, UniPCMultistepScheduler

from vseam_lib.editing.brushnet import BrushNet
from vseam_lib.editing.powerpaint_components import Reader, fill, read_weights, revision
from vseam_lib.editing.task_tokens import PromptEncoder, find_task_tokens
from vseam_lib.vlm.load import WEIGHTS

BRUSHNET, V2_BASE = "PowerPaint_Brushnet", "realisticVisionV60B1_v51VAE"
OVERLAYS = (
    ("unet/unet.safetensors", "text_encoder/text_encoder.safetensors"),
    ("unet/diffusion_pytorch_model.safetensors", "text_encoder/pytorch_model.bin"),
)
_LAYOUTS = (
    f"v1 overlay ({' + '.join(OVERLAYS[0])}, or {' + '.join(OVERLAYS[1])}; needs base=), "
    f"v1 merged (model_index.json), v2 ({BRUSHNET}/ + {V2_BASE}/)"
)
_FOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler", BRUSHNET)


class Parts(NamedTuple):
    """A loaded checkpoint.

    Attributes:
        layout: ``v1 overlay``, ``v1 merged`` or ``v2``.
        revision: digest of every file that was read.
        encoder: reads prompts with task tokens.
        unet: with 9 input channels in v1 and 4 in v2.
        vae: the autoencoder.
        scheduler: the base's own in v1; UniPC, as the authors set it, in v2.
        brushnet: v2 only.
        base_encoder: v2 only, reads the base model's prompts.
    """

    layout: str
    revision: str
    encoder: PromptEncoder
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: SchedulerMixin
    brushnet: BrushNet | None = None
    base_encoder: PromptEncoder | None = None


def read_parts(name: str | Path, *, base: str | Path | None, variant: str | None) -> Parts:
    """Read a checkpoint; the arguments are those of :func:`powerpaint.load_inpainter`.

    Raises:
        FileNotFoundError: no such checkpoint, no known layout, or a missing file.
        ValueError: a missing or superfluous base, damaged files, or weights that do not fit.
    """
    root = locate(name, variant)
    overlay = next((o for o in OVERLAYS if all((root / f).is_file() for f in o)), None)
    merged = (root / "model_index.json").is_file()
    v2 = (root / BRUSHNET).is_dir() and (root / V2_BASE).is_dir()
    if overlay and not merged:
        if base is None:
            raise ValueError(
                f"{name}: expected base= for a v1 overlay, a Stable-Diffusion-1.5-inpainting "
                "directory or id such as 'stable-diffusion-v1-5/stable-diffusion-inpainting'; "
                "the overlay has no autoencoder, tokenizer or scheduler of its own"
            )
        return _overlay(Reader(root), Reader(locate(base, variant), variant), overlay)
    if not (merged or v2):
        shown = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
        raise FileNotFoundError(f"{root}: expected one of {_LAYOUTS}; found {shown}")
    if base is not None:
        raise ValueError(
            f"{name}: expected no base= for the layout {'v1 merged' if merged else 'v2'}, got "
            f"{base}; it is complete in itself"
        )
    return _merged(Reader(root, variant)) if merged else _v2(Reader(root, variant))


def locate(name: str | Path, variant: str | None = None) -> Path:
    """The folder of a shipped model, a directory, or a Hugging Face id (which is downloaded)."""
    if (WEIGHTS / str(name) / "model_index.json").is_file():
        return WEIGHTS / str(name)
    if Path(name).is_dir():
        return Path(name)
    if isinstance(name, Path) or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        shipped = ", ".join(sorted(p.parent.name for p in WEIGHTS.glob("*/model_index.json")))
        raise FileNotFoundError(
            f"no inpainter {str(name)!r}; expected a shipped one ({shipped or 'none here'}), a "
            "directory, or a Hugging Face id such as 'JunhaoZhuang/PowerPaint-v1'"
        )
    from huggingface_hub import HfApi, snapshot_download

    files = needed(HfApi().list_repo_files(name), variant)
    return Path(snapshot_download(name, allow_patterns=files))


def needed(files: Iterable[str], variant: str | None) -> list[str]:
    """Of a repository's files, those that are read: per component one set of weights."""
    wanted, weights = [], {}
    for file in files:
        path = PurePosixPath(file)
        if file == "model_index.json":
            wanted.append(file)
        if path.parent.name not in _FOLDERS or path.parent.parent.name not in ("", V2_BASE):
            continue
        if path.suffix in (".json", ".txt") or path.parent.name == BRUSHNET:
            wanted.append(file)
        elif path.name.split(".")[1:-1] == ([variant] if variant else []):
            weights.setdefault((path.parent, path.suffix), []).append(file)
    for (folder, suffix), found in weights.items():
        if suffix == ".safetensors" or (
            suffix == ".bin" and (folder, ".safetensors") not in weights
        ):
            wanted += found
    return sorted(wanted)


def _merged(at: Reader) -> Parts:
    tokenizer, (model, _) = at.tokenizer(), at.text_encoder()
    try:
        tokens = find_task_tokens(tokenizer, model.config.vocab_size)
    except ValueError as error:
        raise ValueError(f"{at.root}: {error}") from error
    encoder = PromptEncoder(tokenizer, model, tokens)
    unet, vae, scheduler = at.unet(9), at.vae(), at.scheduler()
    return Parts("v1 merged", revision(at), encoder, unet, vae, scheduler)


def _overlay(at: Reader, base: Reader, files: tuple[str, str]) -> Parts:
    unet_file, text_file = (at.file(f) for f in files)
    model, tokens = base.text_encoder(text_file, tasks=True)
    encoder = PromptEncoder(base.tokenizer(), model, tokens)
    unet, vae, scheduler = base.unet(9, unet_file), base.vae(), base.scheduler()
    return Parts("v1 overlay", revision(at, base), encoder, unet, vae, scheduler)


def _v2(at: Reader) -> Parts:
    base = Reader(at.root / V2_BASE, at.variant)
    tokenizer = base.tokenizer()
    model, tokens = base.text_encoder(at.file(f"{BRUSHNET}/pytorch_model.bin"), tasks=True)
    encoder = PromptEncoder(tokenizer, model, tokens)
    base_encoder = PromptEncoder(tokenizer, base.text_encoder()[0], {})
    unet, vae = base.unet(4), base.vae()
    with torch.device("meta"):
        brushnet = BrushNet(dict(unet.config))
    path = at.file(f"{BRUSHNET}/diffusion_pytorch_model.safetensors")
    fill(brushnet, read_weights(path), path, brushnet.stored_name)
    scheduler = base.scheduler(UniPCMultistepScheduler, final_sigmas_type="sigma_min")
    return Parts("v2", revision(at, base), encoder, unet, vae, scheduler, brushnet, base_encoder)
