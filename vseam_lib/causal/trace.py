"""Record a run once, with everything that a replay needs (see :mod:`vseam_lib.causal.replay`).

An image and all questions about it, packed into one sequence
(:class:`~vseam_lib.vlm.group.Group`), run once. Remembered are the residual stream, the arguments
of every decoder layer and, on request, keys, values, head outputs and module outputs.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group

KEEP = ("attn", "mlp", "heads", "cache")


class KeyValues(NamedTuple):
    """Keys (rotated) and values of one layer, each ``(1, n_kv_heads, S, d_head)``."""

    keys: Tensor
    values: Tensor

    def first(self, n: int) -> KeyValues:
        """Those of the first ``n`` positions."""
        return KeyValues(self.keys[:, :, :n], self.values[:, :, :n])


@dataclass(frozen=True)
class Recording:
    """A clean run on a group.

    Attributes:
        states: the residual stream ``(1, S, d_model)`` before layer 0, 1, ... and, last, after
            the last layer (before the final norm).
        kwargs: each decoder layer's keyword arguments.
        logits: ``(Q, vocab)``, at least float32, at each question's last token.
        outputs: what was asked to be kept per layer: ``"attn"`` and ``"mlp"``, the modules'
            outputs ``(1, S, d_model)``; ``"heads"``, the concatenated head outputs
            ``(1, S, n_heads * d_head)``.
        cache: keys and values per layer, if kept.
    """

    group: Group
    states: list[Tensor]
    kwargs: list[dict]
    logits: Tensor
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    cache: list[KeyValues] = field(default_factory=list)

    def kept(self, what: str) -> list:
        """What was kept of every layer under a name of :data:`KEEP`, or ``"block"``.

        Raises:
            KeyError: if it was not asked for when recording.
        """
        if what == "block":
            return self.states[1:]
        found = self.cache if what == "cache" else self.outputs.get(what)
        if not found:
            raise KeyError(f"this recording did not keep {what!r}; record(..., keep=[{what!r}])")
        return found


@torch.no_grad()
def record(adapter: Adapter, group: Group, *, keep: Collection[str] = ()) -> Recording:
    """Run the model on a group, unedited.

    Args:
        keep: names of :data:`KEEP` to remember beyond the residual stream.

    Raises:
        ValueError: an unknown name in ``keep``.
        RuntimeError: a decoder that cannot be replayed from its layers' inputs; the message names
            the adapter's field to change.
    """
    if set(keep) - set(KEEP):
        raise ValueError(f"expected names of {KEEP} to keep, got {sorted(set(keep) - set(KEEP))}")
    states: list[Tensor] = []
    kwargs: list[dict] = []
    ends: list[Tensor] = []
    outputs: dict[str, list[Tensor]] = {k: [] for k in keep if k != "cache"}
    cache = DynamicCache() if "cache" in keep else None

    def before(module, args, given):
        given = dict(given)
        states.append(args[0] if args else given.pop("hidden_states"))
        given.pop("past_key_values", None)
        kwargs.append(given | {"use_cache": False})

    def collect(where):
        return lambda module, args, out: where.append(out if isinstance(out, Tensor) else out[0])

    hooks = [x.register_forward_pre_hook(before, with_kwargs=True) for x in adapter.layers]
    hooks += [x.register_forward_hook(collect(ends)) for x in adapter.layers]
    for layer in adapter.layers:
        for site in {"attn", "mlp"} & outputs.keys():
            module = adapter.module(layer, site)
            hooks.append(module.register_forward_hook(collect(outputs[site])))
        if "heads" in outputs:
            z = outputs["heads"]
            hooks.append(
                layer.self_attn.o_proj.register_forward_pre_hook(lambda m, a, z=z: z.append(a[0]))
            )
    try:
        out = adapter.decoder(
            inputs_embeds=group.embeds,
            attention_mask=group.mask(),
            position_ids=group.positions(),
            past_key_values=cache,
            use_cache=cache is not None,
        )
    finally:
        for h in hooks:
            h.remove()
    _check_recorded(adapter, states, ends, outputs)
    logits = adapter.logits(out.last_hidden_state[:, group.last])[0]  # normalised by the decoder
    kept = [KeyValues(x.keys, x.values) for x in cache.layers] if cache is not None else []
    return Recording(group, [*states, ends[-1]], kwargs, logits, outputs, kept)


def _check_recorded(adapter, states, ends, outputs) -> None:
    """Every layer called once, each handing its output on unchanged; every hook fired."""
    L = adapter.n_layers
    if len(states) != L or any(len(x) != L for x in outputs.values()):
        seen = {"layers": len(states), **{k: len(v) for k, v in outputs.items()}}
        raise RuntimeError(
            f"expected one call of each of {L} decoder layers and their modules, saw {seen}; "
            "this model's layers cannot be recorded. The modules are found by Adapter.module"
        )
    for k in range(adapter.replay_from, L - 1):
        if ends[k] is not states[k + 1] and not torch.equal(ends[k], states[k + 1]):
            raise RuntimeError(
                f"the decoder changes the residual stream between layers {k} and {k + 1}, so a "
                f"run cannot be replayed from layer {k} or below; set the adapter's field "
                f"replay_from to {k + 1} or more ({L} turns replay off)"
            )
