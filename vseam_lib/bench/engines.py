"""Our engine and the released approach, behind one interface.

Every engine answers the same two questions about a model. ``sites`` lists the heads or cells
wanted; none costs what is needed before the first intervention.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from vseam_lib.bench.cases import SITES, SWEEP, Case, Cell, model_inputs
from vseam_lib.causal.groups import encode_group
from vseam_lib.causal.heads import mask_every_head
from vseam_lib.causal.patching import masks, patched_logits, record_pair
from vseam_lib.causal.trace import record
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.adapter import Adapter, Head


class Engine(Protocol):
    """One way to compute the effect of interventions."""

    label: str
    how: str
    package: str | None
    adapter: Adapter

    def __init__(self, adapter: Adapter) -> None: ...

    def sweep(self, group: Sequence[VQATriple], heads: Sequence[Head]) -> Tensor:
        """P(answer) under each mask, ``(questions, heads)``."""

    def patch(self, triple: VQATriple, edited: Path, cells: Sequence[Cell]) -> Tensor:
        """Logit of the right answer after each patch, ``(cells,)``."""


@torch.no_grad()
def run(engine: Engine, case: Case, task: str, sites: Sequence[Head | Cell]) -> Tensor:
    """All of a task's numbers, ``(questions, sites)``."""
    if task == SWEEP:
        return torch.cat([engine.sweep(group, sites) for group in case.groups]).cpu()
    return engine.patch(case.question, case.edited, sites)[None].cpu()


def masked(z: Tensor, head: int) -> Tensor:
    """One head replaced by the mean of the others (Eq. 5) in ``(..., n_heads, d_head)``."""
    new = z.clone()
    new[..., head, :] = (z.sum(-2) - z[..., head, :]) / (z.shape[-2] - 1)
    return new


class Ours:
    """Encode once, replay the suffix, batch the variants."""

    label = "this engine"
    how = "one recorded run per image, suffixes replayed in batches"
    package = None

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def sweep(self, group: Sequence[VQATriple], heads: Sequence[Head]) -> Tensor:
        """Every head of every question of an image, from one recording."""
        p = mask_every_head(self.adapter, record(self.adapter, encode_group(self.adapter, group)))
        return p[:, [h.layer for h in heads], [h.head for h in heads]]

    def patch(self, triple: VQATriple, edited: Path, cells: Sequence[Cell]) -> Tensor:
        """Every cell, from one recording of each image."""
        pair = record_pair(self.adapter, triple.image, edited, triple.question, triple.answer)
        positions = sorted({c.position for c in cells})
        where = masks({str(p): [p] for p in positions}, pair.clean.group.embeds.shape[1])
        gold = int(pair.clean.group.gold[0])
        layers = sorted({c.layer for c in cells})
        found = {
            site: patched_logits(self.adapter, pair, site, where, layers)[..., gold]
            for site in SITES
        }  # each (layers, positions)
        return torch.stack(
            [found[c.site][layers.index(c.layer), positions.index(c.position)] for c in cells]
        )


class Plain:
    """The released approach: one whole forward per intervention, with a hook."""

    label = "one forward each"
    how = "the released approach: a whole forward, vision tower included, per intervention"
    package = None

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter

    def logits(self, batch: dict[str, Tensor]) -> Tensor:
        """Logits at the last position, ``(vocab,)``."""
        return self.adapter.model(**batch, use_cache=False, logits_to_keep=1).logits[0, -1].float()

    def sweep(self, group: Sequence[VQATriple], heads: Sequence[Head]) -> Tensor:
        """One forward per question and head."""
        out = torch.zeros(len(group), len(heads))
        for q, triple in enumerate(group):
            batch = model_inputs(self.adapter, triple.image, triple.question)
            gold = self.adapter.answer_id(triple.answer)
            for k, (layer, head) in enumerate(heads):

                def mask(module, args, head=head):
                    split = args[0].unflatten(-1, (self.adapter.n_heads, -1))
                    return (masked(split, head).flatten(-2),)

                o_proj = self.adapter.layers[layer].self_attn.o_proj
                hook = o_proj.register_forward_pre_hook(mask)
                out[q, k] = self.logits(batch).softmax(-1)[gold]
                hook.remove()
        return out

    def patch(self, triple: VQATriple, edited: Path, cells: Sequence[Cell]) -> Tensor:
        """One forward on the clean image, then one on the edited image per cell."""
        clean = self.module_outputs(model_inputs(self.adapter, triple.image, triple.question))
        batch = model_inputs(self.adapter, edited, triple.question)
        gold = self.adapter.answer_id(triple.answer)
        out = torch.zeros(len(cells))
        for k, (site, layer, position) in enumerate(cells):

            def put(module, args, given, site=site, layer=layer, position=position):
                new = (given[0] if isinstance(given, tuple) else given).clone()
                new[:, position] = clean[site, layer][:, position]
                return (new, *given[1:]) if isinstance(given, tuple) else new

            module = self.adapter.module(self.adapter.layers[layer], site)
            hook = module.register_forward_hook(put)
            out[k] = self.logits(batch)[gold]
            hook.remove()
        return out

    def module_outputs(self, batch: dict[str, Tensor]) -> dict[tuple[str, int], Tensor]:
        """Outputs of every attention and MLP of one forward, each ``(1, S, d_model)``."""
        found, hooks = {}, []
        for index, layer in enumerate(self.adapter.layers):
            for site in SITES:

                def keep(module, args, given, at=(site, index)):
                    found[at] = given[0] if isinstance(given, tuple) else given

                module = self.adapter.module(layer, site)
                hooks.append(module.register_forward_hook(keep))
        self.logits(batch)
        for hook in hooks:
            hook.remove()
        return found
