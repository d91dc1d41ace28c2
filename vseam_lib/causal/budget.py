"""How many variants of a run to hold, and to put through a layer, at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vseam_lib.vlm.adapter import Adapter

BUDGET_MIB = {"cpu": 256, "cuda": 4096}
CALL_MIB = {"cpu": 32}  # of a batch in one layer; small ones stay in the caches of a CPU


def variant_bytes(adapter: Adapter, tokens: int, keys: int) -> int:
    """Estimated bytes that one variant needs while a layer runs on ``tokens`` positions that
    attend to ``keys`` positions: states, MLP, attention weights, keys and values.
    """
    config, size = adapter.text_config, adapter.model.dtype.itemsize
    width = 6 * config.hidden_size + 3 * config.intermediate_size
    heads = adapter.n_heads * (tokens * keys + 2 * keys * adapter.d_head)
    return size * (tokens * width + heads)


def variants_per_batch(
    adapter: Adapter, tokens: int, keys: int, budget_mib: float | None = None
) -> int:
    """How many variants fit the budget.

    Args:
        budget_mib: by default that of :data:`BUDGET_MIB`, or one variant if it needs more.

    Raises:
        ValueError: a stated budget too small for one variant.
    """
    need = variant_bytes(adapter, tokens, keys) / 2**20
    if budget_mib is None:
        return max(1, int(BUDGET_MIB.get(adapter.device.type, 256) / need))
    if need > budget_mib:
        raise ValueError(
            f"expected a budget of at least {need:.1f} MiB for one variant of {tokens} tokens on "
            f"this model, got {budget_mib} MiB; raise budget_mib"
        )
    return int(budget_mib / need)


def variants_per_call(adapter: Adapter, tokens: int, keys: int) -> int:
    """How many variants go through a layer at once, at least one; see :data:`CALL_MIB`."""
    limit = CALL_MIB.get(adapter.device.type, float("inf"))
    return int(min(2**31, max(1, limit * 2**20 // variant_bytes(adapter, tokens, keys))))


def in_batches(run: Callable[[Tensor], Tensor], hidden: Tensor, size: int) -> Tensor:
    """``run`` on the rows of ``hidden``, at most ``size`` at once."""
    if len(hidden) <= size:
        return run(hidden)
    return torch.cat([run(part) for part in hidden.split(size)])
