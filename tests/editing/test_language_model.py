import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vseam_lib.editing.batch import read_batch, submit_batch, write_batch
from vseam_lib.editing.chat_server import ChatServer, LanguageModelError, retry_after
from vseam_lib.editing.counterfactual import Counterfactual, Refusal
from vseam_lib.editing.language_model import LanguageModelRewriter
from vseam_lib.editing.prompting import fewshot, prompt
from vseam_lib.triples import Category, VQATriple

KEY = "sk-test-0123456789abcdef"


def triple(question, answer="Yes", full_answer="", *, category="color", id_="1"):
    return VQATriple(
        id=id_,
        image_id="7",
        image=Path("7.jpg"),
        question=question,
        answer=answer,
        category=Category(category),
        boxes=(),
        full_answer=full_answer,
    )


CAR = triple("Is the car red?", full_answer="The car is red.")
DOG = triple("Is there a dog here?", "No", "No, there is a cat here.", category="animal", id_="2")
MAN = triple("Is the man riding the horse?", category="action", id_="3")
GREEN, CAT, FEEDING = "Is the car green?", "Is there a cat here?", "Is the man feeding the horse?"


def completion(question=None, *, content=None, refusal=None, finish="stop"):
    if question is not None:
        content = json.dumps({"counterfactual_question": question})
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-2024",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def ok(*args, **kwargs):
    return 200, {}, completion(*args, **kwargs)


def error(status, code=None, message="no", **headers):
    return status, headers, {"error": {"message": message, "code": code, "type": code}}


class Server:
    """Replies from a script on a loopback port and remembers what it was asked."""

    def __init__(self):
        self.script, self.requests, self.batches, self.files = [], [], {}, {}
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.reply(self, body)

            def do_GET(self):
                outer.reply(self, b"")

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = False  # closing then waits for every handler
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))
        self.thread.start()

    def reply(self, handler, body):
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append((handler.path, headers, body))
        step = self.script.pop(0) if self.script else error(500, message="the script is over")
        if step == "hang":
            self.released.wait(10)
            return
        status, headers, content = step(handler.path, body) if callable(step) else step
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            handler.send_header(name.replace("_", "-"), str(value))
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def asked(self):
        return [json.loads(body) for path, _, body in self.requests if "chat" in path]

    def close(self):
        self.released.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def server():
    one = Server()
    yield one
    one.close()


