"""What several tests share: a tiny untrained LLaVA, a small world, and the plain twin."""

import os
from functools import partial
from itertools import groupby
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from vseam_lib.sources.edits import find_edits
from vseam_lib.sources.gqa import read_gqa
from vseam_lib.vlm.instructblip import InstructBlipAdapter
from vseam_lib.vlm.llava import LlavaAdapter
from vseam_lib.world.draw import draw
from vseam_lib.world.export import export, question
from vseam_lib.world.models import (
    instructblip,
    instructblip_processor,
    llava,
    llava_processor,
    tokenizer,
)

REPOSITORY = Path(__file__).resolve().parents[1]
RELEASE = Path(
    os.environ.get("VSEAM_RELEASE", REPOSITORY.parent / "shared" / "data" / "vseam_release")
)


def pytest_collection_modifyitems(items):
    """The rendered book takes longest: with several workers, one begins with it."""
    items.sort(key=lambda item: item.path.name != "test_book.py")


def tiny_llava(dtype):
    """Untrained, with larger weights than at initialisation, so that every head matters."""
    torch.manual_seed(0)
    model = llava(layers=3, heads=4, d_head=8, d_mlp=48).eval().requires_grad_(False)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "language_model" not in name:
                weight.mul_(3)
        answers = tokenizer().convert_tokens_to_ids(["Yes", "No"])
        model.get_output_embeddings().weight[answers] *= 20  # answers that are right and wrong
    return in_full_precision(model.to(dtype))


def tiny_instructblip(dtype):
    """Untrained, with larger answers, so that some are right and some wrong."""
    torch.manual_seed(0)
    model = instructblip(3, 4, 8, 48, queries=4, qformer_layers=2).eval().requires_grad_(False)
    with torch.no_grad():
        answers = tokenizer().convert_tokens_to_ids(["yes", "no"])
        model.get_output_embeddings().weight[answers] *= 20
    return in_full_precision(model.to(dtype))


def in_full_precision(model):
    """Let norms compute in the model's dtype: in transformers they round to float32, which would
    hide from a float64 test whether two ways of computing agree.
    """
    for norm in model.modules():
        if isinstance(norm, LlamaRMSNorm):
            norm.forward = partial(rms_norm, norm)
    return model


def rms_norm(norm, x):
    return norm.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)


@pytest.fixture(scope="session")
def adapter():
    """In float64, for what is promised exactly."""
    return LlavaAdapter(
        model=tiny_llava(torch.float64), processor=llava_processor(), revision="f64"
    )


@pytest.fixture(scope="session")
def adapter32():
    return LlavaAdapter(
        model=tiny_llava(torch.float32), processor=llava_processor(), revision="f32"
    )


@pytest.fixture(scope="session")
def blip():
    """InstructBLIP in float64."""
    return InstructBlipAdapter(
        model=tiny_instructblip(torch.float64), processor=instructblip_processor(4), revision="b64"
    )


@pytest.fixture(scope="session")
def blip32():
    return InstructBlipAdapter(
        model=tiny_instructblip(torch.float32), processor=instructblip_processor(4), revision="b32"
    )


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Directory of a small exported world in GQA's layout."""
    out = tmp_path_factory.mktemp("world")
    export(out, scenes={"analysis": 12, "heldout": 6, "train": 3})
    return out / "gqa"


@pytest.fixture(scope="session")
def triples(world):
    return read_gqa(world, "analysis")


@pytest.fixture(scope="session")
def edited(triples, tmp_path_factory):
    """The counterfactual picture of every triple, drawn exactly."""
    folder = tmp_path_factory.mktemp("edits")
    for t in triples:
        Image.fromarray(draw(question(t.id)[1].counterfactual)[0]).save(folder / f"{t.id}.png")
    return find_edits(folder, triples)


@pytest.fixture(scope="session")
def one_image(triples):
    """The triples of the image with most questions, of different lengths."""
    groups = [list(g) for _, g in groupby(triples, key=lambda t: t.image_id)]
    group = max(groups, key=len)
    assert len({len(t.question.split()) for t in group}) > 1
    return group


@pytest.fixture(scope="session")
def group_of():
    """Encodes triples that share an image."""

    def encode(adapter, triples):
        questions, answers = [t.question for t in triples], [t.answer for t in triples]
        return adapter.encode(triples[0].image, questions, answers)

    return encode


@pytest.fixture(scope="session")
def hooks_of():
    """The hooks that the engine sets; transformers keeps forward hooks of its own."""

    def found(adapter):
        return [h for m in adapter.model.modules() for h in m._forward_pre_hooks]

    return found


@pytest.fixture(scope="session")
def plain():
    """The slow twin: forwards of the genuine model on the genuine processor's output.

    ``edits`` maps a layer to a function of its concatenated head outputs ``(B, T, D)``. Rows run
    one by one unless ``pad``: a row that is padded on the left sits at other positions, and
    transformers computes rotary angles and norms in float32 whatever the dtype of the model.
    """

    @torch.no_grad()
    def logits(adapter, triples, edits=None, *, pad=False):
        if not pad and len(triples) > 1:
            return torch.cat([logits(adapter, [t], edits) for t in triples])
        model = adapter.model
        batch = adapter.processor(
            images=[Image.open(t.image).convert("RGB") for t in triples],
            text=[adapter.text(t.question) for t in triples],
            padding=pad,
            return_tensors="pt",
        )
        hooks = [
            adapter.layers[layer].self_attn.o_proj.register_forward_pre_hook(
                lambda module, args, edit=edit: (edit(args[0]),)
            )
            for layer, edit in (edits or {}).items()
        ]
        try:
            pixels = batch.pop("pixel_values").to(model.dtype)
            out = model(**batch, pixel_values=pixels, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return out.logits[:, -1]  # padding is on the left: this is every row's last token

    return logits


@pytest.fixture(scope="session")
def change_head():
    """An edit for ``plain``: one head becomes ``new(own output, [outputs of the others])``."""

    def edit(n_heads, head, new):
        def change(z):
            heads = list(z.chunk(n_heads, dim=-1))
            others = [a for k, a in enumerate(heads) if k != head]
            heads[head] = new(heads[head], others)
            return torch.cat(heads, dim=-1)

        return change

    return edit


@pytest.fixture(scope="session")
def release():
    """Directory of the released question files; they carry no licence and come separately."""
    if not RELEASE.is_dir():
        pytest.skip(f"the V-SEAM release is not in {RELEASE}; VSEAM_RELEASE names another place")
    return RELEASE


@pytest.fixture
def closed_figures():
    """A figure that pyplot still holds would show twice in a notebook."""
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert not left, "every figure is returned closed"
