"""Requests that ask a language model for a counterfactual question, and how to read its answer.

The prompt is the paper's: per concept level an instruction and three or four examples, then the
question with its answer and full answer (Tables 6 and 7, in ``fewshot.yml``). The answer comes as
structured output.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from vseam_lib.triples import Level, VQATriple


class Rewrite(BaseModel):
    """The structured output that a model is asked for."""

    model_config = ConfigDict(extra="forbid")
    counterfactual_question: str


class Unusable(ValueError):
    """An answer that a stricter request may mend; the message says what is wrong with it."""


class Declined(ValueError):
    """An answer that asking again would not change.

    Attributes:
        reason: short and countable.
        detail: what the model said.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


@cache
def fewshot() -> dict[str, Any]:
    """The content of ``fewshot.yml``."""
    return yaml.safe_load(Path(__file__).with_name("fewshot.yml").read_text(encoding="utf-8"))


def prompt(triple: VQATriple) -> str:
    """The few-shot prompt of a triple's level, laid out as in Table 7."""
    data = fewshot()
    level = data["levels"][Level(triple.level).value]
    parts = [level["instruction"]]
    for number, example in enumerate(level["examples"], 1):
        asked = _asked(example["question"], example["answer"], example["full_answer"])
        parts.append(f"Example {number}:\n{asked} {example['counterfactual']}")
    asked = _asked(triple.question, triple.answer, triple.full_answer)
    return "\n\n".join([*parts, f"{data['closing']}\n{asked}"])


def _asked(question: str, answer: str, full_answer: str) -> str:
    lines = [f"Original Question: {question}", f"Answer: {answer}."]
    if full_answer.strip():
        lines.append(f"Full Answer: {full_answer}")
    return "\n".join([*lines, "Counterfactual Question:"])


def response_format() -> dict[str, Any]:
    """What ``chat.completions.parse`` sends for :class:`Rewrite`; a batch needs it in writing."""
    schema = Rewrite.model_json_schema()
    name = Rewrite.__name__
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def stricter(request: dict[str, Any], record: dict[str, Any], reason: str) -> dict[str, Any]:
    """The request that follows an unusable answer: the conversation so far and what was wrong."""
    complaint = fewshot()["stricter"].format(reason=reason)
    answer = {"role": "assistant", "content": record["content"] or ""}
    messages = [*request["messages"], answer, {"role": "user", "content": complaint}]
    return request | {"messages": messages}


def record_of(completion: Any) -> dict[str, Any]:
    """What is kept of a chat completion in JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        choice = completion["choices"][0]
        message = choice["message"]
        return {
            "content": message.get("content"),
            "refusal": message.get("refusal"),
            "finish_reason": choice.get("finish_reason"),
            "model": completion.get("model"),
            "system_fingerprint": completion.get("system_fingerprint"),
            "usage": completion.get("usage"),
        }
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(
            f"expected a chat completion with choices, got {str(completion)[:80]!r}"
        ) from None


def question_in(record: dict[str, Any], limit: int) -> str:
    """The rewritten question in a kept answer.

    Args:
        record: as :func:`record_of` makes it.
        limit: the request's ``max_completion_tokens``, for the message.

    Raises:
        Declined: a refusal, an answer that was cut, or one that a content filter stopped.
        Unusable: anything that is not the structured output asked for.
    """
    if record["refusal"]:
        raise Declined("the model refused", record["refusal"])
    if record["finish_reason"] == "length":
        raise Declined(
            "the answer was cut",
            f"it was not finished after {limit} tokens; raise max_completion_tokens",
        )
    if record["finish_reason"] == "content_filter":
        raise Declined("a content filter stopped the answer")
    try:
        question = Rewrite.model_validate_json(record["content"] or "").counterfactual_question
    except ValidationError:
        raise Unusable("it is not the JSON object that was asked for") from None
    if not question.strip():
        raise Unusable("the question is empty")
    return question
