"""Configuration: where values come from, what is refused and in which words, the written file, the help."""

import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigrpo.config import Config, ConfigError, load_config, options, parse_config, to_toml
from minigrpo.sections import OptimConfig
from minigrpo.task import Task

PLAIN = "minigrpo.task:Task"


class WithOptions(Task):
    @dataclass(frozen=True)
    class Config:
        coco: str = ""
        """Folder with images
        and annotations."""
        blur: float = 5.0
        """Soft edge of the mask, in pixels."""
        shape: Literal["box", "polygon"] = "box"
        """Shape of the mask."""

        def __post_init__(self):
            if self.blur < 0:
                raise ValueError(f"task.blur must be at least 0, not {self.blur}")


class NotATask:
    pass


OWN = f"{__name__}:WithOptions"


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8", newline="\n")
        return str(path)

    return write


def test_defaults_need_no_argument():
    config, task_class = parse_config([], PLAIN)
    assert config == Config(PLAIN, Task.Config())
    assert task_class is Task


def test_the_command_line_overrides_the_file_and_the_file_the_defaults(toml):
    file = toml("[rollout]\ngroup_size = 4\ntemperature = 2\n[task]\nblur = 3")
    config, task_class = parse_config(["--rollout.group_size", "6", "--config", file, "--task.shape=polygon"], OWN)
    assert (config.rollout.group_size, config.rollout.temperature, config.rollout.prompts_per_step) == (6, 2.0, 16)
    assert isinstance(config.rollout.temperature, float)
    assert config.task == WithOptions.Config(blur=3.0, shape="polygon")
    assert task_class is WithOptions


def test_both_ways_to_write_an_option_and_the_last_mention_counts():
    argv = ["--grpo.prior", "False", "--optim.lr=1e-6", "--run.dir=a=b", "--run.steps", "1", "--run.steps", "2"]
    config, _ = parse_config(argv, PLAIN)
    assert (config.grpo.prior, config.optim.lr, config.run.dir, config.run.steps) == (False, 1e-6, "a=b", 2)


def test_options_of_the_files_task_that_another_task_lacks_do_not_count(toml):
    file = toml('[task]\nclass = "toy_task:ToyTask"\nprompts = 9\nheld_out = 5\n[run]\nsteps = 3\n')
    config, _ = parse_config(["--config", file, "--task", "mpcc.task:MaskedPrediction"], "minigrpo.task:Task")
    assert (config.task.held_out, config.run.steps) == (5, 3) and not hasattr(config.task, "prompts")
    with pytest.raises(ConfigError, match="task.prompts is not an option"):
        parse_config(["--config", toml("[task]\nprompts = 9\n"), "--task", "mpcc.task:MaskedPrediction"], PLAIN)


