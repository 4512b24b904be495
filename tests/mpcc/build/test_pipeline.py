"""`python -m mpcc.build` from annotations to a benchmark: what it writes, says, keeps and refuses."""

import json
import os
import shutil
from collections import Counter

import pytest
from PIL import Image

from minigrpo.files import held
from mpcc.benchmark import read_benchmark
from mpcc.build.respondents import respondent
from mpcc.build.store import STAGES, stage_path
from mpcc.coco import Coco
from mpcc.formats import read_pairs
from mpcc.pairs import file_pairs


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*") if path.is_file()}


def test_all_stages_give_a_benchmark_and_training_pairs(build, endpoint, coco, out):
    code, said, _ = build("all", "--respondent", endpoint.spec, "--authors")
    assert code == 0
    assert [p.name for p in sorted(out.glob("[0-9]-*.json"))] == [stage_path(out, s).name for s in STAGES]
    benchmark = read_benchmark(out / "benchmark.json", coco / "val2017")
    train = file_pairs(out / "train.json", Coco(coco, "val2017"))
    assert len(benchmark.items) > 2 and len(train) > 2
    assert not {item.file_name for item in benchmark.items} & {pair.image.file_name for pair in train}
    # the scripted traces that say "as mentioned" or are not followed are gone, the others are there
    traces = [pair.trace for pair in train] + [item.trace for item in benchmark.items]
    assert {trace[:36] for trace in traces if trace} == {"The things around it, beside it, sug"}
    assert all(f"It is a {pair.answer}." in pair.trace for pair in train if pair.trace)
    theirs = read_benchmark(out / "benchmark-authors.json").items
    assert {(i.answer, i.confusing, i.irrelevant) for i in theirs} == {
        (i.answer, i.confusing, i.irrelevant) for i in benchmark.items}
    assert len(read_pairs(out / "train-authors.json")[1]) == len(train)
    assert 'id="' in (out / "curate.html").read_text(encoding="utf-8")
    assert f"split: test {len(benchmark.items)} pairs" in said


def test_the_summary_counts_what_was_dropped_and_why(build, endpoint, out):
    _, said, progress = build("all", "--respondent", endpoint.spec)
    assert all(any(line.startswith(f"{s} ") or line.startswith(f"{s}: ") for line in progress.splitlines())
               for s in STAGES), "a progress line of every stage"
    kept = {s: json.loads(stage_path(out, s).read_text(encoding="utf-8")) for s in STAGES}
    assert f"candidates: kept {len(kept['candidates']['pairs'])} of 24 in " in said
    dropped = len(kept["candidates"]["pairs"]) - len(kept["screen"]["pairs"])
    assert dropped > 0 and f"  dropped {dropped}: rated below 3" in said
    assert len(kept["screen"]["dropped"]) == dropped
    reasons = Counter(kept["traces"]["notes"].values())
    assert reasons.keys() == {"no trace: it reveals that the answer was told",
                              "no trace: the verifier, told all but its last sentence, does not find the answer"}
    assert all(f"  noted {count}: {reason}" in said for reason, count in reasons.items())
    assert sum("trace" not in pair for pair in kept["traces"]["pairs"]) == reasons.total()
    assert "the judge checks its own traces" in said


def test_a_second_model_checks_the_traces_without_their_last_sentence(build, endpoint, out):
    assert build("all", "--respondent", endpoint.spec)[0] == 0
    own = json.loads((out / "5-traces.json").read_text(encoding="utf-8"))
    second = endpoint.spec.replace("scripted", "second")
    asked, endpoint.script = len(endpoint.bodies), lambda question, image: "<answer>kites</answer>"
    code, said, _ = build("traces", "--respondent", endpoint.spec, "--verifier", second)
    assert code == 0 and "traces: verifier was" in said and "checks its own" not in said
    checks = endpoint.bodies[asked:]
    texts = [body["messages"][-1]["content"][1]["text"] for body in checks]
    assert {body["model"] for body in checks} == {"second"}, "the traces are not written again"
    assert all("The things around it, beside it, suggest number" in text and "It is a" not in text for text in texts)
    pairs = json.loads((out / "5-traces.json").read_text(encoding="utf-8"))["pairs"]
    assert len(pairs) == len(own["pairs"]) > len(checks) > 3 and not any("trace" in pair for pair in pairs)
    assert build("traces", "--respondent", endpoint.spec, "--respondent", second)[1].startswith("traces: already done")


