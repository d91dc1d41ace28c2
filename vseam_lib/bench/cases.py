"""What is timed: models, questions, and the interventions asked of every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaProcessor,
)

from vseam_lib.sources.gqa import read_gqa
from vseam_lib.triples import VQATriple, sample
from vseam_lib.vlm.adapter import Adapter, Head
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.llava import LlavaAdapter
from vseam_lib.vlm.load import load
from vseam_lib.world.models import tokenizer

SWEEP, PATCHING = "head sweep", "question-token patching"
TASKS = (SWEEP, PATCHING)
SITES = ("attn", "mlp")


class Cell(NamedTuple):
    """One patch: a module's output in one layer at one position."""

    site: str
    layer: int
    position: int


class Every(NamedTuple):
    """Which share of the work a slow engine is timed on: every n-th of the layers and tokens."""

    layers: int = 1
    tokens: int = 1


@dataclass(frozen=True)
class Case:
    """A model with the questions it is timed on.

    Attributes:
        build: makes the adapter; every engine gets its own, as some rebuild the model they get.
        groups: for the sweep, the questions of an image together.
        question: for patching, asked about its own image (clean) and about ``edited``.
        every: by task, the share of the work on which engines other than ours are timed.
        wanted: by task, how many times faster than one forward per intervention we want to be.
    """

    name: str
    about: str
    build: Callable[[], Adapter]
    groups: Sequence[Sequence[VQATriple]]
    question: VQATriple
    edited: Path
    every: dict[str, Every]
    wanted: dict[str, float]

    def sites(self, adapter: Adapter, task: str, every: Every | None = None) -> list[Head | Cell]:
        """The heads or cells of a task; all of them, or the share that ``every`` leaves."""
        every = every or Every()
        layers = range(0, adapter.n_layers, every.layers)
        if task == SWEEP:
            return [Head(layer, h) for layer in layers for h in range(adapter.n_heads)]
        positions = question_positions(adapter, self.question)[:: every.tokens]
        return [Cell(site, layer, at) for site in SITES for layer in layers for at in positions]


def model_inputs(adapter: Adapter, image: Path, question: str) -> dict[str, torch.Tensor]:
    """What the genuine processor makes of one question, on the model's device."""
    batch = adapter.processor(
        images=[open_image(image)], text=[adapter.text(question)], return_tensors="pt"
    )
    pixels = batch["pixel_values"].to(adapter.model.dtype)
    return {k: v.to(adapter.device) for k, v in ({**batch} | {"pixel_values": pixels}).items()}


def question_positions(adapter: Adapter, triple: VQATriple) -> list[int]:
    """Positions after the image: the question and the rest of the prompt."""
    ids = model_inputs(adapter, triple.image, triple.question)["input_ids"][0].tolist()
    last = len(ids) - ids[::-1].index(adapter.image_token_id)
    return list(range(last, len(ids)))


def random_llava(
    layers: int,
    heads: int,
    d_head: int,
    d_mlp: int,
    vision: CLIPVisionConfig,
    *,
    vocab: int | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> LlavaAdapter:
    """An untrained LLaVA over the world's words, with weights large enough that heads matter."""
    words = tokenizer()
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(
            vocab_size=vocab or len(words),
            hidden_size=heads * d_head,
            intermediate_size=d_mlp,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=4096,
            pad_token_id=words.pad_token_id,
        ),
        image_token_id=words.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        model = AutoModelForImageTextToText.from_config(config, dtype=dtype)
    with torch.no_grad():
        for weight in model.get_decoder().parameters():
            if weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
        model.get_output_embeddings().weight.normal_(std=(heads * d_head) ** -0.5)
    edge = vision.image_size
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge}
        ),
        tokenizer=words,
        patch_size=vision.patch_size,
        vision_feature_select_strategy="default",
        image_token="<image>",
        num_additional_image_tokens=1,
    )
    return LlavaAdapter(
        model=model.eval().requires_grad_(False), processor=processor, revision=f"random {seed}"
    )


def clip(width: int, layers: int, heads: int, image: int = 336, patch: int = 14):
    """Configuration of a CLIP vision tower; by default with LLaVA-1.5's 24 x 24 patches."""
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=image,
        patch_size=patch,
    )


def read_groups(data: Path | str) -> list[list[VQATriple]]:
    """The questions of the drawn world's analysis images, by image, in a fixed order.

    Raises:
        FileNotFoundError: no data there.
    """
    if not Path(data).is_dir():
        raise FileNotFoundError(f"{data}: expected a folder in GQA's layout; run `make data`")
    triples = sample(read_gqa(data, "analysis"), None, 0)
    ids = list(dict.fromkeys(t.image_id for t in triples))
    return [[t for t in triples if t.image_id == i] for i in ids[:64]]


def the_cases(data: Path | str, device: str = "cpu") -> dict[str, Case]:
    """The two models of the benchmark, by name."""
    groups = read_groups(data)
    longest = max((t for g in groups for t in g), key=lambda t: len(t.question.split()))
    other = next(g[0].image for g in groups if g[0].image_id != longest.image_id)
    shared = {"question": longest, "edited": other}
    tiny = Case(
        "tiny-llava",
        "the shipped model; the questions of an image share one sequence",
        lambda: load("tiny-llava", device=device),
        groups[:2],
        every={SWEEP: Every(), PATCHING: Every()},
        wanted={SWEEP: 5},
        **shared,
    )
    long = Case(
        "600 positions",
        "an untrained LLaVA with the paper's 576 image tokens and one question; its vision tower "
        "has about the share of the weights that LLaVA-1.5-7B's has",
        lambda: random_llava(12, 8, 64, 1376, clip(192, 4, 3), device=device),
        [[longest]],
        every={SWEEP: Every(layers=12), PATCHING: Every(layers=12, tokens=2)},
        wanted={SWEEP: 2.1, PATCHING: 12},
        **shared,
    )
    return {case.name: case for case in (tiny, long)}


def describe(case: Case, adapter: Adapter) -> dict:
    """Sizes of a case for the report."""
    model = adapter.model
    count = lambda module: sum(p.numel() for p in module.parameters())  # noqa: E731
    inputs = model_inputs(adapter, case.question.image, case.question.question)
    return {
        "about": case.about,
        "layers": adapter.n_layers,
        "heads": adapter.n_heads,
        "d_model": adapter.text_config.hidden_size,
        "positions": inputs["input_ids"].shape[1],
        "image tokens": int((inputs["input_ids"] == adapter.image_token_id).sum()),
        "question tokens": len(question_positions(adapter, case.question)),
        "questions in the sweep": sum(map(len, case.groups)),
        "images in the sweep": len(case.groups),
        "decoder parameters": count(adapter.decoder),
        "vision parameters": count(model.get_encoder(modality="image")),
    }
