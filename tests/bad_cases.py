"""The table of bad inputs: entry point, command line, what must be said, exit code. `bad_files` makes the inputs."""

from bad_files import BODIES, PAIRS, QUESTIONS, TOML, VISARGS, door_class
from bad_inputs import Case
from running import SMALL, words

TOY = " ".join(["--run.dir {run}", *words(SMALL | {"rollout.prompts_per_step": 2, "run.steps": 1})])
TEXT = "--model.path {b}/models/text"
ON_COCO = f"--task.coco {{b}}/coco-%s --model.path {{b}}/models/vl {TOY}"


def _options(entry: str, cases: dict[str, str], code: int) -> list[Case]:
    return [Case(entry, argv, says, code) for argv, says in cases.items()]


TRAIN = _options("train.py", {
    "--run.step 3": "did you mean --run.steps", "--steps 3": "did you mean --run.steps", "nonsense":
    "unexpected argument",
    "--run.steps": "needs a value", "--run.steps two": "a whole number", "--run.steps -1":
    "run.steps must be at least 0",
    "--run.steps 1.5": "a whole number", "--optim.lr 0": "optim.lr must be above 0", "--optim.lr nan": "optim.lr",
    "--optim.lr inf": "optim.lr", "--optim.beta1 1": "optim.beta1 must be below 1", "--run.seed 9999999999999999999":
    "run.seed", "--rollout.group_size 1": "rollout.group_size 1", "--rollout.group_size 5000": "rollout.group_size",
    "--rollout.temperature 0": "rollout.temperature", "--rollout.max_new_tokens 0": "rollout.max_new_tokens",
    "--grpo.clip_low 2": "grpo.clip_low", "--grpo.scale other": "grpo.scale takes one of std",
    "--grpo.objective reinforce --grpo.clip_low 0.3": "grpo.clip_low", "--model.dtype float8": "model.dtype",
    "--model.graphs maybe": "true or false", "--model.min_pixels 9 --model.max_pixels 4": "model.min_pixels",
    "--strategy best": "--strategy: invalid choice", "--strategy sft --run.stages rft":
    "--strategy sft sets run.stages",
    "--run.stages rft+sft": "run.stages takes one of", "--run.device tpu": "run.device", "--task nothing":
    "package.module",
    "--task :Class": "package.module", "--task missing_module:Task": "No module named", "--task broken_module:Task":
    "cannot import task", "--task raising_module:Task": "RuntimeError: no GPU", "--task bad_tasks:Missing": "no class",
    "--task bad_tasks:NotATask": "no class NotATask", "--task bad_tasks:NoConfig": "must be a dataclass",
    "--task bad_tasks:ListConfig": "task.field", "--config {b}/missing.toml": "missing.toml",
    "--config {b}/empty": "empty", "--config {b}/latin.toml": "latin.toml is not valid TOML", "--config":
    "needs a value",
    "--optim.warmup 2": "optim.warmup", "--rollout.resample_rounds 101": "rollout.resample_rounds",
    "--sft.steps -2": "sft.steps", "--sft.lr 0": "sft.lr", "--optim.max_grad_norm 0": "optim.max_grad_norm",
    "--rollout.prompts_per_step 0": "rollout.prompts_per_step", "--optim.tokens_per_micro_batch 0": "tokens_per_micro",
    "--grpo.updates_per_rollout 0": "updates_per_rollout", "--run.max_bad_steps 0": "run.max_bad_steps",
    "--grpo.beta -1": "grpo.beta", "--task.maskk box": "did you mean --task.mask", "--grpo.kl k2":
    "grpo.kl takes one of",
}, 2)
TRAIN += [Case("train.py", f"--config {{b}}/{name}.toml", rf"{name}\.toml|must be|run\.seed|grpo\.scale|optim\.lr", 2)
          for name in TOML]
TRAIN += [Case("train.py", f"--task bad_tasks:{door_class(door, i)} {TEXT} {TOY}", "")
          for door, bodies in BODIES.items() for i in range(len(bodies))]
