"""Models that answer: a local folder through minigrpo's batched rollout, or an OpenAI-compatible endpoint."""

from __future__ import annotations

import base64
import io
import itertools
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from mpcc.build.answers import Decoding, Query

Keep = Callable[[Query, str], None]
"""Takes an answer as it arrives and puts it on disk."""

BATCH = 16
"""Prompts that a local model answers together."""


class RespondentError(RuntimeError):
    """An endpoint gave no usable answer. The message is one line: endpoint, item, what happened, what to do."""


class Respondent(Protocol):
    """Someone to ask. `name` is how the command line calls it."""

    name: str

    def ask(self, queries: Sequence[Query], decoding: Decoding, keep: Keep) -> None:
        """Answers every query, handing each answer to `keep` before asking on."""


class Local:
    """A model folder. What it answers depends on the pair and the decoding, not on what is asked beside it.

    Raises:
        FileNotFoundError: no such folder.
    """

    def __init__(self, folder: str) -> None:
        self.name, self.folder = f"local:{folder}", folder
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"{self.name}: there is no such folder")

    def ask(self, queries: Sequence[Query], decoding: Decoding, keep: Keep) -> None:
        """See `Respondent.ask`. The model is loaded here and let go afterwards, so that only one is in memory."""
        import torch  # an endpoint needs none of this
        import transformers

        from minigrpo import Sample, Sampling, generate, load_model

        transformers.logging.disable_progress_bar()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(self.folder, device=device)
        sampling = Sampling(decoding.max_new_tokens, decoding.temperature)
        by_prompt = [list(group) for _, group in itertools.groupby(queries, key=lambda q: id(q.prompt))]
        for start in range(0, len(by_prompt), BATCH):
            batch = by_prompt[start : start + BATCH]
            asked = [(group[0].prompt, group[0].image_of(group[0].prompt.pair)) for group in batch]
            samples = [Sample(p.pair["id"], p.question, (image,), system=p.system) for p, image in asked]
            # slots before the first missing one are drawn again, so that a slot's random numbers stay its own
            sizes = [group[-1].slot + 1 for group in batch]
            groups = generate(model, [model.encode(s) for s in samples], sizes, sampling, seed=decoding.seed)
            for wanted, drawn in zip(batch, groups, strict=True):
                for query in wanted:
                    keep(query, model.decode(drawn.completions[query.slot]))


