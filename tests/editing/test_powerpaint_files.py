import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from vseam_lib.editing import powerpaint_components, powerpaint_files
from vseam_lib.editing.brushnet import BrushNet
from vseam_lib.editing.powerpaint import load_inpainter
from vseam_lib.editing.powerpaint_files import locate, needed, read_parts


@pytest.fixture
def copy_of(checkpoints, tmp_path):
    """A copy of a checkpoint, to be damaged."""

    def copied(name):
        return shutil.copytree(getattr(checkpoints, name), tmp_path / name)

    return copied


def change(layouts, path, edit):
    state = powerpaint_components.read_weights(path)
    edit(state)
    path.unlink()
    layouts.write(path.parent, path.name, state)


WEIGHT_FILES = [
    ("merged", "unet/diffusion_pytorch_model.safetensors"),
    ("merged", "vae/diffusion_pytorch_model.safetensors"),
    ("merged", "text_encoder/model.safetensors"),
    ("overlay", "unet/unet.safetensors"),
    ("overlay", "text_encoder/text_encoder.safetensors"),
    ("older", "text_encoder/pytorch_model.bin"),
    ("v2", "PowerPaint_Brushnet/diffusion_pytorch_model.safetensors"),
    ("v2", "PowerPaint_Brushnet/pytorch_model.bin"),
    ("v2", "realisticVisionV60B1_v51VAE/unet/diffusion_pytorch_model.bin"),
]


@pytest.mark.parametrize(("name", "file"), WEIGHT_FILES)
def test_missing_unexpected_and_misshapen_weights_are_listed(
    layouts, checkpoints, copy_of, name, file
):
    root = copy_of(name)
    base = checkpoints.base if name in ("overlay", "older") else None

    def damage(state):
        bias, weight = [k for k in state if k.endswith("norm.bias") or "norm1.bias" in k][:2]
        state["surplus.weight"] = torch.zeros(2)
        state[weight] = state[weight][:-1]
        del state[bias]

    change(layouts, root / file, damage)
    with pytest.raises(ValueError) as error:
        load_inpainter(root, base=base)
    said = str(error.value)
    assert str(root / file) in said
    assert "1 missing: " in said and "1 unexpected: surplus.weight" in said
    assert "1 of another shape: " in said and " instead of " in said


@pytest.mark.parametrize(("name", "file"), WEIGHT_FILES)
def test_a_truncated_file_is_named(checkpoints, copy_of, name, file):
    root = copy_of(name)
    os.truncate(root / file, (root / file).stat().st_size // 2)
    with pytest.raises(ValueError, match="reading failed") as error:
        load_inpainter(root, base=checkpoints.base if name in ("overlay", "older") else None)
    assert str(root / file) in str(error.value)


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


def test_a_pickle_that_runs_code_is_not_run(copy_of, monkeypatch, tmp_path):
    root = copy_of("v2")
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Harmful()}, root / "PowerPaint_Brushnet" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="reading failed"):
        load_inpainter(root)
    assert not (tmp_path / "harm").exists()


def test_a_pickle_of_anything_else_is_refused(copy_of):
    root = copy_of("v2")
    torch.save([1, 2], root / "PowerPaint_Brushnet" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="expected named tensors, got list"):
        load_inpainter(root)


def test_a_missing_file_is_named(copy_of):
    root = copy_of("merged")
    (root / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="vae/diffusion_pytorch_model.safetensors or"):
        load_inpainter(root)


def test_a_folder_of_another_layout_is_told_the_known_ones(tmp_path):
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(FileNotFoundError) as error:
        load_inpainter(tmp_path)
    for part in ("v1 overlay", "v1 merged", "v2", "found model.ckpt"):
        assert part in str(error.value)


def test_an_unknown_name_is_told_what_names_there_are():
    with pytest.raises(FileNotFoundError, match="no inpainter 'tiny-powerpoint'; expected a shi"):
        load_inpainter("tiny-powerpoint")


def test_an_overlay_needs_a_base_and_nothing_else_takes_one(checkpoints):
    with pytest.raises(ValueError, match="expected base= for a v1 overlay"):
        load_inpainter(checkpoints.overlay)
    for complete in (checkpoints.merged, checkpoints.v2):
        with pytest.raises(ValueError, match="expected no base="):
            load_inpainter(complete, base=checkpoints.base)