TRAIN += _options("train.py", {
    f"--task bad_tasks:NoSamples {TEXT} {TOY}": r"NoSamples must define samples\(\)",
    f"--task bad_tasks:NoReward {TEXT} {TOY}": r"NoReward must define reward\(\)",
    f"--task bad_tasks:InInit {TEXT} {TOY}": "the data is not there",
    f"--task bad_tasks:Good {TOY}": "has no default model",
    f"--task bad_tasks:Good {TEXT} {TOY} --rollout.prompts_per_step 9": "6 samples, fewer than",
    f"--task bad_tasks:Good {TEXT} {TOY} --rollout.max_prompt_tokens 1": "more than the limit of 1",
    f"--task bad_tasks:Good {TEXT} {TOY} --run.dir {{b}}/file.txt": "file.txt",
    f"--task bad_tasks:Good {TEXT} {TOY} --run.dir {{b}}/file.txt/x": "file.txt",
    f"--task bad_tasks:Good {TEXT} {TOY} --run.device cuda": "set run.device to cpu",
    f"--task bad_tasks:Good {TEXT} {TOY} --model.attention flash": "flash",
    f"--task bad_tasks:Good {TEXT} {TOY} --model.graphs true": "graphs",
    f"--task bad_tasks:Good {TEXT} {TOY} --model.offload true": "offload",
}, 1)
MODELS = {
    "missing": "does not exist", "without-config.json": "has no config.json", "without-model.safetensors": "no weights",
    "without-tokenizer.json": "tokenizer", "without-chat_template.jinja": "no chat template",
    "without-preprocessor": "preprocessor", "broken-config.json": "broken-config", "broken-tokenizer.json": "tokenizer",
    "broken-tokenizer_config.json": "tokenizer", "broken-generation_config.json": "generation_config",
    "broken-preprocessor": "preprocessor", "list-config": "list-config", "cut-weights": "cut-weights",
    "empty-weights": "empty-weights", "lacks-weights": "up_proj", "shape-weights": "up_proj", "nan-weights":
    "not finite",
    "inf-weights": "not finite", "bert-config": "bert", "unknown-config": "no such", "notype-config": "notype-config",
    "dropout-config": "dropout", "heads-config": "heads-config", "layers-config": "layers-config",
    "hidden-config": "hidden-config", "vocab-config": "vocab-config",
}
TRAIN += [Case("train.py", f"--task bad_tasks:Good --model.path {{b}}/models/{name} {TOY}", says)
          for name, says in MODELS.items()]
TRAIN += [Case("train.py", ON_COCO % name, says) for name, says in {
    "missing": "coco-missing", "noannotations": "instances_train2017.json is missing",
    "nojson": "instances_train2017.json", "listjson": "instances_train2017.json", "nolists": "instances_train2017.json",
    "nosplit": "train2017 is not a folder", "noimage": "2.png", "badimage": "2.png"}.items()]
EVAL = [Case("eval.py",
    f"--model {{b}}/models/vl --images {{b}}/coco/val2017 --out {{run}} --benchmark {{b}}/b-{name}.json",
             rf"b-{name}\.json") for name in (*PAIRS, "cut", "list", "text", "bytes", "missing")]
EVAL += [Case("eval.py", f"--model {{b}}/models/{name} --images {{b}}/coco/val2017 --out {{run}} --benchmark "
              "{b}/b-good.json", says) for name, says in MODELS.items() if name not in ("missing", "unknown-config")]
