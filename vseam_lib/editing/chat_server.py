"""Calls an OpenAI-compatible server: retries what may pass, stops at what will not.

The key is read from the environment when the first call is made. It is kept by the client alone
and taken out of every message.
"""

from __future__ import annotations

import email.utils
import math
import os
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

try:
    import openai
except ImportError as error:
    raise ImportError(
        "rewriting with a language model needs the package openai: pip install "
        "'vseam-companion[editing]', or use the offline rewriter"
    ) from error

OPENAI = "https://api.openai.com/v1"
LONGEST_WAIT = 120.0  # seconds; a server that asks for more wants the run to end
NO_QUOTA = {"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"}


class LanguageModelError(RuntimeError):
    """A server that cannot be used now. Answers received before are in the cache."""


class ChatServer:
    """A client that retries, with every error as :class:`LanguageModelError`.

    Args:
        base_url: of the server; ``None`` is ``OPENAI_BASE_URL`` from the environment or OpenAI.
        api_key_env: environment variable that holds the key; ``None`` for servers without keys.
        timeout: seconds until a call counts as failed.
        max_retries: further attempts after a rate limit, a server's error or a lost connection.
        sleep: waits a number of seconds.

    Raises:
        ValueError: a base URL that holds a password or a query, or is none.
    """

    def __init__(
        self,
        *,
        base_url: str | None,
        api_key_env: str | None,
        timeout: float,
        max_retries: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = (base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI).rstrip("/")
        parts = urlsplit(self.base_url)
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError(
                "expected a base URL without user, password, query and fragment, since it becomes "
                "part of result keys; put the key into the environment variable of api_key_env"
            )
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(
                f"expected a base URL such as {OPENAI} or http://localhost:11434/v1, got "
                f"{self.base_url!r}"
            )
        if timeout <= 0 or max_retries < 0:
            raise ValueError(
                f"expected a timeout above 0 seconds and max_retries of at least 0, got {timeout} "
                f"and {max_retries}"
            )
        self.api_key_env = api_key_env
        self.timeout = timeout
        self.max_retries = max_retries
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"ChatServer({self.base_url})"

    @cached_property
    def client(self) -> openai.OpenAI:
        """The openai client; made on first use, so that cached answers need no key."""
        key = "no-key" if self.api_key_env is None else os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise LanguageModelError(
                f"expected the key of {self.base_url} in the environment variable "
                f"{self.api_key_env}, found none; set it, or pass api_key_env=None for a server "
                "without keys"
            )
        return openai.OpenAI(
            api_key=key, base_url=self.base_url, timeout=self.timeout, max_retries=0
        )

    def call(self, send: Callable[[openai.OpenAI], Any], *, retry: bool = True) -> Any:
        """``send(client)``, again after errors that may pass.

        Args:
            send: makes the call.
            retry: ``False`` for calls that must not happen twice.

        Raises:
            LanguageModelError: an error that will not pass, or too many that may.
            openai.BadRequestError: a content filter, which concerns one question only.
        """
        attempts = 1 + (self.max_retries if retry else 0)
        for attempt in range(1, attempts + 1):
            try:
                return send(self.client)
            except openai.BadRequestError as error:
                if error.code in ("content_filter", "content_policy_violation"):
                    raise
                raise self._stop(error) from None
            except (openai.APIConnectionError, openai.APIStatusError) as error:
                wait = self._wait(error, attempt)
                if wait is None:
                    raise self._stop(error) from None
                if attempt == attempts:
                    tried = f"{attempt} attempt{'s' if attempt > 1 else ''}"
                    raise self._stop(error, f" (gave up after {tried})") from None
                if wait > LONGEST_WAIT:
                    raise self._stop(error, f" (it asks to wait {wait:.0f} seconds)") from None
            except openai.OpenAIError as error:
                raise self._stop(error) from None
            self._sleep(wait)
        raise AssertionError("unreachable")

    def _wait(self, error: openai.APIError, attempt: int) -> float | None:
        """Seconds until the next attempt; ``None`` if none would help."""
        backoff = min(0.5 * 2.0 ** (attempt - 1), LONGEST_WAIT / 2)
        if isinstance(error, openai.APIConnectionError):
            return backoff
        status = error.status_code
        if _quota_is_used_up(error) or not (status in (408, 409, 429) or status >= 500):
            return None
        asked = retry_after(error.response.headers, now=time.time())
        return backoff if asked is None else asked

    def _stop(self, error: openai.OpenAIError, note: str = "") -> LanguageModelError:
        advice = "the answers received so far are in the cache, so run again to go on from there"
        if isinstance(error, openai.APITimeoutError):
            what = f"no answer within {self.timeout:g} seconds"
        elif isinstance(error, openai.APIConnectionError):
            what = f"no connection ({type(error.__cause__ or error).__name__})"
        elif isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
            what = f"status {error.status_code}, the key was not accepted"
            advice = f"check the environment variable {self.api_key_env}; {advice}"
        elif isinstance(error, openai.APIStatusError):
            what = f"status {error.status_code}, {self._message(error)}"
            if _quota_is_used_up(error):
                advice = f"the quota is used up: raise it or wait for the next period; {advice}"
        else:
            what = self._message(error)
        return LanguageModelError(f"{self.base_url}: {what}{note}; {advice}")

    def _message(self, error: openai.OpenAIError) -> str:
        body = getattr(error, "body", None)
        text = body.get("message") if isinstance(body, dict) else getattr(error, "message", "")
        return str(text or error).replace(self.client.api_key, "***")[:300]


def _quota_is_used_up(error: openai.APIError) -> bool:
    return bool(NO_QUOTA & {error.code, error.type})


def retry_after(headers: Any, *, now: float) -> float | None:
    """Seconds that a server asks to wait, from ``retry-after-ms`` or ``Retry-After``.

    The latter is a number of seconds or a date (RFC 9110, section 10.2.3); ``None`` if neither
    header can be read.
    """
    for header, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(header, "")) / unit
        except ValueError:
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - now)


def structured(client: openai.OpenAI, request: dict[str, Any], output: type) -> Any:
    """Body of the answer to a request with a structured ``output``, as JSON.

    The raw answer is taken, because ``parse`` drops answers that were paid for where it raises:
    cut ones and ones that are not the JSON asked for.

    Raises:
        ValueError: the body is no JSON.
    """
    body = {k: v for k, v in request.items() if k != "response_format"}
    raw = client.chat.completions.with_raw_response.parse(**body, response_format=output)
    return raw.http_response.json()
