"""Attention inside the asked object's box (paper, appendix F, Table 14).

1. Run the model under eager attention and keep, of every head, the weights from a question's last
   token to the image tokens.
2. Say where in the picture each image token looks: LLaVA's are patches; InstructBLIP's queries
   have no place of their own and look through the Q-Former's cross-attention, which makes theirs a
   different quantity (``Adapter.looks_through`` names it).
3. The overlap is the weight inside the asked object's box over the weight on all image tokens
   (``of="image"``) or over all the weight (``of="all"``); the paper does not say which. A cell that
   the box covers in part counts by the covered part of its area.
4. What chance gives: the same attention with the boxes of other images of the category, and random
   heads of the same layers.

Large objects hold much of any attention: read an overlap against its references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vseam_lib.causal.groups import Values, by_image, encode_group, resume, store_key
from vseam_lib.causal.replay import whole
from vseam_lib.store import Store, stored_ids
from vseam_lib.triples import Box, Category, Level, VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter, Head
from vseam_lib.vlm.group import Group
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.looking import eager

DENOMINATORS = ("image", "all")


@torch.no_grad()
def attention_rows(adapter: Adapter, group: Group) -> Tensor:
    """Attention weights of each question's last token.

    Returns:
        ``(Q, n_layers, n_heads, S)`` in float64 on the CPU; rows sum to 1, and are 0 at the other
        questions.

    Raises:
        RuntimeError: a decoder that gives no weights, or weights that do not sum to 1.
    """
    found: list[Tensor] = []

    def keep(module, args, out):
        weights = out[1] if isinstance(out, tuple) and len(out) > 1 else None
        if weights is not None:
            found.append(weights[0, :, group.last].double().cpu())  # (H, Q, S)

    hooks = [x.self_attn.register_forward_hook(keep) for x in adapter.layers]
    try:
        with eager(adapter.decoder):
            whole(adapter, group, 1)
    finally:
        for h in hooks:
            h.remove()
    if len(found) != adapter.n_layers:
        raise RuntimeError(
            f"expected attention weights of {adapter.n_layers} layers, got {len(found)}; this "
            "decoder returns none even under eager attention"
        )
    rows = torch.stack(found).permute(2, 0, 1, 3)
    off = float((rows.sum(-1) - 1).abs().max())
    if not off < 0.02:  # bfloat16 rounds every weight
        raise RuntimeError(
            f"expected attention weights that sum to 1, got sums off by {off:.3g}; what this "
            "decoder's attention returns second are not its weights"
        )
    return rows


def maps(adapter: Adapter, triples: Sequence[VQATriple]) -> Tensor:
    """Attention of each triple's last token over the cells of the picture.

    Args:
        triples: about one image, and one only where the family cannot share the image.

    Returns:
        ``(Q, n_layers, n_heads, n_cells)`` in float64; sums over cells are the weight on all
        image tokens.
    """
    image = triples[0].image
    group = encode_group(adapter, triples)
    rows = attention_rows(adapter, group)[..., slice(*group.image)]
    looks = adapter.looks_at(image, triples[0].question)
    return rows if looks is None else rows @ looks.cpu()


def covered(box: Box, cells: np.ndarray) -> np.ndarray:
    """Share of each cell's area that the box covers, ``(n_cells,)`` from 0 to 1.

    Args:
        cells: ``(n_cells, 4)`` x, y, width and height.
    """
    x, y, w, h = cells.T
    wide = np.minimum(x + w, box.x + box.w) - np.maximum(x, box.x)
    high = np.minimum(y + h, box.y + box.h) - np.maximum(y, box.y)
    return wide.clip(0) * high.clip(0) / (w * h)


@dataclass(frozen=True)
class Regions:
    """Triples whose asked object the model can see, and where.

    Attributes:
        triples: those that are kept.
        covers: ``(N, n_cells)`` share of each cell inside the asked object's box.
        left_out: number of triples left out, by reason.
    """

    triples: list[VQATriple]
    covers: np.ndarray
    left_out: dict[str, int]

    @property
    def area(self) -> np.ndarray:
        """``(N,)`` share of the seen area inside the box, per cent."""
        return 100 * self.covers.mean(1)

    def at(self, category: Category) -> np.ndarray:
        """Where the triples of a category stand, as indices."""
        return np.array([k for k, t in enumerate(self.triples) if t.category == category], int)

    def of(self, category: Category) -> Regions:
        """Those of a category."""
        at = self.at(category)
        return Regions([self.triples[k] for k in at], self.covers[at], {})


ABSENT, NO_BOX, OUTSIDE = "asked object absent", "no box", "box outside the crop"


def regions(adapter: Adapter, triples: Sequence[VQATriple]) -> Regions:
    """Where the asked object (the first box) of every triple is, in the model's cells.

    Left out and counted are triples about an object that is not there ("Is there a dog?", "No",
    whose box is another object's), without boxes, or whose box the processor's crop cuts off.

    Raises:
        ValueError: a family whose image tokens have no place, or no triple left.
    """
    kept, covers, left_out = [], [], dict.fromkeys((ABSENT, NO_BOX, OUTSIDE), 0)
    cells: dict[Path, np.ndarray | None] = {}
    for t in check_unique(triples):
        if t.level is Level.OBJECT and t.answer == "No":
            left_out[ABSENT] += 1
            continue
        if not t.boxes:
            left_out[NO_BOX] += 1
            continue
        if t.image not in cells:
            cells[t.image] = adapter.cells(*open_image(t.image).size)
        if cells[t.image] is None:
            raise ValueError(
                f"image tokens of {adapter.family} have no place in the picture; give its adapter "
                "cells and looks_at"
            )
        cover = covered(t.boxes[0], cells[t.image])
        if not cover.any():
            left_out[OUTSIDE] += 1
            continue
        kept.append(t)
        covers.append(cover)
    if not kept:
        raise ValueError(
            f"expected triples with a box that the model sees, got none of {len(triples)} "
            f"({left_out}); use questions about objects that are there, with their boxes"
        )
    return Regions(kept, np.stack(covers), left_out)


def _check(of: str) -> None:
    if of not in DENOMINATORS:
        raise ValueError(f"expected a denominator in {DENOMINATORS}, got {of!r}")


def _share(part: Tensor, image: Tensor, of: str) -> Tensor:
    """Per cent of the weight; 0 where a head gives the image nothing."""
    return 100 * (part if of == "all" else torch.where(image > 0, part / image, 0.0))


def overlap(
    adapter: Adapter, regions: Regions, store: Path | str, *, of: str = "image"
) -> np.ndarray:
    """Attention of every head inside the asked object's box (Table 14).

    Args:
        store: directory of the results; what is there is not computed again.
        of: ``"image"``, per cent of the weight on image tokens, or ``"all"``, of all weight.

    Returns:
        ``(N, n_layers, n_heads)``, per cent, in the order of ``regions.triples``.

    Raises:
        ValueError: an unknown denominator.
    """
    _check(of)
    named = [replace(t, id=f"{t.id} {tuple(t.boxes[0])}") for t in regions.triples]
    cover = {t.id: torch.from_numpy(c) for t, c in zip(named, regions.covers, strict=True)}
    sites = [str(h) for h in adapter.heads]

    def run(group: Sequence[VQATriple]) -> Values:
        found = maps(adapter, group)
        boxes = torch.stack([cover[t.id] for t in group])[:, None, None]
        masses = {"inside": (found * boxes).sum(-1), "image": found.sum(-1)}
        return {
            (site, name): mass.flatten(1)[:, k]
            for name, mass in masses.items()
            for k, site in enumerate(sites)
        }

    key = store_key(adapter, "overlap", through=adapter.looks_through)
    groups = by_image(adapter, named)
    rows = resume(groups, stored_ids(named), Store(store, key), run, what="attention")
    table = rows.pivot(index="id", columns=["edit", "site"], values="value")
    table = table.loc[[t.id for t in named]]
    inside, image = (torch.tensor(table[e][sites].to_numpy()) for e in ("inside", "image"))
    return _share(inside, image, of).numpy().reshape(-1, adapter.n_layers, adapter.n_heads)


def set_maps(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    sets: Mapping[str, Sequence[Head]],
    store: Path | str,
    *,
    of: str = "image",
) -> dict[str, np.ndarray]:
    """Attention over the cells of the picture, averaged over the heads of each set.

    Args:
        sets: name to heads.
        store, of: as for :func:`overlap`.

    Returns:
        Name to ``(N, n_cells)``, per cent, in the order of ``triples``.

    Raises:
        ValueError: an unknown denominator, or a set without heads.
    """
    _check(of)
    empty = [name for name, heads in sets.items() if not heads]
    if empty or not sets:
        raise ValueError(f"expected heads in every set, got none in {', '.join(empty) or 'any'}")
    named = {name: sorted(map(str, heads)) for name, heads in sets.items()}

    def run(group: Sequence[VQATriple]) -> Values:
        found = maps(adapter, group)
        found = _share(found, found.sum(-1, keepdim=True), of)
        out = {}
        for name, heads in sets.items():
            layer, head = (list(x) for x in zip(*heads, strict=True))
            mean = found[:, layer, head].mean(1)  # (Q, n_cells)
            out |= {(str(c), name): mean[:, c] for c in range(mean.shape[-1])}
        return out

    through = adapter.looks_through
    key = store_key(adapter, "attention maps", through=through, sets=named, of=of)
    groups = by_image(adapter, check_unique(triples))
    rows = resume(groups, stored_ids(triples), Store(store, key), run, what="attention")
    rows["site"] = rows["site"].astype(int)
    tables = {n: rows[rows["edit"] == n].pivot(index="id", columns="site") for n in sets}
    return {n: t["value"].loc[[t.id for t in triples]].to_numpy() for n, t in tables.items()}
