"""What loads what: layers without a circle, nothing heavy for options and help, public names."""

import ast
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import minigrpo

ROOT = Path(__file__).parents[2]


def loaded(code: str, *names: str, folder: Path = ROOT) -> list[str]:
    """Which of the modules are loaded after a fresh Python ran the code."""
    told = f"import sys\n{code}\nprint('loaded', *[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", told], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def imports() -> dict[str, set[str]]:
    """Module of minigrpo → the modules it loads when it is loaded itself, not those that a function asks for."""
    found = {}
    for path in sorted((ROOT / "minigrpo").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        found[name] = set(names(ast.parse(path.read_text(encoding="utf-8")).body))
    return {name: {part for target in targets for part in known(target, found)} for name, targets in found.items()}


def names(body: list[ast.stmt]):
    for item in body:
        if isinstance(item, ast.Import):
            yield from (alias.name for alias in item.names)
        elif isinstance(item, ast.ImportFrom):
            assert item.level == 0, "imports are absolute"
            yield from (f"{item.module}.{alias.name}" for alias in item.names)
        elif isinstance(item, (ast.If, ast.Try, ast.With)) and "TYPE_CHECKING" not in ast.dump(item):
            yield from names([*item.body, *getattr(item, "orelse", [])])


def known(target: str, modules: dict) -> list[str]:
    """The module that "package.module.name" is of; a public name's is the one that `minigrpo` finds it in."""
    if target.removeprefix("minigrpo.") in minigrpo.__all__:
        return [f"minigrpo.{minigrpo._MODULE_OF[target.removeprefix('minigrpo.')]}"]
    return [name for name in (target, target.rpartition(".")[0]) if name in modules][:1] or [target]


def test_modules_lie_in_layers():
    order = list(TopologicalSorter(imports()).static_order())  # raises CycleError, which names the circle
    assert order.index("minigrpo.sections") < order.index("minigrpo.config") and "torch" in str(order)


def test_the_engine_knows_no_task_and_no_program():
    found = {target.split(".")[0] for targets in imports().values() for target in targets}
    assert "minigrpo" in found and not found & {"mpcc", "train", "eval", "minigrpo_commands"}
    for path in (ROOT / "minigrpo").rglob("*.py"):  # not inside a function either
        assert not re.search(r"^\s*(import|from) (mpcc|train|eval)\b", path.read_text(encoding="utf-8"), re.M), path


def test_packing_loads_no_sharding_and_no_options():
    heavy = ("torch.distributed.fsdp", "minigrpo.config", "minigrpo.sections", "minigrpo.replica", "minigrpo.ranks")
    assert loaded("from minigrpo import pack", "torch", "minigrpo.layout", *heavy) == ["torch", "minigrpo.layout"]


def test_help_loads_neither_torch_nor_transformers():
    code = """
from minigrpo.config import load_config
try:
    load_config(["--help"], "mpcc.task:MaskedPrediction")
except SystemExit as end:
    assert end.code == 0"""
    assert loaded(code, "mpcc.task", "torch", "transformers", "matplotlib") == ["mpcc.task"]


def test_a_task_of_the_current_folder_is_found_and_hides_nothing(tmp_path):
    (tmp_path / "own_task.py").write_text("from minigrpo import Task\nclass Own(Task):\n    pass\n")
    (tmp_path / "mpcc.py").write_text("raise RuntimeError('the folder hides a package')")
    program = """
import sys
sys.path = [sys.argv[1], *filter(None, sys.path)]
from minigrpo.config import load_config
print(load_config(sys.argv[2:], "mpcc.task:MaskedPrediction")[1])"""

    def start(*words):
        return subprocess.run([sys.executable, "-c", program, str(ROOT), *words], cwd=tmp_path, capture_output=True,
                              text=True, check=False)

    assert start("--task", "own_task:Own").stdout == "<class 'own_task.Own'>\n"
    assert start().stdout == "<class 'mpcc.task.MaskedPrediction'>\n"
    missing = start("--task", "own_taks:Own").stderr
    assert f"No module named 'own_taks' (looked in {tmp_path} and on PYTHONPATH)" in missing
    assert missing.count("\n") == 1


def test_public_names_are_where_type_checkers_look():
    (block,) = [item for item in ast.parse(Path(minigrpo.__file__).read_text(encoding="utf-8")).body
                if isinstance(item, ast.If)]
    told = {alias.name: item.module for item in block.body for alias in item.names}
    assert told == {name: f"minigrpo.{module}" for name, module in minigrpo._MODULE_OF.items()}
    assert all(getattr(minigrpo, name).__name__ == name for name in minigrpo.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = minigrpo.nothing


def test_the_requirements_are_those_of_the_project_and_its_tests():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if not line.startswith("#")]
    assert wanted == project["dependencies"] + project["optional-dependencies"]["dev"]
    assert len(project["dependencies"]) <= 9
