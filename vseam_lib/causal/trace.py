"""Record a clean run once, then replay its suffix with interventions.

1. Run the shared prefix (text before the image, and the image) once and keep its keys and
   values; run all questions about the image as one batch on top of it. Remember the arguments
   of every decoder layer.
2. An edit whose first changed layer is ``l`` leaves the layers below alone: start from their
   stored output. Variants form a batch: first their prefixes, then their questions on the
   edited prefixes' keys and values.
3. Read the logits at each question's last token.

Exact: equal to one plain hooked forward per variant, to float tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.vlm.adapter import Adapter, Group


@dataclass
class Pass:
    """One recorded pass through the decoder: each layer's input and keyword arguments."""

    inputs: list[Tensor] = field(default_factory=list)
    kwargs: list[dict] = field(default_factory=list)


@dataclass
class Recording:
    """A clean run on a :class:`~vseam_lib.vlm.adapter.Group`.

    Attributes:
        prefix, questions: the two passes; ``prefix`` is ``None`` where nothing is shared.
        logits: ``(Q, vocab)`` float32 at each question's last token.
    """

    group: Group
    prefix: Pass | None
    questions: Pass
    logits: Tensor


@contextmanager
def _recorded(adapter: Adapter) -> Iterator[Pass]:
    """Collect what every decoder layer is called with."""
    seen = Pass()

    def hook(module, args, kwargs):
        kwargs = {k: v for k, v in kwargs.items() if k != "past_key_values"}
        seen.inputs.append(args[0] if args else kwargs.pop("hidden_states"))
        seen.kwargs.append({k: _one_row(v) for k, v in kwargs.items()})

    hooks = [x.register_forward_pre_hook(hook, with_kwargs=True) for x in adapter.layers]
    try:
        yield seen
    finally:
        for h in hooks:
            h.remove()
    if len(seen.inputs) != adapter.n_layers:
        raise RuntimeError(
            f"expected one call of each of {adapter.n_layers} decoder layers, saw "
            f"{len(seen.inputs)}; this model's layers cannot be recorded and replayed"
        )


def _one_row(value):
    """Masks and positions are the same for every row of a group: keep one, which broadcasts."""
    if isinstance(value, Tensor) and value.dim() > 1:
        return value[:1]
    if isinstance(value, tuple):
        return tuple(_one_row(v) for v in value)
    return value


@torch.no_grad()
def record(adapter: Adapter, group: Group) -> Recording:
    """Run the model on a group, unedited."""
    cache = DynamicCache(config=adapter.text_config)
    before = None
    if group.prefix.shape[1]:
        with _recorded(adapter) as before:
            adapter.decoder(inputs_embeds=group.prefix, past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(len(group.questions))
    with _recorded(adapter) as after:
        adapter.decoder(inputs_embeds=group.questions, past_key_values=cache, use_cache=True)
    last = adapter.layers[-1]
    cache = DynamicCache(config=adapter.text_config)
    if before is not None:
        last(before.inputs[-1], past_key_values=cache, **before.kwargs[-1])
        cache.batch_repeat_interleave(len(group.questions))
    hidden = last(after.inputs[-1], past_key_values=cache, **after.kwargs[-1])
    return Recording(group, before, after, _read(adapter, group, hidden))


def _read(adapter: Adapter, group: Group, hidden: Tensor) -> Tensor:
    """Logits at the last token of every row; rows are ``variants x Q``."""
    at = group.last.repeat(len(hidden) // len(group.last))
    return adapter.unembed(hidden[torch.arange(len(hidden), device=hidden.device), at])


@torch.no_grad()
def replay(
    adapter: Adapter, recording: Recording, edits: HeadEdits, *, rows: int = 4096
) -> Tensor:
    """Logits of every variant.

    Args:
        edits: ``V`` variants.
        rows: token rows per batch; bounds the memory of a replay.

    Returns:
        ``(V, Q, vocab)`` float32.
    """
    group = recording.group
    per_variant = group.prefix.shape[1] + group.questions.shape[0] * group.questions.shape[1]
    step = max(1, rows // per_variant)
    return torch.cat(
        [_replay(adapter, recording, edits[i : i + step]) for i in range(0, len(edits), step)]
    )


def _replay(adapter: Adapter, recording: Recording, edits: HeadEdits) -> Tensor:
    V, Q = len(edits), len(recording.group.questions)
    first = edits.first_layer()
    if first == adapter.n_layers:
        return recording.logits.expand(V, -1, -1)
    cache = DynamicCache(config=adapter.text_config)
    with _edited(adapter, edits):
        if recording.prefix is not None:
            _suffix(adapter, recording.prefix, first, V, cache)
            cache.batch_repeat_interleave(Q)
        hidden = _suffix(adapter, recording.questions, first, V, cache)
    return _read(adapter, recording.group, hidden).unflatten(0, (V, Q))


def _suffix(adapter: Adapter, run: Pass, first: int, V: int, cache: DynamicCache) -> Tensor:
    """Layers ``first``, ... of a recorded pass, for ``V`` variants at once."""
    hidden = run.inputs[first].repeat(V, 1, 1)
    for layer, kwargs in zip(adapter.layers[first:], run.kwargs[first:], strict=True):
        hidden = layer(hidden, past_key_values=cache, **kwargs)
    return hidden


@contextmanager
def _edited(adapter: Adapter, edits: HeadEdits) -> Iterator[None]:
    """Edit the input of ``o_proj``, which is the concatenated output of the heads."""
    wanted = [k for k in range(adapter.n_layers) if edits.touched(k)]
    fired = set()

    def hook(index):
        def edit(module, args):
            fired.add(index)
            return (edits.apply(index, args[0]), *args[1:])

        return edit

    hooks = [
        adapter.layers[k].self_attn.o_proj.register_forward_pre_hook(hook(k)) for k in wanted
    ]
    try:
        yield
    finally:
        for h in hooks:
            h.remove()
    if fired != set(wanted):
        raise RuntimeError(
            f"the edits of layers {sorted(set(wanted) - fired)} never took place: their o_proj "
            "was not called; check how this family computes attention"
        )
