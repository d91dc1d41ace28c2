"""Interventions on attention heads, as data.

Every edit of the paper is linear in the head outputs of one layer: head ``h`` becomes
``scale * A_h + mix * mean of the other heads + swap * B_h`` with ``B`` head outputs from elsewhere
(a mean over the data set, or another question's run). Masking (Eq. 5) is ``scale 0, mix 1``;
removal by zero is ``scale 0``; replacement is ``scale 0, swap 1``; rescaling (Eq. 10) is
``scale 1 +- lambda``.
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
        scale, mix, swap: ``(V, n_layers, n_heads)``; ``swap`` is 0 if left out.
    """

    scale: Tensor
    mix: Tensor
    swap: Tensor | None = None

    def __post_init__(self) -> None:
        if self.swap is None:
            object.__setattr__(self, "swap", torch.zeros_like(self.mix))
        shapes = {tuple(x.shape) for x in (self.scale, self.mix, self.swap)}
        if len(shapes) > 1 or self.scale.dim() != 3:
            raise ValueError(
                "expected scale, mix and swap of one shape (variants, layers, heads), got "
                f"{' and '.join(map(str, sorted(shapes)))}"
            )
        if not all(torch.isfinite(x).all() for x in (self.scale, self.mix, self.swap)):
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
            by: ``"mean"`` of the other heads (Eq. 5), ``"zero"``, or ``"swap"`` for outputs
                given when the edit is applied.

        Raises:
            ValueError: an unknown ``by``, or a head that the model does not have.
        """
        if by not in ("mean", "zero", "swap"):
            raise ValueError(f"expected by='mean', 'zero' or 'swap', got {by!r}")
        edits = cls.none(n_layers, n_heads, len(sets))
        for v, heads in enumerate(sets):
            for head in heads:
                _check(head, n_layers, n_heads)
                edits.scale[v, head[0], head[1]] = 0
                edits.mix[v, head[0], head[1]] = float(by == "mean")
                edits.swap[v, head[0], head[1]] = float(by == "swap")
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

    def __getitem__(self, index: slice | Tensor) -> HeadEdits:
        return HeadEdits(self.scale[index], self.mix[index], self.swap[index])

    @staticmethod
    def cat(parts: Sequence[HeadEdits]) -> HeadEdits:
        """The variants of all parts, in order."""
        return HeadEdits(
            *(torch.cat([getattr(p, name) for p in parts]) for name in ("scale", "mix", "swap"))
        )

    def touched(self, layer: int) -> bool:
        """Does any variant change a head of this layer?"""
        added = (self.mix[:, layer] != 0) | (self.swap[:, layer] != 0)
        return bool((self.scale[:, layer] != 1).any() or added.any())

    def starts(self) -> Tensor:
        """The first layer that each variant changes, ``(V,)``; the number of layers if none."""
        changed = ((self.scale != 1) | (self.mix != 0) | (self.swap != 0)).any(-1)  # (V, layers)
        ends = torch.ones(len(self), 1, dtype=torch.bool)
        return torch.cat([changed, ends], 1).int().argmax(1)

    def apply(self, layer: int, z: Tensor, other: Tensor | None = None) -> Tensor:
        """Edit the concatenated head outputs of a layer.

        Args:
            z: ``(V or 1, S, n_heads * d_head)``; a single row is edited in ``V`` ways.
            other: ``(S or 1, n_heads * d_head)``, the outputs that ``swap`` mixes in.

        Returns:
            ``(V, S, n_heads * d_head)``.

        Raises:
            ValueError: an edit that swaps outputs in, without outputs of the right shape.
        """
        H = self.scale.shape[2]
        a = z.unflatten(-1, (H, -1))  # (V or 1, S, H, d_head)
        scale, mix, swap = (
            x[:, layer].to(z.device, z.dtype)[:, None, :, None]
            for x in (self.scale, self.mix, self.swap)
        )
        edited = a * scale
        if bool((self.mix[:, layer] != 0).any()):
            others = (a.sum(-2, keepdim=True) - a) / (H - 1)  # mean of the other heads, Eq. 5
            edited = edited + mix * others
        if bool((self.swap[:, layer] != 0).any()):
            if other is None or len(other) not in (1, z.shape[1]) or other.shape[-1] != z.shape[-1]:
                raise ValueError(
                    f"layer {layer}: expected head outputs to swap in of shape (1 or "
                    f"{z.shape[1]}, {z.shape[-1]}), got "
                    f"{None if other is None else tuple(other.shape)}"
                )
            edited = edited + swap * other.to(z).unflatten(-1, (H, -1))
        return edited.flatten(-2)


def _check(head: Head, n_layers: int, n_heads: int) -> None:
    if not (0 <= head[0] < n_layers and 0 <= head[1] < n_heads):
        raise ValueError(
            f"no head L{head[0]}.H{head[1]}; this model has layers 0-{n_layers - 1} and heads "
            f"0-{n_heads - 1}"
        )
