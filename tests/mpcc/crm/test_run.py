"""eval.py --crm as a person starts it, in this process: on evidence, on other instances, twice, compared, refused."""

import json

import numpy as np
import pytest
from running import ROOT, evaluate, launch, lines
from small_benchmark import our_pair
from small_coco import ANNOTATIONS, pair, pairs_file, write_split
from small_visargs import write_visargs

from mpcc.eval_options import default_out, read_options
from mpcc.formats import write_pairs
from mpcc.task import MaskedPrediction

REAL = ROOT.parent / "shared" / "data" / "coco"
FEW = ("--rollout.max_new_tokens", "12", "--mode", "base")


@pytest.fixture
def small(tmp_path):
    """A COCO folder of noise with a benchmark of two pairs beside it, the second without evidence."""
    write_split(tmp_path, "val2017", ANNOTATIONS)
    pairs = [our_pair(), our_pair(id="b", bbox=[60, 5, 20, 20], category_name="stop sign", evidence=...)]
    write_pairs(tmp_path / "benchmark.json", "val2017", pairs)
    return tmp_path


@pytest.fixture
def score(small, monkeypatch, capsys, one_thread):
    """Runs eval.py in the folder of `small`; gives its output, or the one line that it ends with."""

    def start(*words):
        return evaluate(monkeypatch, capsys, small, *words, *FEW)

    return start


def test_evidence_is_masked_and_where_there_is_none_the_other_instances(small, score):
    out, error = score("--crm", "benchmark.json", "--out", "out", "--json", "figures.json", "--crm-samples", "1")
    assert not error and "masking regions one at a time, 2 pictures of benchmark.json" in out
    first, second = lines(small / "out", "crm")
    assert [region["names"] for region in first["regions"]] == [["leash"], ["bowl"]]
    assert [region["text"] for region in second["regions"]] == ["dog", "dog"], "what is hidden is no region"
    assert [region["relevant"] for region in second["regions"]] == [None, None]
    assert len(first["samples"]) == 3
    left = {".lock", "answers", "crm.jsonl", "page.html", "scores.json", "tables.txt"}
    assert {path.name for path in (small / "out").iterdir()} == left
    figures = json.loads((small / "figures.json").read_text())
    assert figures["items"] == 2 and set(figures["figures"]["sweep"]) and figures["fill"] == "mean"
    assert (small / "out/tables.txt").read_text() in out


def test_a_second_start_asks_nothing_and_is_compared_with_the_first(small, score, monkeypatch):
    assert not score("--crm", "benchmark.json", "--out", "out")[1]
    before = lines(small / "out", "crm")
    monkeypatch.setattr("mpcc.crm.measure.measure", lambda *_: pytest.fail("it was asked again"))
    out, error = score("--crm", "benchmark.json", "--out", "out", "--compare", "out", "--crm-kept", "0.6")
    assert not error and lines(small / "out", "crm") == before
    scores = json.loads((small / "out/scores.json").read_text())
    assert scores["thresholds"] == {"kept": 0.6, "collapsed": 0.5}
    assert scores["compared"].keys() == scores["figures"].keys() - {"sweep"}
    assert all(gap["difference"] == 0 for gap in scores["compared"].values())


def test_two_ranks_have_the_records_of_one(small):
    words = ("--crm", "benchmark.json", *FEW, "--out")
    one = launch(small, *words, "one", program="eval.py", ranks=1)
    two = launch(small, *words, "two", program="eval.py")
    assert one.returncode == two.returncode == 0, one.stderr + two.stderr
    for a, b in zip(lines(small / "one", "crm"), lines(small / "two", "crm"), strict=True):
        assert [a[key] for key in ("id", "own", "masked", "controls", "regions")] == [
            b[key] for key in ("id", "own", "masked", "controls", "regions")]
        assert np.allclose(a["scored"]["delta"], b["scored"]["delta"], atol=1e-4), "other batches, other rounding"
    assert len(list((small / "two/answers").rglob("*.jsonl"))) == 2


