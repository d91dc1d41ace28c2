"""Record a clean run once, then replay only what an intervention changes.

1. Pack an image and all questions about it into one sequence
   (:class:`~vseam_lib.vlm.adapter.Group`) and run it once, remembering the input and the
   arguments of every decoder layer, and on request its keys, values and module outputs.
2. An intervention that begins in layer ``l`` leaves the layers below alone: start from the stored
   input of layer ``l``. Its attention is the same for all variants and runs once; what the
   variants change differs, and from there on they form a batch, cut to a memory budget.
3. An intervention on late positions leaves the positions before alone: run the late ones only, on
   the recorded keys and values of the others (:func:`run_layer` with a ``prefix``).
4. Answers are read at each question's last token: the last layer computes keys and values for all
   positions, everything else for the last tokens only (:func:`run_last_layer`).

Exact: equal to one plain hooked forward per variant and question, to float tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.vlm.adapter import Adapter, Group

KEEP = ("attn", "mlp", "heads", "cache")
BUDGET_MIB = 256


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


def variant_bytes(adapter: Adapter, tokens: int, keys: int) -> int:
    """Estimated bytes that one variant needs while a layer runs on ``tokens`` positions that
    attend to ``keys`` positions: states, MLP, attention weights, keys and values.
    """
    config, size = adapter.text_config, adapter.model.dtype.itemsize
    width = 6 * config.hidden_size + 3 * config.intermediate_size
    heads = adapter.n_heads * (tokens * keys + 2 * keys * adapter.d_head)
    return size * (tokens * width + heads)


def variants_per_batch(adapter: Adapter, tokens: int, keys: int, budget_mib: float) -> int:
    """How many variants fit the budget.

    Raises:
        ValueError: a budget too small for one.
    """
    need = variant_bytes(adapter, tokens, keys) / 2**20
    if need > budget_mib:
        raise ValueError(
            f"expected a budget of at least {need:.1f} MiB for one variant of {tokens} tokens on "
            f"this model, got {budget_mib} MiB; raise budget_mib"
        )
    return int(budget_mib / need)


def in_batches(run: Callable[[Tensor], Tensor], hidden: Tensor, size: int) -> Tensor:
    """``run`` on the rows of ``hidden``, at most ``size`` at once."""
    if len(hidden) <= size:
        return run(hidden)
    return torch.cat([run(part) for part in hidden.split(size)])


@torch.no_grad()
def replay(
    adapter: Adapter,
    recording: Recording,
    edits: HeadEdits,
    *,
    swap: list[Tensor] | None = None,
    budget_mib: float = BUDGET_MIB,
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
    return torch.cat(
        [_replay(adapter, recording, edits[i : i + step], swap) for i in range(0, len(edits), step)]
    )


def _replay(adapter: Adapter, recording: Recording, edits: HeadEdits, swap) -> Tensor:
    first, L = edits.first_layer(), adapter.n_layers
    if first == L:
        return recording.logits.expand(len(edits), -1, -1)
    last = recording.group.last
    with _edited(adapter, edits, swap, None if first < adapter.replay_from else last):
        if first < adapter.replay_from:
            hidden = whole(adapter, recording.group, len(edits))[:, last]
            return adapter.logits(hidden)
        hidden = recording.states[first]  # one row; the edit of layer `first` makes it V rows
        for index in range(first, L - 1):
            hidden = run_layer(adapter, recording, index, hidden)  # (V, S, d_model)
        hidden = run_last_layer(adapter, recording, hidden)  # (V, Q, d_model)
    return adapter.logits(adapter.decoder.norm(hidden))


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
def _edited(adapter: Adapter, edits: HeadEdits, swap, last: Tensor | None) -> Iterator[None]:
    """Edit the input of ``o_proj``, which is the concatenated output of the heads.

    ``last`` are the positions that the last layer runs on, ``None`` for all.
    """
    wanted = [k for k in range(adapter.n_layers) if edits.touched(k)]
    fired = set()

    def hook(index):
        def edit(module, args):
            fired.add(index)
            other = None if swap is None else swap[index]
            if other is not None and len(other) > 1 and args[0].shape[1] != len(other):
                other = other[last]
            return (edits.apply(index, args[0], other), *args[1:])

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
