"""Training items: what is asked about a scene, as token ids with the tokens to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vseam_lib.triples import Category
from vseam_lib.vlm.prompts import template
from vseam_lib.world import models, questions
from vseam_lib.world.statements import caption, statement

CATEGORIES = list(Category)
FORMATS = ("caption", "statement", "open_short", "yes_no", "open")


class Text:
    """Turns texts into token ids and caches the pieces, which repeat a great deal.

    Args:
        family: whose prompts; InstructBLIP answers in lower case, as its prompt asks.
    """

    def __init__(self, family: str = "llava") -> None:
        self.family = family
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
        if self.family == "instructblip":
            return []
        head = template(self.family, open_ended=kind == "open").split("{image}")[0]
        return [self.tok.bos_token_id, *self.ids(head)]

    def suffix(self, kind: str, question: str) -> list[int]:
        """Ids after the image."""
        first = [self.tok.bos_token_id] if self.family == "instructblip" else []
        if kind in ("statement", "open_short", "caption"):
            return first + self.ids(question)
        prompt = template(self.family, open_ended=kind == "open").split("{image}")[-1]
        before, after = prompt.split("{question}")
        return first + self.ids(before) + self.ids(question) + self.ids(after)

    def answer(self, answer: str) -> list[int]:
        """Ids of an answer."""
        return self.ids(answer.lower() if self.family == "instructblip" else answer)


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
        asked: ``(B*n,)`` number of leading ids that are the instruction (of a caption, none but
            the start of the text).
    """

    ids: Tensor
    rows: Tensor
    at: Tensor
    targets: Tensor
    kinds: Tensor
    asked: Tensor


def batch(
    text: Text, counts: Mapping[str, int], scenes, rng, shares: Sequence[float] | None = None
) -> Batch:
    """Items of several formats about each scene, ``counts`` of each.

    Of a question only the answer is predicted, of a caption every word after the first.
    """
    ids, targets, asked = [], [], []
    for scene in scenes:
        for kind, n in counts.items():
            for _ in range(n):
                if kind == "caption":
                    row = text.suffix(kind, caption(scene, rng))
                    wanted = range(1 if text.family == "instructblip" else 0, len(row) - 1)
                    asked.append(1)
                else:
                    question, answer = draw_item(kind, scene, rng, shares)
                    row = text.suffix(kind, question) + text.answer(answer)[:1]
                    wanted = [len(row) - 2]
                    asked.append(len(row) - 1)
                k = FORMATS.index(kind)
                targets += [(len(ids), at, row[at + 1], k) for at in wanted]
                ids.append(row[:-1])
    padded = torch.full((len(ids), max(map(len, ids))), text.tok.pad_token_id)
    for k, row in enumerate(ids):
        padded[k, : len(row)] = torch.tensor(row)
    return Batch(padded, *torch.tensor(targets).unbind(1), torch.tensor(asked))


def loss_by_format(
    logits: Tensor, made: Batch, weights: Mapping[str, float]
) -> tuple[Tensor, dict[str, tuple[float, float]]]:
    """Sum of the formats' mean losses, and of each format its loss and share of right tokens.

    Args:
        logits: ``(M, vocab)`` for the batch's targets.
        weights: of the formats' losses, 1 by default.
    """
    losses = F.cross_entropy(logits, made.targets, reduction="none")
    right = (logits.argmax(-1) == made.targets).float()
    total, shown = 0.0, {}
    for k in made.kinds.unique().tolist():
        of = made.kinds == k
        total = total + losses[of].mean() * weights.get(FORMATS[k], 1.0)
        shown[FORMATS[k]] = (losses[of].mean().item(), right[of].mean().item())
    return total, shown


def phase_at(step: int, recipe: Mapping) -> tuple[Mapping, float]:
    """The recipe's phase at a step, and the share of heads to drop."""
    done = step / recipe["steps"]
    low, high = recipe["head_dropout"]
    return next(x for x in recipe["phases"] if done < x["until"]), low + (high - low) * done