def test_the_task_comes_from_the_file_unless_the_command_line_names_one(toml):
    file = toml(f'[task]\nclass = "{OWN}"')
    assert parse_config(["--config", file], PLAIN)[0].task_class == OWN
    assert parse_config(["--config", file, "--task", PLAIN], PLAIN)[1] is Task


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--rollout.groupsize", "3"], r"--rollout.groupsize is not an option; did you mean --rollout.group_size\?"),
        (["--lr", "3"], r"--lr is not an option; did you mean --optim.lr\?"),
        (["--zzz.qqq", "3"], "--zzz.qqq is not an option; --help lists all"),
        (["--steps", "3"], r"--steps is not an option; did you mean --run.steps\?"),
        (["--sft.step", "3"], r"did you mean --sft.steps\?"),
        (["--learning_rate", "1e-5"], r"did you mean --optim.lr\?"),
        (["--learning-rate=1e-5"], r"--learning-rate is not an option; did you mean --optim.lr\?"),
        (["--model", "PATH"], r"--model is not an option; did you mean --model.path\?"),
        (["--group-size", "4"], r"did you mean --rollout.group_size\?"),
        (["--group_size=4"], r"did you mean --rollout.group_size\?"),
        (["--prompts_per_step", "4"], r"did you mean --rollout.prompts_per_step\?"),
        (["--trl.beta", "4"], r"did you mean --grpo.beta\?"),
        (["-run.steps", "4"], r"did you mean --run.steps\?"),
        (["run.steps", "4"], r"unexpected argument 'run.steps', .* --section.field VALUE; did you mean --run.steps\?"),
        (["steps"], r"unexpected argument 'steps', .* did you mean --run.steps\?"),
        (["--run.steps", "4", "5"], "unexpected argument '5', as options look like .* VALUE; --help lists"),
        (["--run.steps"], "--run.steps needs a value: --run.steps=VALUE"),
        (["--config"], "--config needs a value"),
        (["--grpo.prior", "--run.steps", "3"], "--grpo.prior needs a value"),
        (["--run.steps", "1.5"], "--run.steps takes a whole number, not '1.5'"),
        (["--optim.lr", "fast"], "--optim.lr takes a finite number, not 'fast'"),
        (["--optim.lr", "inf"], "--optim.lr takes a finite number, not inf"),
        (["--optim.lr", "nan"], "--optim.lr takes a finite number, not nan"),
        (["--grpo.prior", "yes"], "--grpo.prior takes true or false, not 'yes'"),
        (["--grpo.scale", "sdt"], "--grpo.scale takes one of std, none, loo, batch, not 'sdt'"),
        (["--rollout.group_size", "1"], "group_size 1 has no other completion .* grpo.scale 'std'"),
        (["--rollout.group_size", "1", "--grpo.scale", "loo"], "group_size 1 .* grpo.scale 'loo'"),
        (["--rollout.group_size", "0"], "rollout.group_size must be at least 1, not 0"),
        (["--rollout.prompts_per_step", "0"], "rollout.prompts_per_step must be at least 1, not 0"),
        (["--rollout.temperature", "0"], "rollout.temperature must be above 0, not 0.0"),
        (["--optim.lr", "0"], "optim.lr must be above 0"),
        (["--optim.beta1", "1"], "optim.beta1 must be below 1"),
        (["--optim.beta2", "-0.1"], "optim.beta2 must be at least 0"),
        (["--optim.warmup", "1.1"], "optim.warmup must be at most 1"),
        (["--grpo.clip_low", "1.5"], "grpo.clip_low must be at most 1"),
        (["--grpo.clip_high", "-0.1"], "grpo.clip_high must be at least 0"),
        (["--run.steps", "-1"], "run.steps must be at least 0, not -1"),
        (["--rollout.group_size", "10000000"], "rollout.group_size must be at most 4,096, not 10000000"),
        (["--rollout.max_new_tokens", "1000000000"], "rollout.max_new_tokens must be at most 1,048,576"),
        (["--run.steps", f"1{'0' * 400}"], "run.steps takes a whole number of at most 18 digits, not 10{79}…$"),
        (["--run.steps", f"1{'0' * 5000}"], "run.steps takes a whole number, not '10{78}…$"),
        (["--grpo.objective", "reinforce", "--grpo.clip_high", "0.3"], "grpo.clip_high 0.3 changes nothing under"),
        (["--grpo.objective", "cispo", "--grpo.clip_low", "0"], "grpo.clip_low 0.0 changes nothing under"),
        (["--grpo.objective", "sapo", "--grpo.clip_max", "3"], "grpo.clip_max 3.0 changes nothing under"),
        (["--grpo.objective", "reinforce", "--grpo.ratio", "sequence"], "grpo.ratio sequence changes nothing under"),
        (["--grpo.beta", "0", "--grpo.beta_schedule", "cosine"], "grpo.beta_schedule cosine changes nothing"),
        (["--model.lora_alpha", "8"], "model.lora_alpha 8.0 changes nothing without model.lora_rank"),
        (["--model.lora_rank", "-1"], "model.lora_rank must be at least 0, not -1"),
        (["--model.lora_rank", "4", "--model.freeze_vision", "true"], "model.freeze_vision changes nothing beside"),
        (["--grpo.clip_max", "1.1"], "grpo.clip_max 1.1 would bound what 1 [+] grpo.clip_high = 1.2 bounds already"),
        (["--grpo.top_entropy", "0"], "grpo.top_entropy must be above 0, not 0.0"),
        (["--grpo.top_entropy", "1.5"], "grpo.top_entropy must be at most 1, not 1.5"),
        (["--rollout.overlong", "65"], "rollout.overlong 65 is more than rollout.max_new_tokens 64: take less"),
        (["--grpo.objective", "reinforce", "--grpo.clip_low", "0"], "grpo.clip_low 0.0 changes nothing under"),
        (["--grpo.objective", "reinforce", "--grpo.prior_ratio", "shaped"], "grpo.prior_ratio shaped changes nothing"),
        (["--model.min_pixels", "9", "--model.max_pixels", "4"], "min_pixels 9 is above model.max_pixels 4"),
        (["--task", "nothing"], "task 'nothing' is not of the form package.module:Class"),
        (["--task", "no_such_module:Task"], "cannot import task .*ModuleNotFoundError"),
        (["--task", "minigrpo.task:Taks"], r"minigrpo.task \(.*/minigrpo/task.py\) has no class Taks derived"),
        (["--task", f"{__name__}:NotATask"], "has no class NotATask derived"),
        (["--task", OWN, "--task.blur", "-1"], "task.blur must be at least 0"),
        (["--config", "no/such/file.toml"], "cannot read the configuration no/such/file.toml: No such file"),
    ],
    ids=lambda given: str(given)[:60],
)
def test_bad_arguments_are_refused_in_one_clear_line(argv, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(argv, PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[run\nsteps = 1", "is not valid TOML: "),
        ("steps = 1", "'steps' stands outside a section"),
        ("[runn]\nsteps = 1", r"\[runn\] is not a section; there are task, model, rollout, grpo, optim, run, sft"),
        ("[run]\nstep = 1", r"run.toml: run.step is not an option; did you mean run.steps\?"),
        ("[run]\nsteps = true", "run.toml: run.steps takes a whole number, not True"),
        ("[run]\nsteps = 1.0", "run.steps takes a whole number, not 1.0"),
        ("[run]\ndir = 1", "run.dir takes text, not 1"),
        ("[optim]\nlr = inf", "optim.lr takes a finite number, not inf"),
        (f"[optim]\nlr = 1{'0' * 400}", "optim.lr takes a finite number"),
        ('[optim]\nlr = "1"', "optim.lr takes a finite number, not '1'"),
        ("[grpo]\nprior = 1", "grpo.prior takes true or false, not 1"),
        ("[grpo]\nscale = [1]", r"grpo.scale takes one of std, none, loo, batch, not \[1\]"),
        ("[task]\nclass = 3", "task.class takes text, not 3"),
        (f"[run]\nsteps = 1{'0' * 400}", "run.steps takes a whole number of at most 18 digits"),
        (f"[run]\nsteps = 1{'0' * 5000}", "is not valid TOML"),
        (f"[run]\nsteps = 0x1{'0' * 5000}", "run.steps takes a whole number of at most 18 digits, not one of th"),
        (f"[run]\nsteps = {'[' * 5000}{']' * 5000}", "is not valid TOML"),
        (f"[run]\nsteps{'.a' * 5000} = 1", "run.steps takes a whole number, not one of thousands"),
        (f"[grpo]\nscale{'.a' * 5000} = 1", "grpo.scale takes one of std, none, loo, batch, not one of thousands"),
        (f"[run]\nsteps{'.a' * 50000} = 1", "run.toml has a line of 100,009 characters, which is no option"),
    ],
    ids=lambda given: given[:60],
)
def test_a_bad_file_is_refused_with_its_name(toml, text, message):
    file = toml(text)
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(["--config", file], PLAIN)
    assert file in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        parse_config(["--config", str(path)], PLAIN)


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes("[run]\r\ndir = \"Größe\"\r\n".encode("utf-8-sig"))
    assert parse_config(["--config", str(path)], PLAIN)[0].run.dir == "Größe"


def test_reinforce_is_taken_where_nothing_is_ignored():
    argv = ["--grpo.objective", "reinforce", "--grpo.beta", "0", "--grpo.normalize", "group"]
    grpo = parse_config(argv, PLAIN)[0].grpo
    assert not grpo.needs_reference and dataclasses.replace(grpo, beta=0.1).needs_reference


def test_group_size_1_is_allowed_without_a_group_statistic():
    assert parse_config(["--rollout.group_size", "1", "--grpo.scale", "none"], PLAIN)[0].rollout.group_size == 1


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(text=st.text(), path=st.text(), lr=finite.map(abs).filter(bool), blur=finite.map(abs), prior=st.booleans())
def test_the_written_configuration_reads_back_equal(tmp_path_factory, text, path, lr, blur, prior):
    config, _ = parse_config(["--task", OWN], PLAIN)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, path=path),
        task=WithOptions.Config(coco=text, blur=blur, shape="polygon"),
        optim=OptimConfig(lr=lr),
        grpo=dataclasses.replace(config.grpo, prior=prior),
    )
    file = tmp_path_factory.mktemp("toml") / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8", newline="\n")
    assert parse_config(["--config", str(file)], PLAIN)[0] == config


