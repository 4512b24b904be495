"""Runs the cases of `bad_cases` and `bad_files`, and writes what each was told: `python tests/bad_inputs.py --write`.

Each calls the real `main` of an entry point, in this process, with a command line and, for what runs, an alarm.
"""

import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = Path(__file__).with_name("bad_inputs.md")
SECONDS = 20
"""After which a case counts as hung."""
MODULES = {"train.py": "train", "eval.py": "eval"}
"""Entry points that are no `python -m MODULE`."""


class Case(NamedTuple):
    """`argv` with {b} for the folder of the inputs and {run} for a new folder; `says` is a regular expression."""

    entry: str
    argv: str | list[str]
    says: str
    code: int = 1

    @property
    def words(self) -> list[str]:
        return self.argv.split() if isinstance(self.argv, str) else self.argv


class Told(NamedTuple):
    """How a case ended: the exit code, the line that was said, and what is wrong with that (None: nothing)."""

    code: int | None
    line: str
    wrong: str | None


class Hung(BaseException):
    """No program catches it."""


def tell(case: Case, base: Path, number: int) -> Told:
    """Runs a case, in the folder of the inputs."""
    main: Callable = import_module(MODULES.get(case.entry, f"{case.entry}.__main__" if (
        ROOT / case.entry.replace(".", "/")).is_dir() else case.entry)).main
    run, out, error = base / f"run-{number}", io.StringIO(), io.StringIO()
    argv = [word.replace("{b}", str(base)).replace("{run}", str(run)) for word in case.words]
    before, folder = sys.argv, os.getcwd()

    def hang(*_):
        raise Hung

    signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    failed = ""
    try:
        os.chdir(base)
        sys.argv = [case.entry if case.entry.endswith(".py") else f"{case.entry.replace('.', '/')}/__main__.py", *argv]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), warnings.catch_warnings():
            code = main() or 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 1
        if isinstance(stopped.code, str):
            error.write(stopped.code)
    except Hung:
        code, failed = None, "it hangs"
    except BaseException:
        code, failed = None, "a traceback: " + traceback.format_exc().strip().splitlines()[-1]
    finally:
        signal.alarm(0)
        sys.argv = before
        os.chdir(folder)
    lines = [line for line in error.getvalue().splitlines() if not line.startswith(("usage:", " ", "warning: "))]
    line = plain(lines[-1] if lines else "", base, run)
    if not failed and (code == 0 or not line):
        failed = "silent" if code else "it went well"
    if not failed and code != case.code:
        failed = f"exit code {code}, not {case.code}"
    if not failed and not re.search(case.says, line):
        failed = f"the line does not say {case.says!r}"
    if not failed and len(lines) > 1 and "bench" not in case.entry:  # which says what it is doing
        failed = f"{len(lines)} lines"
    return Told(code, line, failed and f"{failed}: {line}" or None)


def plain(line: str, base: Path, run: Path) -> str:
    """The line without this machine's paths and process numbers."""
    for path, name in ((run, "RUN"), (base, "FOLDER"), (ROOT, "REPOSITORY")):
        line = line.replace(str(path), name)
    line = re.sub(r"(REPOSITORY\S+, line) \d+", r"\1 N", line)  # which every change of the code moves
    return re.sub(r"process \d+ on \S+, since [\d: -]+", "process N on HOST, since TIME", line)


def tell_all(cases: list[Case]) -> list[Told]:
    """Runs all cases in one folder of inputs."""
    from bad_files import write_inputs

    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder).resolve()
        write_inputs(base)
        sys.path.insert(0, str(base))
        try:
            return [tell(case, base, number) for number, case in enumerate(cases)]
        finally:
            sys.path.remove(str(base))


def render(cases: list[Case], told: list[Told]) -> str:
    """The document: a table for each entry point."""
    from bad_cases import TOY

    lines = ["# Bad inputs, and what is said of each", "",
             f"{len(cases)} cases, written by `python tests/bad_inputs.py --write`. FOLDER holds the inputs, which "
             "`tests/bad_files.py` makes, RUN is a run folder. A small run is meant by … (`TOY` of "
             "`tests/bad_cases.py`); of a task in `bad_tasks.py` the body of its door is shown."]
    for entry in dict.fromkeys(case.entry for case in cases):
        lines += ["", f"## {entry}", "", "| input | message | exit code |", "| --- | --- | ---: |"]
        for case, end in zip(cases, told, strict=True):
            if case.entry == entry:
                words = " ".join(word.replace("{b}", "FOLDER").replace("{run}", "RUN") or "''" for word in case.words)
                words = words.replace(TOY.replace("{run}", "RUN"), "…")
                words = re.sub(r"bad_tasks:(\w+?)(\d+)\b", _with_body, words)
                said = (words, end.line)
                cells = [re.sub(r"([|<>*_`\\])", r"\\\1", text) for text in said]
                lines.append(f"| {cells[0]} | {cells[1]} | {case.code} |")
    return "\n".join(lines) + "\n"


def _with_body(found: re.Match) -> str:
    """The name of a task, and what its door does."""
    from bad_files import BODIES, door_class

    bodies = {door_class(door, i): f"{door}: {body}" for door, own in BODIES.items() for i, body in enumerate(own)}
    return f"{found[0]} ({bodies[found[1] + found[2]]})"


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from bad_cases import CASES

    ended = tell_all(CASES)
    for case, end in zip(CASES, ended, strict=True):
        if end.wrong:
            print(f"{case.entry} {case.argv}\n    {end.wrong}")
    if "--write" in sys.argv:
        DOCUMENT.write_text(render(CASES, ended), encoding="utf-8")
