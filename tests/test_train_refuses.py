"""Bad input to train.py: one clear line that says what and where, no traceback, and an exit code that is not 0."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from running import SMALL, launch, lines, words
from safetensors.torch import load_file, save_file
from toy_task import ToyTask

from minigrpo.ranks import Ranks
from minigrpo.sampler import Sampler


def refused(run, **options) -> str:
    """The one line that a run ends with; whatever it is, it is no traceback."""
    with pytest.raises(SystemExit) as stopped:
        run(**options)
    assert isinstance(stopped.value.code, str)  # printed to stderr, with exit code 1
    assert stopped.value.code.startswith("train.py: error: ") and "\n" not in stopped.value.code
    return stopped.value.code.removeprefix("train.py: error: ")


def on_coco(coco, **options) -> dict:
    return {"task": "mpcc.task:MaskedPrediction", "task__coco": coco, "rollout__prompts_per_step": 3} | options


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_a_missing_image_is_named(run, coco, split):
    (coco / split / "2.png").unlink()
    message = refused(run, **on_coco(coco))
    assert re.search(rf"{split}/2.png is missing, but .* lists it as image 2; 1 of \d+ pictures", message)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
@pytest.mark.parametrize("spoil_file", [cut, lambda path: path.write_bytes(b""), lambda path: path.write_text("hi")])
def test_an_unreadable_image_is_named(run, coco, split, spoil_file):
    spoil_file(coco / split / "2.png")
    assert re.match(rf"cannot read .*{split}/2.png \(image 2\): ", refused(run, **on_coco(coco)))


@pytest.mark.parametrize("box", [[-5, 10, 20, 20], [10, 10, -20, 20], [10, 10, 0, 20], [90, 70, 20, 20], [1, 2, 3]])
def test_an_impossible_box_is_named_with_its_annotation(run, coco, box):
    path = coco / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["annotations"][1]["bbox"] = box
    path.write_text(json.dumps(content), encoding="utf-8")
    assert re.search(r"instances_train2017.json: annotation 12 \(image 2\)", refused(run, **on_coco(coco)))


def test_a_prompt_beyond_the_limit_is_named_with_its_length(run, coco):
    message = refused(run, rollout__max_prompt_tokens=20, **on_coco(coco))
    assert re.match(r"sample train2017/1.png#11: the prompt has \d+ tokens, more than the limit of 20; ", message)


def test_every_sample_that_the_run_takes_is_looked_at_before_the_first_step(run, monkeypatch, tmp_path):
    """Not those that no step takes: 1,000 samples, of which 20 steps take 80."""
    sampler, plain = Sampler(1000, 4, 0), ToyTask._sample
    last, spread = sampler.choose(19)[0], range(0, 1000, 16)
    assert last not in {i for step in range(19) for i in sampler.choose(step)} and last not in spread
    taken = sampler.ahead(range(20), 2048)
    never = next(i for i in range(1000) if i not in taken and i not in spread)

    def sample(self, i):
        made = plain(self, i)
        return replace(made, question=made.question * 9) if i in long else made

    monkeypatch.setattr(ToyTask, "_sample", sample)
    long, options = {never, last}, {"task__prompts": 1000, "task__held_out": 0, "rollout__max_prompt_tokens": 100}
    assert refused(run, run__steps=20, **options).startswith(f"sample toy-{last}: the prompt has ")
    assert not (tmp_path / "run/metrics.jsonl").exists() or not lines(tmp_path / "run")
    assert len(lines(run("short", run__steps=2, **options))) == 2


def test_a_model_folder_must_hold_a_model(run, models, tmp_path):
    assert "does not exist" in refused(run, model__path=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in refused(run, model__path=tmp_path / "empty")
    (tmp_path / "empty" / "config.json").write_bytes((models / "qwen2" / "config.json").read_bytes())
    assert "has no weights (*.safetensors)" in refused(run, model__path=tmp_path / "empty")
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"a pickle")
    assert "has no weights (*.safetensors)" in refused(run, model__path=tmp_path / "empty")


def folder_with(models, tmp_path, name: str, content: bytes) -> Path:
    """A copy of the text model in which one file is another."""
    folder = tmp_path / "spoiled"
    folder.mkdir()
    for path in (models / "qwen2").iterdir():
        (folder / path.name).write_bytes(content if path.name == name else path.read_bytes())
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_broken_file_of_a_model_folder_is_refused(run, models, tmp_path, name):
    message = refused(run, model__path=folder_with(models, tmp_path, name, b"{ not what it should be"))
    assert "spoiled" in message


def test_weights_that_are_missing_or_of_another_shape_are_refused(run, models, tmp_path):
    folder = folder_with(models, tmp_path, "", b"")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, folder / "model.safetensors",
              metadata={"format": "pt"})
    assert name in refused(run, model__path=folder)
    save_file(tensors | {name: torch.zeros(3, 3)}, folder / "model.safetensors", metadata={"format": "pt"})
    assert name in refused(run, model__path=folder)


def test_a_run_that_diverges_ends_with_a_message(run, models):
    """The weights stay finite, the activations overflow."""
    message = refused(run, model__path=models / "qwen2", optim__lr=1e20, run__steps=9, run__max_bad_steps=2)
    assert "not finite" in message and "optim.lr" in message


def test_a_message_of_several_lines_is_made_one(run, monkeypatch):
    def fail(*args):
        raise OSError("cannot connect\n  to the hub")

    monkeypatch.setattr("minigrpo.training.load_roles", fail)
    assert refused(run) == "cannot connect to the hub"


def test_weights_that_are_not_finite_are_refused(run, models, tmp_path):
    folder = folder_with(models, tmp_path, "", b"")
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"][5] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "not finite" in refused(run, model__path=folder)


def test_a_task_without_a_model_asks_for_one(run):
    assert "model.path" in refused(run, model__path="")


def test_an_unsupported_model_says_what_is_missing(run, models, tmp_path):
    config = json.loads((models / "qwen2" / "config.json").read_text(encoding="utf-8")) | {"attention_dropout": 0.1}
    folder = folder_with(models, tmp_path, "config.json", json.dumps(config).encode())
    assert "it has dropout" in refused(run, model__path=folder)


def test_images_for_a_text_model_are_refused(run, models):
    message = refused(run, model__path=models / "qwen2", task__images_every=1)
    assert message == "sample toy-0 has images, but qwen2 is a text-only model"


@pytest.mark.parametrize(("broken", "says"), [
    ("nan", "term 'letters' is nan for completion"),
    ("count", "term 'letters' has 1 values for 3 completions"),
    ("empty", "no reward terms returned"),
])
def test_a_wrong_reward_is_refused(run, broken, says):
    assert re.match(rf"ToyTask.reward, sample toy-\d: {says}", refused(run, task__broken=broken))


def test_fewer_samples_than_a_step_takes(run):
    message = refused(run, task__prompts=3)
    assert message == "the task has 3 samples, fewer than prompts_per_step = 4"


def test_more_ranks_than_prompts(run, monkeypatch):
    monkeypatch.setattr("minigrpo.launch.Program.join", lambda self, run: Ranks(4, 5, torch.device("cpu")))
    assert refused(run) == "rollout.prompts_per_step = 4 leaves one of 5 ranks idle"


def test_a_folder_that_holds_a_run_is_left_alone(run):
    folder = run()

    def files():
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}

    before = files()
    assert "already holds a run" in refused(run) and files() == before


def test_a_run_that_failed_before_its_first_step_is_no_run(run):
    refused(run, task__broken="nan")
    assert len(lines(run())) == 2


@pytest.mark.parametrize("token", ["<|image_pad|>", "<|vision_start|>", "<|im_end|>"])
def test_a_prior_with_a_special_token_is_named_with_its_sample(run, token):
    message = refused(run, task__priors="true", task__prior_text=f"an {token} in it")
    assert re.search(r"toy-\d", message) and token in message


@pytest.mark.parametrize(("options", "says"), [
    ({"rollout__group_size": 1}, "rollout.group_size 1 has no other completion to compare with"),
    ({"grpo__bata": 1}, "--grpo.bata is not an option; did you mean --grpo.beta?"),
    ({"task": "toy_task:Nothing"}, "has no class Nothing"),
    ({"rollout__temperature": 0}, "rollout.temperature must be above 0"),
])
def test_impossible_options_are_one_line_and_exit_code_2(run, capsys, options, says):
    with pytest.raises(SystemExit) as stopped:
        run(**options)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_gpu_that_is_not_there(run, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "set run.device to cpu" in refused(run, run__device="cuda")


def test_bad_input_ends_a_real_start_with_one_line(models, coco, tmp_path):
    (coco / "train2017" / "2.png").unlink()
    ended = launch(tmp_path, "--task.coco", str(coco), "--model.path", str(models / "qwen2_5_vl"), ranks=1)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1 and ended.stderr.startswith("train.py: error: ")


def test_bad_input_of_one_rank_ends_both(models, coco, tmp_path):
    cut(coco / "train2017" / "2.png")
    ended = launch(tmp_path, *words({"task.coco": coco, "model.path": models / "qwen2_5_vl"} | SMALL
                                    | {"rollout.prompts_per_step": 3}))
    assert ended.returncode != 0
    assert len(re.findall(r"train.py: error: cannot read .*2.png", ended.stderr)) == 1
    assert "[rank" not in ended.stderr, "the other rank's traceback hides the message"


def test_a_trace_that_is_left_out_is_told_once_whatever_the_ranks(models, coco, tmp_path):
    pair = {"file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog", "cot_data": "It must be a cup."}
    (tmp_path / "pairs.json").write_text(json.dumps([pair, pair]))
    ended = launch(tmp_path, *words({"task.coco": coco, "model.path": models / "qwen2_5_vl"} | SMALL | {
        "task.pairs": tmp_path / "pairs.json", "rollout.prompts_per_step": 2, "run.steps": 1}))
    told = [line for line in ended.stderr.splitlines() if "trace is left out" in line]
    assert ended.returncode == 0 and len(told) == 1 and told[0].startswith("warning: "), ended.stderr
    assert "pairs.json[0]: its trace is left out, 2 in all" in told[0] and "UserWarning" not in ended.stderr