@pytest.fixture
def make(server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    waits = []

    def rewriter(**options):
        made = LanguageModelRewriter(
            **{
                "model": "tiny",
                "cache": tmp_path / "answers.sqlite",
                "vocabulary": "gqa",
                "base_url": server.url,
                "timeout": 5.0,
                "max_retries": 2,
                "sleep": waits.append,
            }
            | options
        )
        made.waits = waits
        return made

    return rewriter


def test_the_prompts_show_the_ten_examples_of_table_6():
    levels = fewshot()["levels"]
    assert {k: len(v["examples"]) for k, v in levels.items()} == {
        "attribute": 3,
        "object": 3,
        "relation": 4,
    }
    for one, level in ((CAR, "attribute"), (DOG, "object"), (MAN, "relation")):
        text = prompt(one)
        assert text.startswith("You are given a binary Yes/No question about")
        for number, example in enumerate(levels[level]["examples"], 1):
            shown = f"Example {number}:\nOriginal Question: {example['question']}\nAnswer: "
            assert shown in text
            assert f"Counterfactual Question: {example['counterfactual']}\n" in text
    assert prompt(CAR).endswith(
        "Original Question: Is the car red?\nAnswer: Yes.\nFull Answer: The car is red.\n"
        "Counterfactual Question:"
    )
    assert prompt(MAN).endswith(
        "Is the man riding the horse?\nAnswer: Yes.\nCounterfactual Question:"
    )


def test_answers_become_counterfactuals_in_order(server, make):
    server.script = [ok(GREEN), ok(CAT), ok(FEEDING)]
    car, dog, man = make().rewrite([CAR, DOG, MAN])
    assert (car.question, car.old, car.new, car.shows) == (GREEN, "red", "green", "red")
    assert (dog.question, dog.shows, dog.wanted) == (CAT, "cat", "dog")
    assert (man.triple_id, man.wanted) == ("3", "feeding")
    assert "tiny@" in car.rewriter


def test_the_request_on_the_wire_is_the_one_that_is_cached(server, make):
    rewriter = make()
    request = rewriter.open_request(CAR)
    server.script = [ok(GREEN)]
    rewriter.rewrite([CAR])
    assert server.asked() == [request | {"stream": False}]
    assert (request["temperature"], request["seed"], request["store"]) == (0, 0, False)
    assert request["response_format"]["json_schema"]["strict"] is True
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"
    assert rewriter.cache.get(rewriter.key(request))["usage"]["total_tokens"] == 15


def test_running_again_costs_nothing_and_needs_no_key(server, make, monkeypatch):
    server.script = [ok(GREEN), ok(CAT)]
    first = make().rewrite([CAR, DOG])
    monkeypatch.delenv("OPENAI_API_KEY")
    again = make()
    assert again.rewrite([CAR, DOG]) == first and len(server.requests) == 2
    with pytest.raises(LanguageModelError, match="environment variable OPENAI_API_KEY, found none"):
        again.rewrite([MAN])


def test_model_fingerprint_and_usage_are_kept(server, make):
    rewriter = make()
    server.script = [ok(content="green"), ok(GREEN)]
    rewriter.rewrite([CAR])
    rows = rewriter.answers([CAR, DOG])
    assert rows["id"].tolist() == ["1", "1"]
    assert rows["model"].tolist() == ["tiny-2024"] * 2
    assert rows["system_fingerprint"].tolist() == ["fp_1"] * 2
    assert rows["completion_tokens"].sum() == 10


def test_a_rate_limit_waits_as_long_as_the_server_asks(server, make):
    server.script = [error(429, "rate_limit_exceeded", Retry_After=7), ok(GREEN)]
    rewriter = make()
    (car,) = rewriter.rewrite([CAR])
    assert isinstance(car, Counterfactual) and rewriter.waits == [7.0]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:02:00 GMT"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_both_forms_of_retry_after_are_read(headers, seconds):
    assert retry_after(headers, now=100.0) == seconds


def test_a_wait_of_hours_ends_the_run(server, make):
    server.script = [error(429, Retry_After=7200)]
    rewriter = make()
    with pytest.raises(LanguageModelError, match="asks to wait 7200 seconds"):
        rewriter.rewrite([CAR])
    assert rewriter.waits == []


STOPS = {
    "server errors": ([error(503)] * 3, 3, r"status 503, .*gave up after 3 attempts"),
    "rate limits": ([error(429)] * 3, 3, r"status 429, .*gave up after 3 attempts"),
    "no answer": (["hang"] * 2, 2, r"no answer within 1 seconds \(gave up after 2"),
    "quota": ([error(429, "insufficient_quota")], 1, "the quota is used up"),
    "wrong key": ([error(401, message=f"Incorrect API key provided: {KEY}")], 1, "OPENAI_API_KEY"),
    "wrong model": ([error(404, message=f"no model for {KEY}")], 1, r"status 404, no model for \*"),
    "bad request": ([error(400, message="seed?")], 1, "status 400, .*seed"),
    "a web page": ([(200, {}, "<html>")], 1, "expected a chat completion|Expecting value"),
    "another body": ([(200, {}, {"models": []})], 1, "expected a chat completion"),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_stopped_run_goes_on_from_the_answers_it_paid_for(server, make, name):
    script, calls, message = STOPS[name]
    rewriter = make(**({"timeout": 1.0, "max_retries": 1} if "hang" in script else {}))
    server.script = [ok(GREEN), *script]
    with pytest.raises(LanguageModelError, match=message) as stopped:
        rewriter.rewrite([CAR, DOG])
    assert KEY not in str(stopped.value)
    assert stopped.value.__cause__ is None and stopped.value.__suppress_context__
    assert len(server.requests) == 1 + calls and len(rewriter.cache) == 1
    server.script = [ok(CAT)]
    car, dog = make().rewrite([CAR, DOG])
    assert (car.question, dog.question) == (GREEN, CAT)
    assert len(server.requests) == 2 + calls


def test_errors_that_pass_are_waited_for_longer_and_longer(server, make):
    server.script = [error(500), error(502), ok(GREEN)]
    rewriter = make()
    assert isinstance(rewriter.rewrite([CAR])[0], Counterfactual)
    assert rewriter.waits == [0.5, 1.0]


def test_an_unreachable_server_is_an_error_that_names_it(make):
    closed = Server()
    closed.close()
    rewriter = make(base_url=closed.url, max_retries=1)
    with pytest.raises(LanguageModelError, match=rf"{closed.url}: no connection .*2 attempts"):
        rewriter.rewrite([CAR])


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (ok(refusal="I cannot help with that."), "the model refused: I cannot"),
        (ok(content='{"counterf', finish="length"), "the answer was cut: .*raise max_completion"),
        (ok(content="", finish="content_filter"), "a content filter"),
    ],
)
def test_an_answer_that_is_none_refuses_the_triple_and_is_kept(server, make, reply, reason):
    server.script = [reply, ok(CAT)]
    car, dog = make().rewrite([CAR, DOG])
    assert isinstance(car, Refusal) and re.match(reason, str(car))
    assert isinstance(dog, Counterfactual)
    assert make().rewrite([CAR, DOG]) == [car, dog] and len(server.requests) == 2