@pytest.mark.parametrize(("words", "expected"), [
    (("--samples", "0"), "samples must be at least 1"),
    (("--samples", "3"), "3 samples at temperature 0 are all the same"),
    (("--temperature", "nan"), "the temperature at least 0"),
    (("--max-new-tokens", "0"), "max_new_tokens and samples must be at least 1"),
    (("--test-share", "2"), "--test-share 2.0 must lie between 0 and 1"),
    (("--halves", "nowhere.json"), "nowhere.json is missing"),
    (("--min-area", "0.9"), "0 <= min_area < max_area <= 1"),
    (("--retries", "-1"), "retries 0 or more"),
    (("--timeout", "nan"), "timeout must be above 0"),
    (("--parallel", "0"), "parallel at least 1"),
    (("--decisions", "gone.json"), "--decisions gone.json: there is no such file"),
])
def test_an_impossible_value_is_refused_before_any_stage_begins(build, endpoint, out, words, expected):
    code, said, complaint = build("all", "--respondent", endpoint.spec, *words)
    assert code == 1 and complaint.startswith("mpcc.build: error: ") and expected in complaint
    assert not endpoint.bodies and not said and not out.exists()


def test_finished_stages_are_not_run_again(build, endpoint, out):
    build("all", "--respondent", endpoint.spec)
    before = files(out)
    asked = len(endpoint.bodies)
    code, said, _ = build("all", "--respondent", endpoint.spec)
    assert code == 0 and said.count("already done") == len(STAGES)
    assert len(endpoint.bodies) == asked
    assert files(out) == before


def test_a_changed_setting_makes_its_stage_and_those_after_it_anew_without_asking_again(build, endpoint):
    build("all", "--respondent", endpoint.spec, "--threshold", 2)
    asked = len(endpoint.bodies)
    _, said, _ = build("all", "--respondent", endpoint.spec, "--threshold", 5)
    assert "candidates: already done" in said
    assert "screen: threshold was 2, is 5; made anew" in said
    assert "difficulty: input changed; made anew" in said
    assert len(endpoint.bodies) == asked


def test_a_changed_annotation_file_is_noticed(build, coco):
    build("candidates")
    path = coco / "annotations" / "instances_val2017.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["annotations"][0]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert "candidates: annotations changed; made anew" in build("candidates")[1]


def test_a_lost_output_is_written_again(build, endpoint, out):
    build("all", "--respondent", endpoint.spec)
    content = (out / "train.json").read_bytes()
    (out / "train.json").unlink()
    assert "split: a file that it writes is missing; made anew" in build("split")[1]
    assert (out / "train.json").read_bytes() == content


def test_two_runs_elsewhere_give_the_same_files(build, endpoint, out, tmp_path):
    build("all", "--respondent", endpoint.spec, "--parallel", 8)
    build("all", "--respondent", endpoint.spec, "--parallel", 1, out=tmp_path / "again")
    assert files(out) == files(tmp_path / "again")


