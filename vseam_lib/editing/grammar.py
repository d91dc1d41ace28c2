"""Reads yes/no questions as a template with one semantic unit, and writes them with another.

The forms are those of the paper (Tables 6 and 9), of its released questions and of GQA's plain
questions: ``Is the car red?``, ``Is the chair made of wood?``, ``Is the chair wooden?``, ``Is
there a dog in this picture?``, ``Is the cat to the left of the sofa?``, ``Is the man riding the
horse?``. The paper excludes compound questions (appendix B), and so does this grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from vseam_lib.editing.vocabulary import BRIGHTNESS, Vocabulary
from vseam_lib.sources.ontology import relation_category
from vseam_lib.triples import Category, Level

DETERMINERS = frozenset("the this that these those a an his her its their some".split())
PREPOSITIONS = frozenset(
    """across against along around at by down for from in into near of off on onto out over past
    through to toward towards under up with""".split()
)
_HERE = r"(?:in|on|inside) (?:this|the|that) (?:picture|image|photo|photograph|scene)"
_EXISTS = re.compile(
    r"^(?P<before>(?:(?:is|are) there|do you see|can you see)(?: (?:an?|any|some))?) "
    rf"(?P<unit>.+?)(?P<after> {_HERE}| here| there)?$",
    re.IGNORECASE,
)
_MADE_OF = re.compile(
    r"^(?P<before>(?:is|are) (?P<noun>.+?) made (?:out )?(?:of|from)) (?P<unit>.+)$", re.IGNORECASE
)
_RELATION = re.compile(r"^(?P<verb>is|are) (?P<rest>.+)$", re.IGNORECASE)
_NOUNS_IN_ING = frozenset(
    """awning building ceiling clothing covering earring icing king lighting painting railing ring
    string swing thing wing""".split()
)
_CHOICES = {"or": "a choice ('or')", "and": "two properties at once ('and')"}
_AN_DESPITE_CONSONANT = ("hour", "heir", "suv")
_A_DESPITE_VOWEL = ("uni", "urin", "ute", "uku", "used", "euro", "one")


class Unreadable(ValueError):
    """A question that the grammar refuses.

    Attributes:
        reason: short and countable.
        detail: the words that gave rise to it, possibly empty.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Parse:
    """A question cut at its semantic unit: ``before unit after?``.

    Attributes:
        kind: what the unit is: ``"color"``, ``"material"``, ``"spatial"``, ``"action"``, or the
            kind of object in the vocabulary that an existence question asks about.
        unit: in lower case.
        nouns: the nouns around the unit, with their determiners, in lower case. They are what
            the question is grounded in and stay as they are.
    """

    kind: str
    before: str
    unit: str
    after: str
    nouns: tuple[str, ...] = ()

    @property
    def template(self) -> tuple[str, str]:
        """What is around the unit, in lower case and without the article that agrees with it."""
        before = re.sub(r"\ban$", "a", self.before.lower()) if not self.nouns else self.before
        return before.lower(), self.after.lower()

    @property
    def about(self) -> str:
        """Noun of a relation's object, without its determiner; empty for other questions."""
        return without_determiner(self.nouns[1]) if len(self.nouns) == 2 else ""

    def render(self, unit: str) -> str:
        """The question with another unit; the article before it agrees."""
        before = self.before
        if not self.nouns:
            before = re.sub(r"\b([Aa])n?$", rf"\1{article(unit)[1:]}", before)
        return f"{before} {unit}{' ' if self.after else ''}{self.after}?"


def article(noun: str) -> str:
    """``"a"`` or ``"an"``, by the first sound of a noun."""
    noun = noun.lower()
    vowel = noun.startswith(("a", "e", "i", "o", "u")) and not noun.startswith(_A_DESPITE_VOWEL)
    return "an" if vowel or noun.startswith(_AN_DESPITE_CONSONANT) else "a"


def without_determiner(noun_phrase: str) -> str:
    """A noun phrase in lower case without the word "the", "a", ... that opens it."""
    first, _, rest = noun_phrase.lower().partition(" ")
    return rest if first in DETERMINERS and rest else noun_phrase.lower()


def parse(question: str, category: Category, vocabulary: Vocabulary) -> Parse:
    """Find the one semantic unit of a question.

    Args:
        question: with or without its question mark.
        category: the category that the question is filed under. An object of another kind, or a
            place where an action is expected, is read as what it is.
        vocabulary: which units there are.

    Raises:
        Unreadable: a compound question, a form that is not covered, or a unit that the
            vocabulary does not have.
    """
    text = " ".join(question.split()).rstrip(" ?.")
    for word in text.lower().split():
        if word in _CHOICES:
            raise Unreadable(_CHOICES[word])
    if category is Category.COLOR:
        return _color(text, vocabulary)
    if category is Category.MATERIAL:
        return _material(text, vocabulary)
    if category.level is Level.OBJECT:
        return _existence(text, vocabulary)
    return _relation(text, category, vocabulary)


