"""Checks any rewriter's question against the original: one semantic unit changed, no more.

The paper had people read every generated question (section 4.1); these checks refuse what can
be told without looking at the picture.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from vseam_lib.editing.counterfactual import Counterfactual, Refusal
from vseam_lib.editing.grammar import (
    Parse,
    Unreadable,
    parse,
    place_after_verb,
    without_determiner,
)
from vseam_lib.editing.vocabulary import BRIGHTNESS, Vocabulary
from vseam_lib.triples import Category, VQATriple

_STATEMENT = re.compile(
    r"^(?P<subject>(?:the|this|that|these|those|there|an?) ?.*?) (?P<verb>is|are) (?P<rest>.+)$"
)
IDENTICAL = "identical to the question"


def validate(
    triple: VQATriple,
    question: str,
    *,
    vocabulary: Vocabulary,
    rewriter: str,
    present: Collection[str] | None = None,
) -> Counterfactual | Refusal:
    """Accept a rewritten question or say why not.

    The question must have the original's template and nouns and differ in the one semantic unit,
    which must be of the same kind and, where the right answer is "No" and the full answer says
    what is there, agree with that. The question is returned in the original's wording.

    Args:
        triple: the original.
        question: what a rewriter made of it.
        vocabulary: the known units; others are refused.
        rewriter: name of the rewriter.
        present: names of the objects in the image, if they are known. A "Yes" question about an
            object must then be given one that is not there, and a "No" question one that is.
    """

    def refuse(reason: str, detail: str = "") -> Refusal:
        return Refusal(triple.id, reason, detail)

    try:
        asked = parse(triple.question, triple.category, vocabulary)
        stated = stated_unit(triple, asked, vocabulary)
        given = parse(question, triple.category, vocabulary)
    except Unreadable as problem:
        return refuse(problem.reason, problem.detail)
    change = f"{asked.unit!r} -> {given.unit!r}"
    if given.kind != asked.kind:
        return refuse("the unit is of another kind", f"{asked.kind} -> {given.kind}, {change}")
    if given.nouns != asked.nouns:
        return refuse("another object is asked about", f"{asked.nouns} -> {given.nouns}")
    if given.template != asked.template or not _same_place(asked, given, vocabulary):
        return refuse("more than the semantic unit changed", question)
    if given.unit == asked.unit:
        return refuse(IDENTICAL, question)
    known = stated is not None
    if stated is not None and not vocabulary.alike(given.unit, stated):
        return refuse("disagrees with the full answer", f"{change}, stated: {stated!r}")
    if stated is None and vocabulary.alike(asked.unit, given.unit):
        return refuse("cannot be told from the original in a picture", change)
    if present is not None and asked.kind in vocabulary.objects and stated is None:
        there = any(vocabulary.alike(given.unit, name) for name in present)
        if there is (triple.answer == "Yes"):
            return refuse(f"the object is {'already' if there else 'not'} in the picture", change)
        known = there
    return Counterfactual(
        triple_id=triple.id,
        question=asked.render(given.unit),
        old=asked.unit,
        new=given.unit,
        answer=triple.answer,
        rewriter=rewriter,
        stated=known or triple.answer == "Yes",
    )


def stated_unit(triple: VQATriple, asked: Parse, vocabulary: Vocabulary) -> str | None:
    """What the full answer of a "No" question says is there; ``None`` where it does not say.

    Raises:
        Unreadable: the label contradicts the full answer, or that names only a brightness.
    """
    said = _said(triple, asked, vocabulary)
    if said is None:
        return None
    if said in BRIGHTNESS:
        if triple.answer == "Yes":
            return None
        raise Unreadable("a brightness is no colour that can be drawn", said)
    same = said == asked.unit or vocabulary.materials.get(asked.unit) == said
    if triple.answer == "No":
        if same:
            raise Unreadable("labelled No, but the full answer affirms", triple.full_answer)
        return said
    opposite = vocabulary.opposites.get(asked.unit, "")
    denied = {
        "color": not vocabulary.alike(said, asked.unit),
        "material": not vocabulary.alike(said, asked.unit),
        "spatial": vocabulary.alike(said, opposite),
    }
    if denied.get(asked.kind, False):
        raise Unreadable("labelled Yes, but the full answer says otherwise", triple.full_answer)
    return None


def _said(triple: VQATriple, asked: Parse, vocabulary: Vocabulary) -> str | None:
    """The unit of the asked kind in the full answer, whatever the label."""
    text = " ".join(triple.full_answer.lower().split()).rstrip(" .")
    match = _STATEMENT.match(re.sub(r"^(yes|no),? ", "", text))
    if match is None or re.search(r"\b(not|no|nor|neither)\b|n't\b", match[0]):
        return None
    subject, verb, rest = match["subject"], match["verb"], match["rest"]
    rest = re.sub(r"^(positioned|located) ", "", rest)
    if asked.kind in ("color", "material"):
        return _said_attribute(asked, f"{verb} {subject}", rest, vocabulary)
    if asked.kind in vocabulary.objects:
        bare = subject == "there"
        said = f"{verb} {subject} {rest}" if bare else f"{verb} there {subject} {rest}"
        found = _try(said, Category.ANIMAL, vocabulary)
        return found.unit if found and found.kind == asked.kind else None
    if subject == "there":
        return _said_relation(triple, asked, f"{verb} the {without_determiner(rest)}", vocabulary)
    return _said_relation(triple, asked, f"{verb} {subject} {rest}", vocabulary)


def _said_attribute(asked: Parse, lead: str, rest: str, vocabulary: Vocabulary) -> str | None:
    """The attribute in "wooden but red"; ``None`` if there are two of the kind."""
    category = Category(asked.kind)
    if category is Category.COLOR and rest in BRIGHTNESS:
        return rest
    parts = [p for p in re.split(r",| and | but ", rest) if p.strip()]
    found = [p.unit for part in parts if (p := _try(f"{lead} {part}", category, vocabulary))]
    units = {vocabulary.materials.get(u, u) if category is Category.MATERIAL else u for u in found}
    return units.pop() if len(units) == 1 else None


def _said_relation(
    triple: VQATriple, asked: Parse, text: str, vocabulary: Vocabulary
) -> str | None:
    said = _try(text, triple.category, vocabulary)
    if said is None or said.kind != asked.kind:
        return None
    ours = [vocabulary.singular(without_determiner(n)) for n in asked.nouns]
    theirs = [vocabulary.singular(without_determiner(n)) for n in said.nouns]
    if ours == theirs:
        return said.unit
    return vocabulary.converses.get(said.unit) if ours == theirs[::-1] else None


def _try(text: str, category: Category, vocabulary: Vocabulary) -> Parse | None:
    try:
        return parse(text, category, vocabulary)
    except Unreadable:
        return None


def _same_place(asked: Parse, given: Parse, vocabulary: Vocabulary) -> bool:
    """Whether two actions leave the object where it is: not "sitting in" for "standing by"."""
    places = [place_after_verb(p.unit, vocabulary) for p in (asked, given)]
    return (
        asked.kind != "action"
        or places[0] == places[1]
        or (all(places) and vocabulary.alike(*places))
    )
