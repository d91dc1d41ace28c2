"""Training items: what is asked about a scene, as token ids with the tokens to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vseam_lib.triples import Category
from vseam_lib.vlm.prompts import template
from vseam_lib.world import models, questions
from vseam_lib.world.statements import caption, statement

CATEGORIES = list(Category)
FORMATS = ("caption", "statement", "open_short", "yes_no", "open")


class Text:
    """Turns texts into token ids and caches the pieces, which repeat a great deal."""

    def __init__(self) -> None:
        self.tok = models.tokenizer()
        self._cache: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        if text not in self._cache:
            ids = self.tok(text, add_special_tokens=False)["input_ids"]
            if self.tok.unk_token_id in ids:
                raise ValueError(f"{text!r} has a word outside the world's vocabulary")
            self._cache[text] = ids
        return self._cache[text]

    def prefix(self, kind: str) -> list[int]:
        """Ids before the image."""
        head = template("llava", open_ended=kind == "open").split("{image}")[0]
        return [self.tok.bos_token_id, *self.ids(head)]

    def suffix(self, kind: str, question: str) -> list[int]:
        """Ids after the image."""
        if kind in ("statement", "open_short", "caption"):
            return self.ids(question)
        before, after = (
            template("llava", open_ended=kind == "open").split("{image}")[1].split("{question}")
        )
        return self.ids(before) + self.ids(question) + self.ids(after)


def draw_item(
    kind: str, scene, rng: np.random.Generator, shares: Sequence[float] | None = None
) -> tuple[str, str]:
    """One question and its answer in the given format; ``shares`` of the kinds of statements."""
    if kind == "statement":
        return statement(scene, rng, shares)
    if kind == "open_short":
        question, answer = questions.open_question(scene, rng)
        return f"{question} ?", answer
    if kind == "open":
        return questions.open_question(scene, rng)
    while True:
        if rng.random() < 0.08:
            return questions.presence_question(scene, rng)
        asked = questions.ask(scene, CATEGORIES[int(rng.integers(7))], rng)
        if asked:
            return asked.text, asked.answer


class Batch(NamedTuple):
    """Rows of token ids after the image, and the tokens to predict.

    Attributes:
        ids: ``(B*n, T)`` right-padded, grouped by image.
        rows, at: ``(M,)`` row and position whose next token is to be predicted.
        targets: ``(M,)`` that token.
        kinds: ``(M,)`` index of the target's format in :data:`FORMATS`.
    """

    ids: Tensor
    rows: Tensor
    at: Tensor
    targets: Tensor
    kinds: Tensor


def batch(
    text: Text, counts: Mapping[str, int], scenes, rng, shares: Sequence[float] | None = None
) -> Batch:
    """Items of several formats about each scene, ``counts`` of each.

    Of a question only the answer is predicted, of a caption every word after the first.
    """
    ids, targets = [], []
    for scene in scenes:
        for kind, n in counts.items():
            for _ in range(n):
                if kind == "caption":
                    row = text.ids(caption(scene, rng))
                    wanted = range(len(row) - 1)
                else:
                    question, answer = draw_item(kind, scene, rng, shares)
                    row = text.suffix(kind, question) + text.ids(answer)[:1]
                    wanted = [len(row) - 2]
                k = FORMATS.index(kind)
                targets += [(len(ids), at, row[at + 1], k) for at in wanted]
                ids.append(row[:-1])
    padded = torch.full((len(ids), max(map(len, ids))), text.tok.pad_token_id)
    for k, row in enumerate(ids):
        padded[k, : len(row)] = torch.tensor(row)
    return Batch(padded, *torch.tensor(targets).unbind(1))
