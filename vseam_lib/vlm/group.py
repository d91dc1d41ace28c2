"""Questions about one image as one sequence."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Group(NamedTuple):
    """Questions about one image, packed into one sequence.

    The text before the image and the image come once; every question follows, seeing them and
    itself but no other question.

    Attributes:
        embeds: ``(1, S, d_model)`` input embeddings.
        segments: ``(S,)`` 0 for the shared part, ``i`` for the i-th question, counted from 1.
        last: ``(Q,)`` position in ``S`` of each question's last token, where the answer is read.
        gold: ``(Q,)`` token id of each question's right answer.
        image: half-open range of the image tokens.
        ids: ``(S,)`` token ids, the image token's where the image is.
    """

    embeds: Tensor
    segments: Tensor
    last: Tensor
    gold: Tensor
    image: tuple[int, int]
    ids: Tensor

    def positions(self) -> Tensor:
        """Position ids ``(1, S)``: every question continues the shared part."""
        sizes = torch.bincount(self.segments)
        runs = [torch.arange(int(n)) for n in sizes]
        after = [runs[0], *(int(sizes[0]) + r for r in runs[1:])]
        return torch.cat(after)[None].to(self.embeds.device)

    def mask(self) -> Tensor:
        """Additive attention mask ``(1, 1, S, S)``."""
        one, two = self.segments[:, None], self.segments[None, :]
        seen = ((two == 0) | (one == two)).tril()
        low = torch.finfo(self.embeds.dtype).min
        blocked = torch.zeros(seen.shape, dtype=self.embeds.dtype).masked_fill(~seen, low)
        return blocked[None, None].to(self.embeds.device)
