"""What a rewriter knows: the semantic units of a data set and what may replace them.

A :class:`Vocabulary` recognises colours, materials, objects, places and actions, and proposes
rivals: plausible, visibly different substitutes. There is one for GQA and one for the embedded
world; ``dataclasses.replace`` extends either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property

from vseam_lib.editing import gqa_likenesses as alike
from vseam_lib.editing import gqa_words as words
from vseam_lib.sources import ontology

BRIGHTNESS = frozenset({"bright", "dark", "light", "pale"})
Rivals = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, repr=False)
class Vocabulary:
    """Semantic units and their rivals. All words are in lower case.

    Attributes:
        name: ``"gqa"``, ``"world"``, ...
        colors: names of colours.
        color_rivals: colours that may replace another.
        shades: words that may precede a colour ("light brown").
        materials: name or adjective of a material -> the material.
        material_rivals: material -> its rivals; ``""`` serves the others.
        objects: kind of object (``"animal"``, ...) -> its nouns, singular and plural.
        object_rivals: kind of object -> groups of singular nouns that may replace each other;
            the first group serves the nouns that are in no other.
        opposites: place -> the place that excludes it.
        converses: place -> the place that says the same of the exchanged objects.
        verbs: verbs of actions, in ``-ing``.
        action_rivals: action -> object or kind of object -> rivals; ``""`` is any object. The
            action ``""`` serves all other actions without a preposition.
        postures: verbs that replace each other before any preposition.
        motions: the same before :attr:`motion_particles`.
        motion_particles: prepositions of motions.
        likenesses: pairs of units that say the same or cannot be told apart in a picture.
    """

    name: str
    colors: frozenset[str]
    color_rivals: tuple[str, ...]
    shades: frozenset[str] = frozenset()
    materials: Mapping[str, str]
    material_rivals: Rivals
    objects: Mapping[str, frozenset[str]]
    object_rivals: Mapping[str, tuple[tuple[str, ...], ...]]
    opposites: Mapping[str, str]
    converses: Mapping[str, str]
    verbs: frozenset[str]
    action_rivals: Mapping[str, Rivals]
    postures: tuple[str, ...] = ()
    motions: tuple[str, ...] = ()
    motion_particles: frozenset[str] = frozenset()
    likenesses: frozenset[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        return f"Vocabulary({self.name}-{self.digest})"

    @staticmethod
    def gqa() -> Vocabulary:
        """The vocabulary of GQA's questions, genuine or released with the paper."""
        return _gqa()

    @staticmethod
    def world() -> Vocabulary:
        """The vocabulary of the embedded world: nothing that it cannot draw."""
        return _world()

    @cached_property
    def digest(self) -> str:
        """Digest of every word and rival."""
        content = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @cached_property
    def _singulars(self) -> dict[str, str]:
        nouns = [n for kind in self.objects.values() for n in sorted(kind)]
        known = set(nouns)
        plurals = {plural(n): n for n in nouns if plural(n) != n}
        return {p: n for p, n in plurals.items() if p in known}

    def color(self, text: str) -> str | None:
        """The colour that a text names, in lower case and GQA's spelling; ``None`` if none."""
        text = " ".join(text.lower().split())
        shade, _, rest = text.partition(" ")
        bare = rest if shade in self.shades and rest else text
        return text.replace("grey", "gray") if bare in self.colors else None

    def material(self, text: str) -> str | None:
        """The material that a noun or adjective names; ``None`` if none."""
        return self.materials.get(" ".join(text.lower().split()))

    def adjective(self, material: str) -> str:
        """How "Is the chair ...?" names a material: "wooden" for wood, "plastic" for plastic."""
        known = self.materials.items()
        return next((a for a, m in known if m == material and a != m), material)

    def object_kind(self, noun: str) -> str | None:
        """Kind of object that a noun, singular or plural, names; ``None`` if none."""
        noun = " ".join(noun.lower().split())
        return next((kind for kind, nouns in self.objects.items() if noun in nouns), None)

    def singular(self, noun: str) -> str:
        """Singular of a known noun; the noun itself where it is none's plural."""
        return self._singulars.get(noun, noun)

    def alike(self, one: str, other: str) -> bool:
        """Whether two units say the same or cannot be told apart in a picture.

        Nouns compare by their singular, shaded colours by the colour, actions by their verb.
        """
        ours, theirs = self._readings(one), self._readings(other)
        pairs = ((a, b) for a in ours for b in theirs)
        return any(a == b or frozenset((a, b)) in self.likenesses for a, b in pairs)

    @cached_property
    def _read(self) -> dict[str, tuple[str, ...]]:
        return {}

    def _readings(self, unit: str) -> tuple[str, ...]:
        """A unit as it is compared: its plain name and, of an action, its verb."""
        if unit not in self._read:
            plain = " ".join(unit.lower().split())
            first, _, rest = plain.partition(" ")
            if first in self.shades and rest in self.colors:
                plain = rest
            name = self.singular(self.materials.get(plain, plain))
            self._read[unit] = (name, first) if first in self.verbs else (name,)
        return self._read[unit]

    def rivals(self, kind: str, unit: str, about: str = "") -> tuple[str, ...]:
        """What may replace a unit, in no particular order; empty if nothing is known.

        Args:
            kind: ``"color"``, ``"material"``, ``"spatial"``, ``"action"``, or a kind of object.
            unit: the asked unit.
            about: noun of the object of an action.
        """
        if kind == "color":
            found: Iterable[str] = self.color_rivals
        elif kind == "material":
            material = self.materials.get(unit, unit)
            found = self.material_rivals.get(material) or self.material_rivals.get("", ())
        elif kind == "spatial":
            found = (self.opposites[unit],)
        elif kind == "action":
            found = self._actions(unit, about)
        else:
            found = self._nouns(kind, unit)
        return tuple(r for r in dict.fromkeys(found) if not self.alike(r, unit))

    def _actions(self, action: str, about: str) -> Iterator[str]:
        kinds = (self.singular(about), self.object_kind(about) or "", "")
        listed = self.action_rivals.get(action)
        verb, _, particle = action.partition(" ")
        if listed is None and particle and self.postures:
            moves = particle in self.motion_particles
            yield from (f"{v} {particle}" for v in (self.motions if moves else self.postures))
        else:
            listed = self.action_rivals.get("", {}) if listed is None else listed
            yield from next((listed[k] for k in kinds if k in listed), ())

    def _nouns(self, kind: str, noun: str) -> Iterator[str]:
        single = self.singular(noun)
        number = plural if single != noun else str
        first, *others = self.object_rivals[kind]
        near = [n for group in others if any(self.alike(single, m) for m in group) for n in group]
        few = sum(not self.alike(single, n) for n in near) < 2
        yield from (number(n) for n in (*near, *(first if few else ())))


