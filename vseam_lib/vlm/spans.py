"""Which positions hold what: the image, the question, and the parts that words play in it.

The paper's Figure 4 has one row per part: the asked object, what is asked of it, the rest of the
question and of the prompt. Parts are found by the form of the question (Table 9) and mapped to
tokens by the tokenizer's own character offsets.
"""

from __future__ import annotations

import re

from vseam_lib.triples import Category, Level
from vseam_lib.vlm.adapter import Adapter
from vseam_lib.vlm.group import Group

ROLES = ("object", "attribute", "other object", "function words", "template", "last token")

_BE = r"(?:Is|Are|Was|Were) "
_RELATION = (
    r"(?:not )?(?:(?:\w+ing|covered|filled|surrounded)"
    r"(?: (?:on top of|next to|in front of|(?!the\b|an?\b)\w+))?"
    r"|(?:to|on) the (?:left|right)(?: side)? of|in front of|on top of|next to|close to|inside of"
    r"|above|below|behind|beneath|underneath|under|beside|near|inside|in|on|at|by|with|over|around)"
)
_FORMS = {
    Category.COLOR: rf"{_BE}the (?P<object>.+?) (?P<attribute>(?:light |dark )?\S+)\?",
    Category.MATERIAL: rf"{_BE}the (?P<object>.+) made of (?P<attribute>.+)\?",
    Level.OBJECT: rf"{_BE}there (?:an? |any |some )?(?P<object>.+?)(?: in (?:this|the) \w+)?\?",
    Level.RELATION: rf"{_BE}the (?P<object>.+?) (?P<attribute>{_RELATION}) (?:the |an? )?"
    r"(?P<other>.+)\?",
}


def parts(question: str, category: Category) -> dict[str, tuple[int, int]]:
    """Character ranges of the asked object, its attribute or relation, and the other object.

    Raises:
        ValueError: a question of another form.
    """
    category = Category(category)
    form = _FORMS.get(category) or _FORMS.get(category.level)
    found = re.fullmatch(form, question, flags=re.IGNORECASE)
    if not found:
        raise ValueError(
            f"expected a question of the {category} form of Table 9, got {question!r}; its words "
            "have no roles, patch its tokens one by one instead"
        )
    names = {"object": "object", "attribute": "attribute", "other": "other object"}
    return {names[k]: found.span(k) for k, v in found.groupdict().items() if v}


def question_tokens(adapter: Adapter, group: Group) -> list[str]:
    """The tokens after the image, as text."""
    tok = adapter.processor.tokenizer
    return [tok.decode([int(i)]).strip() or "␣" for i in group.ids[group.image[1] :]]


def spans(adapter: Adapter, group: Group) -> dict[str, list[int]]:
    """Positions of the image and of everything after it (the question with its prompt)."""
    start, end = group.image
    return {"image": list(range(start, end)), "question": list(range(end, len(group.ids)))}


def roles(
    adapter: Adapter, group: Group, question: str, category: Category
) -> dict[str, list[int]]:
    """Positions of each role in a group of one question; roles without tokens are absent.

    ``template`` is the prompt around the question after the image, ``function words`` the rest
    of the question, ``last token`` where the answer is read.

    Raises:
        ValueError: a question of another form, a group of another question, or a tokenizer
            without character offsets.
    """
    tok, prompt = adapter.processor.tokenizer, adapter.text(question)
    if not tok.is_fast:
        raise ValueError("expected a fast tokenizer, which knows the characters of each token")
    encoded = tok(prompt, return_offsets_mapping=True)
    ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
    after = (
        len(ids) - ids[::-1].index(adapter.image_token_id) if adapter.image_token_id in ids else 0
    )
    end = group.image[1]
    if group.ids[end:].tolist() != ids[after:]:
        raise ValueError(f"expected the group of {question!r} alone, got other tokens")
    begin = prompt.rindex(question)
    ranges = {k: (begin + a, begin + b) for k, (a, b) in parts(question, category).items()}
    out: dict[str, list[int]] = {role: [] for role in ROLES}
    for k, (a, b) in enumerate(offsets[after:]):
        a += len(prompt[a:b]) - len(prompt[a:b].lstrip())
        position = end + k
        role = next((r for r, (x, y) in ranges.items() if x <= a < y), None)
        if position == len(group.ids) - 1:
            role = "last token"
        elif role is None:
            role = "function words" if begin <= a < begin + len(question) else "template"
        out[role].append(position)
    return {role: at for role, at in out.items() if at}