GOOD = "--model {b}/models/vl --images {b}/coco/val2017 --out {run} --benchmark {b}/b-good.json"
EVAL += _options("eval.py", {
    "--kinds all": "--kinds: 'all' is unknown", "--kinds free,free": "names a kind twice", "--limit -1": "--limit -1",
    "--against-generate -1": "--against-generate -1", "--against-generate 2 --decoding authors": "leave out --decoding",
    "--json {b}/nowhere/x.json": "--json: folder", "--blink {b}/empty --held-out": "two evaluations",
    "--optim.lr 1": "--optim.lr does not count", "--model a --model.path b": "name a model each",
    "--benchmark {b}/b-good.json --images {b}/nowhere": "nowhere is not a folder",
    f"{GOOD} --compare {{b}}/empty": "empty", f"{GOOD} --compare {{b}}/nowhere": "nowhere",
    f"{GOOD} --halves nowhere": "nowhere", f"{GOOD} --traces {{b}}/nowhere":
    "nowhere",
    f"{GOOD} --traces {{b}}/file.txt": "file.txt", "--blink {b}/empty": "empty", "--blink {b}/nowhere": "nowhere",
    "--model {b}/nowhere --benchmark {b}/b-good.json --images {b}/coco/val2017": "nowhere",
    "--task bad_tasks:Good --held-out": "has no default model", "--held-out --kinds free": "--kinds does not count",
}, 1)
EVAL += _options("eval.py", {
    "--modell x": "not an option", "--mode best": "invalid choice", "--limit two": "invalid int", "--task nothing":
    "package.module", "--decoding hot": "invalid choice", "--seed x": "invalid int", "nonsense": "unexpected argument",
}, 2)
CRM = "--model {b}/models/vl --images {b}/coco/val2017 --out {run} --crm"
NOT_NEEDED = {"level", "three", "one", "same"}
"""Pairs without difficulty or names to choose among, which CRM does not ask for."""
EVAL += [Case("eval.py", f"{CRM} {{b}}/b-{name}.json", rf"b-{name}\.json")
         for name in (*(name for name in PAIRS if name not in NOT_NEEDED), "cut", "text", "bytes")]
EVAL += _options("eval.py", {
    f"{CRM} {{b}}/nowhere.json": "nowhere.json", f"{CRM} {{b}}/file.txt": "file.txt", f"{CRM} {{b}}/empty": "empty",
    f"{CRM} {{b}}/b-good.json --crm-samples -1": "--crm-samples -1", f"{CRM} {{b}}/b-good.json --crm-kept 2":
    "--crm-kept 2", f"{CRM} {{b}}/b-one.json --compare {{b}}/empty": "crm.jsonl", "--crm --blink x": "two evaluations",
    f"{CRM} {{b}}/b-good.json --task.mask polygon": "mask",
}, 1) + _options("eval.py", {f"{CRM} {{b}}/b-good.json --crm-fill red": "invalid choice"}, 2)
CRM = "--model {b}/models/vl --out {run} --crm {b}"
EVAL += [Case("eval.py", f"{CRM}/v-{name}.json", rf"v-{name}\.json\[0\]") for name in VISARGS]
EVAL += [Case("eval.py", f"{CRM}/n-{name}.json", rf"n-{name}\.json") for name in (*QUESTIONS, "list", "object", "none",
                                                                                "kinds")]