def test_what_replies_cut_off_left_open_is_asked_again_by_the_next_run(build, endpoint, out, tmp_path):
    build("all", "--respondent", endpoint.spec, out=tmp_path / "healthy")
    cut = json.dumps({"choices": [{"message": {"content": "Rating: 1"}, "finish_reason": "length"}]})
    endpoint.fail = lambda number: (200, "application/json", cut, 0) if number >= after else None
    after = len(endpoint.bodies) + 3
    build("candidates")
    code, said, _ = build("screen", "--respondent", endpoint.spec, "--parallel", 1, "--retries", 0)
    total = len(json.loads((out / "1-candidates.json").read_text(encoding="utf-8"))["pairs"])
    assert code == 0 and f"dropped {total - 3}: not answered" in said
    assert f"screen: {total - 3} questions were not answered; start it again" in said
    endpoint.fail, asked = None, len(endpoint.bodies)
    said = build("screen", "--respondent", endpoint.spec)[1]
    assert said.startswith(f"screen: {total - 3} questions were not answered; made anew")
    assert len(endpoint.bodies) - asked == total - 3
    assert build("screen", "--respondent", endpoint.spec)[1].startswith("screen: already done")
    assert build("all", "--respondent", endpoint.spec)[0] == 0 and files(out) == files(tmp_path / "healthy")


def test_a_judge_that_cannot_rate_is_named_with_what_it_said(build, endpoint, out):
    endpoint.script = lambda question, image: "It is a\nlovely picture."
    code, said, complaint = build("all", "--respondent", endpoint.spec)
    assert code == 1 and complaint.splitlines()[-1].startswith("mpcc.build: error: screen: no pair is left (")
    assert "rating unreadable); about val2017/" in complaint
    assert f"{endpoint.spec} said 'It is a lovely picture.'; nothing was written" in complaint
    assert not (out / "2-screen.json").exists()


def test_an_image_or_a_program_that_changed_is_noticed(build, endpoint, coco, out, monkeypatch):
    build("all", "--respondent", endpoint.spec)
    asked, shown = len(endpoint.bodies), json.loads((out / "1-candidates.json").read_text(encoding="utf-8"))["pairs"]
    name = shown[0]["file_name"]
    Image.effect_noise((100, 80), 90).convert("RGB").save(coco / "val2017" / name)
    code, said, _ = build("screen", "--respondent", endpoint.spec)
    assert code == 0 and "screen: images changed; made anew" in said
    assert len(endpoint.bodies) - asked == sum(pair["file_name"] == name for pair in shown)
    asked = len(endpoint.bodies)
    monkeypatch.setattr("mpcc.build.stages._program", lambda: "another")
    assert "screen: program changed; made anew" in build("screen", "--respondent", endpoint.spec)[1]
    assert len(endpoint.bodies) == asked


def test_a_model_folder_whose_content_changed_is_noticed(tmp_path, monkeypatch):
    seen = set()
    for file in ("model.safetensors", "tokenizer.json", "chat_template.jinja", "preprocessor_config.json"):
        for text in "ab":
            (tmp_path / file).write_text(text)
            os.utime(tmp_path / file, (1, 1))  # of the same size and time
            monkeypatch.setattr("mpcc.digests._known", {})  # as in a process of its own
            seen.add(respondent(f"local:{tmp_path}").identity)
    assert len(seen) == 8
    (tmp_path / "README.md").write_text("no part of it")
    assert respondent(f"local:{tmp_path}").identity in seen


def test_a_folder_that_another_process_holds_is_refused(build, endpoint, out):
    with held(out, "mpcc.build"):
        code, said, complaint = build("all", "--respondent", endpoint.spec)
    assert code == 1 and not said and not endpoint.bodies
    assert f"error: {out} is in use by mpcc.build, process " in complaint and ", since 2" in complaint
    assert build("all", "--respondent", endpoint.spec)[0] == 0


