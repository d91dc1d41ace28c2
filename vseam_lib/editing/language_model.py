"""The paper's rewriter: a language model writes the counterfactual questions (appendix A.1).

1. A question that the grammar cannot read is refused before anything is paid for.
2. The few-shot prompt of its level goes to an OpenAI-compatible server, which answers in JSON.
3. Every answer, usable or not, goes into the cache before it is looked at.
4. An answer is used if :func:`vseam_lib.editing.validation.validate` accepts it. If not, one
   stricter request says what was wrong; then the question is refused.

Large sets go through :mod:`vseam_lib.editing.batch`, which fills the same cache.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from vseam_lib.editing.chat_server import ChatServer, LanguageModelError, openai, structured
from vseam_lib.editing.counterfactual import Counterfactual, Refusal
from vseam_lib.editing.grammar import Unreadable, parse
from vseam_lib.editing.prompting import (
    Declined,
    Rewrite,
    Unusable,
    fewshot,
    prompt,
    question_in,
    record_of,
    response_format,
    stricter,
)
from vseam_lib.editing.response_cache import ResponseCache, request_key
from vseam_lib.editing.rivals import present_digest, present_in, vocabulary_named
from vseam_lib.editing.validation import stated_unit, validate
from vseam_lib.editing.vocabulary import Vocabulary
from vseam_lib.triples import VQATriple

RULES = 1  # to be raised with any change of grammar or validation that changes an outcome
Ask = Callable[[dict[str, Any]], dict[str, Any]]


class Open(Exception):  # noqa: N818 - says what is still to be asked, not that something failed
    """A request that is not in the cache."""

    def __init__(self, request: dict[str, Any]) -> None:
        super().__init__("a request that is not in the cache")
        self.request = request


class LanguageModelRewriter:
    """Asks a language model for each question once, ever.

    Args:
        model: the server's name of the model, such as ``"gpt-4o-2024-08-06"``. An alias such as
            ``"gpt-4o"`` may come to mean another model; the cache keeps which one answered.
        cache: file of the answers.
        vocabulary: a vocabulary, or ``"gqa"`` or ``"world"``, which is what the embedded world's
            questions need; answers outside it are refused.
        base_url: of an OpenAI-compatible server (vLLM, Ollama, ...); ``None`` is
            ``OPENAI_BASE_URL`` from the environment or OpenAI.
        api_key_env: environment variable that holds the key; ``None`` for servers without keys.
        timeout: seconds until a call counts as failed.
        max_retries: further attempts after a rate limit, a server's error or a lost connection.
        temperature: 0 for the likeliest answer; ``None`` leaves it out, for models without.
        seed: passed to the server; ``None`` leaves it out.
        max_completion_tokens: longest answer.
        present: image id -> names of the objects in the image; see
            :func:`vseam_lib.editing.validation.validate`.
        sleep: waits a number of seconds.

    Raises:
        ValueError: an option out of range, a base URL with a password, or a damaged cache.
    """

    def __init__(
        self,
        model: str,
        *,
        cache: Path | str,
        vocabulary: Vocabulary | str = "gqa",
        base_url: str | None = None,
        api_key_env: str | None = "OPENAI_API_KEY",
        timeout: float = 60.0,
        max_retries: int = 5,
        temperature: float | None = 0.0,
        seed: int | None = 0,
        max_completion_tokens: int = 200,
        present: Mapping[str, Collection[str]] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not model.strip():
            raise ValueError("expected the name of a model, such as 'gpt-4o-2024-08-06', got none")
        if max_completion_tokens < 1:
            raise ValueError(
                f"expected max_completion_tokens of at least 1, got {max_completion_tokens}"
            )
        self.server = ChatServer(
            base_url=base_url,
            api_key_env=api_key_env,
            timeout=timeout,
            max_retries=max_retries,
            sleep=sleep,
        )
        self.cache = ResponseCache(cache)
        self.vocabulary = vocabulary_named(vocabulary)
        self._present = present
        self._settings: dict[str, Any] = {
            "model": model,
            "max_completion_tokens": max_completion_tokens,
            "store": False,
            "response_format": response_format(),
        }
        optional = {"temperature": temperature, "seed": seed}
        self._settings |= {k: v for k, v in optional.items() if v is not None}
        self._name = self._describe()

    @property
    def name(self) -> str:
        """Model, server, and digests of the prompt, the settings and the vocabulary."""
        return self._name

    def _describe(self) -> str:
        asked = json.dumps([fewshot(), self._settings], sort_keys=True)
        parts = [
            f"{self._settings['model']}@{self.server.base_url}",
            f"rules-{RULES}",
            f"prompt-{hashlib.sha256(asked.encode()).hexdigest()[:12]}",
            f"{self.vocabulary.name}-{self.vocabulary.digest}",
        ]
        if self._present is not None:
            parts.append(f"present-{present_digest(self._present)}")
        return "/".join(parts)

    def __repr__(self) -> str:
        return f"LanguageModelRewriter({self.name}, {len(self.cache)} answers in {self.cache.path})"

    def rewrite(self, triples: Iterable[VQATriple]) -> list[Counterfactual | Refusal]:
        """One outcome per triple, in their order; only what is not in the cache is asked.

        Raises:
            LanguageModelError: a server that cannot be used. Running again goes on from there.
        """
        return [self.outcome(triple, self._ask) for triple in triples]

    def open_request(self, triple: VQATriple) -> dict[str, Any] | None:
        """The request that a triple still needs; ``None`` if its outcome is known.

        After a first answer that cannot be used this is the stricter request.
        """
        try:
            self.outcome(triple, self._known)
        except Open as needed:
            return needed.request
        return None

    def answers(self, triples: Iterable[VQATriple]) -> pd.DataFrame:
        """The cached answers behind the outcomes, one row per answer, unanswered ones left out.

        Columns: ``id`` (the triple), ``model``, ``system_fingerprint``, ``finish_reason``,
        ``prompt_tokens`` and ``completion_tokens``.
        """
        rows: list[dict[str, Any]] = []
        for triple in triples:

            def ask(request: dict[str, Any], id_: str = triple.id) -> dict[str, Any]:
                record = self._known(request)
                usage = record["usage"] or {}
                kept = {k: record[k] for k in ("model", "system_fingerprint", "finish_reason")}
                tokens = {k: usage.get(k) for k in ("prompt_tokens", "completion_tokens")}
                rows.append({"id": id_} | kept | tokens)
                return record

            try:
                self.outcome(triple, ask)
            except Open:
                continue
        columns = ["id", "model", "system_fingerprint", "finish_reason"]
        return pd.DataFrame(rows, columns=[*columns, "prompt_tokens", "completion_tokens"])

    def outcome(self, triple: VQATriple, ask: Ask) -> Counterfactual | Refusal:
        """The outcome of a triple.

        Args:
            triple: whose question is rewritten.
            ask: gives the answer to a request.
        """
        try:
            asked = parse(triple.question, triple.category, self.vocabulary)
            stated_unit(triple, asked, self.vocabulary)
        except Unreadable as problem:
            return Refusal(triple.id, problem.reason, problem.detail)
        request = self._settings | {"messages": [{"role": "user", "content": prompt(triple)}]}
        try:
            record = ask(request)
            first, complaint = self._read(triple, record)
            if complaint is None:
                return first
            record = ask(stricter(request, record, complaint))
            return self._read(triple, record)[0]
        except Declined as problem:
            return Refusal(triple.id, problem.reason, problem.detail)

    def _read(
        self, triple: VQATriple, record: dict[str, Any]
    ) -> tuple[Counterfactual | Refusal, str | None]:
        """The outcome of an answer, and what is wrong with it if it cannot be used."""
        try:
            question = question_in(record, self._settings["max_completion_tokens"])
        except Unusable as problem:
            return Refusal(triple.id, "no structured answer", str(problem)), str(problem)
        outcome = validate(
            triple,
            question,
            vocabulary=self.vocabulary,
            rewriter=self.name,
            present=present_in(self._present, triple),
        )
        return outcome, str(outcome) if isinstance(outcome, Refusal) else None

    def key(self, request: dict[str, Any]) -> str:
        """Key of a request in the cache; another server has other keys."""
        return request_key({"base_url": self.server.base_url, "request": request})

    def _known(self, request: dict[str, Any]) -> dict[str, Any]:
        record = self.cache.get(self.key(request))
        if record is None:
            raise Open(request)
        return record

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        known = self.cache.get(self.key(request))
        if known is not None:
            return known
        try:
            body = self.server.call(lambda client: structured(client, request, Rewrite))
            record = record_of(body)
        except openai.BadRequestError:
            raise Declined("a content filter stopped the question") from None
        except ValueError as problem:
            raise LanguageModelError(
                f"{self.server.base_url}: {problem}; check that it is the base URL of an "
                "OpenAI-compatible server, usually one that ends in /v1"
            ) from None
        self.cache.put({self.key(request): record})
        return self._known(request)  # of two processes that asked at once, the first one counts