EVAL += _options("eval.py", {
    f"{CRM}/visargs.json --images {{b}}/nowhere": "nowhere is not a folder",
    f"{CRM}/negatives.json --images {{b}}/nowhere": "nowhere is not a folder",
    f"{CRM}/b-good.json --images {{b}}/nowhere": "nowhere is not a folder",
    f"{CRM}/b-good.json": "val2017 is not a folder", f"{CRM}/b-good.json --images {{b}}/images": "1.png",
    f"{CRM}/negatives.json --crm-fill blur": "--crm-fill concerns masked regions",
    f"{CRM}/negatives.json --task.mask box_hard": "--task.mask concerns masked regions",
    f"{CRM}/negatives.json --compare {{b}}/empty": "empty: it holds no answers.jsonl",
    "--crm --crm-collapsed -0.1": "--crm-collapsed -0.1 is no share", "--crm --held-out": "two evaluations",
    "--crm --kinds free": "--kinds does not count for regions",
    "--crm --benchmark {b}/b-good.json": "--benchmark does not count for regions",
    "--crm-fill blur": "--crm-fill does not count for a benchmark",
}, 1) + _options("eval.py", {"--crm --crm-samples many": "invalid int"}, 2)
MMRPT = f"--task mpcc.mmrpt.task:MMRPT {TOY} --model.path {{b}}/models/vl"
TRAIN += _options("train.py", {
    f"{MMRPT} --task.quantile 2": "quantile = 2", f"{MMRPT} --task.held_out -1": "held_out = -1",
    f"{MMRPT} --task.masks {{b}}/nowhere": "nowhere", f"{MMRPT} --task.masks {{b}}/file.txt": "file.txt",
    f"{MMRPT} --task.masks {{b}}/b-good.json": "b-good.json", f"{MMRPT} --task.train_split val2017": "split",
    f"{MMRPT} --task.coco {{b}}/coco": "coco needs masks", f"{MMRPT} --task.coco {{b}}/nowhere": "nowhere|needs masks",
    f"{MMRPT} --task.coco {{b}}/coco --task.parts random --task.held_out 0": "captions_train2017",
}, 1)
BUILD = _options("mpcc.build", {
    "": "required", "cook": "invalid choice", "candidates": "--coco", "candidates --coco x": "--out",
    "screen --coco x --out y --threshold 9": "invalid choice", "split --coco x --out y --test-share many":
    "invalid float",
    "candidates --coco x --out y --min-area x": "invalid float", "candidates --coco x --out y --extra": "unrecognized",
}, 2)
BUILD += _options("mpcc.build", {
    "candidates --coco {b}/nowhere --out {run}": "nowhere", "candidates --coco {b}/empty --out {run}": "val2017",
    "candidates --coco {b}/coco-nojson --split train2017 --out {run}": "instances_train2017",
    "candidates --coco {b}/coco-listjson --split train2017 --out {run}": "instances_train2017",
    "candidates --coco {b}/coco --out {run} --min-area 2": "area", "screen --coco {b}/coco --out {run}":
    "respondent|judge",
    "candidates --coco {b}/coco --out {b}/file.txt": "file.txt", "split --coco {b}/coco --out {run} --test-share 2":
    "share",
    "difficulty --coco {b}/coco --out {run} --respondent nobody": "nobody",
    "all --coco {b}/coco --out {run}": "respondent|judge",
    "all --coco {b}/coco --out {run} --respondent local:{b}/nowhere":
    "nowhere", "traces --coco {b}/coco --out {run} --respondent api:x": "api:x",
    "curate --coco {b}/coco --out {run} --decisions {b}/nowhere": "",
    "candidates --coco {b}/coco --split x --out {run}": "x",
}, 1)
SMALLER = _options("mpcc.convert", {
    "{b}/nowhere {run}/o --to ours": "nowhere is missing", "{b}/empty {run}/o --to ours": "is a folder",
    "{b}/file.txt {run}/o --to ours": "file.txt", "{b}/b-good.json {b}/empty --to ours": "empty",
    "{b}/b-good.json {b}/file.txt/o --to ours": "file.txt", "{b}/b-id.json {run}/o --to ours": "lacks id",
    "{b}/b-level.json {run} --to evaluation": "difficulty", "{b}/b-bytes.json {run}/o --to ours": "b-bytes.json",
    "{b}/b-three.json {run} --to evaluation": "4 confusing", "{b}/b-list.json {run} --to training": "b-list.json",
}, 1) + _options("mpcc.convert", {"": "required", "a b": "--to", "a b --to theirs": "invalid choice"}, 2)
SMALLER += _options("mpcc.experiments", {
    "compare {b}/nowhere a b": "nowhere holds no cells", "compare {b}/c-badcell a b": "a.json",
    "compare {b}/c-listcell a b": "a.json", "compare {b}/c-emptycell a b": "a.json",
    "table4 --benchmark {b}/b-good.json --out {run} --only-print": "needs --halves", "priors --out {run}":
    "--plain-base",
    "table4 --out {b}/file.txt --only-print": "file.txt|cells",
}, 1) + _options("mpcc.experiments", {
    "": "required", "table5": "invalid choice", "table4 --seeds 0": "--seeds must be", "table4 --ranks 0": "--ranks",
    "table4 --jobs x": "invalid int", "table4 --device tpu": "invalid choice", "compare x": "required",
    "table4 --out {run} -- --run.step 3": "did you mean --run.steps",
}, 2)
SMALLER += _options("mpcc.showcase", {
    "{b}/nowhere": "nowhere", "{b}/r-empty": "config.toml", "{b}/r-nometrics": "metrics.jsonl", "{b}/file.txt":
    "file.txt",
    "{b}/r-badmetrics": "metrics.jsonl", "{b}/r-noreward": "no reward", "{b}/r-empty --pairs 0": "--pairs 0",
}, 1) + _options("mpcc.showcase", {"": "required", "x --pairs two": "invalid int"}, 2)
SMALLER += _options("mpcc.splits", {"scenes --out {b}/file.txt/o": "file.txt", "coco --out {b}/empty": "empty"}, 1)
SMALLER += _options("mpcc.splits", {"": "required", "birds": "invalid choice", "coco --seed x": "invalid int"}, 2)
SMALLER += _options("mpcc.scenes.sheet", {"{b}/nowhere/x.jpg": "nowhere", "{b}/x.wrong": "wrong"}, 1)
SMALLER += _options("mpcc.scenes.sheet", {"": "required", "a b": "unrecognized"}, 2)
SMALLER += _options("mpcc.scenes.floors", {
    "--model {b}/nowhere": "nowhere", "--model {b}/empty": "empty", "--json {b}/nowhere/x.json": "nowhere"}, 1)
