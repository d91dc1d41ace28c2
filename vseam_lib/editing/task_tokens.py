"""PowerPaint's prompts per task, with task tokens expanded into their vectors by our own code.

A task token (Zhuang et al., 2024, section 3) stands for ten learned vectors. CLIP's tokenizer
lower-cases its input and therefore never recognises ``P_obj``; a pipeline that is merely given
the text runs without an error and without the task. Here the ids of the ten vectors are looked
up once and appended to the ids of the text, so that no tokenizer ever reads a task token.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

TASK_TOKENS = ("P_ctxt", "P_shape", "P_obj")
VECTORS = 10  # per task token
TASKS = ("text", "removal", "shape")
_POOR = "worst quality, low quality, normal quality, bad quality, blurry"
_EMPTY = "empty scene blur"


class Prompt(NamedTuple):
    """A text and the task token that follows it, if any."""

    text: str
    token: str | None = None


class Blend(NamedTuple):
    """Two prompts whose embeddings are mixed: ``first * f + second * (1 - f)``."""

    first: Prompt
    second: Prompt


class TaskPrompts(NamedTuple):
    """What one edit is told.

    Attributes:
        wanted: read by the network that knows the task tokens.
        unwanted: the other side of classifier-free guidance.
        base: v2 only, read by the base model, which has no task tokens.
        base_unwanted: v2 only, its other side.
    """

    wanted: Blend
    unwanted: Blend
    base: Prompt | None = None
    base_unwanted: Prompt | None = None


def task_prompts(task: str, text: str, negative: str = "", *, version: int = 1) -> TaskPrompts:
    """Prompts of a task, worded as in the authors' ``app.py`` (open-mmlab/PowerPaint).

    - text: wanted ``text P_obj``, unwanted ``negative, worst quality, ..., blurry P_obj``;
    - removal: wanted ``empty scene blur text P_ctxt``, unwanted ``negative P_obj``;
    - shape, with the fitting degree f: wanted ``text P_shape`` * f + ``text P_ctxt`` * (1 - f),
      unwanted ``negative, worst quality, ..., blurry`` with the same two tokens mixed likewise.

    In version 2 the task tokens stand alone, and the base model reads text and negative.

    Args:
        task: ``"text"`` paints what the text describes, ``"removal"`` background, ``"shape"``
            what the text describes in the shape of the mask.
        text: what to paint; may be empty for removal only.
        negative: what not to paint, in addition to the above.
        version: 1 or 2 of PowerPaint.

    Raises:
        ValueError: an unknown task, no text, or a text that contains a task token.
    """
    if task not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, got {task!r}")
    text, negative = (check_prompt(t, of) for t, of in ((text, "prompt"), (negative, "negative")))
    if task != "removal" and not text:
        raise ValueError(
            f"task {task!r}: expected a prompt that says what to paint, got an empty one; "
            "task='removal' paints background without one"
        )
    tokens = {"text": ("P_obj",), "removal": ("P_ctxt",), "shape": ("P_shape", "P_ctxt")}[task]
    against = ("P_obj",) if task == "removal" else tokens
    if version == 2:
        said = f"{text} {_EMPTY}".strip() if task == "removal" else text
        return TaskPrompts(_blend("", tokens), _blend("", against), Prompt(said), Prompt(negative))
    if task == "removal":
        return TaskPrompts(_blend(f"{_EMPTY} {text}", tokens), _blend(negative, against))
    # The comma is there even without a negative prompt: the published results were made with it.
    return TaskPrompts(_blend(text, tokens), _blend(f"{negative}, {_POOR}", against))


def check_prompt(text: str, of: str = "prompt") -> str:
    """The stripped text, if it is one and leaves the task tokens to :func:`task_prompts`."""
    if not isinstance(text, str):
        raise TypeError(f"{of}: expected a string, got {type(text).__name__}")
    found = re.search("|".join(TASK_TOKENS), text, re.IGNORECASE)
    if found:
        raise ValueError(
            f"{of} {text!r}: expected no task token, got {found[0]!r}; the task adds its own"
        )
    return text.strip()


def _blend(text: str, tokens: Sequence[str]) -> Blend:
    return Blend(Prompt(text.strip(), tokens[0]), Prompt(text.strip(), tokens[-1]))


class PromptEncoder:
    """A tokenizer, a text encoder and the ids of its task tokens.

    Args:
        tokenizer: of CLIP's kind.
        model: its embedding has a row for every id.
        tokens: ids of the ten vectors of each task token, see :func:`find_task_tokens` and
            :func:`expand_task_tokens`; empty for a model that knows none.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        model: CLIPTextModel,
        tokens: Mapping[str, Sequence[int]],
    ) -> None:
        self.tokenizer, self.model = tokenizer, model
        self.tokens = {name: list(ids) for name, ids in tokens.items()}
        self.limit = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        self.embed = lru_cache(maxsize=1024)(self._embed)

    def ids(self, prompt: Prompt) -> list[int]:
        """Token ids: start, text, the task token's ten, end, padding up to the limit.

        Raises:
            ValueError: more tokens than the limit, or text that the vocabulary cannot spell.
        """
        tok = self.tokenizer
        text = tok.convert_tokens_to_ids(tok.tokenize(prompt.text)) if prompt.text else []
        if tok.unk_token_id in text:
            raise ValueError(
                f"prompt {prompt.text!r}: expected text of known tokens, got characters that the "
                "tokenizer does not know or its end-of-text token; leave them out"
            )
        task = [] if prompt.token is None else self.tokens[prompt.token]
        ids = [tok.bos_token_id, *text, *task, tok.eos_token_id]
        if len(ids) > self.limit:
            raise ValueError(
                f"prompt {prompt.text!r}: expected at most {self.limit} tokens, got {len(ids)} "
                f"({len(text)} of the text, {len(task)} of the task token {prompt.token}, start "
                f"and end); shorten the text by {len(ids) - self.limit}, the task token comes last "
                "and would be cut"
            )
        return ids + [tok.pad_token_id] * (self.limit - len(ids))

    @torch.no_grad()
    def _embed(self, prompt: Prompt) -> Tensor:
        ids = torch.tensor([self.ids(prompt)], device=self.model.device)
        return self.model(ids).last_hidden_state  # (1, limit, width)

    def mix(self, blend: Blend, fitting: float) -> Tensor:
        """``first * f + second * (1 - f)``, ``(1, limit, width)``; f is the fitting degree."""
        first, second = (self.embed(prompt) for prompt in blend)
        return first * fitting + second * (1 - fitting)