def test_a_cut_answer_is_asked_again_with_more_room(server, make):
    server.script = [ok(content="{", finish="length"), ok(GREEN)]
    assert isinstance(make(max_completion_tokens=8).rewrite([CAR])[0], Refusal)
    assert isinstance(make(max_completion_tokens=99).rewrite([CAR])[0], Counterfactual)


def test_a_filtered_question_does_not_stop_the_run(server, make):
    server.script = [error(400, "content_filter"), ok(CAT)]
    car, dog = make().rewrite([CAR, DOG])
    assert car == Refusal("1", "a content filter stopped the question")
    assert isinstance(dog, Counterfactual)


UNUSABLE = {
    "prose": (ok(content="Sure! Is the car green?"), "no structured answer"),
    "cut JSON": (ok(content='{"counterfactual_question": "Is'), "no structured answer"),
    "other fields": (ok(content='{"question": "Is the car green?"}'), "no structured answer"),
    "nothing": (ok(content=None), "no structured answer"),
    "empty": (ok(" "), "no structured answer"),
    "identical": (ok("Is the car red?"), "identical to the question"),
    "two units": (ok("Is the bus green?"), "another object is asked about"),
    "abstract": (ok("Is the car bright?"), "a brightness is no colour that can be drawn"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_answer_is_followed_by_one_stricter_request(server, make, name):
    reply, reason = UNUSABLE[name]
    server.script = [reply, ok(GREEN)]
    (car,) = make().rewrite([CAR])
    first, second = server.asked()
    assert isinstance(car, Counterfactual)
    assert second["messages"][0] == first["messages"][0]
    assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]
    assert "That answer cannot be used" in second["messages"][2]["content"]


@pytest.mark.parametrize("name", UNUSABLE)
def test_two_unusable_answers_refuse_the_triple(server, make, name):
    reply, reason = UNUSABLE[name]
    server.script = [reply, reply, ok(CAT)]
    car, dog = make().rewrite([CAR, DOG])
    assert isinstance(car, Refusal) and car.reason == reason
    assert isinstance(dog, Counterfactual)
    assert make().rewrite([CAR]) == [car] and len(server.requests) == 3


def test_nothing_is_paid_for_questions_that_cannot_be_rewritten(server, make):
    hopeless = [
        triple("Is the fence wooden or metallic?", category="material"),
        triple("Is the sky bright?"),
        triple("Is the car red?", "No", "Yes, the car is red."),
    ]
    outcomes = make().rewrite(hopeless)
    assert all(isinstance(x, Refusal) for x in outcomes) and server.requests == []


def test_the_key_is_nowhere_but_in_the_header(server, make, tmp_path):
    server.script = [ok(GREEN)]
    rewriter = make()
    (car,) = rewriter.rewrite([CAR])
    texts = [rewriter.name, repr(rewriter), repr(rewriter.server), repr(car), str(vars(rewriter))]
    texts += [p.read_bytes().decode(errors="replace") for p in tmp_path.iterdir()]
    assert not [text for text in texts if KEY in text]


@pytest.mark.parametrize(
    "url", ["http://user:geheim@host/v1", "https://host/v1?api-key=geheim", "https://host/v1#geheim"]
)  # fmt: skip
def test_a_base_url_with_a_secret_is_refused_without_repeating_it(make, url):
    with pytest.raises(ValueError, match="without user, password, query") as refused:
        make(base_url=url)
    assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [{"model": " "}, {"timeout": 0}, {"max_retries": -1}, {"max_completion_tokens": 0},
     {"base_url": "localhost:11434"}, {"vocabulary": "coco"}],
)  # fmt: skip
def test_options_out_of_range_are_refused(make, options):
    with pytest.raises(ValueError, match="expected"):
        make(**options)


