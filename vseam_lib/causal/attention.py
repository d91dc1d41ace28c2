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

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from vseam_lib.causal.groups import by_image, stored_ids
from vseam_lib.causal.trace import whole
from vseam_lib.store import Store
from vseam_lib.triples import Box, VQATriple, check_unique
from vseam_lib.vlm.adapter import Adapter, Group, Head, open_image
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
    group = adapter.encode(image, [t.question for t in triples], [t.answer for t in triples])
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

    def pick(self, triples: Sequence[VQATriple]) -> np.ndarray:
        """Where those of ``triples`` that are kept stand, as indices."""
        wanted = {t.id for t in triples}
        return np.array([k for k, t in enumerate(self.triples) if t.id in wanted], int)


def regions(adapter: Adapter, triples: Sequence[VQATriple]) -> Regions:
    """Where the asked object (the first box) of every triple is, in the model's cells.

    Triples without boxes, or whose box the processor's crop cuts off, are left out and counted.

    Raises:
        ValueError: a family whose image tokens have no place, or no triple left.
    """
    kept, covers, left_out, sizes = [], [], Counter({"no box": 0, "box outside the crop": 0}), {}
    for t in check_unique(triples):
        if not t.boxes:
            left_out["no box"] += 1
            continue
        if t.image not in sizes:
            sizes[t.image] = open_image(t.image).size
        cells = adapter.cells(*sizes[t.image])
        if cells is None:
            raise ValueError(
                f"image tokens of {adapter.family} have no place in the picture; give its adapter "
                "cells and looks_at"
            )
        cover = covered(t.boxes[0], cells)
        if not cover.any():
            left_out["box outside the crop"] += 1
            continue
        kept.append(t)
        covers.append(cover)
    if not kept:
        raise ValueError(
            f"expected triples with a box that the model sees, got none of {len(triples)} "
            f"({dict(left_out)}); read the data with on_missing_box='drop', or use other questions"
        )
    return Regions(kept, np.stack(covers), dict(left_out))


def _each_image(
    adapter: Adapter,
    triples: Sequence[VQATriple],
    store: Store,
    measure: Callable[[list[VQATriple]], dict[tuple[str, str], Tensor]],
    part: int = 16,
) -> pd.DataFrame:
    """As :func:`vseam_lib.causal.groups.compute`, for what needs the triples themselves."""
    ids, done = stored_ids(triples), store.done()
    groups = by_image(adapter, [t for t in triples if ids[t.id] not in done])
    rows: list[pd.DataFrame] = []
    for k, group in enumerate(tqdm(groups, desc="attention", disable=not groups), start=1):
        for (site, edit), values in measure(group).items():
            own = {"id": [ids[t.id] for t in group], "site": site, "edit": edit}
            rows.append(pd.DataFrame(own | {"value": values.numpy()}))
        if k % part == 0 or k == len(groups):
            store.append(pd.concat(rows, ignore_index=True))
            rows = []
    table = store.read(ids.values())
    return table.assign(id=table["id"].map({stored: i for i, stored in ids.items()}))


def _store(adapter: Adapter, root: Path | str, **more) -> Store:
    key = {
        "model": adapter.revision,
        "dtype": str(adapter.model.dtype),
        "prompt": adapter.prompt,
        "through": adapter.looks_through,
    }
    return Store(root, key | more)


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

    def measure(group: list[VQATriple]) -> dict[tuple[str, str], Tensor]:
        found = maps(adapter, group)
        boxes = torch.stack([cover[t.id] for t in group])[:, None, None]
        masses = {"inside": (found * boxes).sum(-1), "image": found.sum(-1)}
        return {
            (site, name): mass.flatten(1)[:, k]
            for name, mass in masses.items()
            for k, site in enumerate(sites)
        }

    rows = _each_image(adapter, named, _store(adapter, store, analysis="overlap"), measure)
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

    def measure(group: list[VQATriple]) -> dict[tuple[str, str], Tensor]:
        found = maps(adapter, group)
        found = _share(found, found.sum(-1, keepdim=True), of)
        out = {}
        for name, heads in sets.items():
            layer, head = (list(x) for x in zip(*heads, strict=True))
            mean = found[:, layer, head].mean(1)  # (Q, n_cells)
            out |= {(str(c), name): mean[:, c] for c in range(mean.shape[-1])}
        return out

    kept = _store(adapter, store, analysis="attention maps", sets=named, of=of)
    rows = _each_image(adapter, check_unique(triples), kept, measure)
    rows["site"] = rows["site"].astype(int)
    tables = {n: rows[rows["edit"] == n].pivot(index="id", columns="site") for n in sets}
    return {n: t["value"].loc[[t.id for t in triples]].to_numpy() for n, t in tables.items()}
