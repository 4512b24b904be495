"""From a COCO folder to training pairs and a benchmark.

    python -m mpcc.build all --coco /data/coco --split val2017 --out out/val \\
        --respondent local:models/a --respondent api:MODEL@http://localhost:8000/v1

Each stage writes a numbered file into --out, reads that of the stage before, and can be stopped and started again: no
model is asked twice. `curate` writes a page to keep, drop and relabel the pairs by hand; its decisions come back with
--decisions, of `curate`, `split` or `all`. The key of an endpoint is taken from OPENAI_API_KEY.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from minigrpo.files import held
from mpcc.build.answers import RespondentError
from mpcc.build.store import STAGES

_HELP = {
    "all": "every stage, one after the other",
    "candidates": "instances that can be hidden",
    "screen": "a model rates how strongly the object follows from its context",
    "difficulty": "a model names the kind of reasoning, which gives the level",
    "distractors": "wrong answers of the respondents become the confusing options",
    "traces": "a model writes the reasoning towards the answer, a second one must follow it",
    "curate": "a page for keeping, dropping and relabelling by hand",
    "split": "training pairs and benchmark by image, ID and OOD by category",
}


def parser() -> argparse.ArgumentParser:
    """The command line: a stage, and the options of that stage."""
    main = argparse.ArgumentParser("python -m mpcc.build", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = main.add_subparsers(dest="stage", required=True, metavar="STAGE")
    for name, text in _HELP.items():
        command = commands.add_parser(name, help=text, description=text,
                                      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        stages = STAGES if name == "all" else (name,)
        _common(command)
        for add, wanted in ((_candidates, {"candidates"}), (_models, {"screen", "difficulty", "distractors", "traces"}),
                            (_screen, {"screen"}), (_distractors, {"distractors"}),
                            (_curate, {"curate", "split"}), (_split, {"split"})):
            if wanted & set(stages):
                add(command)
    return main


def _common(command: argparse.ArgumentParser) -> None:
    command.add_argument("--coco", required=True, metavar="DIR",
                         help="COCO folder: annotations/ and the images of --split")
    command.add_argument("--split", default="val2017", help="split of the folder")
    command.add_argument("--out", required=True, metavar="DIR", help="where the stages write")
    command.add_argument("--seed", type=int, default=0, help="decides ties, choices and the split")


def _candidates(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("candidates")
    group.add_argument("--min-area", type=float, default=0.01, help="smallest box, as a share of its image")
    group.add_argument("--max-area", type=float, default=0.5, help="largest box, as a share of its image")
    group.add_argument("--per-image", type=int, default=2, metavar="N", help="at most N pairs of an image; 0 takes all")
    group.add_argument("--no-truncated", action="store_true", help="drop boxes that touch the image's edge")
    group.add_argument("--no-others", action="store_true", help="drop objects of which another instance is visible")


def _models(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("models")
    group.add_argument("--respondent", action="append", default=[], metavar="WHO",
                       help="local:FOLDER or api:MODEL@http://HOST:PORT/v1; may be given several times")
    group.add_argument("--judge", metavar="WHO", help="who rates, labels and writes traces; else the first respondent")
    group.add_argument("--verifier", metavar="WHO",
                       help="who must find the answer from a trace without its end; else a respondent, not the judge")
    group.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="longest answer")
    group.add_argument("--timeout", type=float, default=120.0, metavar="S", help="seconds to wait for an endpoint")
    group.add_argument("--retries", type=int, default=5, metavar="N", help="further tries, with growing pauses")
    group.add_argument("--parallel", type=int, default=8, metavar="N", help="requests under way at a time")


def _screen(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("screen")
    group.add_argument("--threshold", type=int, default=3, choices=range(1, 6), help="lowest rating that stays")


def _distractors(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("distractors")
    group.add_argument("--samples", type=int, default=1, metavar="N", help="answers of each respondent to a pair")
    group.add_argument("--temperature", type=float, default=0.0, help="of these answers; 0 is greedy")


def _curate(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("curate")
    group.add_argument("--decisions", metavar="FILE", help="decisions saved from the page, to be applied")


def _split(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("split")
    group.add_argument("--test-share", type=float, default=0.5, metavar="SHARE",
                       help="share of the images that make the benchmark; 1 makes nothing else, 0 none")
    group.add_argument("--halves", default="coco", metavar="NAME", help="ID and OOD categories: coco, scenes or a file")
    group.add_argument("--authors", action="store_true", help="write the authors' formats as well")


def _stages(options: argparse.Namespace) -> tuple[str, ...]:
    """The stages to run: the split takes decisions through curation, which checks and applies them."""
    if options.stage == "split" and options.decisions:
        return ("curate", "split")
    return STAGES if options.stage == "all" else (options.stage,)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a stage, or all; 0 where all went well, 1 after a one-line error."""
    options = parser().parse_args(argv)
    try:
        from mpcc.build.stages import Build  # --help needs none of it

        build = Build(options)
        if options.stage == "all":
            build.check_models()
        with held(options.out, "mpcc.build"):
            for stage in _stages(options):
                build.run(stage)
    except (ValueError, OSError, RespondentError) as error:
        print(f"mpcc.build: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mpcc.build: stopped; start it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
