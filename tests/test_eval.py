"""eval.py as a person starts it: tables, what it leaves behind, going on after a kill, ranks, bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from running import ROOT, evaluate, launch, lines
from small_benchmark import our_pair, their_pair
from small_coco import ANNOTATIONS, write_split

from mpcc.eval_options import read_options
from mpcc.formats import write_json, write_pairs
from mpcc.scenes import floors
from mpcc.task import MaskedPrediction
from mpcc.views import BLIND_KINDS, VIEWS

SHARED = ROOT.parent / "shared" / "data"
FEW = ("--limit", "6", "--no-blind", "--rollout.max_new_tokens", "24")


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """One evaluation of a few scenes with everything in it."""
    folder = tmp_path_factory.mktemp("scored")
    options = ("--limit", "10", "--against-generate", "2", "--json", "figures.json")
    done = launch(folder, *options, program="eval.py", ranks=1)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_tables_are_printed_and_everything_is_left_behind(scored):
    folder, done = scored
    out = folder / "runs/eval/model-limit10"
    detailed = (out / "tables.txt").read_text(encoding="utf-8")
    for text in ("model, base on 10 pairs", "model, reasoning on 10 pairs", "Cho.E", "said yes", "free-form, exact",
                 "all-black images, free", "said by rote", "right but not well formed", "paper, COCO: GPT-4o",
                 "OOD Cho.H", "cut off"):
        assert text in detailed, text
    for text in ("answers of at most 64 new tokens", "base: the chat template adds its own system prompt, 'You are a "
                 "helpful assistant.'", "reasoning: with the paper's system prompt", "free-form", "cut off", "OOD",
                 "said by rote", "Summary: percent right [95 % interval]", "tables.txt", "page.html", floors.told()):
        assert text in done.stdout, text
    assert max(map(len, done.stdout.splitlines())) <= 160 and len(done.stdout.splitlines()) <= 30
    left = {".lock", "answers", "answers.jsonl", "page.html", "scores.json", "tables.txt", "words.png"}
    assert {path.name for path in out.iterdir()} == left
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["base"]["tables"]["items"]["pooled"] == 10 and figures["model"].endswith("model")
    assert Image.open(out / "words.png").size[0] > 300 and "<html" in (out / "page.html").read_text()[:200]


def test_an_answer_holds_what_was_asked_and_how_it_was_read(scored):
    every = lines(scored[0] / "runs/eval/model-limit10", "answers")
    records, blind = [[r for r in every if (r["kind"] in BLIND_KINDS) is view] for view in (False, True)]
    assert len(records) == 2 * 10 * 10
    assert sum(r["kind"] == "free_elsewhere" for r in blind) == sum(r["kind"] == "free_black" for r in blind) == 20
    chosen = next(r for r in records if r["kind"] == "cho_h" and r["system"])
    assert all(isinstance(r["cut_off"], bool) for r in records)
    assert len(chosen["options"]) == 7 and chosen["options"]["ABCDEFG".index(chosen["truth"])] == chosen["answer"]
    assert f"A.{chosen['options'][0]} B.{chosen['options'][1]}" in chosen["prompt"] and chosen["completion"]
    assert {r["kind"] for r in records} == {"cho_e", "cho_h", "true_false", "free"}


def test_generate_gives_the_same_answers_one_question_at_a_time(scored):
    race = json.loads((scored[0] / "figures.json").read_text())["against_generate"]
    assert race["questions"] == 20 and race["same"] == 1.0
    assert "times as long" in scored[1].stdout


def test_two_ranks_give_the_same_answers_and_a_second_start_asks_nothing(scored, tmp_path):
    one = launch(tmp_path, *FEW, "--out", "one", program="eval.py", ranks=1)
    two = launch(tmp_path, *FEW, "--out", "two", program="eval.py")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    assert lines(tmp_path / "one", "answers") == lines(tmp_path / "two", "answers")
    journals = {path: path.read_bytes() for path in (tmp_path / "two/answers").rglob("*.jsonl")}
    assert len(journals) == 4 and all(journals.values())
    again = launch(tmp_path, *FEW, "--out", "two", program="eval.py", ranks=1)
    assert again.returncode == 0 and " pairs/s" in two.stderr and " pairs/s" not in again.stderr
    assert journals.items() <= {path: path.read_bytes() for path in (tmp_path / "two/answers").rglob("*.jsonl")}.items()
    assert "Cho.E" in again.stdout
    compared = launch(tmp_path, *FEW, "--out", "two", "--compare", "one", program="eval.py", ranks=1)
    assert compared.stdout.count("  minus one") == 2 and "+0.0 [+0.0, +0.0]" in compared.stdout
    assert "paired bootstrap" in (tmp_path / "two/tables.txt").read_text(encoding="utf-8")


NEEDS_BLINK = pytest.mark.skipif(not (SHARED / "blink").is_dir(), reason="needs the real BLINK items")
RESUMED = {"pairs": ("--limit", "100", "--no-blind", "--kinds", "cho_e,cho_h"),
           "blink": ("--blink", str(SHARED / "blink"), "--rollout.max_new_tokens", "8")}


@pytest.mark.parametrize("asked", ["pairs", pytest.param("blink", marks=NEEDS_BLINK)])
def test_a_killed_evaluation_goes_on_where_it_stopped(tmp_path, asked):
    options = (*RESUMED[asked], "--mode", "base")
    whole = launch(tmp_path, *options, "--out", "whole", program="eval.py", ranks=1)
    command = [sys.executable, str(ROOT / "eval.py"), *options, "--out", "cut"]
    running = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    name = next((tmp_path / "whole/answers").rglob("*.jsonl")).relative_to(tmp_path / "whole")
    journal, patience = tmp_path / "cut" / name, time.monotonic() + 60
    while not (journal.is_file() and journal.stat().st_size) and time.monotonic() < patience:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = journal.read_bytes()
    assert 0 < before.count(b"\n") < 100, "it was killed too late, or wrote nothing"
    with journal.open("ab") as torn:
        torn.write(b'{"id": "half a li')
    resumed = launch(tmp_path, *options, "--out", "cut", program="eval.py", ranks=1 if asked == "pairs" else 2)
    assert resumed.returncode == whole.returncode == 0, resumed.stderr
    assert journal.read_bytes().startswith(before) and b"half a li" not in journal.read_bytes()
    assert lines(tmp_path / "cut", "answers") == lines(tmp_path / "whole", "answers")


def test_answers_are_kept_for_the_same_model_and_question_only(small, score):
    asked = ("--benchmark", "benchmark.json", "--kinds", "free", "--no-blind", "--out", "out")
    kept = []
    for options in ((), (), ("--model.min_pixels", "6272"), ("--seed", "1"), ("--model.dtype", "float64")):
        _, error = score(*asked, *options)
        assert not error
        kept.append(len(list((small / "out/answers").iterdir())))
    assert kept == [1, 1, 2, 3, 4]


@pytest.fixture
def small(tmp_path):
    """A COCO folder of noise with a benchmark of two pairs beside it."""
    write_split(tmp_path, "val2017", ANNOTATIONS)
    pairs = [our_pair(), our_pair(id="b", file_name="3.png", bbox=[20, 20, 40, 40], category_name="stop sign",
                                  difficulty="easy", evidence=...)]
    write_pairs(tmp_path / "benchmark.json", "val2017", pairs)
    return tmp_path


@pytest.fixture
def score(small, monkeypatch, capsys, one_thread):
    """Runs eval.py in this process, in the folder of `small`; gives its output, or the one line that it ends with."""

    def start(*words, few=(*FEW[3:], "--mode", "base")):
        return evaluate(monkeypatch, capsys, small, *words, *few)

    return start


def test_our_benchmark_and_the_authors_file_are_read_as_they_are(small, score):
    out, error = score("--benchmark", "benchmark.json", "--halves", "coco", "--out", "ours")
    assert not error and "on 2 pairs of benchmark.json: greedy answers of at most 24 new tokens" in out
    detailed = (small / "ours/tables.txt").read_text(encoding="utf-8")
    assert "2 pairs: 1 hard, 0 moderate, 1 easy" in detailed and "ID Cho.E" in detailed
    theirs = {"hard": [their_pair()], "middle": [], "easy": []}
    (small / "theirs.json").write_text(json.dumps(theirs))
    out, error = score("--benchmark", "theirs.json", "--images", "val2017", "--out", "theirs", "--decoding", "authors")
    assert not error and "on 1 pairs of theirs.json: authors answers of at most 24 new tokens" in out
    kinds = [record["kind"] for record in lines(small / "theirs", "answers")]
    assert len(kinds) == 11 and kinds[10] == "free_black", "one picture without evidence has no other blind view"


def test_the_blind_views_are_asked_shown_and_compared(small, score):
    """All of it but for --no-blind, without which nothing blind is asked or compared."""
    asked = ("--benchmark", "benchmark.json", "--kinds", "cho_e,free", "--json", "figures.json")
    out, error = score(*asked, "--out", "one")
    figures = json.loads((small / "figures.json").read_text())["base"]
    blind = {view: rates["right_blind"]["percent"] for view, rates in figures["signatures"]["blindness"].items()}
    told = "no evidence {no_evidence:.1f}, elsewhere {elsewhere:.1f}, all black {black:.1f}".format(**blind)
    assert not error and f"right in the blind views: {told}" in out
    assert "free, no evidence" in out.partition("Summary")[2]
    for view in VIEWS:
        assert figures["tables"][f"free_{view}"]["pooled"]["n"] == (1 if view == "no_evidence" else 2)
        assert figures["signatures"]["blindness"][view]["right_blind"] == figures["tables"][f"free_{view}"]["pooled"]
    assert sum(r["kind"] in BLIND_KINDS for r in lines(small / "one", "answers")) == 5
    detailed = (small / "one/tables.txt").read_text(encoding="utf-8")
    assert "free, no evidence, n = 1" in detailed and "evidence filled, free-form: right 0.00" in detailed
    assert "free, elsewhere (base)" in (small / "one/page.html").read_text(encoding="utf-8")
    out, error = score(*asked, "--out", "two", "--compare", "one")
    compared = (small / "two/tables.txt").read_text(encoding="utf-8").partition("minus")[2]
    assert not error and "free, all black" in compared
    out, error = score(*asked, "--out", "three", "--compare", "one", "--no-blind")
    assert not error and "blind" not in out and "blindness" not in json.loads(
        (small / "figures.json").read_text())["base"]["signatures"]
    assert not any(r["kind"] in BLIND_KINDS for r in lines(small / "three", "answers"))
    _, error = score(*asked, "--out", "four", "--compare", "three")
    assert "only one has free_black of item" in error and "--no-blind and the benchmark must ask for no more" in error


def test_answers_that_the_limit_cut_off_are_counted_and_named(small, score):
    asked = ("--benchmark", "benchmark.json", "--kinds", "free", "--out", "out", "--json", "figures.json")
    out, error = score(*asked, few=("--no-blind", "--rollout.max_new_tokens", "2"))
    assert not error and "reasoning: cut off at 2 new tokens: 100.0 % of free-form; --rollout.max_new_tokens" in out
    figures = json.loads((small / "figures.json").read_text())
    assert figures["max_new_tokens"] == 2 and figures["reasoning"]["tables"]["free"]["cut_off"] == 100
    out, error = score(*asked, few=("--no-blind",))
    figures = json.loads((small / "figures.json").read_text())
    assert not error and "cut off at" not in out and figures["max_new_tokens"] == 64
    assert figures["reasoning"]["tables"]["free"]["cut_off"] == 0


@pytest.fixture
def trained(small, tmp_path_factory):
    """A run folder whose model was trained on the COCO folder `small`, with 20 new tokens."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(MaskedPrediction.default_model, folder / "model")
    config = f"[task]\ncoco = '{small}'\nhalf = 'id'\nhalves = 'coco'\n[rollout]\nmax_new_tokens = 20\n"
    (folder / "config.toml").write_text(config)
    return folder