def _plain(value: object) -> object:
    """A JSON-able copy with a fixed order."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, frozenset):
        return sorted((_plain(v) for v in value), key=str)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _list(text: str) -> tuple[str, ...]:
    return tuple(" ".join(w.split()) for w in text.split(",") if w.strip())


def _lines(text: str) -> list[tuple[str, ...]]:
    return [_list(line) for line in text.strip().splitlines()]


def _table(text: str) -> dict[str, tuple[str, ...]]:
    pairs = (line.partition(":") for line in text.strip().splitlines())
    return {key.strip(): _list(value) for key, _, value in pairs}


def plural(noun: str) -> str:
    """English plural of a noun of the vocabularies."""
    return dict(_pairs(words.PLURALS)).get(noun) or ontology.plural(noun)


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for pair in _list(text):
        key, _, value = pair.partition(": ")
        yield key, value


def _gqa() -> Vocabulary:
    groups = {kind: tuple(_lines(text)) for kind, text in words.OBJECTS.items()}
    objects = {}
    for kind, lines in groups.items():
        nouns = {n for line in lines for n in line}
        objects[kind] = frozenset(nouns | {plural(n) for n in nouns})
    for category, listed in ontology.NOUNS.items():
        objects[category.value] |= listed
    materials = {m: m for m in ontology.MATERIALS | set(_list(words.MATERIALS))}
    materials |= dict(_pairs(words.MATERIAL_ADJECTIVES))
    actions: dict[str, dict[str, tuple[str, ...]]] = {"": {"": _list(words.ACTIONS_ON_ANYTHING)}}
    for key, rivals in _table(words.ACTION_RIVALS).items():
        action, _, kind = (part.strip() for part in key.partition("|"))
        actions.setdefault(action, {})[kind] = rivals
    mutual = (alike.COLORS, alike.PLACES)
    headed = (alike.MATERIALS, alike.OBJECTS, alike.ACTIONS)
    pairs = {frozenset((a, b)) for t in mutual for line in _lines(t) for a in line for b in line}
    pairs |= {frozenset((line[0], b)) for t in headed for line in _lines(t) for b in line[1:]}
    return Vocabulary(
        name="gqa",
        colors=ontology.COLORS | set(_list(words.MORE_COLORS)),
        color_rivals=_list(words.COLORS),
        shades=frozenset(_list(words.SHADES)),
        materials=materials,
        material_rivals=_table(words.MATERIAL_RIVALS) | {"": _list(words.MATERIALS)[:3]},
        objects=objects,
        object_rivals=groups,
        opposites={place: other for place, (other,) in _table(words.OPPOSITES).items()},
        converses={place: other for place, (other,) in _table(words.CONVERSES).items()},
        verbs=ontology.ACTION_VERBS | set(_list(words.MORE_VERBS)),
        action_rivals=actions,
        postures=_list(words.POSTURES),
        motions=_list(words.MOTIONS),
        motion_particles=frozenset(_list(words.MOTION_PARTICLES)),
        likenesses=frozenset(p for p in pairs if len(p) == 2),
    )


def _world() -> Vocabulary:
    from vseam_lib.world import ontology as o

    actions: dict[str, dict[str, tuple[str, ...]]] = {a: {} for a in o.ACTIONS}
    for noun, possible in o.ACTIONS_ON.items():
        for action in possible:
            actions[action][noun] = possible
    return Vocabulary(
        name="world",
        colors=frozenset(o.COLORS),
        color_rivals=tuple(o.COLORS),
        materials={m: m for m in o.MATERIALS},
        material_rivals={"": o.MATERIALS},
        objects={kind: frozenset(nouns) for kind, nouns in o.GROUPS.items()},
        object_rivals={kind: (nouns,) for kind, nouns in o.GROUPS.items()},
        opposites=o.OPPOSITE,
        converses=o.OPPOSITE,
        verbs=frozenset(o.ACTIONS),
        action_rivals=actions,
    )
