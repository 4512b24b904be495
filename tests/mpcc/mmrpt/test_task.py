"""The task: samples with a gap, the visual term by the reference, the evaluation, what it refuses, and a run."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from running import lines, result
from small_coco import write_split

from minigrpo import Completion, Sample, group_advantages
from mpcc.mmrpt.captions import CocoCaptions
from mpcc.mmrpt.dependency import FORMAT, VERSION
from mpcc.mmrpt.spans import parts_of
from mpcc.mmrpt.task import MMRPT, Config
from mpcc.prompts import SYSTEM_PROMPT, completion


def task(**options):
    return MMRPT(Config(**options))


def test_a_sample_asks_for_the_gap_in_a_caption_and_shows_its_picture():
    samples = task().samples()
    sample = samples[0]
    caption = samples.captions[0]
    assert sample.id.startswith(f"{caption.id}/") and sample.question.count("___") == 1
    assert sample.data["rest"] in sample.question and f"this {caption.subject}" in sample.question
    assert sample.data["rest"].replace("___", sample.data["answer"]) == caption.text
    assert sample.images[0].tobytes() == samples.captions.shown(caption).tobytes() and sample.system == SYSTEM_PROMPT
    assert len({masked.id for masked in samples.masked}) == len(samples) > 1200
    assert task(system_prompt=False).samples()[0].system is None


def test_the_blind_view_is_black():
    picture = task().samples()[0].images[0]
    (view,) = task().views(Sample("x", "?", (picture,)), 0)["black"]
    assert view.size == picture.size and view.getextrema() == ((0, 0),) * 3


def test_the_view_elsewhere_is_another_picture_of_the_same_place():
    made = task(blind="elsewhere")
    samples = made.samples()
    (sample,) = samples[7:8]
    (view,) = made.views(sample, 0)["elsewhere"]
    assert view.tobytes() == made.views(sample, 5)["elsewhere"][0].tobytes() != sample.images[0].tobytes()
    shown = [c for c in samples.captions if c.subject == sample.data["subject"]]
    assert view.tobytes() in {samples.captions.shown(c).tobytes() for c in shown}
    made._by_subject[sample.data["subject"]][:] = [c for c in shown if c.picture == sample.data["picture"]]
    with pytest.raises(ValueError, match="blind = 'elsewhere' needs a second picture of its kind; take black"):
        made.views(sample, 0)


def context(rewards, gains, bad=False):
    """A group whose completions gain these nats at the answer's one token; None for one without an answer."""
    said = [Completion("no" if g is None else "<answer>x</answer>", 3,
                       spans=((0, 2),) if g is None else ((0, 8), (8, 9), (9, 18))) for g in gains]
    seen = torch.tensor([[-5.0, -1.0, -5.0]]).repeat(len(gains), 1)
    blind = seen.clone()
    blind[:, 1] -= torch.tensor([g or 0.0 for g in gains])
    return SimpleNamespace(completions=said, logps=seen, views={"black": blind}, bad=bad, advantages=torch.zeros(4),
                           rewards=torch.tensor(rewards, dtype=torch.float64), compare=group_advantages,
                           terms={"exact": [1.0, 0.0, 0.0, 0.0]})


def test_advantages_are_those_of_the_whole_reward():
    rewards, gains = [3.0, 1.0, 1.0, 0.0], [2.0, 0.0, -1.0, None]
    terms = [1 / (1 + math.exp(-2)), 0.5, 1 / (1 + math.e), 0.0]
    for weight in (1.0, 0.3, 0.0):
        whole = [r + weight * t for r, t in zip(rewards, terms, strict=True)]
        expected = group_advantages(torch.tensor(whole, dtype=torch.float64))
        found = task(visual_weight=weight).advantages(context(rewards, gains))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert not task().advantages(context(rewards, gains, bad=True)).any()


def test_the_visual_term_is_logged_whatever_it_weighs():
    found = task(visual_weight=0.0).metrics(context([3.0, 1.0, 1.0, 0.0], [2.0, 0.0, -1.0, None]))
    terms = [1 / (1 + math.exp(-2)), 0.5, 1 / (1 + math.e), 0.0]
    assert found == pytest.approx({"visual": sum(terms) / 4, "gain": 1 / 3, "gain_wrong": -0.5})
    assert task().metrics(context([0.0] * 4, [None] * 4)) == {"visual": 0.0}


def test_weights_are_those_of_the_options():
    made = task(format_weight=0.5, exact_weight=2.0, f1_weight=0.0)
    assert made.reward_weights == {"format": 0.5, "exact": 2.0, "f1": 0.0}
    sample = made.samples()[0]
    found = made.reward(sample, [Completion(completion("Look.", sample.data["answer"])), Completion("no")])
    assert found == {"format": [1.0, 0.0], "exact": [1.0, 0.0], "f1": [1.0, 0.0]}
    assert made.shown_answer(sample) == sample.data["answer"]


