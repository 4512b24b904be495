"""The seven stages, tied to a COCO folder, respondents and an output folder: what each needs, and when it is done."""

from __future__ import annotations

from argparse import Namespace
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from mpcc import masks, prompts, rewards
from mpcc import traces as trace_rules
from mpcc.build import candidates, curate, difficulty, distractors, screen, split, traces
from mpcc.build.answers import Ask, Decoding, Prompt, interview, shortened
from mpcc.build.cooccurrence import Cooccurrence
from mpcc.build.endpoint import check_requests
from mpcc.build.remarks import difference, summary
from mpcc.build.respondents import Respondent, respondent
from mpcc.build.store import STAGES, Outcome, PairRecord, read_stage, stage_path, write_stage
from mpcc.coco import Coco, Region
from mpcc.digests import digest, file_digest
from mpcc.prompts import QUESTION
from mpcc.splits import halves_path, read_halves

PAGE = "curate.html"
_SHOWING = ("screen", "difficulty", "distractors", "traces", "curate")
"""Stages that show pictures."""


class Build:
    """One run of the pipeline. `options` are those of the command line (`mpcc.build.__main__`)."""

    def __init__(self, options: Namespace) -> None:
        self.options, self.folder = options, Path(options.out)
        self._unanswered, self._example = 0, ""
        self._check_values()

    def run(self, stage: str) -> None:
        """Runs a stage, unless its file is there and was made with the same settings from the same input.

        Raises:
            FileNotFoundError, ValueError: unusable options or data; one line.
            RespondentError: an endpoint failed; the answers so far are kept.
        """
        previous = STAGES[STAGES.index(stage) - 1] if stage != STAGES[0] else None
        settings: dict[str, Any] = getattr(self, f"_{stage}_settings")()
        pairs: list[PairRecord] = []
        if previous:
            before = read_stage(self.folder, previous)
            if before.split != self.options.split:
                path = stage_path(self.folder, previous)
                raise ValueError(f"{path} is of {before.split}, not of {self.options.split}: name another --out")
            pairs, settings["input"] = before.outcome.pairs, file_digest(stage_path(self.folder, previous))
        if stage in _SHOWING:
            settings["images"] = digest(sorted({pair["file_name"]: self._picture_of(pair) for pair in pairs}.items()))
        settings["program"] = _program()
        path = stage_path(self.folder, stage)
        if path.is_file():
            found = read_stage(self.folder, stage)
            if found.settings == settings and self._files_of(stage):
                print(f"{stage}: already done, {len(found.outcome.pairs)} pairs in {path}")
                return
            print(f"{stage}: {difference(found.settings, settings)}; made anew")
        self._unanswered, self._example = 0, ""
        outcome: Outcome = getattr(self, f"_{stage}")(pairs)
        if not outcome.pairs:
            reasons = ", ".join(f"{count} {why}" for why, count in Counter(outcome.dropped.values()).most_common())
            raise ValueError(f"{stage}: no pair is left ({reasons or 'there was none'}){self._example}; nothing was "
                             "written")
        if self._unanswered:  # with this in its settings, it is not done
            settings["unanswered"] = self._unanswered
            print(f"{stage}: {self._unanswered} questions were not answered; start it again to ask them again")
        write_stage(self.folder, stage, self.options.split, settings, outcome)
        print("\n".join(summary(stage, len(pairs) or None, outcome, path)))

    def _check_values(self) -> None:
        """Raises ValueError or FileNotFoundError for options that no stage could use, before any stage begins.

        An option is there only where the command has its stage.
        """
        o = self.options
        if hasattr(o, "min_area"):
            self._limits()
        if hasattr(o, "retries"):
            check_requests(o.timeout, o.retries, o.parallel)
            Decoding(o.max_new_tokens, getattr(o, "temperature", 0.0), getattr(o, "samples", 1), o.seed)
        if getattr(o, "decisions", None):
            self._curate_settings()
        if hasattr(o, "test_share"):
            self._split_settings()

    def check_models(self) -> None:
        """Raises ValueError or FileNotFoundError for models that cannot be asked, before their turn has come."""
        _ = self.respondents, self.judge, self.verifier

    @cached_property
    def coco(self) -> Coco:
        """The annotated images."""
        return Coco(self.options.coco, self.options.split)

    @cached_property
    def respondents(self) -> list[Respondent]:
        """Those of --respondent. Raises ValueError where there is none, or one twice."""
        specs = self.options.respondent
        if not specs:
            raise ValueError("no model to ask: name one with --respondent local:FOLDER or api:MODEL@URL")
        if repeated := [spec for spec, count in Counter(specs).items() if count > 1]:
            raise ValueError(f"--respondent {repeated[0]} is named twice; its answers would count double")
        return [self._respondent(spec) for spec in specs]

    @cached_property
    def judge(self) -> Respondent:
        """That of --judge, else the first respondent."""
        return self._respondent(self.options.judge) if self.options.judge else self.respondents[0]

    @cached_property
    def verifier(self) -> Respondent:
        """That of --verifier, else the first respondent that is not the judge, else the judge."""
        if self.options.verifier:
            return self._respondent(self.options.verifier)
        return next((who for who in self.respondents if who.name != self.judge.name), self.judge)

    def image_of(self, pair: PairRecord) -> Image.Image:
        """The masked image of a pair."""
        region = Region(box=tuple(pair["bbox"]))
        return masks.apply_mask(self.coco.open(self._images[pair["file_name"]]), region)

    @cached_property
    def _images(self) -> dict:
        return {image.file_name: image for image in self.coco.images.values()}

    def _respondent(self, spec: str) -> Respondent:
        return respondent(spec, self.options.timeout, self.options.retries, self.options.parallel)

    def _picture_of(self, pair: PairRecord) -> str:
        return file_digest(Path(self.options.coco) / self.options.split / pair["file_name"])

    def _ask(self, stage: str, who: Respondent, samples: int = 1, temperature: float = 0.0) -> Ask:
        decoding = Decoding(self.options.max_new_tokens, temperature, samples, self.options.seed)

        def ask(asked: Sequence[Prompt]) -> list[list[str | None]]:
            answers = interview(stage, who, asked, decoding, self.image_of, self._picture_of, self.folder / "answers")
            self._unanswered += sum(text is None for texts in answers for text in texts)
            for prompt, texts in zip(asked, answers, strict=True):
                if texts[0] is not None:
                    self._example = f"; about {prompt.pair['id']}, {who.name} said {shortened(texts[0])}"
                    break
            return answers

        return ask

    def _judge_settings(self, question: str) -> dict[str, Any]:
        return {"judge": self.judge.name, "model": self.judge.identity, "question": question,
                "max_new_tokens": self.options.max_new_tokens}

    def _files_of(self, stage: str) -> bool:
        """Whether what a stage writes beside its own file is there."""
        names = [PAGE] if stage == "curate" else []
        if stage == "split":  # only its command has these options
            names = split.outputs(self.options.test_share, self.options.authors)
        return all((self.folder / name).is_file() for name in names)

    def _candidates_settings(self) -> dict[str, Any]:
        annotations = Path(self.options.coco) / "annotations" / f"instances_{self.options.split}.json"
        if not annotations.is_file():
            raise FileNotFoundError(f"{annotations} is missing: --coco names a COCO folder, --split one of its splits")
        return {"annotations": file_digest(annotations), "seed": self.options.seed, **vars(self._limits())}

    def _limits(self) -> candidates.Limits:
        o = self.options
        return candidates.Limits(o.min_area, o.max_area, o.per_image, not o.no_truncated, not o.no_others)

    def _candidates(self, _: list[PairRecord]) -> Outcome:
        return candidates.candidates(self.coco, self._limits(), self.options.seed)

    def _screen_settings(self) -> dict[str, Any]:
        return self._judge_settings(screen.QUESTION) | {"threshold": self.options.threshold}

    def _screen(self, pairs: list[PairRecord]) -> Outcome:
        return screen.screen(pairs, self._ask("screen", self.judge), self.options.threshold)

    def _difficulty_settings(self) -> dict[str, Any]:
        return self._judge_settings(difficulty.QUESTION)

    def _difficulty(self, pairs: list[PairRecord]) -> Outcome:
        return difficulty.label(pairs, self._ask("difficulty", self.judge))

    def _distractors_settings(self) -> dict[str, Any]:
        o = self.options
        return {
            "respondents": [who.name for who in self.respondents],
            "models": [who.identity for who in self.respondents], "question": QUESTION, "samples": o.samples,
            "temperature": o.temperature, "max_new_tokens": o.max_new_tokens, "seed": o.seed,
        }

    def _distractors(self, pairs: list[PairRecord]) -> Outcome:
        o, visible = self.options, {}
        for pair in pairs:
            here = self.coco.by_image[self._images[pair["file_name"]].id]
            visible[pair["id"]] = {i.category for i in here if i.id != pair["annotation_id"]}
        asks = [self._ask("distractors", who, o.samples, o.temperature) for who in self.respondents]
        return distractors.distractors(pairs, asks, Cooccurrence(self.coco), visible, o.seed)

    def _traces_settings(self) -> dict[str, Any]:
        verifying = {"verifier": self.verifier.name, "verifying model": self.verifier.identity, "check": traces.CHECK}
        return self._judge_settings(traces.QUESTION) | verifying

    def _traces(self, pairs: list[PairRecord]) -> Outcome:
        if self.verifier.name == self.judge.name:
            print("traces: the judge checks its own traces: name a second model with --verifier or --respondent")
        asks = self._ask("traces", self.judge), self._ask("verify", self.verifier)
        return traces.traces(pairs, *asks, self.coco.categories)

    def _curate_settings(self) -> dict[str, Any]:
        decisions = self.options.decisions
        if decisions and not Path(decisions).is_file():
            raise FileNotFoundError(f"--decisions {decisions}: there is no such file; save it from {PAGE}")
        return {"decisions": file_digest(decisions) if decisions else None}

    def _curate(self, pairs: list[PairRecord]) -> Outcome:
        # read first: a broken file must not leave a new page behind
        decided = curate.read_decisions(self.options.decisions, pairs) if self.options.decisions else {}
        curate.write_page(pairs, self.image_of, self.folder / PAGE)
        kept = curate.apply_decisions(pairs, decided)
        if not decided:
            print(f"curate: open {self.folder / PAGE}, save the decisions, and give them back with --decisions FILE")
        staying = {pair["id"] for pair in kept}
        changed = {id: "relabelled" for id, d in decided.items() if d["action"] == "relabel" and id in staying}
        return Outcome(kept, {p["id"]: "dropped by hand" for p in pairs if p["id"] not in staying}, changed)

    def _split_settings(self) -> dict[str, Any]:
        o = self.options
        if not 0 <= o.test_share <= 1:
            raise ValueError(f"--test-share {o.test_share} must lie between 0 and 1")
        read_halves(o.halves)
        halves = file_digest(halves_path(o.halves))
        return {"seed": o.seed, "test_share": o.test_share, "halves": halves, "authors": o.authors}

    def _split(self, pairs: list[PairRecord]) -> Outcome:
        o = self.options
        names, source = split.outputs(o.test_share, o.authors), stage_path(self.folder, "curate")
        try:
            outcome = split.split(pairs, o.test_share, read_halves(o.halves), o.seed)
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from error
        split.write_outputs(self.folder, source, o.split, outcome.pairs, names, Path(o.coco) / o.split)
        for part in ("train", "test"):
            counts = Counter(pair["half"] for pair in outcome.pairs if pair["part"] == part)
            print(f"split: {part} {counts.total()} pairs, {counts['id']} ID and {counts['ood']} OOD")
        print(f"split: wrote {', '.join(names)} in {self.folder}")
        return outcome


def _program() -> str:
    """The digest of what makes stages out of answers: a stage is made anew, from what was answered, when it changes."""
    files = [*Path(__file__).parent.glob("*.py"), *(code.__file__ for code in (masks, prompts, rewards, trace_rules))]
    return digest(sorted(map(file_digest, files)))
