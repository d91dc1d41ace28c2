"""Two public tools, used the way their documentation shows.

Both take the untrained or local LLaVA object as it is, without network. Both get the image's
embeddings, computed once, so that neither runs the vision tower for every intervention.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from vseam_lib.bench.cases import SITES, Cell
from vseam_lib.bench.engines import masked
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.adapter import Adapter, Head


def embedded(adapter: Adapter, image: Path, triple: VQATriple) -> Tensor:
    """Input embeddings ``(1, S, d_model)`` of one question on an image."""
    return adapter.encode(image, [triple.question], [triple.answer]).embeds


class NNsight:
    """nnsight: one trace per layer, one invoke per intervention, all invokes in one batch."""

    label = "nnsight"
    package = "nnsight"
    how = "one trace per layer, its interventions as the invokes of one batch"

    def __init__(self, adapter: Adapter) -> None:
        from nnsight import TransformersModel

        self.adapter, processor = adapter, adapter.processor
        self.model = TransformersModel(
            adapter.model,
            task="image-text-to-text",
            processor=processor,
            tokenizer=processor.tokenizer,
            image_processor=processor.image_processor,
        )
        self.layers = self.model.model.language_model.layers
        self.options = {"use_cache": False, "logits_to_keep": 1}

    def sweep(self, group: Sequence[VQATriple], heads: Sequence[Head]) -> Tensor:
        """One trace per question and layer."""
        out: list[Tensor] = []
        for triple in group:
            embeds = embedded(self.adapter, triple.image, triple)
            gold = self.adapter.answer_id(triple.answer)
            for layer, some in groupby(heads, key=lambda h: h.layer):
                out += self._mask(embeds, layer, [h.head for h in some], gold)
        return torch.tensor(out).view(len(group), len(heads))

    def _mask(self, embeds: Tensor, layer: int, heads: list[int], gold: int) -> list[Tensor]:
        import nnsight

        split = (self.adapter.n_heads, -1)
        with self.model.trace(**self.options) as tracer:
            found = nnsight.save([])
            for head in heads:
                with tracer.invoke(inputs_embeds=embeds):
                    o_proj = self.layers[layer].self_attn.o_proj
                    o_proj.input = masked(o_proj.input.unflatten(-1, split), head).flatten(-2)
                    found.append(self.model.output.logits[0, -1].float().softmax(-1)[gold])
        return found

    def patch(self, triple: VQATriple, edited: Path, cells: Sequence[Cell]) -> Tensor:
        """One trace on the clean image, then one on the edited image per module."""
        clean = self._outputs(embedded(self.adapter, triple.image, triple))
        embeds = embedded(self.adapter, edited, triple)
        gold = self.adapter.answer_id(triple.answer)
        out: list[Tensor] = []
        for (site, layer), some in groupby(cells, key=lambda c: (c.site, c.layer)):
            out += self._patch(embeds, site, layer, [c.position for c in some], clean, gold)
        return torch.tensor(out)

    def _outputs(self, embeds: Tensor) -> dict[str, list[Tensor]]:
        import nnsight

        with self.model.trace(inputs_embeds=embeds, **self.options):
            attn, mlp = nnsight.save([]), nnsight.save([])
            for layer in self.layers:
                attn.append(layer.self_attn.output[0])
                mlp.append(layer.mlp.output)
        return dict(zip(SITES, (attn, mlp), strict=True))

    def _patch(self, embeds, site, layer, positions, clean, gold) -> list[Tensor]:
        import nnsight

        kept = clean[site][layer]
        with self.model.trace(**self.options) as tracer:
            found = nnsight.save([])
            for position in positions:
                with tracer.invoke(inputs_embeds=embeds):
                    if site == "attn":
                        out = self.layers[layer].self_attn.output[0]
                    else:
                        out = self.layers[layer].mlp.output
                    out[:, position] = kept[:, position]
                    found.append(self.model.output.logits[0, -1].float()[gold])
        return found


class Lens:
    """TransformerLens: a bridge over the LLaVA object, one hooked run per intervention."""

    label = "TransformerLens"
    package = "transformer-lens"
    how = "TransformerBridge, one run_with_hooks per intervention, as its patching module does"

    def __init__(self, adapter: Adapter) -> None:
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        self.adapter = adapter
        self.model = build_bridge_from_module(
            adapter.model, type(adapter.model).__name__, hf_config=adapter.model.config
        )
        self.options = {"use_cache": False, "logits_to_keep": 1}

    def _logits(self, embeds: Tensor, name: str, hook) -> Tensor:
        logits = self.model.run_with_hooks(embeds, fwd_hooks=[(name, hook)], **self.options)
        return logits[0, -1].float()

    def sweep(self, group: Sequence[VQATriple], heads: Sequence[Head]) -> Tensor:
        """One run per question and head, hooked at ``hook_z``."""
        out: list[Tensor] = []
        for triple in group:
            embeds = embedded(self.adapter, triple.image, triple)
            gold = self.adapter.answer_id(triple.answer)
            for layer, head in heads:
                edit = partial(lambda z, hook, head: masked(z, head), head=head)
                logits = self._logits(embeds, f"blocks.{layer}.attn.hook_z", edit)
                out.append(logits.softmax(-1)[gold])
        return torch.tensor(out).view(len(group), len(heads))

    def patch(self, triple: VQATriple, edited: Path, cells: Sequence[Cell]) -> Tensor:
        """One cached run on the clean image, then one on the edited image per cell."""
        names = {site: f"hook_{site}_out" for site in SITES}
        _, clean = self.model.run_with_cache(
            embedded(self.adapter, triple.image, triple),
            names_filter=lambda name: name.split(".")[-1] in names.values(),
            **self.options,
        )
        embeds = embedded(self.adapter, edited, triple)
        gold = self.adapter.answer_id(triple.answer)
        out: list[Tensor] = []
        for site, layer, position in cells:
            name = f"blocks.{layer}.{names[site]}"

            def put(corrupted, hook, name=name, position=position):
                corrupted[:, position] = clean[name][:, position]
                return corrupted

            out.append(self._logits(embeds, name, put)[gold])
        return torch.tensor(out)