def _color(text: str, vocabulary: Vocabulary) -> Parse:
    found = _last_words(text, vocabulary.color)
    if found is not None:
        return _attribute("color", *found)
    last = text.split()[-1].lower() if text else ""
    if last in BRIGHTNESS:
        raise Unreadable("a brightness is no colour that can be drawn", last)
    if vocabulary.color(last):
        raise Unreadable("question form not covered", text.lower())
    raise Unreadable("no colour of the vocabulary", last)


def _material(text: str, vocabulary: Vocabulary) -> Parse:
    made = _MADE_OF.match(text)
    if made:
        material = vocabulary.material(made["unit"])
        if material is None:
            raise Unreadable("no material of the vocabulary", made["unit"].lower())
        return _attribute("material", made["before"], material, made["noun"])
    found = _last_words(text, vocabulary.material)
    if found is None:
        raise Unreadable("no material of the vocabulary", text.split()[-1].lower() if text else "")
    before, _, noun = found
    return _attribute("material", before, text[len(before) + 1 :].lower(), noun)


def _last_words(text: str, recognise: Callable[[str], str | None]) -> tuple[str, str, str] | None:
    """``(before, unit, noun)`` of an attribute that is the last two words or the last one."""
    words = text.split()
    for count in (2, 1):
        unit, lead = recognise(" ".join(words[-count:])), words[:-count]
        looks = lead[-1:] and lead[-1].lower() in ("look", "seem", "appear")
        noun = lead[1:-1] if looks else lead[1:]
        verbs = ("do", "does") if looks else ("is", "are")
        if unit and len(noun) >= 2 and lead[0].lower() in verbs:
            return " ".join(lead), unit, " ".join(noun)
    return None


def _attribute(kind: str, before: str, unit: str, noun: str) -> Parse:
    if without_determiner(noun) == noun.lower():
        raise Unreadable("question form not covered", f"{noun!r} is no noun with its article")
    return Parse(kind, before, unit, "", (noun.lower(),))


def _existence(text: str, vocabulary: Vocabulary) -> Parse:
    match = _EXISTS.match(text)
    if match is None:
        raise Unreadable("question form not covered", text.lower())
    unit = match["unit"].lower()
    kind = vocabulary.object_kind(unit)
    if kind is None:
        raise Unreadable("no object of the vocabulary", unit)
    return Parse(kind, match["before"], unit, (match["after"] or "").strip())


def _relation(text: str, category: Category, vocabulary: Vocabulary) -> Parse:
    match = _RELATION.match(text)
    words = match["rest"].split() if match else []
    if len(words) < 4 or words[0].lower() not in DETERMINERS:
        raise Unreadable("question form not covered", text.lower())
    for start in range(2, len(words) - 1):
        relation = _starts_with_relation([w.lower() for w in words[start:]], vocabulary)
        if relation and start + relation < len(words):
            subject, asked = words[:start], words[start : start + relation]
            if _ends_in_unknown_verb(subject):
                break
            other = words[start + relation :]
            kind, lead, unit = _relation_unit(asked, category, vocabulary)
            before = " ".join([match["verb"], *subject, *lead])
            nouns = (" ".join(subject).lower(), " ".join(other).lower())
            return Parse(kind, before, unit, " ".join(other), nouns)
    raise Unreadable("no relation of the vocabulary", " ".join(words[2:-2]).lower())


def _ends_in_unknown_verb(subject: list[str]) -> bool:
    """Whether "the man juggling" was cut from "the man juggling near the tree"."""
    last = subject[-1].lower()
    return len(subject) > 2 and last.endswith("ing") and last not in _NOUNS_IN_ING


def _starts_with_relation(words: list[str], vocabulary: Vocabulary) -> int:
    """How many of the first words are a place, or a verb with its prepositions; 0 for neither."""
    place = _starts_with_place(words, vocabulary)
    if place or words[0] not in vocabulary.verbs:
        return place
    count = 1 + _starts_with_place(words[1:], vocabulary)
    while count < len(words) and words[count] in PREPOSITIONS:
        count += 1
    return count


def _starts_with_place(words: list[str], vocabulary: Vocabulary) -> int:
    sizes = range(min(5, len(words)), 0, -1)
    return next((n for n in sizes if " ".join(words[:n]) in vocabulary.opposites), 0)


def _relation_unit(
    asked: list[str], category: Category, vocabulary: Vocabulary
) -> tuple[str, list[str], str]:
    """Kind of a relation, the words of it that belong to the template, and its unit.

    "standing behind" states two things; the category says which of them is asked.
    """
    unit = " ".join(asked).lower()
    place = place_after_verb(unit, vocabulary)
    if category is Category.SPATIAL and place:
        return "spatial", asked[:1], place
    return ("spatial" if unit in vocabulary.opposites else "action"), [], unit


def place_after_verb(action: str, vocabulary: Vocabulary) -> str:
    """The place that "standing behind" states besides a posture; empty for "sitting on"."""
    verb, _, rest = action.partition(" ")
    if verb not in vocabulary.verbs or rest not in vocabulary.opposites:
        return ""
    if rest in ("far from", "close to", "on top of"):
        return rest
    return rest if relation_category(f"standing {rest}") is None else ""