def find_task_tokens(tokenizer: PreTrainedTokenizerBase, rows: int) -> dict[str, list[int]]:
    """Ids of ``P_obj_0`` ... ``P_obj_9`` and the others in a tokenizer that has them.

    Names are compared without regard to case: tokenizers that lower-case may store them either
    way.

    Args:
        tokenizer: with thirty added tokens.
        rows: of the text encoder's embedding.

    Raises:
        ValueError: a missing token, or an id beyond the embedding.
    """
    known: dict[str, int] = {}
    for name, k in tokenizer.get_vocab().items():
        known.setdefault(name.lower(), k)
    names = {t: [f"{t}_{k}" for k in range(VECTORS)] for t in TASK_TOKENS}
    missing = [n for ns in names.values() for n in ns if n.lower() not in known]
    if missing:
        raise ValueError(
            f"expected the task tokens P_ctxt_0 ... P_obj_9 in the tokenizer, {len(missing)} are "
            f"missing, first {missing[0]}; a Stable Diffusion directory without them is a base: "
            "pass it as base= and the PowerPaint folder first"
        )
    found = {t: [known[n.lower()] for n in ns] for t, ns in names.items()}
    beyond = max(k for ids in found.values() for k in ids)
    if beyond >= rows:
        raise ValueError(
            f"expected a text encoder with a vector for token {beyond}, it has {rows}; tokenizer "
            "and text encoder are of different checkpoints"
        )
    return found


def expand_task_tokens(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list]]:
    """Put the separately stored vectors of an overlay's task tokens behind the vocabulary.

    The authors store ``...token_embedding.wrapped.weight`` and, per task token,
    ``...token_embedding.trainable_embeddings.P_obj`` of shape (10, width).

    Returns:
        The state with one ``...token_embedding.weight``, and the ids of each task token.

    Raises:
        ValueError: missing or unexpected task tokens, or vectors of another shape.
    """
    table = "token_embedding."
    stored = {k.rpartition(table)[2]: k for k in state if table in k}
    names = ["wrapped.weight", *(f"trainable_embeddings.{t}" for t in TASK_TOKENS)]
    if sorted(stored) != sorted(names):
        raise ValueError(
            f"expected the token embeddings {', '.join(names)}, got {', '.join(sorted(stored))}; "
            "this is no PowerPaint text encoder"
        )
    words, *vectors = (state[stored[n]] for n in names)
    for token, v in zip(TASK_TOKENS, vectors, strict=True):
        if v.shape != (VECTORS, words.shape[1]):
            raise ValueError(
                f"{token}: expected {VECTORS} vectors of width {words.shape[1]}, got the shape "
                f"{tuple(v.shape)}; the file is of another model"
            )
    prefix = stored[names[0]].partition(table)[0]
    out = {k: v for k, v in state.items() if table not in k}
    out[f"{prefix}{table}weight"] = torch.cat([words, *(v.to(words.dtype) for v in vectors)])
    first = words.shape[0]
    ids = {
        token: list(range(first + VECTORS * k, first + VECTORS * (k + 1)))
        for k, token in enumerate(TASK_TOKENS)
    }
    return out, ids
