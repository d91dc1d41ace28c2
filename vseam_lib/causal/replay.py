"""Replay of a recorded run, as little of it as an intervention changes.

1. An intervention that begins in layer ``l`` leaves the layers below alone: start from the recorded
   input of layer ``l``. Its attention is the same for all variants and runs once; what the
   variants change differs, and from there on they form a batch, cut to a memory budget.
2. An intervention on late positions leaves the positions before alone: run the late ones only, on
   the recorded keys and values of the others (:func:`run_layer` with a ``prefix``).
3. Answers are read at each question's last token: the last layer computes keys and values for all
   positions, everything else for the last tokens only (:func:`run_last_layer`).

Exact: equal to one plain hooked forward per variant and question, to float tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from vseam_lib.causal.budget import variants_per_batch, variants_per_call
from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.trace import KeyValues, Recording
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group


class _Joined:
    """Stands for a cache: puts recorded keys and values before those just computed."""

    def __init__(self, before: KeyValues) -> None:
        self.before, self.used = before, False

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.used = True
        k, v = (x.expand(len(keys), -1, -1, -1) for x in self.before)
        return torch.cat([k, keys], 2), torch.cat([v, values], 2)


class _Given:
    """Stands for a cache: replaces the keys and values just computed by given ones."""

    def __init__(self, given: KeyValues) -> None:
        self.given, self.used = given, False

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs) -> tuple[Tensor, Tensor]:
        self.used = True
        return tuple(x.expand(len(keys), -1, -1, -1) for x in self.given)


class _Stop(Exception):
    """Carries keys and values out of a layer that need not be run to its end."""

    def __init__(self, found: KeyValues) -> None:
        self.found = found


class _Taking:
    """Stands for a cache: stops the layer as soon as its keys and values are there."""

    def update(self, keys: Tensor, values: Tensor, *args, **kwargs):
        raise _Stop(KeyValues(keys, values))


def _at(kwargs: dict, S: int, rows: slice | Tensor) -> dict:
    """A layer's arguments for some of the ``S`` query positions."""

    def cut(value):
        if isinstance(value, tuple | list):
            return type(value)(cut(v) for v in value)
        if isinstance(value, Tensor) and value.dim() == 4 and value.shape[-2] == S:
            return value[..., rows, :]  # mask (1, 1, S, keys)
        if isinstance(value, Tensor) and value.dim() in (2, 3) and value.shape[1] == S:
            return value[:, rows]  # position ids (1, S), rotary tables (1, S, d_head)
        return value

    return {name: cut(value) for name, value in kwargs.items()}


def run_layer(
    adapter: Adapter,
    recording: Recording,
    layer: int,
    hidden: Tensor,
    start: int = 0,
    prefix: KeyValues | None = None,
) -> Tensor:
    """One decoder layer on the positions from ``start`` on, ``(V, S - start, d_model)``.

    Args:
        hidden: ``(V, S - start, d_model)``.
        prefix: keys and values of the positions before ``start``.
    """
    kwargs = recording.kwargs[layer]
    if not start:
        return adapter.layers[layer](hidden, **kwargs)
    S = recording.group.embeds.shape[1]
    joined = _Joined(prefix.first(start))
    out = adapter.layers[layer](
        hidden, **_at(kwargs, S, slice(start, None)), past_key_values=joined
    )
    _check_cache(joined.used)
    return out


def run_last_layer(
    adapter: Adapter,
    recording: Recording,
    hidden: Tensor,
    start: int = 0,
    prefix: KeyValues | None = None,
) -> Tensor:
    """The last decoder layer at the questions' last tokens only, ``(V, Q, d_model)``.

    Keys and values are needed of all positions; queries, head outputs, ``o_proj`` and MLP only
    where the answer is read.
    """
    index = adapter.n_layers - 1
    layer, kwargs = adapter.layers[index], recording.kwargs[index]
    S, last = recording.group.embeds.shape[1], recording.group.last
    if not adapter.caches:
        return run_layer(adapter, recording, index, hidden, start, prefix)[:, last - start]
    try:
        layer(hidden, **_at(kwargs, S, slice(start, None)), past_key_values=_Taking())
        _check_cache(False)
    except _Stop as stopped:
        found = stopped.found
    if start:
        found = KeyValues(*_Joined(prefix.first(start)).update(*found))
    given = _Given(found)
    out = layer(hidden[:, last - start], **_at(kwargs, S, last), past_key_values=given)
    return out


def _check_cache(used: bool) -> None:
    if not used:
        raise RuntimeError(
            "a decoder layer does not pass keys and values through past_key_values.update, so "
            "they cannot be reused; set the adapter's field caches to False"
        )


