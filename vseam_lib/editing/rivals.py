"""The offline rewriter: counterfactual questions by grammar and ontology, without a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping

from vseam_lib.editing.counterfactual import Counterfactual, Refusal
from vseam_lib.editing.grammar import Parse, Unreadable, parse
from vseam_lib.editing.validation import stated_unit, validate
from vseam_lib.editing.vocabulary import Vocabulary
from vseam_lib.triples import VQATriple

RULES = 1  # to be raised with any change of grammar or choice that changes an outcome
Allowed = Callable[[VQATriple], Collection[str] | None]


class OfflineRewriter:
    """Swaps the asked unit for what the full answer states, or else for a rival.

    A choice depends on the seed and the triple's id alone, never on other triples.

    Args:
        vocabulary: a vocabulary, or ``"gqa"`` or ``"world"``.
        seed: another seed chooses other rivals.
        present: image id -> names of the objects in the image, as scene graphs give them. A
            "Yes" question about an object is then not given one that is already there, and a
            "No" question whose full answer does not say what is there is given one that is.
        allowed: called with a triple; returns the units that may replace the asked one, or
            ``None`` for any. It does not apply to what the full answer states. Its qualified name
            becomes part of :attr:`name`, so give two rules two names.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary | str,
        seed: int = 0,
        present: Mapping[str, Collection[str]] | None = None,
        allowed: Allowed | None = None,
    ) -> None:
        self.vocabulary = vocabulary_named(vocabulary)
        self.seed = seed
        self._present = present
        self._allowed = allowed
        self._name = self._describe()

    @property
    def name(self) -> str:
        """Rules, vocabulary and seed, with a digest of ``present`` and the name of ``allowed``."""
        return self._name

    def _describe(self) -> str:
        v = self.vocabulary
        parts = [f"offline-{RULES}", f"{v.name}-{v.digest}", f"seed-{self.seed}"]
        if self._present is not None:
            parts.append(f"present-{present_digest(self._present)}")
        if self._allowed is not None:
            rule = getattr(self._allowed, "__qualname__", type(self._allowed).__qualname__)
            parts.append(f"allowed-{rule}")
        return "/".join(parts)

    def __repr__(self) -> str:
        return f"OfflineRewriter({self.name})"

    def rewrite(self, triples: Iterable[VQATriple]) -> list[Counterfactual | Refusal]:
        """One outcome per triple, in their order."""
        return [self._rewrite(triple) for triple in triples]

    def _rewrite(self, triple: VQATriple) -> Counterfactual | Refusal:
        present = present_in(self._present, triple)
        try:
            asked = parse(triple.question, triple.category, self.vocabulary)
            new = stated_unit(triple, asked, self.vocabulary)
            if new is None:
                new = self._choose(triple, asked, present)
        except Unreadable as problem:
            return Refusal(triple.id, problem.reason, problem.detail)
        if asked.kind == "material" and " made " not in f"{asked.before} ":
            new = self.vocabulary.adjective(new)
        return validate(
            triple,
            asked.render(new),
            vocabulary=self.vocabulary,
            rewriter=self.name,
            present=present,
        )

    def _choose(self, triple: VQATriple, asked: Parse, present: Collection[str] | None) -> str:
        v = self.vocabulary
        rivals = v.rivals(asked.kind, asked.unit, asked.about)
        if present is not None and asked.kind in v.objects:
            if triple.answer == "Yes":
                rivals = tuple(r for r in rivals if not any(v.alike(r, p) for p in present))
            else:
                rivals = tuple(p for p in present if v.object_kind(p) == asked.kind)
        allowed = self._allowed(triple) if self._allowed else None
        if allowed is not None:
            rivals = tuple(r for r in rivals if r in allowed)
        if not rivals:
            raise Unreadable("no rival that may take its place", asked.unit)
        # A draw per rival, so that ruling one out changes only the choices that fell on it.
        return min(rivals, key=lambda r: (_draw(self.seed, triple.id, r), r))


def _draw(seed: int, triple_id: str, rival: str) -> str:
    return hashlib.sha256(json.dumps([seed, triple_id, rival]).encode()).hexdigest()


def present_digest(present: Mapping[str, Collection[str]]) -> str:
    """Digest of which objects are in which image."""
    content = json.dumps({k: sorted(set(names)) for k, names in present.items()}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def vocabulary_named(vocabulary: Vocabulary | str) -> Vocabulary:
    """A vocabulary itself, or the one of a name.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(vocabulary, Vocabulary):
        return vocabulary
    makers = {"gqa": Vocabulary.gqa, "world": Vocabulary.world}
    if vocabulary not in makers:
        raise ValueError(f"expected a Vocabulary, 'gqa' or 'world', got {vocabulary!r}")
    return makers[vocabulary]()


def present_in(
    present: Mapping[str, Collection[str]] | None, triple: VQATriple
) -> Collection[str] | None:
    """Names of the objects in a triple's image; ``None`` if no images were described.

    Raises:
        KeyError: images were described, but not this one.
    """
    if present is None:
        return None
    if triple.image_id not in present:
        raise KeyError(
            f"triple {triple.id}: expected the objects of image {triple.image_id} in `present`, "
            f"which describes {len(present)} others; take them from the same scene graphs"
        )
    return present[triple.image_id]
