"""Rewrites large sets through the Batch API, at half the price and without rate limits.

1. :func:`write_batch` writes the requests whose answers are not in the cache.
2. :func:`submit_batch` uploads them and starts the batch.
3. :func:`read_batch`, within a day, puts the answers into the cache.
4. Steps 1 to 3 once more ask again, more strictly, where an answer could not be used; when
   :func:`write_batch` returns 0, ``rewrite`` finds everything in the cache.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from vseam_lib.editing.chat_server import LanguageModelError
from vseam_lib.editing.language_model import LanguageModelRewriter
from vseam_lib.editing.prompting import record_of
from vseam_lib.triples import VQATriple

ENDPOINT = "/v1/chat/completions"
MOST_REQUESTS = 50_000  # per batch, and so are the bytes: limits of the Batch API
MOST_BYTES = 200_000_000
ENDED = ("completed", "expired", "cancelled", "failed")


class BatchState(NamedTuple):
    """What a batch has come to.

    Attributes:
        status: the server's word: ``"in_progress"``, ``"completed"``, ``"expired"``, ...
        stored: answers put into the cache.
        failed: problem -> number of requests that have no answer because of it.
    """

    status: str
    stored: int
    failed: dict[str, int]


def write_batch(rewriter: LanguageModelRewriter, triples: Iterable[VQATriple], path: Path) -> int:
    """Write the open requests of triples as a JSON-lines file.

    Returns:
        The number of requests; the file is not written if it is 0.

    Raises:
        ValueError: more than one batch may hold; pass the triples in portions.
    """
    lines = {}
    for triple in triples:
        request = rewriter.open_request(triple)
        if request is not None:
            key = rewriter.key(request)
            line = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": request}
            lines[key] = json.dumps(line, sort_keys=True) + "\n"
    size = sum(len(line.encode()) for line in lines.values())
    if len(lines) > MOST_REQUESTS or size > MOST_BYTES:
        raise ValueError(
            f"expected at most {MOST_REQUESTS} requests of {MOST_BYTES} bytes in one batch, got "
            f"{len(lines)} of {size}; write, submit and read the triples in portions"
        )
    if lines:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_text("".join(lines.values()), encoding="utf-8")
        part.replace(path)
    return len(lines)


def submit_batch(rewriter: LanguageModelRewriter, path: Path) -> str:
    """Upload a file of :func:`write_batch` and start it; the id of the batch.

    Keep the id: submitting the file again would pay for it again, so nothing is retried.

    Raises:
        LanguageModelError: the server did not take it.
    """
    content = Path(path).read_bytes()
    name = Path(path).name
    server = rewriter.server
    file = server.call(
        lambda client: client.files.create(file=(name, content), purpose="batch"), retry=False
    )
    batch = server.call(
        lambda client: client.batches.create(
            input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h"
        ),
        retry=False,
    )
    return batch.id


def read_batch(
    rewriter: LanguageModelRewriter,
    batch_id: str,
    *,
    poll_seconds: float | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> BatchState:
    """Put the answers of a batch into the cache; reading one twice does no harm.

    A batch that has not ended gives its status and stores nothing. One that expired or was
    cancelled gives the answers it has.

    Args:
        rewriter: the rewriter whose requests they are.
        batch_id: from :func:`submit_batch`.
        poll_seconds: look again after so many seconds until the batch has ended; ``None`` looks
            once.
        sleep: waits a number of seconds.

    Raises:
        LanguageModelError: the server rejected the batch as a whole, or cannot be used.
        ValueError: the batch is not one of :func:`write_batch`.
    """
    server = rewriter.server
    batch = server.call(lambda client: client.batches.retrieve(batch_id))
    while poll_seconds is not None and batch.status not in ENDED:
        sleep(poll_seconds)
        batch = server.call(lambda client: client.batches.retrieve(batch_id))
    if batch.status == "failed":
        problems = [e.message for e in (batch.errors.data if batch.errors else None) or []]
        raise LanguageModelError(
            f"{server.base_url}: batch {batch_id} was rejected: {'; '.join(map(str, problems[:3]))}"
            "; write and submit it again once that is mended"
        )
    stored, failed = 0, Counter[str]()
    if batch.status in ENDED:
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            text = server.call(lambda client, i=file_id: client.files.content(i).text)
            stored += _store(rewriter, batch_id, text, failed)
    return BatchState(batch.status, stored, dict(failed))


def _store(rewriter: LanguageModelRewriter, batch_id: str, text: str, failed: Counter[str]) -> int:
    answers = {}
    for line in filter(str.strip, text.split("\n")):
        try:
            entry = json.loads(line)
            key, record = entry["custom_id"], _record(entry)
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            failed["a line that is no answer of the Batch API"] += 1
            continue
        except ValueError as problem:
            failed[str(problem)] += 1
            continue
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            raise ValueError(
                f"batch {batch_id}: expected requests of write_batch, got one named {key!r}; "
                "pass the id that submit_batch returned"
            )
        answers[key] = record
    rewriter.cache.put(answers)
    return len(answers)


def _record(entry: dict[str, Any]) -> dict[str, Any]:
    response = entry.get("response") or {}
    problem = entry.get("error") or (response.get("body") or {}).get("error")
    if problem or response.get("status_code") != 200:
        message = problem.get("message") if isinstance(problem, dict) else problem
        raise ValueError(message or f"status {response.get('status_code')}")
    return record_of(response["body"])
