"""What a masked head may be replaced by, besides the mean of the others (Eq. 5) and zero.

``dataset``: the head's mean output over all positions of all questions, one vector per head.
``resample``: the head's outputs in another image's run, position by position: image tokens by
their place, question tokens counted from the question's end, where the answer is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vseam_lib.causal.groups import encode_group
from vseam_lib.causal.trace import Recording, record
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group


@torch.no_grad()
def mean_outputs(adapter: Adapter, groups: Sequence[Sequence[VQATriple]]) -> list[Tensor]:
    """Per layer, the mean concatenated head output over all positions, ``(1, H * d_head)``."""
    total: list[Tensor] = []
    positions = 0
    for group in groups:
        kept = record(adapter, encode_group(adapter, group), keep=["heads"]).kept("heads")
        sums = [z[0].double().sum(0, keepdim=True) for z in kept]
        total = [a + b for a, b in zip(total, sums, strict=True)] if total else sums
        positions += kept[0].shape[1]
    return [t / positions for t in total]


def donor_of(images: Sequence[str], seed: int) -> np.ndarray:
    """For each group, given by its image, the group of another image whose run it borrows.

    Every image lends to one other; if it has several groups, they take turns.

    Raises:
        ValueError: fewer than two images.
    """
    names, index = np.unique(np.asarray(images, dtype=str), return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"expected at least two images to resample from, got {len(names)}")
    order = np.random.default_rng(seed).permutation(len(names))
    lender = np.empty(len(names), int)
    lender[order] = np.roll(order, 1)
    groups = [np.flatnonzero(index == k) for k in range(len(names))]
    donor = np.empty(len(index), int)
    for k, own in enumerate(groups):
        donor[own] = np.resize(groups[lender[k]], len(own))
    return donor


def align_outputs(donor: Recording, group: Group) -> list[Tensor]:
    """Per layer, another run's head outputs at the positions of a group, ``(S, H * d_head)``.

    Raises:
        ValueError: a donor whose shared part (prompt and image) has another length.
    """
    mine, theirs = group.segments, donor.group.segments
    if int((mine == 0).sum()) != int((theirs == 0).sum()):
        raise ValueError(
            f"expected a donor with {int((mine == 0).sum())} shared positions, got "
            f"{int((theirs == 0).sum())}; resample among images of one prompt and size"
        )
    questions = int(theirs.max())
    at = torch.arange(len(mine))
    for segment in range(1, int(mine.max()) + 1):
        own = torch.nonzero(mine == segment)[:, 0]
        other = torch.nonzero(theirs == (segment - 1) % questions + 1)[:, 0]
        from_end = torch.arange(len(own) - 1, -1, -1).clamp(max=len(other) - 1)
        at[own] = other[len(other) - 1 - from_end]
    return [z[0, at.to(z.device)] for z in donor.kept("heads")]
