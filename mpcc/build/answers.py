"""Questions to models and what they answered: every answer is on disk before the next question is asked.

`answers/<stage>-<respondent>.jsonl` has one line per answer, keyed by the pair's id and a hash of all that was asked,
with the content of a model folder and of the image. So a stage that was killed goes on where it stopped, and a question
that has changed is asked anew. A model that changes behind the name of an endpoint is not noticed: remove its answers
then. What an endpoint leaves empty or cuts off is no answer, and is asked for again when the stage is started again.
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

from minigrpo.progress import progress_bar
from mpcc import masks
from mpcc.build.store import PairRecord
from mpcc.digests import file_digest
from mpcc.journal import Journal

if TYPE_CHECKING:
    from mpcc.build.respondents import Respondent

GIVE_UP = 8
"""Questions without an answer, and none with one, after which a respondent is asked no more."""
UNANSWERED = "not answered"

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


class RespondentError(RuntimeError):
    """An endpoint gave no usable answer. The message is one line: endpoint, item, what happened, what to do."""


@dataclass(frozen=True)
class Unanswered:
    """Stands for an answer that did not come; `why` is what came instead."""

    why: str


Ask = Callable[[Sequence[Prompt]], list[list[str | None]]]
"""What a stage sees of a respondent: for each prompt its answers, in the order of the prompts; None: it gave none."""


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


Keep = Callable[[Query, str | Unanswered], None]
"""Takes an answer as it arrives and puts it on disk."""


class AnswerLog:
    """The answers of one respondent in one stage, kept in a `Journal`.

    Attributes:
        answers: (pair id, query key) → text, as far as given.

    Raises:
        ValueError: a line that is no answer; names file and line.
    """

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path, {"id": str, "prompt": str, "answer": str})
        self.answers = {(entry["id"], entry["prompt"]): entry["answer"] for entry in self._journal.entries}

    def keep(self, id: str, key: str, answer: str) -> None:
        """Adds an answer; it is on disk on return. Any thread may call."""
        answer = answer.encode("utf-8", errors="replace").decode()  # alike now and when it is read back
        self._journal.add({"id": id, "prompt": key, "answer": answer})
        self.answers[id, key] = answer

    def close(self) -> None:
        """Closes the file."""
        self._journal.close()


def query_key(prompt: Prompt, decoding: Decoding, slot: int, *digests: str) -> str:
    """16 hexadecimal digits of all that decides an answer: question, image, box, decoding, and given digests."""
    sampled = [decoding.temperature, decoding.seed, slot] if decoding.temperature else None
    asked = [prompt.system, prompt.question, prompt.pair["file_name"], prompt.pair["bbox"], decoding.max_new_tokens]
    return hashlib.sha256(json.dumps([*asked, sampled, *digests]).encode()).hexdigest()[:16]


def interview(
    stage: str, respondent: Respondent, prompts: Sequence[Prompt], decoding: Decoding, image_of: ImageOf,
    picture_of: Callable[[PairRecord], str], folder: Path
) -> list[list[str | None]]:
    """The respondent's answers, `decoding.samples` to each prompt; only what `folder` does not hold yet is asked.

    Args:
        picture_of: The digest of a pair's image.

    Returns:
        For each prompt its answers; None for one that did not come.

    Raises:
        RespondentError: an endpoint failed, or gave no usable answer to `GIVE_UP` questions and none to any other; what
            was answered before is kept.
        ValueError, OSError: a model folder or an answer file that cannot be used.
    """
    log = AnswerLog(folder / f"{stage}-{file_stem(respondent.name)}.jsonl")
    try:
        model, drawn = respondent.identity, file_digest(masks.__file__)  # what hides the objects
        wanted = [
            [Query(prompt, slot, query_key(prompt, decoding, slot, model, picture, drawn), image_of)
             for slot in range(decoding.samples)]
            for prompt in prompts for picture in [picture_of(prompt.pair)]
        ]
        open_queries = [q for queries in wanted for q in queries if (q.id, q.key) not in log.answers]
        total, missed = len(prompts) * decoding.samples, 0
        with progress_bar(f"{stage} {respondent.name}", total, total - len(open_queries), "answers") as bar:

            def keep(query: Query, answer: str | Unanswered) -> None:
                nonlocal missed
                if isinstance(answer, Unanswered):
                    missed += 1
                    given = ((q.id, q.key) in log.answers for queries in wanted for q in queries)
                    if missed >= GIVE_UP and not any(given):
                        raise RespondentError(
                            f"{respondent.name}: {query.id} and {missed - 1} more questions of {stage} got replies "
                            f"that are no answers, such as one {answer.why}: raise --max-new-tokens, or ask another "
                            "model")
                    return
                log.keep(query.id, query.key, answer)
                bar.update()

            if open_queries:
                respondent.ask(open_queries, decoding, keep)
        return [[log.answers.get((q.id, q.key)) for q in queries] for queries in wanted]
    finally:
        log.close()


def file_stem(name: str) -> str:
    """A file name for a respondent: its kind, the end of its name, and a hash of the whole."""
    kind, _, rest = name.partition(":")
    last = rest.split("@http")[0].rstrip("/").rpartition("/")[2]
    readable = re.sub(r"[^A-Za-z0-9.]+", "-", last).strip("-.")[:40]
    return f"{kind}-{readable}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def shortened(text: object) -> str:
    """The start of a text, on one line and in quotes."""
    line = " ".join(str(text).split())
    return repr(line if len(line) <= 120 else f"{line[:117]}...")