@pytest.mark.parametrize("text", ['"""', "'\\\"", "a\r\nb\tc\x00\x7f\x85\u2028", "# [run]", "Größe 猫 🐈"])
def test_awkward_text_survives(toml, text):
    config = Config(OWN, WithOptions.Config(coco=text))
    assert parse_config(["--config", toml(to_toml(config))], PLAIN)[0] == config


@pytest.mark.parametrize("bad", [{"blur": float("inf")}, {"blur": float("nan")}, {"coco": "\ud800"}])
def test_what_a_file_cannot_hold_is_not_written(bad):
    with pytest.raises(ConfigError, match=f"task.{next(iter(bad))}"):
        to_toml(Config(OWN, WithOptions.Config(**bad)))


def test_the_written_file_says_what_each_field_means():
    text = to_toml(Config(OWN, WithOptions.Config()))
    assert "# Folder with images and annotations.\ncoco = \"\"\n" in text
    assert "# Shape of the mask. One of: box, polygon.\nshape = \"box\"\n" in text
    assert "lr = 0.0002\n" in text and "prior = true\n" in text


def sections(task_config):
    return {field.name: type(field.default) for field in dataclasses.fields(Config) if field.name not in (
        "task", "task_class")} | {"task": task_config}


def test_every_field_has_a_meaning():
    missing = [name for name, option in options(sections(WithOptions.Config)).items() if len(option.meaning) < 8]
    assert not missing


