"""SIGKILL in every stage: started again, the pipeline ends with the same files and asks nothing twice."""

import signal
import subprocess
import sys

import pytest
from running import ROOT

ASKING = ("screen", "difficulty", "distractors", "traces", "verify")
PARALLEL = 3
DIES = """
import os, runpy, signal, sys
replace, name = os.replace, sys.argv.pop(1)
def last_words(source, target):
    if str(target).endswith(name):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = last_words
runpy.run_module("mpcc.build", run_name="__main__")
"""
"""A child that dies at the moment at which a file called argv[1] would appear."""


@pytest.fixture
def start(coco, endpoint):
    def begin(out, dies_at=None):
        program = ["-c", DIES, dies_at] if dies_at else ["-m", "mpcc.build"]
        words = ["all", "--coco", coco, "--out", out, "--respondent", endpoint.spec, "--parallel", PARALLEL,
                 "--max-new-tokens", 32]
        return subprocess.Popen([sys.executable, *program, *map(str, words)], text=True, cwd=ROOT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    return begin


def finish(process):
    said, complaint = process.communicate(timeout=120)
    assert process.returncode == 0, complaint
    return said


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.is_file()}


def test_killed_while_models_answer(start, endpoint, tmp_path):
    finish(start(tmp_path / "whole"))
    wanted, questions = files(tmp_path / "whole"), +endpoint.answered
    endpoint.answered.clear()
    # once in each stage: every request after the third answer of the stage is held, and all workers wait
    total, sizes = 0, [sum(word in question for question, _ in questions) for word in
                       ("How strongly", "Which kind", "From the clues", "Write what", "began like this")]
    assert sum(sizes) == len(questions) and min(sizes) > PARALLEL + 3
    for stage, size in zip(ASKING, sizes, strict=True):
        endpoint.hold_after = total + 3
        process = start(tmp_path / "killed")
        endpoint.wait_for_held(PARALLEL, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        endpoint.release()
        log = next((tmp_path / "killed" / "answers").glob(f"{stage}-*.jsonl"))
        assert log.read_bytes().count(b"\n") == 3  # the answers that had come
        with log.open("ab") as file:
            file.write(b'{"id": "val2017/1')  # and one torn by the kill
        total += size
    said = finish(start(tmp_path / "killed"))
    assert "screen: already done" in said and "traces: kept" in said
    assert files(tmp_path / "killed") == wanted
    assert +endpoint.answered == questions  # each question once, and once only


def test_killed_while_files_are_written(start, endpoint, tmp_path):
    finish(start(tmp_path / "whole"))
    endpoint.answered.clear()
    out = tmp_path / "killed"
    for name in ("1-candidates.json", "curate.html", "6-curate.json", "benchmark.json", "7-split.json"):
        process = start(out, dies_at=name)
        process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL
        assert not (out / name).exists()
    finish(start(out))
    assert files(out) == files(tmp_path / "whole")
    assert set((+endpoint.answered).values()) == {1}
