"""Activation patching: put clean activations into the run on the edited image (paper, section 3).

1. Run the model on the clean and on the edited image with the same question; the two runs have
   the same positions.
2. In the edited (corrupted) run, replace the output of one module of one layer by its clean
   counterpart at some positions (Eq. 1) and run on.
3. The effect is the change of the right answer's logit against the corrupted run (Eq. 2),
   averaged over triples (Eq. 3).

Three facts make it cheap. Patched positions change nothing before them, so question tokens run on
the keys and values of the recorded image. Once all image tokens are clean they stay clean, so the
question runs on the *clean* run's keys and values. And variants patched in different layers can
travel together: each joins the batch in its own layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from vseam_lib.causal.budget import in_batches, variants_per_batch, variants_per_call
from vseam_lib.causal.replay import module_output, run_last_layer, run_layer, whole
from vseam_lib.causal.trace import KeyValues, Recording, record
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.images import open_image

SITES = ("block", "attn", "mlp")
METRICS = ("logit", "probability", "difference")


class Pair(NamedTuple):
    """One question on its clean and on its edited image, with everything kept."""

    clean: Recording
    corrupted: Recording


def record_pair(
    adapter: Adapter,
    image: Image.Image | Path,
    edited: Image.Image | Path,
    question: str,
    gold: str,
) -> Pair:
    """Run one question on both images.

    Raises:
        ValueError: images of different size.
    """
    pictures = [open_image(image), open_image(edited)]
    if pictures[0].size != pictures[1].size:
        raise ValueError(
            f"expected an edited image of the clean image's size {pictures[0].size}, got "
            f"{pictures[1].size} ({edited}); positions would not correspond"
        )
    keep = ("attn", "mlp", "cache") if adapter.caches else ("attn", "mlp")
    runs = [record(adapter, adapter.encode(p, [question], [gold]), keep=keep) for p in pictures]
    return check_pair(Pair(*runs))


def check_pair(pair: Pair) -> Pair:
    """Return the pair if its runs have the same positions and one question.

    Raises:
        ValueError: naming what differs.
    """
    one, two = pair.clean.group, pair.corrupted.group
    if one.embeds.shape != two.embeds.shape or not torch.equal(one.ids, two.ids):
        raise ValueError(
            f"expected clean and corrupted runs on the same tokens, got {len(one.ids)} and "
            f"{len(two.ids)}; use the same question and images of one size"
        )
    if len(one.last) != 1:
        raise ValueError(f"expected one question per pair, got {len(one.last)}")
    return pair


def patched_logits(
    adapter: Adapter,
    pair: Pair,
    site: str,
    where: Tensor,
    layers: Sequence[int] | None = None,
    *,
    budget_mib: float | None = None,
) -> Tensor:
    """Logits after patching clean activations into the corrupted run (Eq. 1).

    Args:
        site: ``"block"`` (residual stream after the layer), ``"attn"`` or ``"mlp"`` (the module's
            output before it is added to the residual stream).
        where: ``(V, S)`` bool, the positions that each variant patches.
        layers: one at a time; all by default.
        budget_mib: memory that a batch of variants may take beyond the recordings.

    Returns:
        ``(len(layers), V, vocab)``, at least float32.

    Raises:
        ValueError: an unknown site or layer, a mask of another shape, or a budget too small for
            one variant.
    """
    L, S = adapter.n_layers, pair.clean.group.embeds.shape[1]
    layers = list(range(L) if layers is None else layers)
    if site not in SITES or not layers or not set(layers) <= set(range(L)):
        raise ValueError(
            f"expected a site of {SITES} and layers 0-{L - 1}, got {site!r} and {layers}"
        )
    if where.dim() != 2 or where.shape[1] != S or where.dtype != torch.bool:
        raise ValueError(
            f"expected a boolean mask (variants, {S} positions), got {where.dtype} "
            f"{tuple(where.shape)}"
        )
    where = where.to(adapter.device)
    check_pair(pair)
    if not adapter.caches or min(layers) < adapter.replay_from:
        return _plainly(adapter, pair, site, where, layers, budget_mib)
    start, end = pair.clean.group.image
    before = where[:, :end].any(1)
    all_image = where[:, start:end].all(1) if site == "block" else torch.zeros_like(before)
    changed = _changed(pair, site, where, layers)
    out = pair.corrupted.logits.expand(len(layers), len(where), -1).clone()
    for chosen, first, prefix in (
        (~before, end, pair.corrupted.cache),
        (all_image, end, pair.clean.cache),
        (before & ~all_image, 0, None),
    ):
        chosen = chosen & changed.any(0)
        if chosen.any():
            found = _wave(adapter, pair, site, where[chosen], layers, first, prefix, budget_mib)
            out[:, chosen] = torch.where(changed[:, chosen, None], found, out[:, chosen])
    return out


def _changed(pair: Pair, site: str, where: Tensor, layers: list[int]) -> Tensor:
    """Whether a patch puts in anything new, ``(len(layers), V)``; otherwise its effect is 0."""
    clean, corrupted = (run.kept(site) for run in pair)
    differs = torch.stack([(clean[k] != corrupted[k]).any(-1)[0] for k in layers])  # (layers, S)
    return (differs[:, None] & where).any(-1)


@torch.no_grad()
def _wave(
    adapter: Adapter,
    pair: Pair,
    site: str,
    where: Tensor,
    layers: list[int],
    start: int,
    prefix: list[KeyValues] | None,
    budget_mib: float,
) -> Tensor:
    """All variants of all layers in one pass over the positions from ``start`` on.

    ``prefix`` holds the keys and values of the positions before, per layer.
    """
    clean, corrupted = pair
    L, S, V = adapter.n_layers, where.shape[1], len(where)
    size = variants_per_batch(adapter, S - start, S, budget_mib)
    size = min(size, variants_per_call(adapter, S - start, S))
    where = where[:, start:, None]
    last = corrupted.group.last
    moving: Tensor | None = None  # (variants so far, S - start, d_model)

    for layer in range(min(layers), L):
        narrow = layer == L - 1
        at = last - start if narrow else slice(None)

        def through(hidden, patched=False, layer=layer, narrow=narrow):
            # In its own layer a variant still runs on the corrupted image.
            kv = None if not start else (corrupted.cache if patched else prefix)[layer]
            if narrow:
                return run_last_layer(adapter, corrupted, hidden, start, kv)
            return run_layer(adapter, corrupted, layer, hidden, start, kv)

        if moving is not None:
            moving = in_batches(through, moving, size)
        if layer not in layers:
            continue
        wanted = where[:, at]
        if site == "block":
            both = (r.states[layer + 1][:, start:][:, at] for r in (clean, corrupted))
            new = torch.where(wanted, *both)  # (V, S - start, d_model)
        else:
            kept = clean.kept(site)[layer][:, start:][:, at]
            module = adapter.module(adapter.layers[layer], site)
            own = corrupted.states[layer][:, start:]
            parts = []
            for some in wanted.split(size):
                with module_output(module, _clean_at(some, kept)):
                    parts.append(through(own, patched=True))
            new = torch.cat(parts)
        moving = new if moving is None else torch.cat([moving, new])
    logits = adapter.logits(adapter.decoder.norm(moving[:, 0]))
    order = [layers.index(k) for k in sorted(layers)]
    out = torch.empty(len(layers), V, logits.shape[-1], dtype=logits.dtype, device=logits.device)
    out[order] = logits.unflatten(0, (len(layers), V))
    return out


def _clean_at(where: Tensor, clean: Tensor) -> Callable[[Tensor], Tensor]:
    """What turns a corrupted output into one that is clean where asked (Eq. 1)."""
    return lambda corrupted: torch.where(where, clean, corrupted)


@torch.no_grad()
def _plainly(adapter, pair, site, where, layers, budget_mib) -> Tensor:
    """One whole decoder pass per layer, for families that cannot be replayed."""
    size = variants_per_batch(adapter, where.shape[1], where.shape[1], budget_mib)
    out = []
    for layer in layers:
        block = adapter.layers[layer]
        module = block if site == "block" else adapter.module(block, site)
        clean = pair.clean.kept(site)[layer]
        found = []
        for some in where[:, :, None].split(size):
            with module_output(module, _clean_at(some, clean)):
                hidden = whole(adapter, pair.corrupted.group, len(some))
            found.append(adapter.logits(hidden[:, pair.corrupted.group.last[0]]))
        out.append(torch.cat(found))
    return torch.stack(out)


def effects(adapter: Adapter, pair: Pair, logits: Tensor) -> dict[str, Tensor]:
    """Eq. 2 in three metrics, each of the shape of ``logits`` without the last axis.

    ``logit`` is the change of the right answer's logit (the paper's), ``probability`` that of its
    probability, ``difference`` that of its logit minus the other answer's.
    """
    yes, no = adapter.answer_id("Yes"), adapter.answer_id("No")
    gold = int(pair.clean.group.gold[0])
    if gold not in (yes, no):
        raise ValueError("expected a Yes/No question: the difference metric needs the other answer")
    other = no if gold == yes else yes

    def measure(x: Tensor) -> dict[str, Tensor]:
        return {
            "logit": x[..., gold],
            "probability": x.softmax(-1)[..., gold],
            "difference": x[..., gold] - x[..., other],
        }

    base = measure(pair.corrupted.logits[0])
    return {name: value - base[name] for name, value in measure(logits).items()}


def masks(spans: Mapping[str, Sequence[int]], S: int) -> Tensor:
    """Boolean ``(len(spans), S)`` from lists of positions.

    Raises:
        ValueError: a span without positions, or beyond the sequence.
    """
    out = torch.zeros(len(spans), S, dtype=torch.bool)
    for k, (name, at) in enumerate(spans.items()):
        if not len(at) or min(at) < 0 or max(at) >= S:
            raise ValueError(f"span {name!r}: expected positions in 0-{S - 1}, got {list(at)}")
        out[k, list(at)] = True
    return out
