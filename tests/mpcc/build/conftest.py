"""A COCO folder with enough categories for distractors, and an endpoint that answers by a script."""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image
from small_coco import annotation

from mpcc.build.__main__ import main
from mpcc.build.difficulty import KINDS
from mpcc.splits.coco_categories import COCO

NAMES = ("person", "dog", "car", "bus", "bench", "chair", "couch", "tv", "cup", "fork", "pizza", "clock")
IN_IMAGE = (("dog", "person", "bench"), ("car", "bus", "person"), ("chair", "couch", "tv"), ("cup", "fork", "pizza"),
            ("clock", "couch", "tv"), ("bench", "dog", "dog"), ("pizza", "cup", "chair"), ("bus", "car", "clock"))
BOXES = ([5, 5, 30, 30], [40, 10, 30, 40], [10, 45, 45, 30])


@pytest.fixture
def coco(tmp_path):
    """Eight images of noise with three objects each."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    images, annotations = [], []
    for i, names in enumerate(IN_IMAGE, start=1):
        pixels = np.random.default_rng(i).integers(1, 256, (80, 100, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "val2017" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 100, "height": 80})
        annotations += [annotation(10 * i + j, i, 1 + NAMES.index(name), BOXES[j]) for j, name in enumerate(names)]
    categories = [{"id": i, "name": name, "supercategory": COCO[name]} for i, name in enumerate(NAMES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def scripted(question, image):
    """A usable answer to every question of the pipeline, decided by question and image; some are dropped on purpose."""
    dice = int(hashlib.sha256(question.encode() + image).hexdigest(), 16)
    told = re.search(r"The hidden object is: (.+?)\.", question)  # the second model, "began like this", is not told
    if "How strongly" in question:
        return f"It fits the scene.\nRating: {(3, 4, 5, 4, 2)[dice % 5]}"
    if "Which kind" in question:
        return f"Kind: {sorted(KINDS)[dice % len(KINDS)]}"
    if told:
        hint = "as mentioned" if dice % 4 == 0 else "beside it"
        trace = f"The things around it, {hint}, suggest number {list(COCO).index(told[1])}. It is a {told[1]}."
        return f"<think> {trace} </think><answer>{told[1]}</answer>"
    if "began like this" in question:
        followed = list(COCO)[int(re.search(r"suggest number (\d+)\. Judge", question)[1])]
        return f"<answer>{followed if dice % 3 else 'kite'}</answer>"
    return f"<think> Hm. </think><answer>{('a cat', 'Truck.', 'Vase', 'kites', 'bowl')[dice % 5]}</answer>"


class Endpoint:
    """Chat completions on a free port. `answered` counts (question, image) of the answers that were sent.

    Set `hold_after` to a number of answers after which requests are left waiting (`held` says how many are), and
    `fail` to a function of the request's number that gives (status, content type, text, seconds to wait), or None.
    """

    def __init__(self, script=scripted):
        self.script, self.answered, self.bodies = script, Counter(), []
        self.hold_after, self.held, self.fail, self.most_at_a_time = None, 0, None, 0
        self._lock, self._released, self._now = threading.Lock(), threading.Event(), 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self.spec = f"api:scripted@{self.url}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.release()
        self._server.shutdown()
        self._server.server_close()

    def release(self):
        """Lets the held requests go, unanswered, and answers from now on."""
        self.hold_after, self.held = None, 0
        self._released.set()
        self._released = threading.Event()

    def wait_for_held(self, count, process):
        end = time.monotonic() + 60
        while self.held < count:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, f"{self.held} requests are held, not {count}"
            time.sleep(0.005)

    def _reply(self, body):
        """(status, content type, text), or None for no answer at all."""
        content = body["messages"][-1]["content"]
        image, question = content[0]["image_url"]["url"], content[1]["text"]
        with self._lock:
            failure = self.fail(len(self.bodies)) if self.fail else None
            self.bodies.append(body)
            released, hold = self._released, self.hold_after is not None and self.answered.total() >= self.hold_after
            self.held += hold
            self.answered[question, hashlib.sha256(image.encode()).hexdigest()] += not hold and failure is None
        if hold:
            released.wait()
            return None
        if failure:
            time.sleep(failure[3])
            return failure[:3]
        message = {"role": "assistant", "content": self.script(question, image.encode())}
        return 200, "application/json", json.dumps({
            "id": "1", "object": "chat.completion", "created": 0, "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        })

    def _handler(endpoint):  # noqa: N805  the handler below has a self of its own
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body["key"] = self.headers["Authorization"]
                with endpoint._lock:
                    endpoint._now += 1
                    endpoint.most_at_a_time = max(endpoint.most_at_a_time, endpoint._now)
                try:
                    reply = endpoint._reply(body)
                finally:
                    with endpoint._lock:
                        endpoint._now -= 1
                if reply is None:
                    self.close_connection = True
                    return
                status, kind, text = reply
                data = text.encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", kind)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except ConnectionError:
                    pass  # the client was killed or gave up

            def log_message(self, *args):
                pass

        return Handler


@pytest.fixture
def endpoint():
    pytest.importorskip("openai", reason="endpoints need the openai package")
    server = Endpoint()
    yield server
    server.close()


@pytest.fixture
def build(coco, tmp_path, capsys):
    """Runs a stage in this process; gives (exit code, standard output, standard error)."""

    def start(stage, *words, out=tmp_path / "out"):
        code = main([stage, "--coco", str(coco), "--out", str(out), *map(str, words)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return start
