"""Reads the components of diffusers directories, every tensor accounted for.

Every tensor must find its place and every place its tensor: a text encoder whose names changed
is loaded by ``strict=False`` without a single weight, silently. Files are safetensors, or pickles
read with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerBase

from vseam_lib.editing.task_tokens import expand_task_tokens

# Attention of autoencoders stored before diffusers 0.12, Stable Diffusion 1.5's among them.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file or a ``weights_only`` pickle.

    Raises:
        ValueError: naming the file, if it is damaged or holds anything else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # each format has several exceptions of its own
        raise ValueError(
            f"{path}: expected a complete file of tensors, but reading failed ({error}); "
            "download it again"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path}: expected named tensors, got {type(state).__name__}")
    return dict(state)


def fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    path: Path,
    stored_name: Callable[[str], str] = str,
) -> None:
    """Give a module its weights, in float32; names and shapes must match exactly.

    Raises:
        ValueError: listing what is missing, what is superfluous, and what has another shape.
    """
    places = module.state_dict()
    names = {stored_name(k): k for k in places}
    wrong = {
        "missing": sorted(names.keys() - state.keys()),
        "unexpected": sorted(state.keys() - names.keys()),
        "of another shape": [
            f"{s} {tuple(state[s].shape)} instead of {tuple(places[k].shape)}"
            for s, k in sorted(names.items())
            if s in state and state[s].shape != places[k].shape
        ],
    }
    said = [
        f"{len(v)} {what}: {', '.join(v[:6])}{', ...' if len(v) > 6 else ''}"
        for what, v in wrong.items()
        if v
    ]
    if said:
        raise ValueError(
            f"{path}: expected the weights of a {type(module).__name__} of {len(names)} tensors; "
            f"{'; '.join(said)}. Check that weights, configuration and base belong together"
        )
    module.load_state_dict({names[s]: v.float() for s, v in state.items()}, assign=True)
    module.eval().requires_grad_(False)


class Reader:
    """Reads the components of one directory and remembers which files.

    Args:
        root: a diffusers directory.
        variant: of its weight files, such as ``fp16``.
    """

    def __init__(self, root: Path, variant: str | None = None) -> None:
        self.root, self.variant = root, variant
        self.used: set[Path] = set()

    def file(self, *names: str) -> Path:
        """The first of some files that exists."""
        found = next((self.root / n for n in names if (self.root / n).is_file()), None)
        if found is None:
            raise FileNotFoundError(
                f"{self.root}: expected {' or '.join(names)}, found neither; download the whole "
                "checkpoint, or choose another variant="
            )
        self.used.add(found)
        return found

    def weights(self, folder: str, *stems: str) -> Path:
        middle = f".{self.variant}" if self.variant else ""
        return self.file(
            *(f"{folder}/{s}{middle}{kind}" for kind in (".safetensors", ".bin") for s in stems)
        )

    def config(self, folder: str, name: str = "config.json") -> dict:
        path = self.file(f"{folder}/{name}")
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path}: expected JSON, got damaged text ({error})") from error

    def unet(self, channels: int, weights: Path | None = None) -> UNet2DConditionModel:
        """The UNet, with the given weights or its own; it must have so many input channels."""
        config = self.config("unet")
        if config.get("in_channels") != channels:
            raise ValueError(
                f"{self.root}/unet: expected {channels} input channels, got "
                f"{config.get('in_channels')}; PowerPaint v1 is an inpainting model (9 channels), "
                "the base of v2 is not (4)"
            )
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(config)
        path = weights or self.weights("unet", "diffusion_pytorch_model")
        fill(unet, read_weights(path), path)
        return unet

    def vae(self) -> AutoencoderKL:
        with torch.device("meta"):
            vae = AutoencoderKL.from_config(self.config("vae"))
        path = self.weights("vae", "diffusion_pytorch_model")
        state = {
            re.sub(
                rf"(\.attentions\.\d+)\.({'|'.join(_OLD_ATTENTION)})\.",
                lambda m: f"{m[1]}.{_OLD_ATTENTION[m[2]]}.",
                name,
            ): v
            for name, v in read_weights(path).items()
        }
        fill(vae, state, path)
        return vae

    def text_encoder(
        self, path: Path | None = None, *, tasks: bool = False
    ) -> tuple[CLIPTextModel, dict[str, list[int]]]:
        """The text encoder, and the ids of its own task tokens if they are stored apart."""
        config = CLIPTextConfig.from_dict(self.config("text_encoder"))
        path = path or self.weights("text_encoder", "model", "pytorch_model")
        # transformers 5 has no prefix; positions are a constant that older versions stored.
        state = {k.removeprefix("text_model."): v for k, v in read_weights(path).items()}
        state.pop("embeddings.position_ids", None)
        ids: dict[str, list[int]] = {}
        if tasks:
            try:
                state, ids = expand_task_tokens(state)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            config.vocab_size += sum(map(len, ids.values()))
        with torch.device("meta"):
            model = CLIPTextModel(config)
        fill(model, state, path)
        model.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]
        return model, ids

    def tokenizer(self) -> PreTrainedTokenizerBase:
        folder = self.root / "tokenizer"
        files = [p for p in folder.glob("*") if p.suffix in (".json", ".txt", ".model")]
        if not files:
            raise FileNotFoundError(f"{folder}: expected a tokenizer's files, found none")
        self.used.update(files)
        try:
            return AutoTokenizer.from_pretrained(folder)
        except Exception as error:  # of several libraries
            raise ValueError(
                f"{folder}: expected a complete tokenizer, but reading it failed ({error}); "
                "download it again"
            ) from error

    def scheduler(self, kind: type[SchedulerMixin] | None = None, **options) -> SchedulerMixin:
        config = self.config("scheduler", "scheduler_config.json")
        found = kind or getattr(diffusers, str(config.get("_class_name")), None)
        if not (isinstance(found, type) and issubclass(found, SchedulerMixin)):
            raise ValueError(
                f"{self.root}/scheduler: expected the name of a diffusers scheduler as "
                f"_class_name, got {config.get('_class_name')!r}"
            )
        # What Stable Diffusion's pipelines would correct with a warning.
        outdated = {"steps_offset": 1, "skip_prk_steps": True}
        options |= {k: v for k, v in outdated.items() if k in config}
        return found.from_config(config, **options)


def revision(*readers: Reader) -> str:
    """Digest of every file that was read, wherever the directories lie."""
    digest = hashlib.sha256()
    for reader in readers:
        for path in sorted(reader.used):
            digest.update(str(path.relative_to(reader.root)).encode())
            with open(path, "rb") as f:
                while block := f.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]
