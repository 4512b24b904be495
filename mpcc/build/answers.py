"""Questions to models and what they answered: every answer is on disk before the next question is asked.

`answers/<stage>-<respondent>.jsonl` has one line per answer, keyed by the pair's id and a hash of all that was asked.
So a stage that was killed goes on where it stopped, and a question that has changed is asked anew. A model that changes
behind its name is not noticed: remove its answers then.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from mpcc.build.store import PairRecord
from mpcc.journal import Journal
from mpcc.progress import progress_bar

if TYPE_CHECKING:
    from mpcc.build.respondents import Respondent

ImageOf = Callable[[PairRecord], Image.Image]
"""The masked image of a pair, RGB."""


@dataclass(frozen=True)
class Prompt:
    """One question about the masked image of a pair."""

    pair: PairRecord
    question: str
    system: str | None = None


@dataclass(frozen=True)
class Decoding:
    """How a model answers: `samples` answers to each prompt, greedy at temperature 0; the seed keys the sampling."""

    max_new_tokens: int
    temperature: float = 0.0
    samples: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.samples < 1 or not self.temperature >= 0:
            raise ValueError(f"{self}: max_new_tokens and samples must be at least 1, the temperature at least 0")
        if self.samples > 1 and self.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are all the same: raise the temperature")


Ask = Callable[[Sequence[Prompt]], list[list[str]]]
"""What a stage sees of a respondent: for each prompt its answers, in the order of the prompts."""


@dataclass(frozen=True)
class Query:
    """One answer that is wanted: number `slot` to its prompt. `key` is a hash of all that is asked."""

    prompt: Prompt
    slot: int
    key: str
    image_of: ImageOf = field(compare=False, repr=False)

    @property
    def id(self) -> str:
        """The id of the pair."""
        return self.prompt.pair["id"]


class AnswerLog:
    """The answers of one respondent in one stage, kept in a `Journal`.

    Attributes:
        answers: (pair id, query key) → text, as far as given.

    Raises:
        ValueError: a line that is no answer; names file and line.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)
        self.answers: dict[tuple[str, str], str] = {}
        for number, entry in enumerate(self._journal.entries, start=1):
            if not {"id", "prompt", "answer"} <= entry.keys():
                raise ValueError(f"{path}: line {number} is not an answer: remove it, or the file")
            self.answers[entry["id"], entry["prompt"]] = entry["answer"]

    def keep(self, id: str, key: str, answer: str) -> None:
        """Adds an answer; it is on disk on return. Any thread may call."""
        answer = answer.encode("utf-8", errors="replace").decode()  # alike now and when it is read back
        self._journal.add({"id": id, "prompt": key, "answer": answer})
        self.answers[id, key] = answer

    def close(self) -> None:
        """Closes the file."""
        self._journal.close()


def query_key(prompt: Prompt, decoding: Decoding, slot: int) -> str:
    """16 hexadecimal digits of all that decides an answer but the model: question, image, box, decoding."""
    sampled = [decoding.temperature, decoding.seed, slot] if decoding.temperature else None
    asked = [prompt.system, prompt.question, prompt.pair["file_name"], prompt.pair["bbox"], decoding.max_new_tokens]
    return hashlib.sha256(json.dumps([*asked, sampled]).encode()).hexdigest()[:16]


def interview(
    stage: str, respondent: Respondent, prompts: Sequence[Prompt], decoding: Decoding, image_of: ImageOf, folder: Path
) -> list[list[str]]:
    """The respondent's answers, `decoding.samples` to each prompt; only what `folder` does not hold yet is asked.

    Raises:
        RespondentError: an endpoint gave no usable answer; what was answered before is kept.
        ValueError, OSError: a model folder or an answer file that cannot be used.
    """
    log = AnswerLog(folder / f"{stage}-{file_stem(respondent.name)}.jsonl")
    try:
        wanted = [
            [Query(prompt, slot, query_key(prompt, decoding, slot), image_of) for slot in range(decoding.samples)]
            for prompt in prompts
        ]
        open_queries = [q for queries in wanted for q in queries if (q.id, q.key) not in log.answers]
        total = len(prompts) * decoding.samples
        with progress_bar(f"{stage} {respondent.name}", total, total - len(open_queries), "answers") as bar:

            def keep(query: Query, answer: str) -> None:
                log.keep(query.id, query.key, answer)
                with bar.get_lock():  # several threads may keep at a time
                    bar.update()

            if open_queries:
                respondent.ask(open_queries, decoding, keep)
        return [[log.answers[q.id, q.key] for q in queries] for queries in wanted]
    finally:
        log.close()


def file_stem(name: str) -> str:
    """A file name for a respondent: its kind, the end of its name, and a hash of the whole."""
    kind, _, rest = name.partition(":")
    last = rest.split("@http")[0].rstrip("/").rpartition("/")[2]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", last).strip("-.")[:40]
    return f"{kind}-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
