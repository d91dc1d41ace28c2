"""Prompt templates (paper, Table 8), with an empty role description.

``paper`` is Table 8; ``as_released`` is what the released head scripts send instead. ``{image}``
stands for the model's image token; InstructBLIP's processor puts its image tokens first itself.
"""

from __future__ import annotations

YES_NO = {
    "llava": {
        "paper": "USER: {image}\nQuestion: {question} "
        "Please answer the question using Yes or No. ASSISTANT:",
        "as_released": "USER: {image}\n{question} Please answer with a single word. ASSISTANT:",
    },
    "instructblip": {
        "paper": "Question: {question} Please answer the question using yes or no.",
        "as_released": "{question} Please answer with a single word.",
    },
}
OPEN = {
    "llava": {
        "paper": "A chat between a curious user and an artificial intelligence assistant. "
        "USER: {image}\nQuestion: {question} Context: N/A "
        "Answer the question using a single word or phrase. ASSISTANT:",
    },
    "instructblip": {"paper": "Question: {question} Short Answer:"},
}


def template(family: str, style: str = "paper", *, open_ended: bool = False) -> str:
    """The template of a model family.

    Raises:
        ValueError: listing the families and styles that exist.
    """
    table = OPEN if open_ended else YES_NO
    if family not in table or style not in table[family]:
        known = [f"{f}/{s}" for f, styles in table.items() for s in styles]
        raise ValueError(f"no prompt {family}/{style}; expected one of {', '.join(known)}")
    return table[family][style]
