"""A model's tokens as words, and the part that each plays for one question.

The paper reads the top tokens of the logit lens as answers ("yes"), as cues to an answer ("hold",
"woman", "ski") or as formatting. Here the parts are decided by rule, so that they can be counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vseam_lib.triples import VQATriple
from vseam_lib.vlm.adapter import Adapter

KINDS = ("answer", "question", "picture", "formatting", "other")

ANSWER_WORDS = frozenset({"yes", "no"})
# A closed list: a cue is any other word. Words of place stay, spatial questions ask for them.
FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any there here it its he his him she her they their them
    i you your we our is are was were be been being am do does did done has have had having can
    could will would shall should may might must and or but nor not if than then so as of to in on
    at by for from with without into onto about what which who whom whose where when why how both
    either each every all no yes kind type made image photo photograph picture scene
    """.split()
)
SHORTEST_STEM = 3  # letters; "hold" stands for "holding", "th" for nothing


def content_words(text: str) -> set[str]:
    """Words of a sentence in lower case, without function words and without yes and no."""
    return set(re.findall(r"[^\W\d_]+", text.lower())) - FUNCTION_WORDS - ANSWER_WORDS


class Cues(NamedTuple):
    """Words that point to an answer: those of the question, and those only of the picture."""

    question: frozenset[str]
    picture: frozenset[str]


def find_cues(triple: VQATriple, graph: Mapping[str, Any] | None = None) -> Cues:
    """The content words of a question, and those that say what its picture shows.

    Args:
        graph: the picture's scene graph in GQA's form, for the names and attributes of its
            objects and its location. The data set's full answer adds what was asked for, such as
            the relation that holds instead; other relations hold in nearly every picture.
    """
    graph = graph or {}
    said = [triple.full_answer, str(graph.get("location", ""))]
    for thing in graph.get("objects", {}).values():
        said += [thing["name"], *thing.get("attributes", ())]
    asked = content_words(triple.question)
    return Cues(frozenset(asked), frozenset(content_words(" ".join(said)) - asked))


class Vocabulary:
    """The tokens of a model as words.

    Attributes:
        texts: per token id what is written, without surrounding space.
        answer, formatting: ids of the tokens that are yes or no in any spelling, and of those
            without letter or digit, including special tokens.
    """

    def __init__(self, adapter: Adapter) -> None:
        self.tokenizer = adapter.processor.tokenizer
        size = len(adapter.model.get_output_embeddings().weight)
        self.texts = [t.strip() for t in self.tokenizer.batch_decode([[i] for i in range(size)])]
        special = set(self.tokenizer.all_special_ids)
        self.answer: list[int] = []
        self.formatting: list[int] = []
        self._ids: dict[str, list[int]] = {}
        for i, word in enumerate(map(str.lower, self.texts)):
            if i in special or not any(map(str.isalnum, word)):
                self.formatting.append(i)
            else:
                self._ids.setdefault(word, []).append(i)
            if word in ANSWER_WORDS:
                self.answer.append(i)

    def ids(self, words: Iterable[str]) -> list[int]:
        """Tokens that are one of the words, in upper or lower case, or a stem of one: its first
        letters, at least three, unless they make a function word or an answer.
        """
        stems = set(words)
        for word in words:
            stems |= {word[:k] for k in range(SHORTEST_STEM, len(word))} - FUNCTION_WORDS
        return sorted(i for stem in stems - ANSWER_WORDS for i in self._ids.get(stem, ()))

    def shown(self, tokens: Tensor | np.ndarray) -> np.ndarray:
        """Tokens as text, of the same shape; white space by its name in the vocabulary."""
        array = np.asarray(torch.as_tensor(tokens).cpu())
        named = {
            int(i): self.texts[i] or self.tokenizer.convert_ids_to_tokens(int(i)) or f"#{i}"
            for i in np.unique(array)
        }
        return np.array([named[int(i)] for i in array.flat], dtype=object).reshape(array.shape)

    def kinds(self, cues: Cues) -> np.ndarray:
        """Index into :data:`KINDS` of every token, ``(vocab,)``, for one question.

        ``answer`` is yes or no; ``question`` and ``picture`` are its cues; ``formatting`` has no
        letter or digit; ``other`` is the rest.
        """
        out = np.full(len(self.texts), KINDS.index("other"))
        out[self.formatting] = KINDS.index("formatting")
        out[self.ids(cues.picture)] = KINDS.index("picture")
        out[self.ids(cues.question)] = KINDS.index("question")
        out[self.answer] = KINDS.index("answer")
        return out
