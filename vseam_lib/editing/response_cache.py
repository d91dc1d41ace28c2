"""A language model's answers on disk, so that running again costs nothing and changes nothing.

One sqlite file; the key is the digest of the canonical request, the value what the model
answered. Several processes may use one file at the same time.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

BUSY_SECONDS = 60


def request_key(request: Mapping[str, Any]) -> str:
    """SHA-256 of a request as JSON with sorted keys and no spaces, 64 hexadecimal digits."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class ResponseCache:
    """Answers by request key.

    Args:
        path: the sqlite file; it and its directory are created where missing.

    Raises:
        ValueError: the file is damaged or no such cache. Nothing of it is changed.
        OSError: it cannot be opened or written, or stays locked.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
            )
            (state,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
            database.execute("SELECT key, value FROM responses LIMIT 1")

    def __len__(self) -> int:
        with self._open() as database:
            return database.execute("SELECT count(*) FROM responses").fetchone()[0]

    def get(self, key: str) -> dict[str, Any] | None:
        """The answer to the request with this key, ``None`` if there is none."""
        with self._open() as database:
            row = database.execute("SELECT value FROM responses WHERE key = ?", (key,)).fetchone()
        return None if row is None else self._decode(key, row[0])

    def put(self, answers: Mapping[str, Mapping[str, Any]]) -> None:
        """Store answers by key, all or none. An answer that is already there stays."""
        rows = [(key, json.dumps(value, sort_keys=True)) for key, value in answers.items()]
        with self._open() as database, database:
            database.executemany("INSERT OR IGNORE INTO responses VALUES (?, ?)", rows)

    def _decode(self, key: str, text: str) -> dict[str, Any]:
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise self._damaged(f"the answer {key} is no JSON, {error}") from None
        if not isinstance(value, dict):
            raise self._damaged(f"the answer {key} is no JSON object")
        return value

    def _damaged(self, how: object) -> ValueError:
        how = " ".join(str(how).split())
        return ValueError(
            f"{self.path}: expected a cache of answers, but {how}. The file was left as it is; "
            "move it away to start a new one, or restore a copy, since its answers were paid for"
        )

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=BUSY_SECONDS)) as database:
                yield database
        except sqlite3.OperationalError as error:
            if "no such column" in str(error):
                raise self._damaged(error) from error
            raise OSError(
                f"{self.path}: expected a cache that can be read and written, but {error}; check "
                "the directory's permissions and free space, and other processes that hold the file"
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
