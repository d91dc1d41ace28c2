"""Greedy forward selection of heads to amplify or silence, against top-K lists (Eq. 10).

1. Start from the unedited model.
2. Add each head that is left to the heads chosen so far, at its own factor, and measure the mean
   probability of the right answer on the identification questions.
3. Keep the head that raises it most; repeat, until no head raises it or enough are chosen.

Probability instead of accuracy decides, because single heads seldom turn a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vseam_lib.causal.interventions import HeadEdits
from vseam_lib.causal.ranking import HeadSets
from vseam_lib.evaluate import answers
from vseam_lib.triples import VQATriple
from vseam_lib.vlm.adapter import Adapter, Head

AMPLIFIED, SILENCED = 2.0, 0.0  # what Eq. 10 gives the most important heads


class Selection(NamedTuple):
    """Heads with their factors in the order of choice, and what each step gave.

    Attributes:
        path: rows ``round, head, factor, p, accuracy`` on the identification questions: the mean
            probability of the right answer (0 to 1) and the accuracy (per cent); round 0 is the
            unedited model.
    """

    factors: dict[Head, float]
    path: pd.DataFrame

    def edits(self, n_layers: int, n_heads: int) -> HeadEdits:
        """All chosen heads at their factors, as one variant."""
        return HeadEdits.rescale([self.factors], n_layers, n_heads)


def candidates(sets: HeadSets) -> dict[Head, float]:
    """Positive heads to amplify and negative ones to silence; heads in both sets are neither."""
    both = sets.positive.keys() & sets.negative.keys()
    pool = dict.fromkeys(sets.positive, AMPLIFIED) | dict.fromkeys(sets.negative, SILENCED)
    return {head: factor for head, factor in pool.items() if head not in both}


def forward_selection(
    vlm: Adapter,
    triples: Sequence[VQATriple],
    pool: Mapping[Head, float],
    store: Path | str,
    *,
    rounds: int,
) -> Selection:
    """Choose up to ``rounds`` heads of ``pool`` one by one.

    Costs one variant per head left and round; the results are stored.

    Args:
        triples: the identification questions, of one category.
        pool: candidate heads and the factor that each would get.

    Raises:
        ValueError: an empty pool, no questions, or ``rounds`` below 1.
    """
    if not pool or not triples or rounds < 1:
        raise ValueError(
            f"expected candidate heads, questions and at least one round, got {len(pool)} heads, "
            f"{len(triples)} questions and {rounds} rounds; a category without heads cannot be "
            "searched, try overlap='disjoint' or a larger K"
        )
    shape = (vlm.n_layers, vlm.n_heads)
    chosen: dict[Head, float] = {}
    path = []
    for turn in range(1, min(rounds, len(pool)) + 1):
        options = {str(h): chosen | {h: f} for h, f in pool.items() if h not in chosen}
        trials = {"chosen": HeadEdits.rescale([chosen], *shape)}
        trials |= {name: HeadEdits.rescale([f], *shape) for name, f in options.items()}
        by_edit = answers(vlm, triples, trials, store).groupby("edit", sort=False)
        p, accuracy = by_edit["p"].mean(), 100 * by_edit["right"].mean()
        if not path:
            path.append((0, "", 1.0, p["chosen"], accuracy["chosen"]))
        best = max(options, key=lambda name: p[name])
        if p[best] <= p["chosen"]:
            break
        chosen = options[best]
        path.append((turn, best, list(chosen.values())[-1], p[best], accuracy[best]))
    return Selection(
        chosen, pd.DataFrame(path, columns=["round", "head", "factor", "p", "accuracy"])
    )
