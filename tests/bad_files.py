"""The inputs of the bad cases: models, COCO folders, benchmarks, tasks and options, each wrong in one way."""

import json
import shutil
from pathlib import Path

import tiny
import torch
from safetensors.torch import load_file, save_file
from small_benchmark import our_pair
from small_coco import annotation, write_split
from small_visargs import NEGATIVES, RECORDS, write_visargs

TOML = {
    "section": "[runs]\nsteps = 1\n", "broken": "[run\n", "key": "[run]\nstep = 1\n", "type": '[run]\nsteps = "two"\n',
    "outside": "steps = 1\n", "class": "[task]\nclass = 3\n", "list": "[run]\nsteps = [1]\n", "twice":
    "[run]\nsteps = 1\nsteps = 2\n", "nan": "[optim]\nlr = nan\n", "negative": "[run]\nsteps = -1\n", "date":
    "[run]\nseed = 2020-01-01\n", "choice": '[grpo]\nscale = "other"\n', "big": f"[run]\nseed = {10**30}\n",
}
"""Name of a .toml file → its text."""

TASKS = '''
import torch
from dataclasses import dataclass
from minigrpo import Sample, Task, Stage, Generate

class Good(Task):
    def samples(self): return [Sample(str(i), "q") for i in range(6)]
    def reward(self, sample, completions): return {"r": [float(i) for i in range(len(completions))]}

NotATask = 3

class NoSamples(Task): pass
class NoReward(Good): reward = Task.reward
class NoConfig(Good): Config = int
@dataclass(frozen=True)
class Listed:
    field: list = None
class ListConfig(Good): Config = Listed
class InInit(Good):
    def __init__(self, config): raise ValueError("the data is not there")
'''
BODIES = {
    "samples": ("raise KeyError('x')", "return 3", "return None", "return []", "return [1] * 6",
                "return [Sample('same', 'q')] * 6", "return [Sample(str(i), 5) for i in range(6)]",
                "return [Sample(str(i), 'q', images=(3,)) for i in range(6)]"),
    "reward": ("raise KeyError('x')", "return None", "return 3", "return {}", "return {'r': 1.0}", "return {'r': []}",
               "return {'r': ['1'] * len(args[1])}", "return {'r': [float('inf')] * len(args[1])}",
               "return {5: [1.0] * len(args[1])}", "return {'r': torch.tensor(1.0)}",
               "return {'r': [10**400] * len(args[1])}", "yield 3", "yield Generate([3])"),
    "views": ("raise KeyError('x')", "return 3", "return {'v': [3]}"),
    "draw_from": ("raise KeyError('x')", "return {'unknown': 1}", "return 3"),
    "slots": ("raise KeyError('x')", "return [3]", "return ['a'] * 9", "return 3"),
    "gather": ("raise KeyError('x')", "return 3", "return {'m': 1.0}", "return {'m': [float('nan')]}"),
    "advantages": ("raise KeyError('x')", "return torch.zeros(9)", "return torch.full((3,), float('nan'))",
                   "return 'x'", "return None"),
    "token_weights": ("raise KeyError('x')", "return torch.zeros(2)", "return 3",
                      "return torch.full(args[0].mask.shape, float('nan'))"),
    "sampler": ("raise KeyError('x')", "return 3"),
    "extra_loss": ("raise KeyError('x')", "return 3", "return torch.zeros(3)"),
    "stages": ("raise KeyError('x')", "return 3", "return []", "return [3]"),
    "metrics": ("raise KeyError('x')", "return 3", "return {'m': 'x'}"),
    "shown_answer": ("raise KeyError('x')", "return 3"),
    "evaluate": ("raise KeyError('x')", "return 3", "return {'m': 'x'}"),
}
"""Door → bodies of a method that takes (self, *args)."""


def door_class(door: str, number: int) -> str:
    """The name of the task whose door has that body."""
    return f"{door.title().replace('_', '')}{number}"