@pytest.mark.parametrize("width", [80, 130])
def test_help_lists_every_option_aligned_and_within_the_terminal(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    with pytest.raises(SystemExit) as caught:
        load_config(["--task", OWN, "--help"], PLAIN)
    printed = capsys.readouterr().out
    assert caught.value.code == 0
    lines = printed.splitlines()
    for name, option in options(sections(WithOptions.Config)).items():
        (line,) = [line for line in lines if line.startswith(f"  --{name} ")]
        assert option.meaning.split()[0] in line
    told = " ".join(printed.split())
    assert "--task.blur float Soft edge of the mask, in pixels. (default 5.0)" in told
    assert '--task.shape choice Shape of the mask. One of: box, polygon. (default "box")' in told
    assert all(f"--{name}" in printed for name in ("config FILE.toml", "task module:Class", "strategy name"))
    assert max(map(len, lines)) <= width
    starts = {line.index(word) for line in lines for word in ("Peak learning", "AdamW's decay", "AdamW's decoupled")
              if word in line}
    assert len(starts) == 1


def test_options_must_be_fields_with_a_plain_type_and_default():
    @dataclass(frozen=True)
    class Listed:
        names: tuple[str, ...] = ()

    @dataclass(frozen=True)
    class Required:
        name: str

    for bad, message in ((Listed, "task.names: a field is a bool"), (Required, "task.name: a field needs a default")):
        with pytest.raises(ConfigError, match=message):
            options({"task": bad})
    with pytest.raises(ConfigError, match="NotATask must be a dataclass"):
        options({"task": NotATask})


def test_an_error_is_one_line_on_stderr_and_exit_code_2(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["somewhere/train.py"])
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SystemExit) as caught:
        load_config(["--optim.lr", "-1"], PLAIN)
    assert caught.value.code == 2
    assert capsys.readouterr() == ("", "train.py: error: optim.lr must be above 0, not -1.0\n")


def test_with_several_ranks_only_the_first_says_it(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    for argv, code in ((["--nope", "1"], 2), (["--help"], 0)):
        with pytest.raises(SystemExit) as caught:
            load_config(argv, PLAIN)
        assert caught.value.code == code
    assert capsys.readouterr() == ("", "")


def test_reading_a_configuration_needs_no_task_package():
    code = "import sys, minigrpo.config; sys.exit(any(name.split('.')[0] == 'mpcc' for name in sys.modules))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=root).returncode == 0