SMALLER += _options("mpcc.scenes.floors", {"--modell x": "unrecognized"}, 2)
SMALLER += _options("mpcc.scenes.pretrain", {
    "--steps 0": "--steps 0", "--sight-steps 0": "--sight-steps 0", "--steps x": "invalid int", "--seed x":
    "invalid int"}, 2)
SMALLER += _options("mpcc.scenes.pretrain", {"--out {b}/file.txt": "file.txt", "--out {b}/file.txt/x": "file.txt"}, 2)
SMALLER += _options("minigrpo.bench", {
    "--workload huge": "invalid choice", "--against us": "invalid choice", "--steps 0": "--steps", "--threads 0":
    "--threads",
    "--beta nan": "--beta", "--beta -1": "--beta", "--group-size 1": "--group-size", "--prompt 1": "--prompt",
    "--completion 1": "--completion", "--sweep size 1,2": "--sweep varies", "--sweep group_size a,b": "whole numbers",
    "--plot x.png": "--plot needs a --sweep", "--sweep prompt 4 --plot {b}/nowhere/x.png": "nowhere",
    "--workload gpu": "needs a GPU", "--graphs": "CUDA graphs", "--micro-batch 7": "does not divide",
    "--micro-batch -1": "--micro-batch -1", "--sweep group_size": "expected 2 arguments", "extra": "unrecognized",
}, 2)
SMALLER += _options("minigrpo.plan", {
    "": "which model", "--model {b}/nowhere": "nowhere", "--model {b}/empty": "config.json", "--gpus 0": "--gpus",
    "--image big": "WIDTHxHEIGHT", "--memory 0": "--memory", "--machine b100": "invalid choice", "--text 0": "--text",
    "--gpus 99 --model {b}/models/vl": "ranks", "--model {b}/models/broken-config.json": "broken-config",
    "--model {b}/models/bert-config": "bert", "--model {b}/models/vl --run.step 1": "did you mean --run.steps",
    "--model {b}/models/without-preprocessor": "preprocessor", "--model {b}/models/heads-config": "heads-config",
    "--model {b}/models/list-config": "list-config", "--config {b}/nowhere.toml": "nowhere.toml",
    "--model {b}/models/hidden-config": "hidden-config", "--model {b}/models/vl --model.offload true": "model.offload",
}, 2)
SMALLER += _options("mpcc.mmrpt.dependency", {
    "--model {b}/nowhere --out {run}/o": "nowhere", "--model {b}/models/vl --split x --out {run}/o": "no split 'x'",
    "--model {b}/models/vl --limit -1 --out {run}/o": "--limit -1",
    "--model {b}/models/vl --coco {b}/nowhere --out {run}/o": "nowhere",
    "--model {b}/models/vl --coco {b}/coco --out {run}/o": "captions_train2017",
}, 1) + _options("mpcc.mmrpt.dependency", {"": "required", "--model a --out b --row first": "invalid choice"}, 2)
SMALLER += _options("mpcc.mmrpt.words", {"--model {b}/nowhere": "nowhere", "--model x --limit -1": "--limit -1"}, 1)
SMALLER += _options("mpcc.mmrpt.report", {
    "--kept {b}/nowhere": "nowhere", "--kept {b}/b-list.json": "b-list", "--arm full": "names no run",
    "--arm full {b}/empty": "result.json",
}, 1) + _options("mpcc.mmrpt.report", {"": "--arm"}, 2)
SMALLER += _options("mpcc.mmrpt.sheet", {"x.png --model {b}/nowhere": "nowhere"}, 1)
CASES = TRAIN + EVAL + BUILD + SMALLER