def write_inputs(base: Path) -> None:
    """Everything that the cases name, below `base`."""
    for name, text in TOML.items():
        (base / f"{name}.toml").write_text(text, encoding="utf-8")
    (base / "latin.toml").write_bytes(b"[run]\n# \xe4\n")
    doors = [f"\nclass {door_class(door, i)}(Good):\n    def {door}(self, *args): {body}\n"
             for door, bodies in BODIES.items() for i, body in enumerate(bodies)]
    (base / "bad_tasks.py").write_text(TASKS + "".join(doors), encoding="utf-8")
    (base / "broken_module.py").write_text("def (", encoding="utf-8")
    (base / "raising_module.py").write_text("raise RuntimeError('no\\nGPU')", encoding="utf-8")
    (base / "empty").mkdir()
    (base / "file.txt").write_text("a text", encoding="utf-8")
    _models(base / "models")
    _coco(base)
    _benchmarks(base)
    _visargs(base)
    _runs(base)


def _models(folder: Path) -> None:
    for name, family in (("text", "qwen2"), ("vl", "qwen2_5_vl")):
        tiny.vlm(family, torch.float32).save(folder / name)
    tensors = load_file(folder / "text/model.safetensors")
    config = json.loads((folder / "text/config.json").read_text(encoding="utf-8"))
    up = "model.layers.0.mlp.up_proj.weight"

    def copy(name: str, source: str = "text") -> Path:
        return Path(shutil.copytree(folder / source, folder / name))

    for missing in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"):
        (copy(f"without-{missing}") / missing).unlink(missing_ok=True)
    (copy("without-preprocessor", "vl") / "preprocessor_config.json").unlink(missing_ok=True)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        (copy(f"broken-{file}") / file).write_text("{ not", encoding="utf-8")
    (copy("broken-preprocessor", "vl") / "preprocessor_config.json").write_text("{ not", encoding="utf-8")
    (copy("list-config") / "config.json").write_text("[]", encoding="utf-8")
    cut = copy("cut-weights") / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:5000])
    (copy("empty-weights") / "model.safetensors").write_bytes(b"")
    for name, changed in {"lacks": {k: v for k, v in tensors.items() if k != up}, "shape":
    tensors | {up: torch.ones(3, 3)},
                          "nan": tensors | {up: torch.full_like(tensors[up], torch.nan)},
                          "inf": tensors | {up: torch.full_like(tensors[up], torch.inf)}}.items():
        save_file(changed, copy(f"{name}-weights") / "model.safetensors", metadata={"format": "pt"})
    for name, changed in {"bert": {"model_type": "bert"}, "unknown": {"model_type": "no such"}, "notype": {"model_type":
    None},
                          "dropout": {"attention_dropout": 0.1}, "heads": {"num_attention_heads": 0},
                          "layers": {"num_hidden_layers": 9}, "hidden": {"hidden_size": "many"},
                          "vocab": {"vocab_size": 5}}.items():
        (copy(f"{name}-config") / "config.json").write_text(json.dumps(config | changed), encoding="utf-8")


def _coco(base: Path) -> None:
    good = [annotation(10 + i, i, i, [20, 20, 40, 40]) for i in (1, 2, 3)]
    for split in ("train2017", "val2017"):
        write_split(base / "coco", split, good)
    spoiled = {"noannotations": "rm", "nojson": "{", "listjson": "[]", "nolists": "{}"}
    for name, text in spoiled.items():
        file = _copy(base, name) / "annotations/instances_train2017.json"
        file.unlink() if text == "rm" else file.write_text(text, encoding="utf-8")
    shutil.rmtree(_copy(base, "nosplit") / "train2017")
    (_copy(base, "noimage") / "train2017/2.png").unlink()
    (_copy(base, "badimage") / "train2017/2.png").write_bytes(b"no image")


def _copy(base: Path, name: str) -> Path:
    return Path(shutil.copytree(base / "coco", base / f"coco-{name}"))


PAIRS = {
    "format": {"format": "other"}, "version": {"version": 9}, "split": {"split": ""}, "none": {"pairs": []},
    "pairs": {"pairs": 3}, "object": {"pairs": [3]}, "id": {"pairs": [our_pair(id=...)]},
    "twice": {"pairs": [our_pair(), our_pair()]}, "level": {"pairs": [our_pair(difficulty="huge")]},
    "three": {"pairs": [our_pair(confusing=["cat", "fox", "cow"])]}, "one": {"pairs": [our_pair(irrelevant=["tv"])]},
    "answer": {"pairs": [our_pair(category_name="")]}, "same": {"pairs": [our_pair(irrelevant=["dog", "tv"])]},
    "box": {"pairs": [our_pair(bbox=[1, 2, 3])]}, "zero": {"pairs": [our_pair(bbox=[1, 2, 0, 3])]},
    "outside": {"pairs": [our_pair(bbox=[90, 70, 50, 50])]}, "image": {"pairs": [our_pair(file_name="9.png")]},
    "clue": {"pairs": [our_pair(evidence=[{"text": "x"}])]}, "clues": {"pairs": [our_pair(evidence=3)]},
}
"""Name of a benchmark file → what is wrong with it."""


