"""Respondents: an endpoint in good and bad health, and a local model folder."""

import base64
import contextlib
import io
import json
import socket
import sys
import threading
import time

import pytest
import tiny
import torch
from PIL import Image

from minigrpo import Sample, Sampling, generate
from mpcc.build.answers import Decoding, Prompt, Query, RespondentError, Unanswered, query_key
from mpcc.build.endpoint import AGAIN
from mpcc.build.respondents import Endpoint, Local, respondent

DECODING = Decoding(16)
PAIRS = [{"id": f"val2017/{i}.png#{i}", "file_name": f"{i}.png", "bbox": [1, 2, 3, i]} for i in range(6)]


def image_of(pair):
    return tiny.image(56, 56, pair["bbox"][3])


def queries(decoding=DECODING, pairs=PAIRS, system=None):
    prompts = [Prompt(pair, "what is hidden?", system) for pair in pairs]
    return [Query(p, slot, query_key(p, decoding, slot), image_of) for p in prompts for slot in range(decoding.samples)]


def answers(who, decoding=DECODING, asked=None):
    kept = {}
    who.ask(asked or queries(decoding), decoding, lambda query, text: kept.__setitem__((query.id, query.slot), text))
    return kept


def client(endpoint, **options):
    return Endpoint("scripted", endpoint.url, **({"timeout": 5.0, "retries": 0} | options))