def test_the_key_is_in_no_file_and_no_line(build, endpoint, out, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    plain = endpoint.script
    endpoint.script = lambda question, image: f"{plain(question, image)}\nBearer sk-very-secret"
    shown = build("all", "--respondent", endpoint.spec)
    endpoint.fail = lambda number: (401, "application/json", '{"error": "bad key sk-very-secret"}', 0)
    shown += build("all", "--respondent", endpoint.spec, "--max-new-tokens", 99)
    assert shown[0] == 0 and shown[3] == 1 and "HTTP 401" in shown[5]
    assert endpoint.bodies[0]["key"] == "Bearer sk-very-secret" and "secret" not in "".join(map(str, shown))
    assert not [path for path in out.rglob("*") if path.is_file() and b"very-secret" in path.read_bytes()]


def test_the_seed_changes_the_choice(build, tmp_path):
    build("candidates", out=tmp_path / "0")
    build("candidates", "--seed", 1, out=tmp_path / "1")
    chosen = [(tmp_path / seed / "1-candidates.json").read_text(encoding="utf-8") for seed in "01"]
    assert json.loads(chosen[0])["pairs"] != json.loads(chosen[1])["pairs"]


def test_decisions_are_applied(build, endpoint, out, tmp_path):
    build("all", "--respondent", endpoint.spec)
    pairs = json.loads((out / "5-traces.json").read_text(encoding="utf-8"))["pairs"]
    first, second = pairs[0]["id"], pairs[1]
    level = "easy" if second["difficulty"] != "easy" else "hard"
    decisions = {first: {"action": "drop"}, second["id"]: {"action": "relabel", "difficulty": level}}
    file = tmp_path / "decisions.json"
    file.write_text(json.dumps({"format": "mpcc-decisions", "version": 1, "decisions": decisions}), encoding="utf-8")
    code, said, _ = build("curate", "--decisions", file)
    assert code == 0 and "dropped 1: dropped by hand" in said and "noted 1: relabelled" in said
    after = json.loads((out / "6-curate.json").read_text(encoding="utf-8"))["pairs"]
    assert first not in [pair["id"] for pair in after]
    assert next(pair for pair in after if pair["id"] == second["id"])["difficulty"] == level
    assert "split: input changed; made anew" in build("split")[1]
    benchmark = (out / "benchmark.json").read_bytes()
    assert build("all", "--respondent", endpoint.spec)[0] == 0 and (out / "benchmark.json").read_bytes() != benchmark
    assert build("split", "--decisions", file)[0] == 0, "the last stage applies them too"
    assert (out / "benchmark.json").read_bytes() == benchmark


def test_broken_decisions_change_nothing(build, endpoint, out, tmp_path):
    build("all", "--respondent", endpoint.spec)
    before = files(out)
    (tmp_path / "d.json").write_text('{"format": "mpcc-dec', encoding="utf-8")
    code, _, complaint = build("curate", "--decisions", tmp_path / "d.json")
    assert code == 1 and "d.json is not whole JSON" in complaint
    assert files(out) == before


def test_missing_labels_are_kept_for_curation_and_refused_by_the_split(build, endpoint, out):
    script = endpoint.script
    endpoint.script = lambda question, image: "I cannot say." if "Which kind" in question else script(question, image)
    code, said, complaint = build("all", "--respondent", endpoint.spec)
    pairs = json.loads((out / "6-curate.json").read_text(encoding="utf-8"))["pairs"]
    assert f"noted {len(pairs)}: kind unreadable, to be labelled in curation" in said
    assert pairs[0]["id"] in said and pairs[0]["difficulty"] is None
    assert code == 1 and "6-curate.json: " in complaint and "pairs of the benchmark lack difficulty: val" in complaint
    assert not (out / "benchmark.json").exists() and not (out / "train.json").exists()
    assert build("split", "--test-share", 0)[0] == 0  # training needs no label


def test_other_halves(build, endpoint, out, tmp_path):
    build("all", "--respondent", endpoint.spec)
    halves = tmp_path / "halves.json"
    halves.write_text(json.dumps({"format": "mpcc-halves", "version": 1, "id": ["dog"], "ood": ["car"]}))
    code, _, complaint = build("split", "--halves", halves)
    assert code == 1 and "is in neither half of the categories" in complaint
    assert f"mpcc.build: error: {out / '6-curate.json'}: pair val2017/" in complaint
    code, said, _ = build("split", "--halves", "scenes")
    assert code == 0 and "split: halves changed; made anew" in said


def test_no_output_of_another_split_is_left(build, endpoint, out):
    build("all", "--respondent", endpoint.spec, "--authors")
    assert build("split", "--test-share", 1)[0] == 0
    assert sorted(path.name for path in out.glob("[a-z]*.json")) == ["benchmark.json"]
    everything = len(json.loads((out / "6-curate.json").read_text(encoding="utf-8"))["pairs"])
    assert len(read_benchmark(out / "benchmark.json").items) == everything
    assert build("split", "--test-share", 0)[0] == 0
    assert sorted(path.name for path in out.glob("[a-z]*.json")) == ["train-id.json", "train.json"]


ERRORS = {
    ("screen",): "no model to ask: name one with --respondent",
    ("screen", "--respondent", "local:nowhere"): "local:nowhere: there is no such folder",
    ("screen", "--respondent", "gpt"): "respondent 'gpt' is neither local:FOLDER nor api:MODEL@http://HOST:PORT/v1",
    ("screen", "--respondent", "api:m@ftp://x"): "neither local:FOLDER nor api:",
    ("all", "--respondent", "api:m@http://x", "--respondent", "api:m@http://x"): "named twice",
    ("all", "--respondent", "api:m@http://x", "--judge", "local:nowhere"): "local:nowhere: there is no such folder",
    ("candidates", "--split", "none"): "instances_none.json is missing",
    ("candidates", "--min-area", "0.9"): "0 <= min_area < max_area <= 1",
    ("candidates", "--per-image", "-1"): "per_image = -1 must be 0 (all) or more",
    ("split",): "6-curate.json is missing: run the stage 'curate' first",
    ("split", "--test-share", "2"): "--test-share 2.0 must lie between 0 and 1",
    ("split", "--halves", "nowhere.json"): "nowhere.json is missing: name coco, scenes or a halves file",
    ("curate", "--decisions", "nowhere.json"): "--decisions nowhere.json: there is no such file",
}


@pytest.mark.parametrize(("words", "message"), ERRORS.items())
def test_bad_options_end_in_one_line(build, out, words, message):
    code, _, complaint = build(*words)
    assert code == 1
    assert complaint.startswith("mpcc.build: error: ") and complaint.count("\n") == 1
    assert message in complaint
    assert not any(out.glob("*.json"))


def test_several_equal_samples_are_refused(build, endpoint):
    build("candidates")
    for stage in ("screen", "difficulty"):
        assert build(stage, "--respondent", endpoint.spec)[0] == 0
    code, _, complaint = build("distractors", "--respondent", endpoint.spec, "--samples", 3)
    assert code == 1 and "3 samples at temperature 0 are all the same" in complaint


def test_another_split_or_a_foreign_file_is_refused(build, coco, out):
    build("candidates")
    shutil.copy(coco / "annotations" / "instances_val2017.json", coco / "annotations" / "instances_other.json")
    code, _, complaint = build("screen", "--split", "other", "--respondent", "api:m@http://x")
    assert code == 1 and "1-candidates.json is of val2017, not of other" in complaint
    shutil.copy(out / "1-candidates.json", out / "2-screen.json")
    code, _, complaint = build("difficulty", "--respondent", "api:m@http://x")
    assert code == 1 and "2-screen.json is not a file of the stage 'screen'" in complaint
    (out / "1-candidates.json").write_text('{"format": "mpcc-pairs", "ver', encoding="utf-8")
    code, _, complaint = build("screen", "--respondent", "api:m@http://x")
    assert code == 1 and "1-candidates.json is not whole JSON" in complaint


def test_a_broken_image_stops_the_stage_with_its_name(build, endpoint, coco, out):
    build("candidates")
    (coco / "val2017" / "3.png").write_bytes(b"no image")
    code, _, complaint = build("screen", "--respondent", endpoint.spec)
    assert code == 1 and "cannot read" in complaint and "3.png" in complaint
    assert not (out / "2-screen.json").exists()
    assert any((out / "answers").iterdir())