def test_a_run_of_a_coco_folder_is_scored_on_that_folder_or_not_at_all(small, score, trained):
    few = ("--kinds", "free", "--no-blind", "--mode", "base", "--out", "out")
    for model in (trained, trained / "model"):
        out, error = score("--model", str(model), few=few)
        assert not error and f"2 pairs of {small}/benchmark.json: greedy answers of at most 20 new" in out
        assert " OOD " in out, "it was trained on one half"
    (small / "benchmark.json").rename(small / "other.json")
    _, error = score("--model", str(trained), few=few)
    assert "which holds no benchmark.json: name one with --benchmark FILE, score the folder's held-out" in error
    out, error = score("--model", str(trained), "--benchmark", "other.json", few=few)
    assert not error and "2 pairs of other.json" in out
    assert "brings its run's own config.toml" in score("--model", str(trained), "--config", "x.toml", few=few)[1]


def test_reasoning_of_any_other_model_gets_512_tokens(small, tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(MaskedPrediction.default_model, folder / "other")
    monkeypatch.chdir(folder)

    def limit(*words):
        return read_options(words)[1].rollout.max_new_tokens

    assert limit("--model", "other") == limit("--model", "org/model") == limit("--model.path", "other") == 512
    assert limit() == limit("--model", MaskedPrediction.default_model) == 64
    assert limit("--model", "other", "--rollout.max_new_tokens", "9") == 9
    (folder / "some.toml").write_text("[rollout]\nmax_new_tokens = 77\n")
    assert limit("--model", "other", "--config", "some.toml") == 77


def test_what_cannot_be_compared_is_said_before_the_model_is_loaded(small, score, monkeypatch):
    asked = ("--benchmark", "benchmark.json", "--kinds", "free,cho_e")
    assert not score(*asked, "--out", "one")[1]
    compared = ("--benchmark", "benchmark.json", "--kinds", "free", "--compare", "one", "--out", "two")
    out, error = score(*compared)
    assert not error and "minus one" in out, "fewer questions than there are compared"
    monkeypatch.setattr("eval.load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    for words, few, expected in (
        ((*compared[:2], *compared[4:]), ("--mode", "base"), "only one has cho_h of item"),
        (compared, ("--mode", "both"), "none of these questions was asked there in the mode reasoning (its modes: "),
        ((*compared, "--kinds", "cho_e"), ("--mode", "base", "--seed", "7"), "has other options; --kinds, --limit"),
    ):
        _, error = score(*words, few=few)
        assert error.startswith("eval.py: error: --compare one") and expected in error
    broken = small / "one/answers.jsonl"
    broken.write_text('{"id": "a"}\n')
    assert "line 1: an answer without 'completion'" in score(*compared)[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--benchmark", "gone.json"), "gone.json is missing"),
        (("--benchmark", "benchmark.json", "--images", "nowhere"), "nowhere is not a folder"),
        (("--benchmark", "benchmark.json", "--kinds", "cho_e,poetry"), "'poetry' is unknown"),
        (("--benchmark", "benchmark.json", "--kinds", "free,cho_e,free"), "--kinds free,cho_e,free names a kind twice"),
        (("--limit", "-5"), "--limit -5 must be at least 1, or 0 for all pairs"),
        (("--against-generate", "-1"), "--against-generate -1 must be at least 1, or 0 for none"),
        (("--against-generate", "1", "--decoding", "authors"), "compares greedy answers"),
        (("--task.coco", "/nonexistent"), "/nonexistent, which holds no benchmark.json: name one with --benchmark"),
        (("--task.system_prompt", "false"), "--mode base or reasoning says whether the system prompt is sent"),
        (("--task.half", "id"), "--task.half does not count for a benchmark: --halves NAME shows both halves"),
        (("--task.held_out=5",), "--task.held_out does not count for a benchmark: give --held-out"),
        (("--rollout.temperature", "0.7"), "--rollout.temperature does not count for a benchmark: answers are greedy"),
        (("--rollout.group_size", "4"), "--rollout.group_size does not count for a benchmark: it concerns training"),
        (("--grpo.beta", "0"), "--grpo.beta does not count for a benchmark: it concerns training"),
        (("--strategy", "rft"), "--strategy does not count for a benchmark: it concerns training"),
        (("--run.seed", "3"), "--run.seed does not count for a benchmark: give --seed"),
        (("--model", "a", "--model.path", "b"), "--model and --model.path name a model each"),
        (("--held-out",), "--mode does not count for held-out samples"),
        (("--blink", "val2017", "--kinds", "free"), "--kinds does not count for BLINK"),
        (("--task", "toy_task:ToyTask", "--benchmark", "b.json"), "does not count for held-out samples of ToyTask"),
        (("--benchmark", "benchmark.json", "--halves", "dogs.json"), "'stop sign' is in neither half of 'dogs.json'"),
        (("--benchmark", "benchmark.json", "--task.mask", "polygon"), "needs outlines, and a benchmark holds boxes"),
        (("--benchmark", "benchmark.json", "--compare", "nowhere"), "nowhere holds no answers.jsonl"),
        (("--benchmark", "benchmark.json", "--json", "nowhere/all.json"), "--json: folder nowhere does not exist"),
        (("--model", "./no/such/folder"), "no/such/folder does not exist"),
        (("--blink", "val2017"), "val2017 holds no NAME/val.jsonl"),
        (("--rollout.nonsense", "3"), "nonsense"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_half_written(small, score, words, expected):
    write_json(small / "dogs.json", {"format": "mpcc-halves", "version": 1, "id": ["dog"], "ood": []})
    _, error = score(*words, "--out", "out")
    assert error.startswith("eval.py: error: ") and expected in error
    assert not list(small.glob("out/*.json*")) and not list(small.glob("out/page.html"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"category_name": "dragon"}, "category_name 'dragon' is no category of the annotations"),
        ({"bbox": [10, 10, 400, 30]}, "lies outside its image"),
        ({"confusing": ["cat", "fox", "wolf", "sheep", "cow"]}, "confusing holds 5 names, not 4"),
        ({"file_name": "4.png"}, "4.png as an image"),
    ],
)
def test_an_unusable_item_is_named(small, score, change, expected):
    (small / "val2017/4.png").write_text("no image")
    write_pairs(small / "benchmark.json", "val2017", [our_pair(**change)])
    _, error = score("--benchmark", "benchmark.json", "--out", "out")
    assert expected in error and "benchmark.json" in error and "val2017/1.png#11" in error
    assert not (small / "out").exists()


@NEEDS_BLINK
def test_blink_runs_on_the_real_relative_depth_items(tmp_path):
    done = launch(tmp_path, "--blink", str(SHARED / "blink"), "--mode", "base", "--rollout.max_new_tokens", "8",
                  "--out", "blink", program="eval.py", ranks=1)
    assert done.returncode == 0, done.stderr
    assert "Relative Depth" in done.stdout and "124" in done.stdout and "paper: rft+prior" in done.stdout
    assert len(lines(tmp_path / "blink", "answers")) == 124
    assert (tmp_path / "blink/page.html").stat().st_size > 10**5


@NEEDS_BLINK
def test_the_seed_decides_what_is_sampled_about_blink(tmp_path, score):
    said = []
    shutil.copytree(SHARED / "blink/Relative_Depth/images", tmp_path / "blink/Relative_Depth/images")
    items = (SHARED / "blink/Relative_Depth/val.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "blink/Relative_Depth/val.jsonl").write_text("".join(items[:3]), encoding="utf-8")
    for out, seed in (("a", "1"), ("b", "2"), ("c", "1")):
        _, error = score("--blink", "blink", "--decoding", "authors", "--seed", seed, "--out", out)
        assert not error
        said.append([record["completion"] for record in lines(tmp_path / out, "answers")])
    assert said[0] == said[2] != said[1]
