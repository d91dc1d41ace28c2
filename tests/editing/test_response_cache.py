import sqlite3
import subprocess
import sys

import pytest

from vseam_lib.editing.response_cache import ResponseCache, request_key

WRITER = """
import sys
from vseam_lib.editing.response_cache import ResponseCache
cache = ResponseCache(sys.argv[1])
for i in range(int(sys.argv[2]), int(sys.argv[3])):
    cache.put({f"{i:064}": {"content": sys.argv[4]}})
"""


def test_the_key_does_not_depend_on_the_order_of_fields():
    one = request_key({"model": "m", "messages": [{"role": "user", "content": "é"}]})
    other = request_key({"messages": [{"content": "é", "role": "user"}], "model": "m"})
    assert one == other and len(one) == 64
    assert one != request_key({"model": "m", "messages": [{"role": "user", "content": "e"}]})


def test_answers_survive_a_new_start(tmp_path):
    path = tmp_path / "new" / "answers.sqlite"
    ResponseCache(path).put({"a": {"content": "ä", "usage": {"total_tokens": 3}}})
    cache = ResponseCache(path)
    assert cache.get("a") == {"content": "ä", "usage": {"total_tokens": 3}}
    assert cache.get("b") is None and len(cache) == 1


def test_the_first_answer_to_a_request_stays(tmp_path):
    cache = ResponseCache(tmp_path / "answers.sqlite")
    cache.put({"a": {"content": "first"}})
    cache.put({"a": {"content": "second"}, "b": {"content": "other"}})
    assert cache.get("a") == {"content": "first"} and len(cache) == 2


def test_answers_are_stored_all_or_none(tmp_path):
    cache = ResponseCache(tmp_path / "answers.sqlite")
    with pytest.raises(TypeError):
        cache.put({"a": {"content": "fine"}, "b": {"content": object()}})
    assert len(cache) == 0


def test_two_processes_write_into_one_file(tmp_path):
    path = tmp_path / "answers.sqlite"
    ranges = [("0", "30", "one"), ("15", "45", "two")]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), *span], stderr=subprocess.PIPE)
        for span in ranges
    ]
    for writer in writers:
        _, errors = writer.communicate(timeout=60)
        assert writer.returncode == 0, errors.decode()
    cache = ResponseCache(path)
    assert len(cache) == 45
    assert cache.get(f"{0:064}") == {"content": "one"}
    assert cache.get(f"{44:064}") == {"content": "two"}


def full(path):
    cache = ResponseCache(path)
    cache.put({f"{i:064}": {"content": "x" * 200} for i in range(200)})
    return path.read_bytes()


@pytest.mark.parametrize("damage", ["text", "truncated", "overwritten"])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path, damage):
    path = tmp_path / "answers.sqlite"
    content = full(path)
    broken = {
        "text": b"not a database, but long enough to be looked at as if it were one" * 20,
        "truncated": content[: len(content) // 2],
        "overwritten": content[:4096] + b"\xff" * 4096 + content[8192:],
    }[damage]
    path.write_bytes(broken)
    with pytest.raises(ValueError, match=r"answers\.sqlite: expected a cache .* move it away"):
        ResponseCache(path)
    assert path.read_bytes() == broken


def test_a_damaged_answer_is_named(tmp_path):
    cache = ResponseCache(tmp_path / "answers.sqlite")
    cache.put({"a": {"content": "fine"}})
    with sqlite3.connect(cache.path) as database:
        database.execute("UPDATE responses SET value = '{\"content\": '")
    with pytest.raises(ValueError, match="the answer a is no JSON"):
        cache.get("a")


def test_another_programs_database_is_refused(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE responses (question TEXT)")
    with pytest.raises(ValueError, match="expected a cache of answers, but no such column"):
        ResponseCache(path)


def test_a_place_that_cannot_hold_a_file_is_named(tmp_path):
    with pytest.raises(OSError, match="expected a cache that can be read and written"):
        ResponseCache(tmp_path)


def test_an_empty_file_is_a_new_cache(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.touch()
    assert len(ResponseCache(path)) == 0
