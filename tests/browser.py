"""A real headless browser, driven over the WebDriver protocol with nothing but the standard library."""

import base64
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "ArrowLeft": "\ue012", "ArrowRight": "\ue014", "ArrowDown": "\ue015",
        "Shift": "\ue008"}


class Browser:
    """One browser window; downloads land in `folder`. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        driver, program = shutil.which("chromedriver"), next(filter(None, map(shutil.which, BROWSERS)), None)
        if not driver or not program:
            pytest.skip("no Chromium with chromedriver is installed")
        self.folder, self.program = folder, program
        self.process = subprocess.Popen(
            [driver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def __enter__(self) -> "Browser":
        line = next((line for line in self.process.stdout if "started successfully on port" in line), None)
        assert line, "chromedriver did not start"
        self.session = f"http://127.0.0.1:{line.split()[-1].rstrip('.')}/session"
        options = {
            "binary": self.program,
            "args": [*FLAGS, f"--user-data-dir={self.folder / 'profile'}"],
            "prefs": {"download.default_directory": str(self.folder), "download.prompt_for_download": False},
        }
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            self.session += "/" + self.call("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        except BaseException:
            self.process.terminate()
            raise
        self.size(1400, 900)
        return self

    def __exit__(self, *_) -> None:
        try:
            self.call("", method="DELETE")
        finally:
            self.process.terminate()
            self.process.wait(10)

    def call(self, path: str, body: dict | None = None, method: str | None = None):
        """The value that a WebDriver command gives."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.session + path, data, {"Content-Type": "application/json"}, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {json.load(error)['value']['message']}") from None

    def open(self, page: Path) -> None:
        """Loads a page, and returns once it hears keys: Chromium drops those that come before its first frame."""
        self.call("/url", {"url": page.resolve().as_uri()})
        self.run("document.addEventListener('keyup', () => { window.hears = true; }, { once: true })")

        def hears() -> bool:
            self.press("Shift")
            return self.run("return window.hears === true")

        self.until(hears, "the page never heard a key")

    @contextmanager
    def second_tab(self) -> Iterator[None]:
        """Another tab in front of the first one, which stays open behind it."""
        first = self.call("/window", method="GET")
        self.call("/window", {"handle": self.call("/window/new", {"type": "tab"})["handle"]})
        try:
            yield
        finally:
            self.call("/window", method="DELETE")
            self.call("/window", {"handle": first})

    def size(self, width: int, height: int) -> None:
        self.call("/window/rect", {"width": width, "height": height})

    def run(self, script: str, *arguments):
        """What the JavaScript function body returns."""
        return self.call("/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """The text of the first element that the selector finds, as it is in the document."""
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def wait(self, selector: str, text: str) -> None:
        """Returns once the element's text holds `text`, which reading a file, say, brings about a little later."""
        self.until(lambda: text in self.text(selector), f"{selector} never held {text!r}")

    def press(self, *keys: str) -> None:
        """Real key strokes, one after the other: characters, or names from KEYS."""
        strokes = [{"type": kind, "value": KEYS.get(key, key)} for key in keys for kind in ("keyDown", "keyUp")]
        self.call("/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def click(self, selector: str) -> None:
        self.call(f"/element/{self._find(selector)}/click", {})

    def attach(self, selector: str, path: Path) -> None:
        """Chooses a file, as in the dialog of a file input."""
        self.call(f"/element/{self._find(selector)}/value", {"text": str(path)})

    def choose(self, selector: str, value: str) -> None:
        """Sets a drop-down list, as a person's choice."""
        self.run("const s = document.querySelector(arguments[0]); s.value = arguments[1];"
                 "s.dispatchEvent(new Event('change'))", selector, value)

    def downloaded(self, name: str) -> Path:
        """A file that the page saved, once it is there."""
        path = self.folder / name
        self.until(path.is_file, f"{name} was not downloaded")
        return path

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("/screenshot")))

    def complaints(self) -> list[str]:
        """What the console holds: errors of the script, blocked requests."""
        return [entry["message"] for entry in self.call("/se/log", {"type": "browser"})]

    def until(self, true: Callable[[], bool], otherwise: str) -> None:
        """Returns once `true` is; fails with the text `otherwise` after ten seconds."""
        deadline = time.monotonic() + 10
        while not true():
            assert time.monotonic() < deadline, otherwise
            time.sleep(0.05)

    def _find(self, selector: str) -> str:
        return self.call("/element", {"using": "css selector", "value": selector})[ELEMENT]
