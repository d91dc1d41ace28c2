"""Where image tokens look: what adapters share to say so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from torch import nn


def grid(left: float, top: float, width: float, height: float, n: int) -> np.ndarray:
    """An area cut into ``n`` x ``n`` cells in reading order: ``(n * n, 4)`` x, y, width, height."""
    x, y = np.meshgrid(left + width * np.arange(n) / n, top + height * np.arange(n) / n)
    size = np.broadcast_to([width / n, height / n], (n * n, 2))
    return np.column_stack([x.ravel(), y.ravel(), size])


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Compute attention in the open while this lasts: only eager attention returns its weights.

    Args:
        model: a transformers model without sub-models of other configurations.
    """
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
