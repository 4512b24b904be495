"""The tasks of the page on tasks, run as somebody who forked nothing would: in a folder of their own."""

import math
import re
import subprocess
import sys

import pytest
from running import ROOT, lines

PAGE = (ROOT / "minigrpo/TASKS.md").read_text(encoding="utf-8")
FILES = {name: code for name, code in re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.S)}
COMMANDS = {name: task for name, task in re.findall(r"train\.py --task (looks|suffices):(\w+) ", PAGE)}


def test_the_page_holds_both_tasks_and_both_are_short():
    assert FILES.keys() == COMMANDS.keys() == {"looks", "suffices"}
    assert all(len(code.splitlines()) < 60 for code in FILES.values())


@pytest.mark.parametrize("name", FILES)
def test_a_task_of_the_page_trains_from_a_folder_of_its_own(name, tmp_path):
    (tmp_path / f"{name}.py").write_text(FILES[name], encoding="utf-8")
    model = ROOT / "mpcc/scenes/model"
    options = {"task": f"{name}:{COMMANDS[name]}", "model.path": model, "run.steps": 2, "rollout.prompts_per_step": 2,
               "rollout.group_size": 3, "rollout.max_new_tokens": 12, "run.dir": tmp_path / "run"}
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    done = subprocess.run([sys.executable, ROOT / "train.py", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = lines(tmp_path / "run")
    assert len(steps) == 2
    for step in steps:
        if name == "looks":
            assert step["change_by_picture"] > 0 and {"reward/right", "reward/ended"} <= step.keys()
        else:
            assert {"reward/suffices", "reward/says_it", "reward/short"} <= step.keys()
            assert step["reward/short"] is None or 0 < step["reward/short"] <= 1 and math.isfinite(step["reward"])
    answers = {line["answer"] for line in lines(tmp_path / "run", "completions")}
    assert answers and answers <= ({*"1234"} if name == "looks" else {"red", "blue", "green", "black"})
