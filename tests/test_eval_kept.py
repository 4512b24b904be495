"""What eval.py goes on from, and what it asks anew; which folders it writes into, and who else may not."""

import json
import shutil

import pytest
from PIL import Image
from running import lines
from test_eval import score, small  # noqa: F401  fixtures

from minigrpo.files import held
from mpcc.eval_options import default_out, read_options
from mpcc.task import MaskedPrediction

ASKED = ("--benchmark", "benchmark.json", "--kinds", "free", "--no-blind", "--out", "out")
BLINK = ("--blink", "blink", "--out", "out")


@pytest.fixture
def start(small, score, monkeypatch):  # noqa: F811
    """Runs eval.py as a process of its own would, which knows no file yet; gives its output and the error."""

    def begin(*words):
        monkeypatch.setattr("mpcc.digests._known", {})
        return score(*words)

    return begin


@pytest.fixture
def blink(small):  # noqa: F811
    """Six made-up items of BLINK, each with an image of its own."""
    folder = small / "blink"
    folder.mkdir()
    items = [{"idx": f"val_{i}", "sub_task": "Relative_Depth", "question": "Which?", "choices": ["A is", "B is"],
              "answer": "(A)", "prompt": f"Which of {i}?\n(A) A is\n(B) B is", "image_1": f"{i}.png"} for i in range(6)]
    for i in range(6):
        Image.effect_noise((60, 60), 40 * i + 5).convert("RGB").save(folder / f"{i}.png")
    return folder / "val.jsonl", [json.dumps(item) + "\n" for item in items]


def test_what_lies_under_the_same_name_is_asked_anew_when_its_content_changed(small, start):  # noqa: F811
    model = small / "copy"
    shutil.copytree(MaskedPrediction.default_model, model)

    def kept():
        _, error = start(*ASKED, "--model", "copy")
        assert not error
        return len(list((small / "out/answers").iterdir()))

    assert (kept(), kept()) == (1, 1)
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    assert (kept(), kept()) == (2, 2)
    for count, (name, old, new) in enumerate((("chat_template.jinja", "helpful", "hopeful"),
                                              ("tokenizer_config.json", "\n", "\n\n")), start=3):
        (model / name).write_text((model / name).read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        assert kept() == count, name
    Image.effect_noise((100, 80), 90).convert("RGB").save(small / "val2017/3.png")
    assert (kept(), kept()) == (5, 5)
    model.rename(small / "moved")
    assert not start(*ASKED, "--model", "moved")[1] and len(list((small / "out/answers").iterdir())) == 5


def test_verdicts_are_todays_and_nothing_is_asked_again(small, start, monkeypatch):  # noqa: F811
    assert not start(*ASKED)[1]
    before = lines(small / "out", "answers")
    monkeypatch.setattr("mpcc.evaluation.generate", lambda *_, **__: pytest.fail("the model was asked"))
    monkeypatch.setattr("mpcc.questions.parse_free", lambda text: "stop sign")
    assert not start(*ASKED)[1]
    after = lines(small / "out", "answers")
    assert [r["completion"] for r in after] == [r["completion"] for r in before]
    assert [r["right"] for r in after] == [r["answer"] == "stop sign" for r in after] != [r["right"] for r in before]
    journal = next((small / "out/answers").rglob("*.jsonl"))
    assert set(json.loads(journal.read_text().splitlines()[0])) == {"id", "completion", "cut_off"}


@pytest.mark.parametrize("line", ['{"completion": "x", "cut_off": false}', '{"id": 3, "completion": "x", "cut_off": 0}',
                                  '{"id": "a", "completion": null, "cut_off": false}', "[]"])
def test_a_kept_line_that_is_no_answer_is_named(small, start, line):  # noqa: F811
    assert not start(*ASKED)[1]
    journal = next((small / "out/answers").rglob("*.jsonl"))
    journal.write_text(journal.read_text() + line + "\n")
    _, error = start(*ASKED)
    assert error.startswith("eval.py: error: out/answers/") and ".jsonl: line 3" in error and "remove it" in error


def test_answers_about_blink_stay_with_their_items(small, start, blink, monkeypatch):  # noqa: F811
    file, items = blink
    file.write_text("".join(items))
    assert not start(*BLINK)[1]
    whole = {r["id"]: r["completion"] for r in lines(small / "out", "answers")}
    assert len(whole) == 6
    journal = next((small / "out/answers").glob("*.jsonl"))
    kept = journal.read_text().splitlines(keepends=True)
    # as two processes leave it: out of order, some twice, one missing, one torn
    journal.write_text("".join([kept[4], kept[0], kept[4], kept[5], kept[1], kept[2]]) + kept[3][:20])
    file.write_text("".join(items[::-1]))
    assert not start(*BLINK)[1]
    again = lines(small / "out", "answers")
    assert [r["id"] for r in again] == list(whole)[::-1] and {r["id"]: r["completion"] for r in again} == whole
    assert len(journal.read_text().splitlines()) == 7, "the missing one was asked, and no other"
    Image.effect_noise((60, 60), 99).convert("RGB").save(file.parent / "2.png")
    assert not start(*BLINK)[1] and len(list((small / "out/answers").iterdir())) == 2


@pytest.mark.parametrize("asked", [ASKED, BLINK], ids=["pairs", "blink"])
def test_a_folder_that_another_process_holds_is_refused_before_the_model_is_loaded(
        small, start, blink, monkeypatch, asked):  # noqa: F811
    file, items = blink
    file.write_text("".join(items))
    monkeypatch.setattr("eval.load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    with held(small / "out", "eval.py"):
        _, error = start(*asked)
    assert error.startswith("eval.py: error: out is in use by eval.py, process ") and ", since 2" in error


def test_the_default_folder_differs_for_what_differs(small, monkeypatch):  # noqa: F811
    monkeypatch.chdir(small)
    for name in ("runs/001", "other/001"):
        shutil.copytree(MaskedPrediction.default_model, small / name / "model")
        (small / name / "config.toml").write_text("[task]\nmask = 'box_hard'\n")
    shutil.copy(small / "benchmark.json", small / "val2017/benchmark.json")

    def out(line):
        options, config, task = read_options(line.split())
        return str(default_out(options, config.model.path or task.default_model))

    assert out("") == out("--seed 0 --task.mask box --halves coco --compare x") == "runs/eval/model"
    assert out("--model runs/001") == out("--model runs/001/model --task.mask box_hard") == "runs/eval/001"
    assert out("--limit 40 --kinds free,cho_e") == "runs/eval/model-free+cho_e-limit40"
    asked = ("--limit 40", "--limit 41", "--seed 1", "--kinds free", "--mode base", "--no-blind", "--decoding authors",
             "--task.mask box_hard", "--task.fill mean", "--rollout.max_new_tokens 24", "--model.max_pixels 9999",
             "--model.dtype float64", "--benchmark benchmark.json", "--benchmark val2017/benchmark.json",
             "--benchmark benchmark.json --images val2017", "--blink val2017", "--blink .", "--model other/001",
             "--model other/001/model --limit 40", "--model org/model", "--model another/model", "--task.coco .",
             "--model runs/001 --task.mask box", "")
    assert len({out(line) for line in asked}) == len(asked)
