"""Words and patches in one space: a patch resembles the words for what it shows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vseam_lib.world import ontology as o
from vseam_lib.world.items import Text
from vseam_lib.world.pool import IGNORE, Pool


def words_of_patches(pool: Pool, text: Text) -> Tensor:
    """Token ids of the words for class, colour and material of every patch, ``(n, 64, 3)``."""
    tables = []
    for names in (("", *o.CLASSES), tuple(o.COLORS), o.MATERIALS):
        tables.append(torch.tensor([text.ids(w)[0] if w else IGNORE for w in names]))
    ids = [
        torch.where(labels >= 0, table[labels.clamp(min=0)], IGNORE)
        for labels, table in zip(pool.patches[:, :3].unbind(1), tables, strict=True)
    ]
    return torch.stack(ids, -1)


def naming(image: Tensor, table: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of the words for what a patch shows under its similarity to all words.

    Args:
        image: ``(B, 64, d)``.
        table: ``(vocab, d)``.
        words: ``(B, 64, 3)`` token ids, -100 where there is no word.
    """
    d = table.shape[1]
    logits = F.rms_norm(image, (d,)) @ F.rms_norm(table, (d,)).T / d**0.5
    log_p = logits.log_softmax(-1)
    said = words >= 0
    picked = log_p.gather(-1, words.clamp(min=0))
    return -(picked * said).sum() / said.sum()
