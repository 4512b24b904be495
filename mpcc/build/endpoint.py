"""An OpenAI-compatible endpoint: asked in parallel, with a limit on every answer, and believed only what is whole."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import math
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from mpcc.build.answers import Decoding, Keep, Query, RespondentError, Unanswered, shortened

MOST_BYTES = 4 * 2**20
"""Of a whole reply."""
AGAIN = 2
"""Further tries after a reply that is empty or cut off."""
_LONGEST_PAUSE = 30.0
_WHOLE = ("stop", "")
"""`finish_reason` of a reply that is believed; servers have many for others: length, content_filter, abort, error."""


class _Failed(Exception):
    """A try failed in a way that may pass. `pause`: seconds that the endpoint asks to wait, or 0."""

    def __init__(self, what: str, pause: float = 0.0) -> None:
        super().__init__(what)
        self.pause = pause


class _Status(Exception):
    """A status of 400 or above, with the beginning of its text and the seconds to wait that it names."""

    def __init__(self, code: int, text: str, pause: float) -> None:
        super().__init__(f"HTTP {code}")
        self.code, self.text, self.pause = code, text, pause


class Endpoint:
    """Any server that speaks OpenAI's chat completions. The key comes from OPENAI_API_KEY, and is shown nowhere.

    Connection errors, time-outs and the statuses 408, 409, 429 and 5xx are tried again `retries` times, with growing
    pauses. Anything else, or the last try, stops the stage. A reply that is empty or was cut off is asked for `AGAIN`,
    and then counts as no answer.

    Args:
        model: Name by which the server knows the model.
        url: The API's base, such as http://localhost:8000/v1.
        timeout: Seconds for one whole answer.
        retries: Further tries after the first.
        parallel: Requests under way at a time.

    Raises:
        ValueError: impossible limits, or a URL that could hold a key.
    """

    def __init__(self, model: str, url: str, timeout: float = 120.0, retries: int = 5, parallel: int = 8) -> None:
        parts = urlsplit(url)
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"respondent {without_secrets(f'api:{model}@{url}')}: a URL stands in files, so it must "
                             "end with its path and name no user: set the environment variable OPENAI_API_KEY")
        check_requests(timeout, retries, parallel)
        self.name, self.model, self.url = f"api:{model}@{url}", model, url
        self.timeout, self.retries, self.parallel = timeout, retries, parallel

    @property
    def identity(self) -> str:
        """Its name: what model is behind it is not known here."""
        return self.name

    def ask(self, queries: Sequence[Query], decoding: Decoding, keep: Keep) -> None:
        """See `Respondent.ask`. Raises RespondentError once requests that were under way have come to their end."""
        asyncio.run(self._ask(queries, decoding, keep))

    async def _ask(self, queries: Sequence[Query], decoding: Decoding, keep: Keep) -> None:
        coming, failed = iter(queries), []

        async def work(client: Any) -> None:
            for query in coming:
                try:
                    # kept by the worker that asked, and so before it asks on
                    keep(query, await self._answer(client, query, decoding))
                except Exception as error:
                    failed.append(error)
                if failed:
                    return

        async with self._client() as client:
            await asyncio.gather(*(work(client) for _ in range(self.parallel)))
        if failed:
            raise failed[0]

    def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            message = f"{self.name} needs the openai package: pip install openai, or minigrpo[api]"
            raise RespondentError(message) from None
        http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [_refuse]}, timeout=None)
        # local servers want any key
        return openai.AsyncOpenAI(base_url=self.url, api_key=_key() or "none", max_retries=0, timeout=None,
                                  http_client=http)

    async def _answer(self, client: Any, query: Query, decoding: Decoding) -> str | Unanswered:
        request, failures, unusable = self._request(query, decoding), 0, 0
        while True:
            try:
                try:
                    async with asyncio.timeout(self.timeout):
                        body, kind = await self._send(client, request, query)
                except TimeoutError:
                    raise _Failed(f"got no answer within {self.timeout:g} s") from None
            except _Failed as failure:
                failures += 1
                if failures > self.retries:
                    raise RespondentError(f"{self._where(query)} {failure}, in {failures} tries; answers so far are "
                                          "kept, run again to go on") from failure
                await asyncio.sleep(failure.pause or min(0.5 * 2 ** (failures - 1), _LONGEST_PAUSE))
                continue
            answer = self._read(body, kind, query, decoding)
            unusable += isinstance(answer, Unanswered)
            if isinstance(answer, str) or unusable > min(AGAIN, self.retries):
                return answer

    def _request(self, query: Query, decoding: Decoding) -> dict[str, Any]:
        url = data_url(query.image_of(query.prompt.pair))
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": query.prompt.question}]
        messages: list[dict] = [{"role": "user", "content": content}]
        if query.prompt.system is not None:
            messages.insert(0, {"role": "system", "content": query.prompt.system})
        request = {"model": self.model, "messages": messages, "temperature": decoding.temperature,
                   "max_tokens": decoding.max_new_tokens}
        return request | ({"seed": decoding.seed + query.slot} if decoding.temperature else {})

    async def _send(self, client: Any, request: dict[str, Any], query: Query) -> tuple[str, str]:
        """The text of a reply and its content type."""
        body = bytearray()
        try:
            async with client.chat.completions.with_streaming_response.create(**request) as reply:
                async for chunk in reply.iter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        break
                kind = reply.headers.get("content-type", "")
        except Exception as error:  # also those of the package's HTTP client, which differs between its releases
            causes = [error]
            while cause := causes[-1].__cause__ or causes[-1].__context__:
                causes.append(cause)
            status = next((cause for cause in causes if isinstance(cause, _Status)), None)
            if status is None:
                raise _Failed(f"got no connection ({_short(error.__cause__ or error)})") from error
            what = f"got HTTP {status.code}: {_short(status.text)}"
            if status.code in (408, 409, 429) or status.code >= 500:
                raise _Failed(what, status.pause) from error
            raise RespondentError(f"{self._where(query)} {what}; answers so far are kept") from error
        if len(body) > MOST_BYTES:
            raise RespondentError(f"{self._where(query)} got more than {MOST_BYTES:,} bytes for one answer: is this "
                                  "endpoint one for chat completions?")
        return _redacted(body.decode(errors="replace")), kind

    def _read(self, body: str, kind: str, query: Query, decoding: Decoding) -> str | Unanswered:
        """The answer in a reply."""
        where = self._where(query)
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError):
            if "json" in kind:
                raise RespondentError(f"{where} got a reply that is not JSON: {_short(body)}") from None
            wrong = f"got {_short(body)} instead of JSON: is the base URL right? It mostly ends in /v1"
            raise RespondentError(f"{where} {wrong}") from None
        try:
            choice = reply["choices"][0]
            text, reason = choice["message"].get("content"), choice.get("finish_reason")
        except (AttributeError, LookupError, TypeError):
            raise RespondentError(f"{where} got a reply without choices: {_short(body)}") from None
        if not isinstance(text, str | None):
            raise RespondentError(f"{where} got a reply whose content is no text: {_short(text)}")
        if reason == "length":
            return Unanswered(f"cut off at {decoding.max_new_tokens} new tokens")
        if isinstance(reason, str) and reason not in _WHOLE:
            return Unanswered(f"cut by the server: {_short(reason)}")
        return text if text and text.strip() else Unanswered("empty")

    def _where(self, query: Query) -> str:
        return f"{self.name}: {query.id}"


def check_requests(timeout: float, retries: int, parallel: int) -> None:
    """Raises ValueError for what no endpoint could be asked with."""
    if not 0 < timeout < math.inf or retries < 0 or parallel < 1:
        raise ValueError("timeout must be above 0 and finite, retries 0 or more, parallel at least 1, not "
                         f"{timeout:g}, {retries} and {parallel}")
    _key()


def without_secrets(text: str) -> str:
    """A URL, or what was meant for one, without what may be a key: user, query and fragment."""
    return re.sub(r"//[^/]*@", "//…@", re.sub(r"[?#].*", "?…", text))


def data_url(image: Image.Image) -> str:
    """The image as a JPEG data URL, colour at full resolution."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


async def _refuse(response: Any) -> None:
    """Raises _Status for a status of 400 or above, with no more of its text than is shown."""
    if response.status_code < 400:
        return
    text = bytearray()
    async for chunk in response.aiter_bytes():
        text += chunk
        if len(text) > 1000:
            break
    wait = response.headers.get("retry-after", "")
    pause = min(float(wait), _LONGEST_PAUSE) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", wait) else 0.0
    raise _Status(response.status_code, text.decode(errors="replace"), pause)


def _key() -> str:
    """The key in the environment, or nothing. Raises ValueError where no request could carry it."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("OPENAI_API_KEY holds characters that no key has: copy it again")
    return key


def _redacted(text: str) -> str:
    """A text of the endpoint's, in which the key must not come back."""
    key = _key()
    return text.replace(key, "[key]") if len(key) >= 6 else text


def _short(text: object) -> str:
    return shortened(_redacted(str(text)))
