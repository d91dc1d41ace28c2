"""Interventions on attention heads, as data.

Every edit of the paper is linear in the head outputs of one layer: head ``h`` becomes
``scale * A_h + mix * mean of the other heads``. Masking (Eq. 5) is ``scale 0, mix 1``; removal by
zero is ``scale 0, mix 0``; rescaling (Eq. 10) is ``scale 1 +- lambda, mix 0``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vseam_lib.vlm.adapter import Head


@dataclass(frozen=True)
class HeadEdits:
    """``V`` variants of a model, each with its own edit of the heads.

    Attributes:
        scale, mix: ``(V, n_layers, n_heads)``.
    """

    scale: Tensor
    mix: Tensor

    def __post_init__(self) -> None:
        if self.scale.shape != self.mix.shape or self.scale.dim() != 3:
            raise ValueError(
                "expected scale and mix of one shape (variants, layers, heads), got "
                f"{tuple(self.scale.shape)} and {tuple(self.mix.shape)}"
            )
        if not (torch.isfinite(self.scale).all() and torch.isfinite(self.mix).all()):
            raise ValueError("expected finite factors, got NaN or infinity in an edit")

    @classmethod
    def none(cls, n_layers: int, n_heads: int, variants: int = 1) -> HeadEdits:
        """Variants that change nothing."""
        shape = (variants, n_layers, n_heads)
        return cls(torch.ones(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64))

    @classmethod
    def mask(
        cls, sets: Sequence[Iterable[Head]], n_layers: int, n_heads: int, *, by: str = "mean"
    ) -> HeadEdits:
        """One variant per set of heads, all of them masked at once.

        Args:
            sets: the heads to mask, per variant; an empty set changes nothing.
            by: ``"mean"`` of the other heads (Eq. 5) or ``"zero"``.

        Raises:
            ValueError: an unknown ``by``, or a head that the model does not have.
        """
        if by not in ("mean", "zero"):
            raise ValueError(f"expected by='mean' or 'zero', got {by!r}")
        edits = cls.none(n_layers, n_heads, len(sets))
        for v, heads in enumerate(sets):
            for head in heads:
                _check(head, n_layers, n_heads)
                edits.scale[v, head[0], head[1]] = 0
                edits.mix[v, head[0], head[1]] = 1 if by == "mean" else 0
        return edits

    @classmethod
    def rescale(
        cls, factors: Sequence[Mapping[Head, float]], n_layers: int, n_heads: int
    ) -> HeadEdits:
        """One variant per mapping from heads to the factor of their output (Eq. 10)."""
        edits = cls.none(n_layers, n_heads, len(factors))
        for v, mapping in enumerate(factors):
            for head, factor in mapping.items():
                _check(head, n_layers, n_heads)
                edits.scale[v, head[0], head[1]] = factor
        return edits

    def __len__(self) -> int:
        return len(self.scale)

    def __getitem__(self, index: slice) -> HeadEdits:
        return HeadEdits(self.scale[index], self.mix[index])

    @staticmethod
    def cat(parts: Sequence[HeadEdits]) -> HeadEdits:
        """The variants of all parts, in order."""
        return HeadEdits(torch.cat([p.scale for p in parts]), torch.cat([p.mix for p in parts]))

    def touched(self, layer: int) -> bool:
        """Does any variant change a head of this layer?"""
        return bool((self.scale[:, layer] != 1).any() or (self.mix[:, layer] != 0).any())

    def first_layer(self) -> int:
        """The first layer that any variant changes; the number of layers if none does."""
        n = self.scale.shape[1]
        return next((k for k in range(n) if self.touched(k)), n)

    def apply(self, layer: int, z: Tensor) -> Tensor:
        """Edit the concatenated head outputs of a layer.

        Args:
            z: ``(V or 1, S, n_heads * d_head)``; a single row is edited in ``V`` ways.

        Returns:
            ``(V, S, n_heads * d_head)``.
        """
        H = self.scale.shape[2]
        a = z.unflatten(-1, (H, -1))  # (V or 1, S, H, d_head)
        scale = self.scale[:, layer].to(z.device, z.dtype)[:, None, :, None]
        mix = self.mix[:, layer].to(z.device, z.dtype)[:, None, :, None]
        edited = a * scale
        if bool((self.mix[:, layer] != 0).any()):
            others = (a.sum(-2, keepdim=True) - a) / (H - 1)  # mean of the other heads, Eq. 5
            edited = edited + mix * others
        return edited.flatten(-2)


def _check(head: Head, n_layers: int, n_heads: int) -> None:
    if not (0 <= head[0] < n_layers and 0 <= head[1] < n_heads):
        raise ValueError(
            f"no head L{head[0]}.H{head[1]}; this model has layers 0-{n_layers - 1} and heads "
            f"0-{n_heads - 1}"
        )
