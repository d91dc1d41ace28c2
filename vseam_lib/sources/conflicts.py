"""Labels of the V-SEAM release that its own full answers contradict.

The release rewrites GQA's questions but keeps GQA's full answers, which start with "Yes," or
"No," as answers to the *original* question. What follows is a statement about the image, and
only that is compared with the label of the rewritten question: "Is the table made of wood?",
"Yes" is right where GQA says "No, the table is wooden but black."
"""

from __future__ import annotations

import re

from vseam_lib.sources.ontology import materials_in
from vseam_lib.triples import Category

_OPPOSITE = {
    "in front of": "behind",
    "behind": "in front of",
    "to the left of": "to the right of",
    "to the right of": "to the left of",
    "above": "below",
    "below": "above",
}
_RELATION = "|".join(_OPPOSITE)


def label_conflict(category: Category, question: str, answer: str, full_answer: str) -> str | None:
    """Why a label cannot stand, or ``None``.

    Material: the label is "No" and the full answer says that the object is made of what is
    asked, or "Yes" and it names only other materials, or the question offers a choice of two.
    Relation: the label is "Yes" and the full answer puts the same subject on the opposite side.
    """
    statement = re.sub(r"^(yes|no),\s*", "", full_answer.strip().lower())
    affirmed = full_answer.strip().lower().startswith("yes,")
    question = question.strip().lower().rstrip("?")
    if category is Category.MATERIAL:
        if " or " in question:
            return "the question offers a choice"
        asked, stated = materials_in(question), materials_in(statement)
        whole = affirmed or " and " not in question
        if answer == "No" and asked and asked <= stated and whole:
            return "the full answer names the material"
        if answer == "Yes" and asked and stated and not asked & stated:
            return "the full answer names another material"
    if category in (Category.SPATIAL, Category.ACTION) and answer == "Yes":
        asks = re.match(rf"(?:is|are) (the .+?) ({_RELATION}) the ", question)
        says = re.match(rf"(the .+?) (?:is|are) ({_RELATION}) the ", statement)
        if asks and says and asks[1] == says[1] and says[2] == _OPPOSITE[asks[2]]:
            return "the full answer states the opposite relation"
    return None