def test_pairs_of_training_are_read_too(small, score):
    pairs_file(small / "pairs.json", pair(), pair(file_name="3.png", bbox=[20, 20, 40, 40], category_name="stop sign"))
    out, error = score("--crm", "pairs.json", "--images", "val2017", "--crm-fill", "blur", "--out", "out")
    assert not error and len(lines(small / "out", "crm")) == 1, "the second has nothing but what is hidden, and a crowd"


@pytest.mark.skipif(not (REAL / "val2017").is_dir(), reason="the real COCO images are not here")
def test_real_images_of_coco_run_to_the_page_with_their_other_instances_as_regions(small, score):
    """A handbag is hidden: its bench, whose box holds it, is no region, and the people far behind are too small."""
    pairs_file(small / "pairs.json", pair(file_name="000000349184.jpg", bbox=[233, 286, 28, 153],
                                          category_name="handbag"))
    out, error = score("--crm", "pairs.json", "--images", str(REAL / "val2017"), "--out", "out")
    (record,) = lines(small / "out", "crm")
    assert not error and (small / "out/page.html").is_file() and record["size"] == [428, 640]
    assert [region["text"] for region in record["regions"]] == ["person"]


def test_visargs_runs_to_its_page_with_the_annotated_steps_as_truth(small, score):
    file = write_visargs(small)
    out, error = score("--crm", str(file), "--out", "out", "--limit", "3")
    records = lines(small / "out", "crm")
    assert not error and [len(record["regions"]) for record in records] == [2, 3, 1]
    assert all(record["scored"]["annotated"] for record in records)
    figures = json.loads((small / "out/scores.json").read_text())["figures"]
    assert figures["hit@1, step"]["n"] == 4 and (small / "out/page.html").is_file()


@pytest.mark.parametrize(("words", "expected"), [
    (("--crm", "benchmark.json", "--blink", "x"), "--crm and --blink are two evaluations: give one of the two"),
    (("--crm", "benchmark.json", "--halves", "coco"), "--halves does not count for regions"),
    (("--crm", "benchmark.json", "--compare", "nowhere"), "--compare nowhere: it holds no crm.jsonl"),
    (("--crm", "benchmark.json", "--crm-samples", "-1"), "--crm-samples -1 must be at least 1, or 0 for none"),
    (("--crm", "benchmark.json", "--crm-kept", "1.5"), "--crm-kept 1.5 is no share: give 0 to 1"),
    (("--crm", "benchmark.json", "--task.mask", "polygon"), "mask = 'polygon' needs outlines, and --crm takes boxes"),
    (("--crm", "missing.json"), "missing.json is missing"),
    (("--crm-fill", "blur"), "--crm-fill does not count for a benchmark"),
])
def test_what_cannot_be_done_is_one_line_before_the_model_is_loaded(score, monkeypatch, words, expected):
    monkeypatch.setattr("eval.load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    out, error = score(*words)
    assert not out and expected in error


def test_pairs_without_a_region_are_refused(small, score):
    write_pairs(small / "bare.json", "val2017", [our_pair(evidence=..., file_name="3.png", bbox=[20, 20, 40, 40])])
    assert "bare.json: no pair has a region to mask: give pairs evidence, or annotations as" in score(
        "--crm", "bare.json")[1]


def test_what_is_asked_otherwise_has_a_folder_of_its_own(small, monkeypatch):
    monkeypatch.chdir(small)

    def name(*words):
        return default_out(read_options(words)[0], MaskedPrediction.default_model).name

    assert name("--crm") == "model-crm"
    assert name("--crm", "--crm-fill", "blur", "--limit", "3", "--crm-samples", "2") == "model-crm-limit3-blur-samples2"
    assert name("--crm", "benchmark.json").startswith("model-crm-benchmark-")
    assert name("--crm", "--crm-kept", "0.7") == "model-crm"