def test_the_evaluation_tells_what_the_picture_is_worth():
    made = task(held_out=40)
    held_out = list(made.held_out())

    def answer(samples):  # one that sees: right with its picture, "a cat" without
        return [completion("", "a cat" if s.id.endswith("/black") else s.data["answer"]) for s in samples]

    found = made.evaluate(answer)
    cats = sum(sample.data["answer"] == "a cat" for sample in held_out) / 40
    assert found["exact"] == found["f1"] == found["format"] == 1.0 and found["n"] == 40
    assert found["exact_black"] == pytest.approx(cats) and found["gap"] == pytest.approx(1 - cats)
    assert 0.1 < found["exact_text"] < 0.45, "what a caption's words and the place tell"
    assert [s.id for s in task(held_out=40).held_out()] == [s.id for s in held_out]
    assert task(held_out=0).evaluate(answer) == {}


def test_held_out_gaps_hide_what_only_the_picture_tells_whatever_training_hides():
    made = task(parts="random", held_out=30)
    assert [s.id for s in made.held_out()] == [s.id for s in task(held_out=30).held_out()]
    assert len(made.samples()) > 2000


@pytest.mark.parametrize(("options", "said"), [
    ({"held_out": -1}, "held_out = -1 must be 0 or more gaps"),
    ({"quantile": 1.5}, "quantile = 1.5 must be a share between 0 and 1"),
    ({"max_bad": 1.0}, "max_bad = 1.0 must be a share"),
    ({"parts": "most"}, "parts"),
    ({"granularity": "word"}, "granularity"),
    ({"blind": "grey"}, "blind"),
    ({"masks": "x", "parts": "random"}, "parts = 'random' would not read masks = 'x'"),
    ({"coco": "x"}, "coco needs masks, a file of python -m mpcc.mmrpt.dependency"),
    ({"coco": "x", "parts": "random"}, "coco needs held_out_masks too"),
    ({"train_split": "val2017"}, "held_out_split = 'val2017' is the training split"),
    ({"masks": "no/file"}, "masks = 'no/file': no such file or folder"),
])
def test_impossible_options_are_refused(options, said):
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        task(**options)


@pytest.fixture
def coco(tmp_path):
    """A COCO folder with captions of two splits, and their scores: later parts depend more."""
    for split in ("train2017", "val2017"):
        write_split(tmp_path / "coco", split, [])
        folder = tmp_path / "coco" / "annotations"
        images = json.loads((folder / f"instances_{split}.json").read_text())["images"]
        texts = ("A dog on a mat.", "Two cups near a big plate.", "It.")
        records = [{"id": 10 + i, "image_id": 1 + i, "caption": text} for i, text in enumerate(texts)]
        (folder / f"captions_{split}.json").write_text(json.dumps({"images": images, "annotations": records}))
        made = [{"id": c.id, "text": c.text, "parts": parts_of(c.text, "span"),
                 "scores": [0.1 * (1 + i) for i in range(len(parts_of(c.text, "span")))]}
                for c in CocoCaptions(tmp_path / "coco", split)]
        (tmp_path / f"{split}.json").write_text(json.dumps({"format": FORMAT, "version": VERSION, "captions": made}))
    return {"coco": str(tmp_path / "coco"), "masks": str(tmp_path / "train2017.json"),
            "held_out_masks": str(tmp_path / "val2017.json")}


def test_captions_of_a_coco_folder_are_masked_by_their_scores(coco):
    samples = task(**coco).samples()
    assert [(s.data["answer"], s.data["rest"]) for s in samples] == [
        ("a mat", "A dog on ___."), ("a big plate", "Two cups near ___.")]
    assert samples[0].id == "train2017/10/9-14" and samples[0].images[0].size == (100, 80)


def test_a_damaged_picture_is_said_before_the_first_step(coco, tmp_path, cache):
    (tmp_path / "coco" / "train2017" / "1.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"cannot read .*1\.png .*more than task.max_bad = 0.01"):
        task(**coco).samples()


def test_a_run_trains_on_captions_and_logs_the_visual_term(run, coco):
    folder = run(task="mpcc.mmrpt.task:MMRPT", run__steps=1, rollout__prompts_per_step=2, rollout__max_new_tokens=4,
                 **{f"task__{name}": value for name, value in coco.items()})
    (line,) = lines(folder)
    assert line["reward/exact"] == 0 and line["visual"] == 0, "noise has no answer"
    assert {"exact", "exact_black", "exact_text", "gap", "n"} <= result(folder)["after"].keys()
