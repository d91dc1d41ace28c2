"""What the causal engine needs to know of a model, asked of the transformers API.

An :class:`Adapter` finds decoder, layers, heads and image tokens by API rather than by module
path, checks that they are what it takes them for, and packs questions about one image into a
:class:`~vseam_lib.vlm.group.Group`. A new model family subclasses it and overrides what differs
(see :mod:`vseam_lib.vlm.llava`).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from vseam_lib.vlm.group import Group
from vseam_lib.vlm.images import open_image
from vseam_lib.vlm.prompts import template


class Head(NamedTuple):
    """One attention head; layers and heads count from 0."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"L{self.layer}.H{self.head}"


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A model with its processor, seen the way the causal engine needs it.

    Attributes:
        model, processor: of transformers.
        revision: digest of the weights; part of the key of everything stored.
        prompt: a style of :mod:`vseam_lib.vlm.prompts`.
        replay_from: first layer from which a run can be replayed; a decoder that adds something
            between its layers needs a higher one, and the number of layers turns replay off.
        caches: whether attention passes its keys and values through ``past_key_values``, so that
            those of unchanged positions can be reused.
    """

    model: nn.Module
    processor: object
    revision: str
    prompt: str = "paper"
    replay_from: int = 0
    caches: bool = True

    family: ClassVar[str] = ""
    shares_image: ClassVar[bool] = True  # does the image reach the decoder without the question?
    spelling: ClassVar[Mapping[str, str]] = {}  # how the family writes an answer, if not as given
    looks_through: ClassVar[str] = ""  # what lies between image tokens and the picture, if anything

    def __post_init__(self) -> None:
        template(self.family, self.prompt)
        layers = self.layers
        for k, layer in enumerate(layers):
            width = layer.self_attn.o_proj.in_features
            if width % self.d_head:
                raise ValueError(
                    f"layer {k}: o_proj takes {width} features, no multiple of head_dim "
                    f"{self.d_head}; the adapter does not know how this layer splits into heads"
                )
            if width // self.d_head != self.n_heads:
                raise ValueError(
                    f"layer {k} has {width // self.d_head} heads and layer 0 has {self.n_heads}; "
                    "layers of different width are not supported"
                )

    @property
    def decoder(self) -> nn.Module:
        return self.model.get_decoder()

    @property
    def layers(self) -> nn.ModuleList:
        return self.decoder.layers

    @property
    def text_config(self):
        return self.model.config.get_text_config()

    @property
    def n_layers(self) -> int:
        return len(self.layers)

    @cached_property
    def d_head(self) -> int:
        """Width of a head; from the layer itself, the configuration only where it is silent."""
        attention = self.layers[0].self_attn
        known = getattr(attention, "head_dim", None) or getattr(self.text_config, "head_dim", None)
        if not known:
            known = self.text_config.hidden_size // self.text_config.num_attention_heads
        return known

    @cached_property
    def n_heads(self) -> int:
        """Heads per layer, from the width of ``o_proj``."""
        return self.layers[0].self_attn.o_proj.in_features // self.d_head

    @property
    def heads(self) -> list[Head]:
        return [Head(i, h) for i in range(self.n_layers) for h in range(self.n_heads)]

    @property
    def device(self) -> torch.device:
        return self.model.device

    def module(self, layer: nn.Module, site: str) -> nn.Module:
        """The module whose output is added to the residual stream at a site of a layer.

        Args:
            site: ``"attn"`` or ``"mlp"``.
        """
        return {"attn": layer.self_attn, "mlp": layer.mlp}[site]

    def logits(self, normed: Tensor) -> Tensor:
        """Output embedding of normalised states: ``(..., d_model)`` to at least float32."""
        logits = self.model.get_output_embeddings()(normed)
        return logits if logits.dtype == torch.float64 else logits.float()

    def text(self, question: str) -> str:
        """The full prompt of a question."""
        image = self.processor.image_token
        return template(self.family, self.prompt).format(image=image, question=question)

    def answer_id(self, answer: str) -> int:
        """Token id with which ``answer`` begins after the prompt.

        An answer of several tokens is scored by its first, with a warning.

        Raises:
            ValueError: if it begins with no token of the model.
        """
        return self._answer_ids.setdefault(answer, self._find_answer_id(answer))

    @cached_property
    def _answer_ids(self) -> dict[str, int]:
        return {}

    def _find_answer_id(self, answer: str) -> int:
        if answer in self._answer_ids:
            return self._answer_ids[answer]
        tok = self.processor.tokenizer
        prompt = self.text("?")
        before = tok(prompt)["input_ids"]
        after = tok(f"{prompt} {self.spelling.get(answer, answer)}")["input_ids"]
        rest = after[len(before) :]
        if after[: len(before)] != before or not rest or rest[0] == tok.unk_token_id:
            raise ValueError(
                f"the answer {answer!r} is no token of this model's tokenizer; expected an answer "
                "that starts with a known token, such as 'Yes' or 'No'"
            )
        if len(rest) > 1:
            warnings.warn(
                f"the answer {answer!r} has {len(rest)} tokens; probabilities and logits are "
                f"those of the first, {tok.decode(rest[:1])!r}",
                stacklevel=3,
            )
        return rest[0]

    def encode(
        self, image: Image.Image | Path, questions: Sequence[str], gold: Sequence[str]
    ) -> Group:
        """Encode questions about one image; the vision tower runs once.

        Args:
            image: the picture, or its path.
            questions: as asked, without prompt.
            gold: the right answers, one per question.

        Raises:
            FileNotFoundError, ValueError: an image that is missing or cannot be decoded, a
                prompt whose image span is not what the model makes of the image, padding, or
                several questions where the family cannot share the image between them.
        """
        if len(questions) != len(gold) or not questions:
            raise ValueError(
                f"expected one answer per question and at least one question, got "
                f"{len(questions)} questions and {len(gold)} answers"
            )
        if len(questions) > 1 and not self.shares_image:
            raise ValueError(
                f"expected one question at a time, got {len(questions)}: in {self.family} the "
                "question changes the image's tokens, so questions cannot share them"
            )
        batch = self.processor(
            images=[open_image(image)],
            text=[self.text(questions[0])],
            return_tensors="pt",
        )
        padding = int((batch["attention_mask"] == 0).sum())
        if padding:
            raise ValueError(
                f"expected a prompt without padding, got {padding} padding tokens from the "
                "processor; remove its padding and max_length settings, groups need none"
            )
        features = self.image_features(batch)  # (N, d_model)
        rows = [batch["input_ids"][0].tolist()]
        start, end = self.image_span(rows[0], len(features))
        tail = self._image_tail
        for question in questions[1:]:
            rows.append(rows[0][:end] + tail(question))
        rest = [row[end:] for row in rows]
        embed = self.decoder.get_input_embeddings()
        head = embed(torch.tensor(rows[0][:start], device=self.device, dtype=torch.long))
        text = embed(torch.tensor(sum(rest, []), device=self.device))
        embeds = torch.cat([head, features.to(head.dtype), text])[None]
        lengths = torch.tensor([end, *map(len, rest)])
        segments = torch.arange(len(lengths)).repeat_interleave(lengths)
        last = lengths.cumsum(0)[1:] - 1
        answers = torch.tensor([self.answer_id(a) for a in gold])
        return Group(
            embeds,
            segments,
            last.to(self.device),
            answers.to(self.device),
            (start, end),
            torch.tensor(sum(rest, rows[0][:end])),
        )

    def _image_tail(self, question: str) -> list[int]:
        """Token ids of the prompt after the image."""
        tok, image_id = self.processor.tokenizer, self.image_token_id
        ids = tok(self.text(question))["input_ids"]
        return ids[len(ids) - ids[::-1].index(image_id) :]

    @property
    def image_token_id(self) -> int:
        return self.model.config.image_token_id

    def image_features(self, batch) -> Tensor:
        """The image as the decoder sees it, ``(N, d_model)``."""
        pixels = batch["pixel_values"].to(self.device, self.model.dtype)
        features = self.model.get_image_features(pixel_values=pixels).pooler_output
        return torch.cat(list(features), dim=0)

    def image_span(self, ids: Sequence[int], n_features: int) -> tuple[int, int]:
        """Half-open range of the image tokens in ``ids``.

        Raises:
            ValueError: if they are not one run of exactly ``n_features`` tokens.
        """
        at = [k for k, i in enumerate(ids) if i == self.image_token_id]
        if len(at) != n_features or not at or at[-1] - at[0] + 1 != len(at):
            raise ValueError(
                f"expected one run of {n_features} image tokens (id {self.image_token_id}), got "
                f"{len(at)}; processor and model disagree on patch size or image size"
            )
        return at[0], at[-1] + 1

    def cells(self, width: int, height: int) -> np.ndarray | None:
        """The places in the picture that image tokens look at, ``(n_cells, 4)`` x, y, width and
        height in pixels of the original image; ``None`` where the family does not say.
        """
        return None

    def looks_at(self, image: Image.Image | Path, question: str) -> Tensor | None:
        """Where each image token looks, ``(n_image_tokens, n_cells)``; ``None``: its own cell."""
        return None