def test_a_request_holds_image_question_and_system_prompt(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    answers(client(endpoint), asked=queries(pairs=PAIRS[:1], system="be brief"))
    (body,) = endpoint.bodies
    assert body["model"] == "scripted" and body["max_tokens"] == 16 and body["temperature"] == 0
    assert body["key"] == "Bearer secret" and "seed" not in body
    system, user = body["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert user["content"][1] == {"type": "text", "text": "what is hidden?"}
    head, data = user["content"][0]["image_url"]["url"].split(",")
    shown = Image.open(io.BytesIO(base64.b64decode(data)))
    assert head == "data:image/jpeg;base64" and shown.size == (56, 56)


def test_local_servers_need_no_key(endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert len(answers(client(endpoint))) == 6


def test_samples_have_seeds_of_their_own(endpoint):
    decoding = Decoding(16, temperature=0.7, samples=3, seed=10)
    assert len(answers(client(endpoint), decoding)) == 18
    assert sorted(body["seed"] for body in endpoint.bodies) == [10] * 6 + [11] * 6 + [12] * 6
    assert {body["temperature"] for body in endpoint.bodies} == {0.7}


@pytest.mark.parametrize("parallel", [1, 3])
def test_requests_under_way_are_bounded(endpoint, parallel):
    endpoint.script = lambda question, image: threading.Event().wait(0.03) or "dog"
    answers(client(endpoint, parallel=parallel))
    assert endpoint.most_at_a_time == parallel


HTML = (200, "text/html", "<html><body>Welcome to the proxy</body></html>", 0)
FAILURES = {
    "status": ((500, "application/json", '{"error": {"message": "no memory"}}', 0), "got HTTP 500: .*no memory"),
    "refused": ((401, "application/json", '{"error": {"message": "bad key"}}', 0), "got HTTP 401: .*bad key"),
    "html": (HTML, r"got '<html><body>Welcome.* instead of JSON: is the base URL right"),
    "html error": ((502, "text/html", "<html>Bad gateway</html>", 0), "got HTTP 502: .*Bad gateway"),
    "torn": ((200, "application/json", '{"choices": [', 0), "got a reply that is not JSON"),
    "list": ((200, "application/json", "[1, 2]", 0), "instead of JSON|without choices"),
    "empty": ((200, "application/json", '{"id": "1", "choices": []}', 0), "got a reply without choices"),
    "no choices": ((200, "application/json", '{"error": "overloaded"}', 0), "got a reply without choices"),
    "choices no list": ((200, "application/json", '{"choices": {"a": 1}}', 0), "got a reply without choices"),
    "choice no object": ((200, "application/json", '{"choices": ["dog"]}', 0), "got a reply without choices"),
    "no message": ((200, "application/json", '{"choices": [{"index": 0}]}', 0), "got a reply without choices"),
    "text for message": ((200, "application/json", '{"choices": [{"message": "dog"}]}', 0), "a reply without choices"),
    "content no text": ((200, "application/json", '{"choices": [{"message": {"content": [1]}}]}', 0),
                        r"got a reply whose content is no text: '\[1\]'"),
    "never": ((200, "application/json", "{}", 1.0), "got no answer within 0.2 s, in 1 tries"),
}


@pytest.mark.parametrize(("failure", "message"), FAILURES.values(), ids=FAILURES)
@pytest.mark.filterwarnings("error::UserWarning")
def test_each_failure_is_one_line_naming_endpoint_and_item(endpoint, failure, message):
    endpoint.fail = lambda number: failure
    who = client(endpoint, timeout=0.2 if failure[3] else 5.0, parallel=1)
    with pytest.raises(RespondentError, match=message) as caught:
        answers(who)
    assert str(caught.value).startswith(f"{who.name}: {PAIRS[0]['id']} got ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_nobody_there():
    pytest.importorskip("openai", reason="endpoints need the openai package")
    who = Endpoint("m", "http://127.0.0.1:1/v1", retries=0)
    with pytest.raises(RespondentError, match="got no connection .* in 1 tries; answers so far are kept"):
        answers(who)


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(endpoint, status):
    endpoint.fail = lambda number: (status, "application/json", '{"error": {}}', 0) if number == 0 else None
    assert len(answers(client(endpoint, retries=1, parallel=1))) == 6
    assert len(endpoint.bodies) == 7


def test_what_will_not_pass_is_not_tried_again(endpoint):
    endpoint.fail = lambda number: (400, "application/json", '{"error": {}}', 0)
    with pytest.raises(RespondentError):
        answers(client(endpoint, retries=3, parallel=1))
    assert len(endpoint.bodies) == 1


def test_a_failure_keeps_what_came_and_stops_the_rest(endpoint):
    endpoint.fail = lambda number: (400, "application/json", "{}", 0) if number == 2 else None
    kept = {}
    with pytest.raises(RespondentError):
        client(endpoint, parallel=1).ask(queries(), DECODING, lambda query, text: kept.__setitem__(query.id, text))
    assert list(kept) == [PAIRS[0]["id"], PAIRS[1]["id"]]
    assert len(endpoint.bodies) == 3


def reply(content, reason="stop"):
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": reason}
    return 200, "application/json", json.dumps({"id": "1", "choices": [choice]}), 0


UNUSABLE = {"none": (reply(None), "empty"), "empty": (reply(""), "empty"), "blank": (reply(" \n"), "empty"),
            "cut off": (reply("Rating: 4", "length"), "cut off at 16 new tokens"),
            "filtered": (reply("I can", "content_filter"), "cut by the server: 'content_filter'")}


@pytest.mark.parametrize(("wrong", "why"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_empty_or_cut_off_reply_is_asked_for_again_and_never_believed(endpoint, wrong, why):
    endpoint.fail = lambda number: wrong
    asked = queries(pairs=PAIRS[:1])
    assert set(answers(client(endpoint, retries=5), asked=asked).values()) == {Unanswered(why)}
    assert len(endpoint.bodies) == 1 + AGAIN
    endpoint.fail = lambda number: wrong if number == 1 + AGAIN else None
    assert isinstance(answers(client(endpoint, retries=5), asked=asked)[PAIRS[0]["id"], 0], str)
    assert len(endpoint.bodies) == 3 + AGAIN


def drip(first, seconds=0.1):
    """A server that sends `first`, then a byte every so often, for ever; gives its URL and how to stop it."""
    stop, listening = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def serve():
        while not stop.is_set():
            try:
                caller, _ = listening.accept()
            except OSError:
                return
            with caller, contextlib.suppress(OSError):
                caller.sendall(first)
                while not stop.wait(seconds):
                    caller.sendall(b" ")

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listening.getsockname()[1]}/v1", lambda: (stop.set(), listening.close())


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"


FIRST = {"status": b"HTTP/1.1 200 ", "head": HEAD + b"X-Slow: ", "body": HEAD + b"\r\n",
         "error": HEAD.replace(b"200 OK", b"400 No") + b"\r\n"}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_an_endpoint_that_drips_comes_to_an_end(first):
    pytest.importorskip("openai", reason="endpoints need the openai package")
    url, stop = drip(first)
    began = time.monotonic()
    try:
        with pytest.raises(RespondentError, match="got no answer within 0.5 s, in 1 tries"):
            answers(Endpoint("m", url, timeout=0.5, retries=0, parallel=1), asked=queries(pairs=PAIRS[:1]))
    finally:
        stop()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("status", [200, 400])
def test_a_reply_without_end_is_not_read_to_the_end(endpoint, status, monkeypatch):
    monkeypatch.setattr("mpcc.build.endpoint.MOST_BYTES", 5000)
    endpoint.fail = lambda number: (status, "application/json", "x" * 50_000_000, 0)
    with pytest.raises(RespondentError, match="more than 5,000 bytes" if status == 200 else "HTTP 400: 'xxx") as caught:
        answers(client(endpoint, parallel=1))
    assert len(str(caught.value)) < 400


def test_odd_records_are_one_line(endpoint):
    for text in ("[" * 100_000, '{"choices": [{"message": {"content": "x"}, "finish_reason": [1]}]}', "9" * 5000,
                 "null", '{"choices": [{"message": {"content": "x", "content": {}}}]}', "\x00", '"choices"'):
        endpoint.fail = lambda number, text=text: (200, "application/json", text, 0)
        try:
            assert answers(client(endpoint), asked=queries(pairs=PAIRS[:1])) == {(PAIRS[0]["id"], 0): "x"}
        except RespondentError as error:
            assert "\n" not in str(error) and len(str(error)) < 400


def test_the_key_is_shown_nowhere(endpoint, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " sk-very-secret ")
    for number in (200, 401, 500):
        endpoint.fail = lambda _, number=number: (number, "application/json", '{"error": "bad key sk-very-secret"}', 0)
        with pytest.raises(RespondentError, match=r"bad key \[key\]"):
            answers(client(endpoint))
    assert endpoint.bodies[0]["key"] == "Bearer sk-very-secret"
    endpoint.fail, endpoint.script = None, lambda question, image: "my key is sk-very-secret"
    assert set(answers(client(endpoint)).values()) == {"my key is [key]"}
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very\nsecret")
    with pytest.raises(ValueError, match="OPENAI_API_KEY holds characters that no key has") as caught:
        client(endpoint)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://host/v1?key=hush", "http://hush@host/v1", "https://me:hush@host/v1",
                                 "http://host/v1#hush", "ftp://me:hush@host/v1", "ftp://host/v1?key=hush"])
def test_a_url_that_could_hold_a_key_is_refused_and_not_shown(url):
    with pytest.raises(ValueError, match="OPENAI_API_KEY|is neither") as caught:
        respondent(f"api:m@{url}")
    assert "hush" not in str(caught.value)


def test_an_unreadable_image_stops_the_stage(endpoint):
    def broken(pair):
        raise ValueError("cannot read 0.png")

    asked = [Query(q.prompt, q.slot, q.key, broken) for q in queries()]
    with pytest.raises(ValueError, match="cannot read 0.png"):
        answers(client(endpoint), asked=asked)


def test_without_openai_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(RespondentError, match="api:m@http://x needs the openai package: pip install openai"):
        answers(Endpoint("m", "http://x"))


def test_respondents_by_name(tmp_path):
    who = respondent("api:org/model@7b@https://host:1/v1", timeout=3, retries=1, parallel=2)
    assert (who.model, who.url) == ("org/model@7b", "https://host:1/v1")
    assert (who.timeout, who.retries, who.parallel) == (3, 1, 2)
    assert respondent(f"local:{tmp_path}").folder == str(tmp_path)
    for options in ({"timeout": 0}, {"retries": -1}, {"parallel": 0}):
        with pytest.raises(ValueError, match="timeout must be above 0"):
            respondent("api:m@http://x", **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    tiny.vlm("qwen2_5_vl", torch.float32, tied=False).save(path)
    return str(path)


@pytest.mark.parametrize("decoding", [Decoding(8), Decoding(8, temperature=1.0, samples=3, seed=4)])
def test_a_local_model_answers_as_the_engine_does(folder, decoding, monkeypatch):
    monkeypatch.setattr("mpcc.build.respondents.BATCH", 4)
    found = answers(Local(folder), decoding)
    model = tiny.vlm("qwen2_5_vl", torch.float32, tied=False)
    prompts = [model.encode(Sample(p["id"], "what is hidden?", (image_of(p),))) for p in PAIRS]
    groups = generate(model, prompts, decoding.samples, Sampling(8, decoding.temperature), seed=decoding.seed)
    assert found == {(p["id"], slot): model.decode(group.completions[slot])
                     for p, group in zip(PAIRS, groups, strict=True) for slot in range(decoding.samples)}
    assert len(set(found.values())) > 1


def test_local_answers_do_not_depend_on_what_is_asked_beside(folder):
    decoding = Decoding(8, temperature=1.0, samples=3)
    everything = answers(Local(folder), decoding)
    some = [query for query in queries(decoding) if (query.id, query.slot) in list(everything)[1::2]]
    assert answers(Local(folder), decoding, some) == {(q.id, q.slot): everything[q.id, q.slot] for q in some}


def test_local_answers_are_kept_batch_by_batch(folder, monkeypatch):
    monkeypatch.setattr("mpcc.build.respondents.BATCH", 2)
    kept = []

    def broken(pair):
        if pair is PAIRS[4]:
            raise ValueError("cannot read 4.png")
        return image_of(pair)

    asked = [Query(q.prompt, q.slot, q.key, broken) for q in queries()]
    with pytest.raises(ValueError, match="4.png"):
        Local(folder).ask(asked, DECODING, lambda query, text: kept.append(query.id))
    assert kept == [pair["id"] for pair in PAIRS[:4]]