def test_a_server_without_keys_needs_none(server, make, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    server.script = [ok(GREEN)]
    assert isinstance(make(api_key_env=None).rewrite([CAR])[0], Counterfactual)


def test_the_server_may_come_from_the_environment(monkeypatch):
    options = {"api_key_env": None, "timeout": 1, "max_retries": 0}
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:11434/v1/")
    assert ChatServer(base_url=None, **options).base_url == "http://localhost:11434/v1"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert ChatServer(base_url=None, **options).base_url == "https://api.openai.com/v1"


def test_names_tell_apart_what_changes_an_answer(make):
    changes = [{}, {"model": "other"}, {"seed": 1}, {"temperature": None}, {"vocabulary": "world"},
               {"base_url": "http://localhost:1/v1"}, {"max_completion_tokens": 9},
               {"present": {"7": {"dog"}}}]  # fmt: skip
    assert len({make(**change).name for change in changes}) == len(changes)


def with_batches(server, *, answers, status="completed", statuses=()):
    """Script the Batch API: upload, create, look, download."""
    uploaded, looks = {}, list(statuses)

    def upload(path, body):
        start = body.index(b'{"body"')
        uploaded["lines"] = [
            json.loads(line) for line in body[start:].split(b"\r\n")[0].decode().strip().split("\n")
        ]
        return 200, {}, {"id": "file-1", "object": "file", "purpose": "batch"}

    def batch(path, body):
        now = looks.pop(0) if looks else status
        uploaded["created"] = json.loads(body) if body else uploaded.get("created")
        done = now in ("completed", "expired")
        return 200, {}, {
            "id": "batch-1", "object": "batch", "status": now, "endpoint": "/v1/chat/completions",
            "completion_window": "24h", "created_at": 0, "input_file_id": "file-1",
            "output_file_id": "file-2" if done else None,
            "errors": {"data": [{"message": "line 1 is wrong"}]} if now == "failed" else None,
        }  # fmt: skip

    def download(path, body):
        lines = []
        for line, answer in zip(uploaded["lines"], answers, strict=False):
            response = {"status_code": 200, "body": answer}
            if isinstance(answer, str):
                response = {"status_code": 500, "body": {"error": {"message": answer}}}
            entry = {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}
            lines.append(json.dumps(entry))
        return 200, {"Content-Type": "application/jsonl"}, "\n".join(reversed(lines)) + "\n"

    server.script = [upload, batch, *[batch] * max(len(looks) - 1, 1), download]
    return uploaded


def test_a_batch_fills_the_cache(server, make, tmp_path):
    rewriter, path = make(), tmp_path / "batches" / "one.jsonl"
    triples = [CAR, DOG, MAN, triple(CAR.question, full_answer=CAR.full_answer, id_="4")]
    uploaded = with_batches(
        server, answers=[completion(GREEN), completion(CAT), completion(FEEDING)]
    )
    assert write_batch(rewriter, triples, path) == 3  # the same question once
    assert submit_batch(rewriter, path) == "batch-1"
    assert uploaded["created"]["endpoint"] == "/v1/chat/completions"
    assert {line["url"] for line in uploaded["lines"]} == {"/v1/chat/completions"}
    assert uploaded["lines"][0]["body"] == rewriter.open_request(CAR)
    state = read_batch(rewriter, "batch-1")
    assert state == ("completed", 3, {})
    before = len(server.requests)
    outcomes = rewriter.rewrite(triples)
    assert [c.question for c in outcomes] == [GREEN, CAT, FEEDING, GREEN]
    assert len(server.requests) == before
    assert write_batch(rewriter, triples, path) == 0


def test_a_second_batch_asks_again_where_answers_failed_or_cannot_be_used(server, make, tmp_path):
    rewriter, path = make(), tmp_path / "one.jsonl"
    with_batches(server, answers=[completion(content="green"), "overloaded", completion(FEEDING)])
    write_batch(rewriter, [CAR, DOG, MAN], path)
    submit_batch(rewriter, path)
    assert read_batch(rewriter, "batch-1") == ("completed", 2, {"overloaded": 1})
    assert write_batch(rewriter, [CAR, DOG, MAN], path) == 2
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [len(line["body"]["messages"]) for line in lines] == [3, 1]


def test_a_batch_is_waited_for_on_request_alone(server, make, tmp_path):
    rewriter, path, waits = make(), tmp_path / "one.jsonl", []
    with_batches(
        server,
        answers=[completion(GREEN)],
        statuses=["validating", "in_progress", "in_progress", "completed"],
    )
    write_batch(rewriter, [CAR], path)
    submit_batch(rewriter, path)
    assert read_batch(rewriter, "batch-1") == ("in_progress", 0, {})
    assert read_batch(rewriter, "batch-1", poll_seconds=30, sleep=waits.append).stored == 1
    assert waits == [30]


def test_an_expired_batch_gives_what_it_has(server, make, tmp_path):
    rewriter, path = make(), tmp_path / "one.jsonl"
    with_batches(server, answers=[completion(GREEN)], status="expired")
    write_batch(rewriter, [CAR, DOG], path)
    submit_batch(rewriter, path)
    assert read_batch(rewriter, "batch-1") == ("expired", 1, {})
    assert write_batch(rewriter, [CAR, DOG], path) == 1


def test_a_rejected_batch_says_why(server, make, tmp_path):
    rewriter, path = make(), tmp_path / "one.jsonl"
    with_batches(server, answers=[], status="failed")
    write_batch(rewriter, [CAR], path)
    submit_batch(rewriter, path)
    with pytest.raises(LanguageModelError, match="batch-1 was rejected: line 1 is wrong"):
        read_batch(rewriter, "batch-1")


def test_submitting_is_never_retried(server, make, tmp_path):
    rewriter, path = make(), tmp_path / "one.jsonl"
    write_batch(rewriter, [CAR], path)
    server.script = [error(503)]
    with pytest.raises(LanguageModelError, match="gave up after 1 attempt"):
        submit_batch(rewriter, path)
    assert len(server.requests) == 1


def test_a_batch_too_large_is_refused(make, tmp_path, monkeypatch):
    monkeypatch.setattr("vseam_lib.editing.batch.MOST_REQUESTS", 1)
    with pytest.raises(ValueError, match="at most 1 requests .* got 2"):
        write_batch(make(), [CAR, DOG], tmp_path / "one.jsonl")
    assert not (tmp_path / "one.jsonl").exists()