class Endpoint:
    """Any server that speaks OpenAI's chat completions. The key comes from OPENAI_API_KEY.

    Connection errors, time-outs and the statuses 408, 409, 429 and 5xx are tried again `retries` times, by the client
    of the `openai` package, with exponential back-off. Anything else, or the last try, stops the stage.

    Args:
        model: Name by which the server knows the model.
        url: The API's base, such as http://localhost:8000/v1.
        timeout: Seconds to wait for one answer.
        retries: Further tries after the first.
        parallel: Requests under way at a time.
    """

    def __init__(self, model: str, url: str, timeout: float = 120.0, retries: int = 5, parallel: int = 8) -> None:
        self.name, self.model, self.url = f"api:{model}@{url}", model, url
        self.timeout, self.retries, self.parallel = timeout, retries, parallel
        check_requests(timeout, retries, parallel)

    def ask(self, queries: Sequence[Query], decoding: Decoding, keep: Keep) -> None:
        """See `Respondent.ask`. Raises RespondentError once requests that were under way have come to their end."""
        stop = threading.Event()

        def answer(client: Any, query: Query) -> None:
            if stop.is_set():
                return
            try:
                # kept by the thread that asked, and so before it asks on
                keep(query, self._answer(client, query, decoding))
            except BaseException:
                stop.set()
                raise

        with self._client() as client, ThreadPoolExecutor(self.parallel) as pool:
            try:
                for future in [pool.submit(answer, client, query) for query in queries]:
                    future.result()
            finally:
                stop.set()

    def _client(self) -> Any:
        try:
            import openai
        except ImportError:
            message = f"{self.name} needs the openai package: pip install openai, or minigrpo[api]"
            raise RespondentError(message) from None
        key = os.environ.get("OPENAI_API_KEY") or "none"  # local servers want any
        return openai.OpenAI(base_url=self.url, api_key=key, timeout=self.timeout, max_retries=self.retries)

    def _answer(self, client: Any, query: Query, decoding: Decoding) -> str:
        import openai

        url = data_url(query.image_of(query.prompt.pair))
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": query.prompt.question}]
        messages: list[dict] = [{"role": "user", "content": content}]
        if query.prompt.system is not None:
            messages.insert(0, {"role": "system", "content": query.prompt.system})
        options: dict[str, Any] = {"temperature": decoding.temperature, "max_tokens": decoding.max_new_tokens}
        if decoding.temperature:
            options["seed"] = decoding.seed + query.slot
        try:
            reply = client.chat.completions.create(model=self.model, messages=messages, **options)
        except (openai.OpenAIError, ValueError) as error:
            raise RespondentError(f"{self._where(query)} {self._what_happened(error)}") from error
        if not isinstance(reply, openai.types.chat.ChatCompletion):
            wrong = f"got {_short(reply)} instead of JSON: is the base URL right? It mostly ends in /v1"
            raise RespondentError(f"{self._where(query)} {wrong}")
        try:
            text = reply.choices[0].message.content
        except (AttributeError, LookupError, TypeError):  # the client takes any JSON for a reply
            found = _short(reply.model_dump(exclude_unset=True, warnings=False))
            raise RespondentError(f"{self._where(query)} got a reply without choices: {found}") from None
        if not isinstance(text, str | None):
            raise RespondentError(f"{self._where(query)} got a reply whose content is no text: {_short(text)}")
        return text or ""

    def _where(self, query: Query) -> str:
        return f"{self.name}: {query.id}"

    def _what_happened(self, error: Exception) -> str:
        import openai

        tries = f"in {self.retries + 1} tries; answers so far are kept, run again to go on"
        if isinstance(error, openai.APITimeoutError):
            return f"got no answer within {self.timeout:g} s, {tries}"
        if isinstance(error, openai.APIConnectionError):
            return f"got no connection ({_short(error.__cause__ or error)}) {tries}"
        if isinstance(error, openai.APIStatusError):
            return f"got HTTP {error.status_code}: {_short(error.response.text)}; answers so far are kept"
        return f"got a reply that is not JSON: {_short(error)}"


def check_requests(timeout: float, retries: int, parallel: int) -> None:
    """Raises ValueError for what no endpoint could be asked with."""
    if not 0 < timeout < math.inf or retries < 0 or parallel < 1:
        raise ValueError("timeout must be above 0 and finite, retries 0 or more, parallel at least 1, not "
                         f"{timeout:g}, {retries} and {parallel}")


def respondent(spec: str, timeout: float = 120.0, retries: int = 5, parallel: int = 8) -> Respondent:
    """The respondent that a word of the command line names: `local:FOLDER` or `api:MODEL@http://HOST:PORT/v1`.

    Raises:
        ValueError: neither of the two.
        FileNotFoundError: the folder does not exist.
    """
    kind, _, rest = spec.partition(":")
    if kind == "local" and rest:
        return Local(rest)
    model, at, url = rest.rpartition("@")
    if kind == "api" and at and model and url.startswith(("http://", "https://")):
        return Endpoint(model, url, timeout, retries, parallel)
    raise ValueError(f"respondent {spec!r} is neither local:FOLDER nor api:MODEL@http://HOST:PORT/v1")


def data_url(image: Image.Image) -> str:
    """The image as a JPEG data URL, colour at full resolution."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _short(text: object) -> str:
    """The start of a text, on one line."""
    line = " ".join(str(text).split())
    return repr(line if len(line) <= 120 else f"{line[:117]}...")
