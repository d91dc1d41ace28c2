"""Loads a model by a shipped model's name, a directory, or a Hugging Face id."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.instructblip import InstructBlipAdapter
from vseam_lib.vlm.llava import LlavaAdapter

WEIGHTS = Path(__file__).parents[1] / "world" / "weights"
ADAPTERS: dict[str, type[Adapter]] = {
    "llava": LlavaAdapter,
    "instructblip": InstructBlipAdapter,
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def shipped() -> list[str]:
    """Names of the models that come with the repository."""
    return sorted(p.parent.name for p in WEIGHTS.glob("*/config.json"))


def shipped_metrics(name: str) -> dict | None:
    """What was measured of a shipped model on held-out scenes; ``None`` for any other model."""
    path = WEIGHTS / name / "metrics.json"
    return json.loads(path.read_text()) if name in shipped() and path.is_file() else None


def load(
    name: str, *, dtype: str = "float32", device: str = "cpu", prompt: str = "paper"
) -> Adapter:
    """Load a model for analysis, in evaluation mode and without gradients.

    Args:
        name: a shipped model's name, a model directory, or a Hugging Face id such as
            ``llava-hf/llava-1.5-7b-hf``.
        dtype: ``float32``, ``bfloat16`` or ``float64``.
        device: ``cpu``, ``cuda``, ...
        prompt: a style of :mod:`vseam_lib.vlm.prompts`.

    Raises:
        ValueError: an unknown dtype or model family.
        FileNotFoundError: a directory without weights, or a name that is none of the three.
    """
    if dtype not in DTYPES:
        raise ValueError(f"expected a dtype in {', '.join(DTYPES)}, got {dtype!r}")
    source: str | Path = name
    if name in shipped():
        source = WEIGHTS / name
    elif Path(name).is_dir():
        source = Path(name)
    elif "/" not in name or name.startswith((".", "/")):
        raise FileNotFoundError(
            f"no model {name!r}; expected a shipped model ({', '.join(shipped()) or 'none here'}), "
            "a model directory, or a Hugging Face id such as 'llava-hf/llava-1.5-7b-hf'"
        )
    revision = name
    if isinstance(source, Path):
        if not (source / "config.json").is_file() or not list(source.glob("*.safetensors")):
            raise FileNotFoundError(
                f"{source}: expected config.json and *.safetensors, found neither or only one; "
                "point at a directory written by save_pretrained, or run `make weights`"
            )
        revision = weights_digest(source)
    config = AutoConfig.from_pretrained(source)
    if config.model_type not in ADAPTERS:
        raise ValueError(
            f"{name}: no adapter for model type {config.model_type!r}; expected one of "
            f"{', '.join(ADAPTERS)}. A new family is a short subclass of vlm.adapter.Adapter"
        )
    model = AutoModelForImageTextToText.from_pretrained(
        source, dtype=DTYPES[dtype], use_safetensors=True
    )
    if not isinstance(source, Path):
        revision = f"{name}@{getattr(config, '_commit_hash', None) or 'unknown'}"
    model = model.to(device).eval().requires_grad_(False)
    processor = AutoProcessor.from_pretrained(source)
    return ADAPTERS[config.model_type](
        model=model, processor=processor, revision=revision, prompt=prompt
    )


def weights_digest(folder: Path) -> str:
    """Digest of everything in a model directory that changes an answer: weights, configuration,
    tokenizer and processor.
    """
    digest = hashlib.sha256()
    kinds = ("*.safetensors", "*.json", "*.model")
    names = [p for kind in kinds for p in folder.rglob(kind) if p.name != "metrics.json"]
    for path in sorted(names):
        digest.update(str(path.relative_to(folder)).encode())
        with open(path, "rb") as f:
            while block := f.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