@torch.no_grad()
def replay(
    adapter: Adapter,
    recording: Recording,
    edits: HeadEdits,
    *,
    swap: list[Tensor] | None = None,
    budget_mib: float | None = None,
) -> Tensor:
    """Logits of every variant of edited heads.

    Args:
        edits: ``V`` variants.
        swap: per layer ``(1 or S, n_heads * d_head)``, the head outputs that ``edits.swap`` mixes
            in.
        budget_mib: memory that a batch of variants may take beyond the recording.

    Returns:
        ``(V, Q, vocab)``, at least float32.

    Raises:
        ValueError: a budget too small for one variant.
    """
    S = recording.group.embeds.shape[1]
    step = variants_per_batch(adapter, S, S, budget_mib)
    order = edits.starts().argsort(stable=True)  # those that travel together start together
    out = torch.cat([_replay(adapter, recording, edits[i], swap) for i in order.split(step)])
    return out[order.argsort()]


def _replay(adapter: Adapter, recording: Recording, edits: HeadEdits, swap) -> Tensor:
    """Variants in the order of their first layers; each joins the batch in its own."""
    starts, L = edits.starts(), adapter.n_layers
    last = recording.group.last
    if int(starts[0]) < adapter.replay_from:
        with ExitStack() as stack:
            for layer in range(L):
                stack.enter_context(_edited(adapter, layer, edits, swap, last))
            return adapter.logits(whole(adapter, recording.group, len(edits))[:, last])
    S = recording.group.embeds.shape[1]
    size = variants_per_call(adapter, S, S)
    moving: list[tuple[Tensor, HeadEdits]] = []  # batches (V, S, d_model) with their edits
    joined = 0
    for layer in range(int(starts[0]), L):

        def run(hidden: Tensor, own: HeadEdits, layer: int = layer) -> Tensor:
            with _edited(adapter, layer, own, swap, last):
                if layer == L - 1:
                    return run_last_layer(adapter, recording, hidden)  # (V, Q, d_model)
                return run_layer(adapter, recording, layer, hidden)  # (V, S, d_model)

        moving = [(run(hidden, own), own) for hidden, own in moving]
        new = edits[joined : joined + int((starts == layer).sum())]
        if len(new):  # one recorded row; the edit makes it as many as there are variants
            pieces = torch.arange(len(new)).tensor_split(-(-len(new) // size))
            hidden = run(recording.states[layer], new)
            moving += [(hidden[i], new[i]) for i in pieces]
            joined += len(new)
    logits = [adapter.logits(adapter.decoder.norm(hidden)) for hidden, _ in moving]
    return torch.cat([*logits, recording.logits.expand(len(edits) - joined, -1, -1)])


def whole(adapter: Adapter, group: Group, variants: int) -> Tensor:
    """The whole decoder on ``variants`` copies of a group: normalised states ``(V, S, d_model)``.

    For families whose layers cannot be replayed; interventions act through hooks.
    """
    out = adapter.decoder(
        inputs_embeds=group.embeds.expand(variants, -1, -1),
        attention_mask=group.mask(),
        position_ids=group.positions(),
        use_cache=False,
    )
    return out.last_hidden_state


@contextmanager
def _edited(adapter: Adapter, layer: int, edits: HeadEdits, swap, last: Tensor) -> Iterator[None]:
    """Edit the input of a layer's ``o_proj``, which is the concatenated output of its heads.

    ``last`` are the positions that the last layer runs on when it runs alone.
    """
    if not edits.touched(layer):
        yield
        return
    fired = []
    other = None if swap is None else swap[layer]

    def edit(module, args):
        fired.append(True)
        at_last = other is not None and len(other) > 1 and args[0].shape[1] != len(other)
        return (edits.apply(layer, args[0], other[last] if at_last else other), *args[1:])

    hook = adapter.layers[layer].self_attn.o_proj.register_forward_pre_hook(edit)
    try:
        yield
    finally:
        hook.remove()
    if not fired:
        raise RuntimeError(
            f"the edits of layer {layer} never took place: its o_proj was not called; check how "
            "this family computes attention"
        )


@contextmanager
def module_output(module: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Replace a module's output (of a tuple, its first element) by ``change`` of it.

    Raises:
        RuntimeError: if the module was not called.
    """
    fired = []

    def hook(module, args, out):
        fired.append(True)
        if isinstance(out, Tensor):
            return change(out)
        return (change(out[0]), *out[1:])

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if not fired:
        raise RuntimeError(
            f"{type(module).__name__} was not called, so nothing was patched; check what "
            "Adapter.module returns for this family"
        )