def _benchmarks(base: Path) -> None:
    good = {"format": "mpcc-pairs", "version": 1, "split": "val2017", "pairs": [our_pair(evidence=[])]}
    for name, changed in {"good": {}, **PAIRS}.items():
        (base / f"b-{name}.json").write_text(json.dumps(good | changed), encoding="utf-8")
    (base / "b-cut.json").write_text('{"format": "mpcc', encoding="utf-8")
    (base / "b-list.json").write_text("[3]", encoding="utf-8")
    (base / "b-text.json").write_text('"x"', encoding="utf-8")
    (base / "b-bytes.json").write_bytes(b"\xff\xfe\x00")


VISARGS = {
    "url": {"url": ""}, "unnamed": {"url": "https://example.org/"}, "gone": {"url": "https://example.org/gone.png"},
    "conclusion": {"conclusion": None}, "premises": {"visual_premises": "a turtle"},
    "nopremise": {"visual_premises": []},
    "boxes": {"b_box": RECORDS[0]["b_box"][:1]}, "corner": {"b_box": [[1, 2, 3, 4]] * 2},
    "minus": {"b_box": [{"startX": 1, "startY": 2, "w": -3, "h": 4}] * 2},
    "outside": {"b_box": [{"startX": 90, "startY": 2, "w": 90, "h": 4}] * 2},
    "unknown": {"reasoning_steps": ["(VP9 -> C): So it is."]}, "early": {"reasoning_steps": ["(IC1 -> C): So it is."]},
    "grammar": {"reasoning_steps": ["So it is."]}, "tag": {"conclusion": "It is <answer> so."},
}
"""Name of a file with one VisArgs record → what is wrong with it."""
QUESTIONS = {
    "place": {"easy_answer": 3}, "letter": {"easy_answer": "B"}, "two": {"easy_vp_options": ["a", "b"]},
    "same": {"easy_vp_options": ["a", "a", "b"]}, "text": {"easy_vp_options": "a"}, "description": {"description": 3},
}
"""Name of a negative set with one question → what is wrong with it."""


def _visargs(base: Path) -> None:
    write_visargs(base)
    question = {"description": "It is so.", "easy_vp_options": ["a", "b", "c"], "easy_answer": 1}
    asked = {name: [question | changed] for name, changed in QUESTIONS.items()}
    asked |= {"list": 3, "object": [3], "none": [], "kinds": [{"description": "It is so."}]}
    for name, changed in VISARGS.items():
        (base / f"v-{name}.json").write_text(json.dumps([RECORDS[0] | changed]), encoding="utf-8")
    for name, questions in asked.items():
        (base / f"n-{name}.json").write_text(json.dumps([NEGATIVES[0] | {"negativeset": questions}]), encoding="utf-8")


def _runs(base: Path) -> None:
    """Folders that are to be run folders or comparisons."""
    (base / "r-empty").mkdir()
    toml = '[task]\nclass = "mpcc.task:MaskedPrediction"\n'
    for name, metrics in (("nometrics", None), ("badmetrics", "{ not\n"), ("noreward", '{"step": 1}\n')):
        (base / f"r-{name}").mkdir()
        (base / f"r-{name}/config.toml").write_text(f'{toml}coco = "{base}/coco"\n', encoding="utf-8")
        if metrics:
            (base / f"r-{name}/metrics.jsonl").write_text(metrics, encoding="utf-8")
    for name, cell in (("badcell", "{ not"), ("listcell", "[]"), ("emptycell", "{}")):
        (base / f"c-{name}/cells").mkdir(parents=True)
        (base / f"c-{name}/cells/a.json").write_text(cell, encoding="utf-8")