def test_a_base_is_no_inpainter(checkpoints):
    with pytest.raises(ValueError, match="30 are missing.*pass it as base="):
        load_inpainter(checkpoints.base)


def test_a_text_to_image_model_is_no_base(checkpoints):
    other = checkpoints.v2 / "realisticVisionV60B1_v51VAE"
    with pytest.raises(ValueError, match="expected 9 input channels, got 4"):
        load_inpainter(checkpoints.overlay, base=other)


def test_an_unknown_dtype_is_refused(checkpoints):
    with pytest.raises(ValueError, match="float32, bfloat16, got 'float16'"):
        load_inpainter(checkpoints.merged, dtype="float16")


def test_an_unknown_scheduler_is_refused(copy_of):
    root = copy_of("merged")
    about = root / "scheduler" / "scheduler_config.json"
    about.write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(ValueError, match="got 'UNet2DConditionModel'"):
        load_inpainter(root)
    about.write_text("{")
    with pytest.raises(ValueError, match="damaged text"):
        load_inpainter(root)


def test_a_variant_chooses_the_weight_files(copy_of, merged, job):
    root = copy_of("merged")
    for path in list(root.rglob("*.safetensors")):
        path.rename(path.with_suffix(".fp16.safetensors"))
    with pytest.raises(FileNotFoundError, match="choose another variant="):
        load_inpainter(root)
    ours = load_inpainter(root, variant="fp16").edit(**job, steps=1)
    for one, other in zip(ours, merged.edit(**job, steps=1), strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_the_revision_follows_every_file_and_not_the_place(checkpoints, copy_of, inpainters):
    root = copy_of("v2")
    before = inpainters["v2"].revision
    assert load_inpainter(root).revision == before
    for file in (
        "PowerPaint_Brushnet/pytorch_model.bin",
        "realisticVisionV60B1_v51VAE/tokenizer/tokenizer_config.json",
    ):
        path = root / file
        if path.suffix == ".bin":
            torch.save(torch.load(path, weights_only=True) | {"x": torch.zeros(1)}, path)
            with pytest.raises(ValueError, match="1 unexpected: x"):
                load_inpainter(root)
            shutil.copy(checkpoints.v2 / file, path)
        else:
            path.write_text(path.read_text() + "\n")
            assert load_inpainter(root).revision != before
    assert len({i.revision for i in inpainters.values()}) == 4


def test_loading_and_editing_say_nothing(checkpoints, job, capfd):
    for name in ("merged", "overlay", "v2"):
        base = checkpoints.base if name == "overlay" else None
        inpainter = load_inpainter(getattr(checkpoints, name), base=base)
        inpainter.edit(**job, steps=1)
        inpainter.redraw(job["images"][:1], ["a car"], seeds=[0], steps=2)
    assert capfd.readouterr() == ("", "")


REPOSITORY = [
    "README.md",
    "model_index.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "sd-v1-5-inpainting.ckpt",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
]


def test_of_a_repository_one_set_of_weights_is_downloaded():
    always = [f for f in REPOSITORY if f.endswith((".json", ".txt"))]
    assert needed(REPOSITORY, None) == sorted(
        [*always, "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.bin"]
    )
    assert needed(REPOSITORY, "fp16") == sorted([*always, "text_encoder/model.fp16.safetensors"])


def test_of_version_2_both_parts_are_downloaded(checkpoints):
    files = [str(p.relative_to(checkpoints.v2)) for p in checkpoints.v2.rglob("*") if p.is_file()]
    left = set(files) - set(needed([*files, "assets/teaser.png"], None))
    assert left == {"realisticVisionV60B1_v51VAE/model_index.json"}


def test_an_id_is_downloaded(checkpoints, monkeypatch):
    asked = []

    def download(name, allow_patterns):
        asked.append((name, allow_patterns))
        return str(checkpoints.overlay)

    files = ["unet/unet.safetensors", "text_encoder/text_encoder.safetensors", "README.md"]
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, name: files)
    assert locate("JunhaoZhuang/PowerPaint-v1") == checkpoints.overlay
    assert asked == [("JunhaoZhuang/PowerPaint-v1", sorted(files[:2]))]


# Stable Diffusion 1.5 in full size, as its configuration files say; the rest is diffusers' default.
UNET = {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768, "sample_size": 64}
VAE = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2,
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "bos_token_id": 0,
    "eos_token_id": 2,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "torch_dtype": "float32",
    "vocab_size": 49408,
}


