"""The comparisons: which cells there are, that a finished one is not run again, tables and plots."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minigrpo.config import load_config
from minigrpo.files import held
from mpcc.coco import Coco
from mpcc.experiments import ablations, cells, priors, table4
from mpcc.experiments.__main__ import main
from mpcc.experiments.cells import Cell, Place, program_file, run_cell, run_cells
from mpcc.experiments.origin import DECIDING, _sources, difference, origin
from mpcc.experiments.summary import draw_bars, draw_courses, summary
from mpcc.pairs import file_pairs
from mpcc.scenes.folder import VERSION, ensure_scenes
from mpcc.splits import read_halves
from mpcc.task import MaskedPrediction

ROOT = Path(__file__).parents[2]


def rate(percent):
    return {"n": 100, "percent": percent, "low": percent - 5, "high": percent + 5}


def both(percent):
    return {"macro": percent + 1, "pooled": rate(percent)}


@pytest.fixture
def started(monkeypatch):
    """Commands that would have been run; each leaves the files that the real one leaves."""
    commands = []

    def start(place, log, program, *words):
        commands.append((program, words))
        if program == "train.py":
            exact = 0.25 * (1 + words.count("rft+prior"))
            steps = [{"step": 1, "reward": 1.5, "reward/exact": exact, "lost": 1.0, "kl": 0.01, "zero_variance": 0.5,
                      "logprob/prior": -2.0, "logprob/sampled": -1.0, "prior_positive": 0.75},
                     {"step": 2, "reward": 2.0, "reward/exact": 0.5, "lost": 0.5, "kl": 0.03, "zero_variance": 0.0}]
            (log.parent / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
            (log.parent / "result.json").write_text("{}")
            return
        percent = 10.0 * len(commands)
        tables = {kind: both(percent) for kind in ("cho_e", "cho_h", "free")}
        tables["halves"] = {"ood": {kind: both(percent / 2) for kind in ("cho_e", "cho_h")},
                            "id": {kind: both(percent / 4) for kind in ("cho_e", "cho_h")}}
        answers = [{"kind": "free", "answer": name, "parsed": said, "completion": f"<think>{thought}</think>"}
                   for name, said, thought in (("boat", "bus", "Quay."), ("boat", None, " "), ("bus", "bus", "Stop."))]
        folder = Path(words[words.index("--out") + 1])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
        mode = words[words.index("--mode") + 1]
        with open(words[words.index("--json") + 1], "w") as file:
            json.dump({mode: {"tables": tables, "signatures": {}}}, file)

    monkeypatch.setattr(cells, "_start", start)
    return commands


def place(folder, **changes):
    made = Place(folder / "results", folder / "runs", **changes)
    made.results.mkdir()
    return made


def test_every_strategy_stands_in_both_settings_with_every_seed():
    found = table4.cells(3)
    assert len(found) == len({cell.name for cell in found}) == 3 * (2 + 4 * 3)
    assert {cell.row for cell in found} == {"base", "prompt", "sft", "rft", "rft+prior", "sft+rft"}


def test_every_ablation_changes_one_thing_that_exists():
    found = ablations.cells(2, 60)
    assert len(found) == len({cell.name for cell in found}) == 2 * len(ablations.VARIANTS)
    words = {cell.row: ["--strategy", cell.strategy, *cell.options] for cell in found if cell.seed == 0}
    resolved = {row: load_config(given, "mpcc.task:MaskedPrediction")[0] for row, given in words.items()}
    default = resolved.pop(ablations.DEFAULT)
    assert default.grpo.prior and default.grpo.prior_until == 0 and default.task.traces == 1
    assert len({str(config) for config in resolved.values()} | {str(default)}) == len(ablations.VARIANTS)
    assert resolved["prior until half"].grpo.prior_until == 30


def test_a_dropped_reward_term_is_logged_and_does_not_count():
    dropped = MaskedPrediction(MaskedPrediction.Config(without="exact"))
    assert dropped.reward_weights == {"format": 1.0, "exact": 0.0, "levenshtein": 1.0}
    assert MaskedPrediction(MaskedPrediction.Config()).reward_weights["exact"] == 1.0, "and only there"


def test_a_cell_trains_on_its_half_and_is_scored_in_its_mode(tmp_path, started):
    cell = Cell("rft", "ood", 2, "rft")
    found = run_cell(cell, place(tmp_path, ranks=1, extra=("--run.steps", "3")))
    (trained, words), (scored, asked) = started
    assert (trained, scored) == ("train.py", "eval.py") and words[-2:] == ("--run.steps", "3")
    assert asked[asked.index("--model") + 1] == str(tmp_path / "runs/ood-rft-2")
    assert words[words.index("--strategy") + 1] == "rft" and words[words.index("--run.seed") + 1] == "2"
    assert words[words.index("--task.half") + 1] == "id" and asked[asked.index("--mode") + 1] == "reasoning"
    assert found["figures"] == {"cho_e": both(10.0), "cho_h": both(10.0)}
    assert found["prior"] == {"prior": [-2.0], "sampled": [-1.0], "positive": [0.75]}
    assert found["course"] == {"reward": [1.5, 2.0], "exact": [0.25, 0.5], "kl": [0.01, 0.03],
                               "zero_variance": [0.5, 0.0], "lost": [1.0, 0.5]}
    assert "--no-blind" in asked and found["origin"]["world"] == VERSION


def test_answers_of_the_half_that_is_scored_are_looked_at_for_names_of_the_other(tmp_path, started):
    """In the halves of the scenes the boat is of the one, the bus of the other."""
    half_of = read_halves("scenes")
    assert {half_of["boat"], half_of["bus"]} == {"id", "ood"}
    where = place(tmp_path)
    settings = {half_of["bus"]: ("ood" if half_of["bus"] == "id" else "swapped")}
    found = run_cell(Cell("rft", settings[half_of["bus"]], 0, "rft"), where)
    assert found["answers"] == {"blank": 50.0, "trained_half": 50.0}, "of two boats"
    whole = run_cell(Cell("rft", "id", 0, "rft"), where)
    assert whole["answers"] == {"blank": pytest.approx(100 / 3)}
    assert whole["figures"]["free"]["macro"] == whole["figures"]["free"]["pooled"]["percent"] + 1


def test_exchanged_halves_are_trained_and_scored_the_other_way_round(tmp_path, started):
    found = run_cell(Cell("rft", "swapped", 0, "rft"), place(tmp_path))
    words = started[0][1]
    assert words[words.index("--task.half") + 1] == "ood" and found["figures"]["cho_e"] == both(5.0)


def test_a_cell_of_other_code_weights_or_pictures_is_not_taken(tmp_path, started, monkeypatch):
    cell, where = Cell("rft", "id", 0, "rft"), place(tmp_path)
    made = run_cell(cell, where)
    here = made["origin"]
    for name in ("code", "base", "world", "torch", "transformers"):
        monkeypatch.setattr(cells, "origin", lambda base, name=name: here | {name: "another"})
        with pytest.raises(RuntimeError, match=f"not made by what is here \\({name} .*, not another\\): give another"):
            run_cell(cell, where)
    monkeypatch.setattr(cells, "origin", lambda base: here | {"commit": "another", "python": "another"})
    assert run_cell(cell, where) == made, "the commit tells, the code decides"
    assert run_cell(cell, replace(where, only_print=True)) == made
    with pytest.raises(RuntimeError, match="is missing; leave --only-print away"):
        run_cell(Cell("rft", "id", 1, "rft"), replace(where, only_print=True))


def test_the_origin_tells_code_and_weights(tmp_path, monkeypatch):
    (tmp_path / "a.safetensors").write_bytes(b"1")
    one = origin(str(tmp_path))
    assert set(DECIDING) < set(one) and origin("hub/name")["base"] == "hub/name"
    sources = {path.relative_to(ROOT).as_posix() for path in _sources()}
    assert {"minigrpo/step.py", "mpcc/rewards.py", "mpcc/scenes/world.py"} < sources
    assert not any(name.startswith(("mpcc/experiments", "minigrpo/bench")) for name in sources)
    origin.cache_clear()
    (tmp_path / "a.safetensors").write_bytes(b"2")
    assert difference(one, origin(str(tmp_path))).startswith(f"base {one['base']}, not ")


def test_what_trains_nothing_is_only_scored(tmp_path, started):
    assert run_cell(Cell("base", "id", 0, None, mode="base"), place(tmp_path))["course"]["reward"] == []
    assert [program for program, _ in started] == ["eval.py"] and "base" in started[0][1]


def test_an_evaluation_gets_only_what_counts_there(tmp_path, started):
    extra = ("--config", "some.toml", "--run.steps=60", "--run.device", "cpu", "--task.half", "id", "--task.mask=box")
    run_cell(Cell("base", "id", 0, None, mode="base"), place(tmp_path, extra=extra, scored=("--halves", "coco")))
    (program, asked), = started
    assert program == "eval.py" and asked[-7:] == ("--halves", "coco", "--config", "some.toml", "--run.device", "cpu",
                                                   "--task.mask=box")
    run_cell(Cell("rft", "id", 0, "rft"), Place(tmp_path / "results", tmp_path / "runs", extra=extra))
    assert "--run.steps=60" in started[1][1] and "--config" not in started[2][1], "the run folder has its own"


def test_a_folder_without_a_benchmark_ends_before_anything_runs(tmp_path, started, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["table4", "--", "--task.coco", "data"]) == 1
    assert "data, which holds no benchmark.json: name one with --benchmark" in capsys.readouterr().err
    assert main(["table4", "--benchmark", "some.json"]) == 1
    assert "some.json needs --halves" in capsys.readouterr().err
    assert started == [] and not list(tmp_path.iterdir())


def test_results_come_into_the_current_folder_and_not_into_the_package(tmp_path, started, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["table4", "--seeds", "1"]) == 0
    assert (tmp_path / "runs/experiments/table4/table.txt").is_file()
    assert len(list((tmp_path / "runs/experiments/table4/cells").iterdir())) == 18


def test_the_program_of_a_clone_or_the_installed_command_is_started(tmp_path, monkeypatch):
    assert program_file("train.py") == str(cells.CLONE / "train.py")
    monkeypatch.setattr(cells, "CLONE", tmp_path)
    monkeypatch.setattr(cells.sys, "executable", str(tmp_path / "bin/python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="no train.py beside the package, and no command minigrpo-train: install"):
        program_file("train.py")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/minigrpo-train").write_text("#!/usr/bin/env python3")
    (tmp_path / "bin/minigrpo-train").chmod(0o755)
    assert program_file("train.py") == str(tmp_path / "bin/minigrpo-train")


def test_a_training_that_was_killed_goes_on_and_one_that_ended_does_not_begin_again(tmp_path, started, monkeypatch):
    cell, where = Cell("rft", "id", 0, "rft"), place(tmp_path)
    run, start, found = where.runs / cell.name, cells._start, []

    def seen(place, log, program, *words):
        found.append(sorted(path.name for path in run.iterdir()))
        start(place, log, program, *words)

    monkeypatch.setattr(cells, "_start", lambda *words: (_ for _ in ()).throw(RuntimeError("killed")))
    with pytest.raises(RuntimeError, match="killed"):
        run_cell(cell, where)
    (run / "checkpoints/000020").mkdir(parents=True)
    monkeypatch.setattr(cells, "_start", seen)
    assert run_cell(cell, where)["course"]["reward"] == [1.5, 2.0]
    assert found[0] == ["cell.json", "checkpoints"] and {"--run.resume", "auto"} <= set(started[0][1])
    assert not (run / "checkpoints").exists(), "of many cells they would fill a disk"
    (where.results / f"{cell.name}.json").unlink()
    run_cell(cell, where)
    assert [program for program, _ in started] == ["train.py", "eval.py", "eval.py"]


def test_what_a_killed_training_with_other_options_left_is_not_gone_on_from(tmp_path, started):
    cell, where = Cell("rft", "id", 0, "rft"), place(tmp_path)
    run = where.runs / cell.name
    (run / "checkpoints/000020").mkdir(parents=True)
    (run / "cell.json").write_text(json.dumps({"options": {"train": ["--run.steps", "9"], "eval": []}, "origin": {}}))
    run_cell(cell, where)
    assert "9" not in json.loads((run / "cell.json").read_text())["options"]["train"]
    assert not (run / "checkpoints").exists()


@pytest.mark.parametrize(("what", "count"), [("table4", 3 * (2 + 4 * 2)), ("ablations", 2 * len(ablations.VARIANTS))])
def test_a_finished_cell_is_not_run_again(tmp_path, started, capsys, what, count):
    words = [what, "--seeds", "2", "--out", str(tmp_path / "t"), "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    ran = len(started)
    files = sorted((tmp_path / "t/cells").iterdir())
    assert len(files) == count
    files[-1].unlink()
    assert main(words) == 0 and len(started) == ran + 1, "its training had ended"
    table = capsys.readouterr().out
    assert "rft+prior" in table and "over 2 seeds" in table
    for name in ("table.txt", "table.png", "reward.png"):
        assert (tmp_path / "t" / name).stat().st_size > 100


@pytest.mark.parametrize("taken", ["results", "runs/table4"])
def test_a_folder_that_another_process_holds_is_refused(tmp_path, started, capsys, taken):
    words = ["table4", "--seeds", "1", "--out", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    with held(tmp_path / taken, "mpcc.experiments"):
        assert main(words) == 1 and not started
    assert f"{tmp_path / taken} is in use by mpcc.experiments, process " in capsys.readouterr().err
    assert main(words) == 0 and started


def test_a_failed_cell_ends_the_command_with_one_line(tmp_path, monkeypatch, capsys):
    def fail(place, log, program, *words):
        raise RuntimeError(f"{program} failed")

    monkeypatch.setattr(cells, "_start", fail)
    assert main(["table4", "--out", str(tmp_path / "t"), "--runs", str(tmp_path / "runs")]) == 1
    assert capsys.readouterr().err == "mpcc.experiments: error: eval.py failed; the cells that are done are kept\n"


def test_a_program_that_fails_is_named_with_its_log(tmp_path):
    where = place(tmp_path, ranks=1)
    with pytest.raises(RuntimeError, match=r"train.py failed with exit code 2; see .*rft-0/log.txt"):
        run_cell(Cell("rft", "id", 0, "rft", ("--run.steps", "many")), where)
    assert "run.steps" in (where.runs / "id-rft-0/log.txt").read_text()


def test_an_option_that_does_not_exist_ends_before_anything_runs(tmp_path, started, capsys):
    with pytest.raises(SystemExit):
        main(["table4", "--out", str(tmp_path), "--", "--run.step", "3"])
    assert started == [] and "run.step" in capsys.readouterr().err


def test_cells_of_other_options_are_not_taken_for_these(tmp_path, started, capsys):
    words = ["table4", "--seeds", "1", "--out", str(tmp_path / "t"), "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    ran = len(started)
    assert main([*words, "--", "--run.steps", "60"]) == 1 and len(started) == ran
    assert "was made with other options" in capsys.readouterr().err
    for file in (tmp_path / "t/cells").iterdir():
        file.unlink()
    assert main([*words, "--", "--run.steps", "60"]) == 1, "nor are the models"
    assert "train.py" not in [program for program, _ in started[ran:]]


def test_several_cells_at_a_time_give_the_same_in_their_order(tmp_path, started):
    wanted = table4.cells(1)
    found = run_cells(wanted, place(tmp_path, jobs=4))
    assert [(r["row"], r["setting"]) for r in found] == [(c.row, c.setting) for c in wanted]


def test_a_single_run_has_no_whisker(tmp_path, monkeypatch):
    """A bar is a rectangle; a whisker would be a line container of its own."""
    from matplotlib.figure import Figure

    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, format: drawn.append(figure))
    once = {"mean": 30.0, "spread": 0.0, "n": 1}
    draw_bars(tmp_path / "a.png", {"base": {"id cho_e": once}, "rft": {"id cho_e": once | {"spread": 2.0, "n": 3}}},
              {"id cho_e": "ID"})
    draw_bars(tmp_path / "b.png", {"base": {"id cho_e": once}}, {"id cho_e": "ID"})
    with_spread, without = (figure.axes[0] for figure in drawn)
    assert [len(axes.collections) for axes in (with_spread, without)] == [1, 0]
    assert [label.get_text() for label in with_spread.get_yticklabels()] == ["base (one run)", "rft"]


def cell_of(row, seed, percent, **course):
    return {"row": row, "setting": "id", "seed": seed, "figures": {"cho_e": both(percent)}, "answers": {"blank": 2.0},
            "course": {"reward": [1.0, percent]} | course}


def test_mean_and_spread_are_over_seeds(tmp_path):
    results = [cell_of("rft", seed, p) for seed, p in enumerate((30.0, 36.0, 39.0))]
    found = summary(results)
    assert found["rft"]["id cho_e pooled"] == {"mean": 35.0, "spread": pytest.approx(21**0.5), "n": 3}
    assert "36.00 ± 4.58" in table4.render(found) and "66.42" in table4.render(found), "ID is the macro average"
    assert "35.00 ± 4.58" in table4.render(found), "and the pooled one is printed too"
    table4.draw(tmp_path, found, results)
    assert np.asarray(Image.open(tmp_path / "table.png").convert("L")).std() > 10
    assert "base (one run)  " in table4.render(summary([results[0] | {"row": "base"}, *results]))
    assert "one run each" in table4.render(summary(results[:1])) and "±" not in table4.render(summary(results[:1]))
    draw_courses(tmp_path / "one.png", results[:1], ("rft",))
    assert np.asarray(Image.open(tmp_path / "reward.png")).tobytes() != np.asarray(
        Image.open(tmp_path / "one.png")).tobytes()


def test_two_rows_are_compared_by_pairs_and_by_welch(tmp_path, capsys):
    (tmp_path / "cells").mkdir()
    for row, values in (("rft", (30.0, 36.0, 39.0)), ("sft", (35.0, 40.0, 45.0)), ("base", (20.0,))):
        for seed, value in enumerate(values):
            (tmp_path / f"cells/{row}{seed}.json").write_text(json.dumps(cell_of(row, seed, value)))
    assert main(["compare", str(tmp_path), "sft", "rft"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("id cho_e pooled"))
    # differences 5, 4, 6: mean 5, deviation 1, t(2) = 4.303; Welch: variances 25 and 21, 3.97 degrees, t = 2.784
    assert "+5.00 [+2.52, +7.48]" in line and "+5.00 [-5.90, +15.90]" in line
    for words, said in ((["sft", "none"], "no row is called 'none': choose from base, rft, sft"),
                        (["sft", "base"], "'sft' and 'base' have no figure of 2 seeds each: run more seeds")):
        assert main(["compare", str(tmp_path), *words]) == 1 and said in capsys.readouterr().err
    assert main(["compare", str(tmp_path / "cells"), "a", "b"]) == 1
    assert "holds no cells/*.json: name the folder of a comparison" in capsys.readouterr().err


def test_priors_are_compared_in_pairs_of_seeds(tmp_path, started, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").mkdir()
    assert main(["priors"]) == 1 and "priors needs --plain-base" in capsys.readouterr().err
    assert main(["priors", "--seeds", "2", "--plain-base", "plain"]) == 0
    assert {program for program, _ in started} == {"train.py"} and len(started) == 4 * 2 * 2
    by_case = [words for _, words in started]
    assert sum("plain" in words for words in by_case) == 4 and sum("runs/priors/permuted.json" in words
                                                                  for words in by_case) == 4
    told = capsys.readouterr().out
    assert "permuted names" in told and "+12.5 [+12.5, +12.5]" in told and "100 > 50" in told
    assert (tmp_path / "runs/experiments/priors/permuted_names.png").stat().st_size > 1000


def test_what_is_told_of_priors_is_what_the_kept_cells_say(tmp_path, capsys):
    kept = cells.CLONE / "mpcc/results"
    shutil.copytree(kept / "priors", tmp_path / "priors")
    assert main(["priors", "--out", str(tmp_path / "priors"), "--only-print"]) == 0
    assert (kept / "priors/table.txt").read_text() in capsys.readouterr().out
    said = (kept / "README.md").read_text(encoding="utf-8")
    for row in (kept / "priors/table.txt").read_text().splitlines()[3:]:
        case = next(name for name in priors.CASES if row.startswith(name))
        (told,) = (line for line in said.splitlines() if line.startswith(f"| {case} |"))
        assert set(re.findall(r"[\d.]+", told)) <= set(re.findall(r"[\d.]+", row)), case


def test_permuted_pairs_are_of_eight_names_called_otherwise_throughout(tmp_path):
    priors.write_permuted(tmp_path / "pairs.json")
    pairs = json.loads((tmp_path / "pairs.json").read_text())
    called = priors.permutation()
    assert len(called) == 8 == len(set(called.values())) and all(a != b for a, b in called.items())
    assert {pair["category_name"] for pair in pairs} == set(called) and len(pairs) > 200
    original = {(p["file_name"], tuple(p["bbox"])): p for p in
                json.loads((ensure_scenes() / "pairs_train2017.json").read_text())}
    for pair in pairs:
        real = original[pair["file_name"], tuple(pair["bbox"])]
        assert pair["category_name"] == called[real["category_name"]]
        assert pair["cot_data"].endswith(f"{pair['category_name']}.")
        told = " ".join(called.get(word.strip(".,"), word.strip(".,")) for word in real["cot_data"].split())
        assert told == pair["cot_data"].replace(".", "").replace(",", "")
    loaded = file_pairs(tmp_path / "pairs.json", Coco(ensure_scenes(), "train2017"))
    assert len(loaded) == len(pairs) and all(pair.trace for pair in loaded)
