"""Models that answer: a local folder through minigrpo's batched rollout, or an OpenAI-compatible endpoint."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from mpcc.build.answers import Decoding, Keep, Query
from mpcc.build.endpoint import Endpoint, without_secrets
from mpcc.digests import model_digest

BATCH = 16
"""Prompts that a local model answers together."""


class Respondent(Protocol):
    """Someone to ask. `name` is how the command line calls it, `identity` tells it from what had this name before."""

    name: str

    @property
    def identity(self) -> str: ...

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

    @property
    def identity(self) -> str:
        """The digest of weights, tokenizer and all else that the folder holds."""
        return model_digest(self.folder)

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


def respondent(spec: str, timeout: float = 120.0, retries: int = 5, parallel: int = 8) -> Respondent:
    """The respondent that a word of the command line names: `local:FOLDER` or `api:MODEL@http://HOST:PORT/v1`.

    Raises:
        ValueError: neither of the two, or a URL that could hold a key.
        FileNotFoundError: the folder does not exist.
    """
    kind, _, rest = spec.partition(":")
    if kind == "local" and rest:
        return Local(rest)
    named = re.fullmatch(r"(.+?)@(https?://.+)", rest)
    if kind == "api" and named:
        return Endpoint(named[1], named[2], timeout, retries, parallel)
    raise ValueError(f"respondent {without_secrets(spec)!r} is neither local:FOLDER nor api:MODEL@http://HOST:PORT/v1")
