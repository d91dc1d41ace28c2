"""Writes tiny untrained PowerPaint checkpoints in every layout in which the genuine one comes.

The files carry the names, keys and key prefixes of the published ones; a transformers 4 prefix
and an autoencoder's old attention names included.
"""

import json
import string

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vseam_lib.editing.brushnet import BrushNet

TOKENS = ("P_ctxt", "P_shape", "P_obj")
WIDTH = 16  # of the text encoder
LIMIT = 77
WORDS = "a red green car is the empty scene blur worst low normal bad quality blurry".split()
START, END = "<|startoftext|>", "<|endoftext|>"
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def split(word, merges):
    """Byte-pair encoding: the merge that was learned first is applied first."""
    pieces = [*word[:-1], word[-1] + "</w>"]
    while pairs := [p for p in zip(pieces, pieces[1:], strict=False) if p in merges]:
        k = list(zip(pieces, pieces[1:], strict=False)).index(min(pairs, key=merges.index))
        pieces[k : k + 2] = ["".join(pieces[k : k + 2])]
    return pieces


def vocabulary():
    """Vocabulary and merges: each of ``WORDS`` is one token, other text falls into pieces.

    Merges that are added last cannot undo those of earlier words.
    """
    merges = []
    for word in WORDS:
        left, *rest = split(word, merges)
        for piece in rest:
            merges.append((left, piece))
            left += piece
    shown = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*shown, *(c + "</w>" for c in shown), *(a + b for a, b in merges), START, END]
    return {p: k for k, p in enumerate(dict.fromkeys(pieces))}, merges


def write_tokenizer(folder, *, added=()):
    """CLIP's ``vocab.json`` and ``merges.txt``, or ``tokenizer.json`` if tokens are added."""
    folder.mkdir(parents=True)
    vocab, merges = vocabulary()
    if added:
        tokenizer = CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LIMIT)
        tokenizer.add_tokens(list(added))
        tokenizer.save_pretrained(folder)
        return
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]))
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": LIMIT, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


def loud(module, factor=2.0):
    """Larger weights than at initialisation, so that what goes in shows in what comes out."""
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() > 1:
                weight.mul_(factor)
    return module


def text_encoder(rows):
    config = CLIPTextConfig(
        vocab_size=rows,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LIMIT,
        bos_token_id=0,  # used for pooling only, which nothing here reads
        eos_token_id=1,
    )
    return loud(CLIPTextModel(config), 20.0)


def unet(channels):
    return loud(
        UNet2DConditionModel(
            sample_size=8,
            in_channels=channels,
            out_channels=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(8, 16),
            layers_per_block=1,
            cross_attention_dim=WIDTH,
            attention_head_dim=4,
            norm_num_groups=4,
        )
    )


def vae():
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=16,
    )


def old_text_names(state):
    """As transformers 4 named them, with the constant that it stored."""
    out = {f"text_model.{k}": v for k, v in state.items()}
    return out | {"text_model.embeddings.position_ids": torch.arange(LIMIT)[None]}


def old_vae_names(state):
    """As diffusers 0.11 named the attention of autoencoders."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    out = {}
    for name, weight in state.items():
        for new, was in old.items():
            name = name.replace(f".0.{new}.", f".0.{was}.") if ".attentions." in name else name
        out[name] = weight.contiguous()
    return out


def apart(state, vectors):
    """A text encoder's state with the task tokens stored apart, as the authors' classes do."""
    table = "text_model.embeddings.token_embedding"
    state = dict(state)
    state[f"{table}.wrapped.weight"] = state.pop(f"{table}.weight")
    return state | {f"{table}.trainable_embeddings.{t}": v for t, v in vectors.items()}


def new_vectors():
    return {t: torch.randn(10, WIDTH) for t in TOKENS}


def write(folder, name, state):
    folder.mkdir(parents=True, exist_ok=True)
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file({k: v.clone() for k, v in state.items()}, folder / name, {"format": "pt"})


def write_diffusers(root, *, channels, added=(), pickles=False):
    """A Stable Diffusion directory; with task tokens in the tokenizer if ``added``."""
    rows = len(vocabulary()[0]) + len(added)
    write_tokenizer(root / "tokenizer", added=added)
    parts = {"unet": unet(channels), "vae": vae(), "text_encoder": text_encoder(rows)}
    parts["unet"].save_config(root / "unet")
    parts["vae"].save_config(root / "vae")
    parts["text_encoder"].config.save_pretrained(root / "text_encoder")
    model = f"diffusion_pytorch_model.{'bin' if pickles else 'safetensors'}"
    write(root / "unet", model, parts["unet"].state_dict())
    write(root / "vae", model, old_vae_names(parts["vae"].state_dict()))
    model = "pytorch_model.bin" if pickles else "model.safetensors"
    write(root / "text_encoder", model, old_text_names(parts["text_encoder"].state_dict()))
    (root / "scheduler").mkdir()
    (root / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (root / "model_index.json").write_text(json.dumps({"_class_name": "Stable Diffusion"}))
    return root


def write_base(root):
    """A Stable-Diffusion-1.5-inpainting directory."""
    return write_diffusers(root, channels=9)


def write_merged(root):
    """v1 merged."""
    return write_diffusers(root, channels=9, added=[f"{t}_{k}" for t in TOKENS for k in range(10)])


def write_overlay(root, *, older=False):
    """v1 overlay; the weights of every part differ from the base's."""
    names = ("diffusion_pytorch_model.safetensors", "pytorch_model.bin")
    newer = ("unet.safetensors", "text_encoder.safetensors")
    unet_name, text_name = names if older else newer
    write(root / "unet", unet_name, unet(9).state_dict())
    text = old_text_names(text_encoder(len(vocabulary()[0])).state_dict())
    write(root / "text_encoder", text_name, apart(text, new_vectors()))
    return root


def write_v2(root):
    """v2 and v2-1."""
    base = write_diffusers(root / "realisticVisionV60B1_v51VAE", channels=4, pickles=True)
    brushnet = loud(BrushNet(dict(UNet2DConditionModel.load_config(base / "unet"))))
    state = {brushnet.stored_name(k): v for k, v in brushnet.state_dict().items()}
    folder = root / "PowerPaint_Brushnet"
    write(folder, "diffusion_pytorch_model.safetensors", state)
    text = old_text_names(text_encoder(len(vocabulary()[0])).state_dict())
    write(folder, "pytorch_model.bin", apart(text, new_vectors()))
    return root