@pytest.fixture(scope="module")
def full_size(layouts, tmp_path_factory):
    """A base of full size with tensors on the meta device, by the last part of their path."""
    root = tmp_path_factory.mktemp("full")
    with torch.device("meta"):
        models = {
            9: UNet2DConditionModel.from_config({**UNET, "in_channels": 9}),
            4: UNet2DConditionModel.from_config({**UNET, "in_channels": 4}),
            "vae": AutoencoderKL.from_config(VAE),
            "text": CLIPTextModel(CLIPTextConfig.from_dict(TEXT)),
        }
        vectors = {t: torch.empty(10, 768) for t in layouts.TOKENS}
    states = {name: model.state_dict() for name, model in models.items()}
    states["vae"] = layouts.old_vae_names(states["vae"])
    states["text"] = layouts.old_text_names(states["text"])
    states["tasks"] = layouts.apart(states["text"], vectors)

    def write(name, channels):
        for folder, config in (
            ("unet", {**UNET, "in_channels": channels}),
            ("vae", VAE),
            ("text_encoder", TEXT),
            ("scheduler", layouts.SCHEDULER),
        ):
            (root / name / folder).mkdir(parents=True)
            about = "scheduler_config.json" if folder == "scheduler" else "config.json"
            (root / name / folder / about).write_text(json.dumps(config))
        layouts.write_tokenizer(root / name / "tokenizer")
        for file in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"):
            (root / name / f"{file}.safetensors").touch()
        (root / name / "text_encoder" / "model.safetensors").touch()
        return root / name

    return write, states


def test_the_published_overlay_fits_stable_diffusion_of_full_size(
    full_size, tmp_path, monkeypatch, capfd
):
    write, states = full_size
    names = states["tasks"].keys()
    table = "text_model.embeddings.token_embedding"
    assert f"{table}.wrapped.weight" in names
    assert f"{table}.trainable_embeddings.P_obj" in names
    assert "text_model.encoder.layers.11.self_attn.q_proj.weight" in names
    for part, name in (
        (9, "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"),
        (9, "up_blocks.3.attentions.2.proj_out.weight"),
        ("vae", "encoder.mid_block.attentions.0.query.weight"),
        ("vae", "decoder.mid_block.attentions.0.proj_attn.bias"),
    ):
        assert name in states[part]
    stored = {"unet": 9, "vae": "vae", "text_encoder": "tasks"}
    for file in ("unet/unet.safetensors", "text_encoder/text_encoder.safetensors"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    monkeypatch.setattr(
        powerpaint_components, "read_weights", lambda path: states[stored[path.parent.name]]
    )
    parts = read_parts(tmp_path, base=write("base", 9), variant=None)
    count = {m: sum(p.numel() for p in m.parameters()) for m in (parts.unet, parts.vae)}
    assert list(count.values()) == [859_535_364, 83_653_863]  # as their model cards round them
    assert parts.encoder.tokens["P_shape"] == list(range(49418, 49428))
    assert parts.encoder.model.embeddings.token_embedding.weight.shape == (49438, 768)
    assert capfd.readouterr() == ("", "")


def test_the_published_version_2_fits_stable_diffusion_of_full_size(
    full_size, tmp_path, monkeypatch
):
    write, states = full_size
    base = write("v2/realisticVisionV60B1_v51VAE", 4)
    with torch.device("meta"):
        net = BrushNet({**UNET, "in_channels": 4})
    brushnet = {net.stored_name(k): v for k, v in net.state_dict().items()}
    folder = base.parent / "PowerPaint_Brushnet"
    folder.mkdir()
    for file in ("diffusion_pytorch_model.safetensors", "pytorch_model.bin"):
        (folder / file).touch()

    def read(path: Path):
        if path.parent == folder:
            return states["tasks"] if path.suffix == ".bin" else brushnet
        return states[{"unet": 4, "vae": "vae", "text_encoder": "text"}[path.parent.name]]

    for module in (powerpaint_components, powerpaint_files):
        monkeypatch.setattr(module, "read_weights", read)
    parts = read_parts(base.parent, base=None, variant=None)
    assert len(parts.brushnet.convs) == 28
    assert parts.brushnet.convs[0].weight.shape == (320, 320, 1, 1)
    assert parts.base_encoder.model.config.vocab_size == 49408
    assert parts.scheduler.config.final_sigmas_type == "sigma_min"
