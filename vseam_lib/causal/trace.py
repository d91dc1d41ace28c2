"""Record a clean run once, then replay its suffix with interventions.

1. Pack an image and all questions about it into one sequence
   (:class:`~vseam_lib.vlm.adapter.Group`) and run it once, remembering the input and the
   arguments of every decoder layer.
2. An edit whose first changed layer is ``l`` leaves the layers below alone: start from the stored
   input of layer ``l``. Its attention is the same for all variants and runs once; the edited head
   outputs differ, and from there on the variants form a batch.
3. Read the logits at each question's last token.

Exact: equal to one plain hooked forward per variant and question, to float tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.vlm.adapter import Adapter, Group


@dataclass(frozen=True)
class Recording:
    """A clean run on a group.

    Attributes:
        inputs: each decoder layer's input, ``(1, S, d_model)``.
        kwargs: each decoder layer's keyword arguments.
        logits: ``(Q, vocab)``, at least float32, at each question's last token.
    """

    group: Group
    inputs: list[Tensor]
    kwargs: list[dict]
    logits: Tensor


@torch.no_grad()
def record(adapter: Adapter, group: Group) -> Recording:
    """Run the model on a group, unedited.

    Raises:
        RuntimeError: if the decoder does not call each of its layers once, so that a recording
            could not be replayed.
    """
    inputs: list[Tensor] = []
    kwargs: list[dict] = []

    def hook(module, args, given):
        given = dict(given)
        inputs.append(args[0] if args else given.pop("hidden_states"))
        kwargs.append(given)

    hooks = [x.register_forward_pre_hook(hook, with_kwargs=True) for x in adapter.layers]
    try:
        out = adapter.decoder(
            inputs_embeds=group.embeds,
            attention_mask=group.mask(),
            position_ids=group.positions(),
            use_cache=False,
        )
    finally:
        for h in hooks:
            h.remove()
    if len(inputs) != adapter.n_layers:
        raise RuntimeError(
            f"expected one call of each of {adapter.n_layers} decoder layers, saw {len(inputs)}; "
            "this model's layers cannot be recorded and replayed"
        )
    final = out.last_hidden_state[:, group.last]  # normalised by the decoder
    return Recording(group, inputs, kwargs, adapter.logits(final)[0])


@torch.no_grad()
def replay(adapter: Adapter, recording: Recording, edits: HeadEdits, *, rows: int = 4096) -> Tensor:
    """Logits of every variant.

    Args:
        edits: ``V`` variants.
        rows: tokens per batch over all its variants; bounds the memory of a replay.

    Returns:
        ``(V, Q, vocab)``, at least float32.
    """
    step = max(1, rows // recording.group.embeds.shape[1])
    return torch.cat(
        [_replay(adapter, recording, edits[i : i + step]) for i in range(0, len(edits), step)]
    )


def _replay(adapter: Adapter, recording: Recording, edits: HeadEdits) -> Tensor:
    first = edits.first_layer()
    if first == adapter.n_layers:
        return recording.logits.expand(len(edits), -1, -1)
    hidden = recording.inputs[first]  # one row; the edit of layer `first` makes it V rows
    with _edited(adapter, edits):
        for layer, kwargs in zip(adapter.layers[first:], recording.kwargs[first:], strict=True):
            hidden = layer(hidden, **kwargs)  # (V, S, d_model)
    return adapter.logits(adapter.decoder.norm(hidden[:, recording.group.last]))


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

    hooks = [adapter.layers[k].self_attn.o_proj.register_forward_pre_hook(hook(k)) for k in wanted]
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
