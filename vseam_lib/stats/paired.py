"""Two systems that answered the same questions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Paired:
    """Two systems' answers to the same questions, in one order.

    Attributes:
        new, old: ``(N,)`` 1 for a right answer and 0 for a wrong one, or the share of right
            answers over several draws of a random system.
        clusters: ``(N,)`` the question's image.

    Raises:
        ValueError: unequal lengths, values outside 0 to 1 (or not finite), or fewer than two
            images.
    """

    new: np.ndarray
    old: np.ndarray
    clusters: np.ndarray

    def __post_init__(self) -> None:
        new, old = (np.asarray(v, float) for v in (self.new, self.old))
        clusters = np.asarray(self.clusters, dtype=str)
        if new.ndim != 1 or not new.shape == old.shape == clusters.shape:
            raise ValueError(
                "expected one answer of either system and one image per question, got shapes "
                f"{new.shape}, {old.shape} and {clusters.shape}"
            )
        for name, values in (("new", new), ("old", old)):
            wrong = ~((values >= 0) & (values <= 1))  # NaN is neither
            if wrong.any():
                raise ValueError(
                    f"{name}: expected shares of right answers between 0 and 1, got "
                    f"{wrong.sum()} others, the first {values[wrong][0]}"
                )
        images = len(set(clusters.tolist()))
        if images < 2:
            raise ValueError(
                f"expected questions about at least two images, got {len(new)} question(s) about "
                f"{images} image(s); nothing can be said about other images"
            )
        for name, values in (("new", new), ("old", old), ("clusters", clusters)):
            object.__setattr__(self, name, values)

    @classmethod
    def of(cls, table: pd.DataFrame, new: str, old: str, *, column: str = "right") -> Paired:
        """Two edits of a table of answers; an edit of several draws is averaged over them.

        Args:
            table: rows of :func:`vseam_lib.evaluate.answers`.
            new, old: names in its column ``edit``; ``"random remove"`` stands for
                ``random remove/0``, ``random remove/1``, ...
            column: ``right`` or ``yes``.

        Raises:
            ValueError: an unknown edit, a repeated answer, or edits that did not answer the same
                questions.
        """
        a, b = (_answers(table, edit, column) for edit in (new, old))
        if not a.index.equals(b.index):
            missing = len(b.index.difference(a.index)), len(a.index.difference(b.index))
            raise ValueError(
                f"expected {new!r} and {old!r} to answer the same questions, got {missing[0]} "
                f"that only {old!r} answered and {missing[1]} that only {new!r} answered; keep "
                "the categories in which both exist"
            )
        return cls(a.to_numpy(), b.to_numpy(), a.index.get_level_values("image_id").to_numpy())

    @cached_property
    def difference(self) -> np.ndarray:
        """``(N,)`` new minus old, between -1 and 1."""
        return self.new - self.old

    @cached_property
    def sizes(self) -> np.ndarray:
        """``(images,)`` questions per image, in the order of the images' names."""
        return np.unique(self.clusters, return_counts=True)[1]

    @cached_property
    def sums(self) -> np.ndarray:
        """``(images,)`` sum of the differences of each image."""
        index = np.unique(self.clusters, return_inverse=True)[1]
        return np.bincount(index, weights=self.difference)

    @property
    def change(self) -> float:
        """Mean difference in points."""
        return 100 * float(self.difference.mean())

    @property
    def is_binary(self) -> bool:
        """Whether every answer is right or wrong, not an average over draws."""
        return bool(np.isin(np.concatenate([self.new, self.old]), (0, 1)).all())

    @property
    def discordant(self) -> tuple[int, int]:
        """Questions that only ``new`` answers rightly, and that only ``old`` does.

        Raises:
            ValueError: answers averaged over draws, which are neither right nor wrong.
        """
        if not self.is_binary:
            raise ValueError(
                "expected answers that are right (1) or wrong (0), got averages over draws, which "
                "have no discordant pairs; compare with one draw, or use sign_flip_test"
            )
        return int((self.difference > 0).sum()), int((self.difference < 0).sum())

    def swapped(self, seed: int) -> Paired:
        """The same with the two systems' names exchanged in a random half of the images.

        What is left of a difference is chance: this is a draw from the null hypothesis of
        :func:`~vseam_lib.stats.significance.sign_flip_test`.
        """
        index = np.unique(self.clusters, return_inverse=True)[1]
        swap = (np.random.default_rng(seed).random(len(self.sizes)) < 0.5)[index]
        return Paired(
            np.where(swap, self.old, self.new), np.where(swap, self.new, self.old), self.clusters
        )


def _answers(table: pd.DataFrame, edit: str, column: str) -> pd.Series:
    """Mean of a column over the draws of an edit, by question and image."""
    own = table[(table["edit"] == edit) | table["edit"].str.startswith(f"{edit}/")]
    if own.empty:
        known = sorted(set(table["edit"].str.split("/").str[0]))
        raise ValueError(f"expected an edit in {known}, got {edit!r}")
    if own.duplicated(["id", "edit"]).any():
        twice = own.loc[own.duplicated(["id", "edit"]), "id"].iloc[0]
        raise ValueError(f"expected one answer per question under {edit!r}, got two of {twice!r}")
    groups = own.groupby(["id", "image_id"], sort=True)[column]
    if groups.size().nunique() > 1:
        raise ValueError(f"expected all draws of {edit!r} on every question, got fewer on some")
    return groups.mean()
