"""The task: pairs from a COCO folder or a pairs file, samples, reward, evaluation, and what it refuses."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small_coco import Config, pair, pairs_file, task

from minigrpo import Completion
from minigrpo.config import options
from mpcc import prompts
from mpcc.coco import Coco, Region
from mpcc.masks import apply_mask
from mpcc.task import MaskedPrediction
from mpcc.views import VIEWS

RIGHT = "<think>a</think><answer>{}</answer>"


def test_all_instances_within_the_limits_make_pairs(folder):
    samples = task(folder).samples()
    assert len(samples) == 4
    assert [sample.id for sample in samples] == [
        "train2017/1.png#11", "train2017/1.png#12", "train2017/1.png#13", "train2017/3.png#17"]
    assert all(sample.prior is None for sample in samples)


def test_area_limits_are_shares_of_the_image(folder):
    ids = [sample.data["answer"] for sample in task(folder, min_area=0.0, max_area=1.0).samples()]
    assert ids == ["dog", "dog", "stop sign", "cup", "cup", "stop sign"]
    assert len(task(folder, min_area=0.15).samples()) == 2
    assert len(task(folder, min_area=0.05, max_area=0.15).samples()) == 3


def test_a_sample_shows_the_masked_image_and_asks(folder):
    sample = task(folder).samples()[0]
    image = Image.open(folder / "train2017" / "1.png")
    assert sample.images[0].tobytes() == apply_mask(image, Region(box=(10, 10, 40, 30))).tobytes()
    assert sample.question == prompts.QUESTION
    assert sample.system == prompts.SYSTEM_PROMPT
    assert sample.data == {
        "answer": "dog",
        "supercategory": "animal",
        "difficulty": None,
        "box": (10.0, 10.0, 40.0, 30.0),
        "others_visible": True,
    }


def test_training_may_be_without_the_evidence_and_the_evaluation_keeps_it(folder, tmp_path):
    clue = {"text": "A leash.", "bbox": [60, 40, 20, 20]}
    path = pairs_file(tmp_path / "p.json", pair(evidence=[clue]), pair(bbox=[5, 10, 30, 30]))
    chosen = task(folder, pairs=path, held_out_pairs=path, held_out_split="val2017", evidence=False)
    (filled,) = chosen.samples()
    whole = task(folder, pairs=path).samples()[0]
    changed = np.argwhere((np.array(filled.images[0]) != np.array(whole.images[0])).any(axis=2))
    assert (changed.min(axis=0) >= (40, 60)).all() and (changed.max(axis=0) < (60, 80)).all()
    assert (filled.id, filled.question, filled.data) == (f"{whole.id}/no_evidence", whole.question, whole.data)
    assert [sample.id for sample in chosen.held_out()] == [sample.id for sample in
                                                          task(folder, held_out_pairs=path).held_out()]
    with pytest.raises(ValueError, match="no training pair has evidence to fill"):
        task(folder, evidence=False).samples()


@pytest.mark.parametrize(("exact", "prior", "lost"), [
    ([0, 0, 1], (False, False, True), 1.0), ([0, 1, 1], (False, False, True), 0.0), ([0, 0, 0], (False,) * 3, 1.0),
])
def test_a_group_is_lost_where_nothing_that_was_sampled_is_right(folder, exact, prior, lost):
    context = SimpleNamespace(terms={"exact": exact}, group=SimpleNamespace(is_prior=prior))
    assert task(folder).metrics(context) == {"lost": lost}


def test_the_system_prompt_can_be_left_out(folder):
    assert task(folder, system_prompt=False).samples()[0].system is None


@pytest.mark.parametrize("kind", ["box", "box_hard", "polygon", "instances", "random_box"])
@pytest.mark.parametrize("fill", ["black", "mean"])
def test_mask_options_reach_the_image(folder, kind, fill):
    sample = task(folder, mask=kind, fill=fill).samples()[0]
    target, other = (Coco(folder, "train2017").instances[id] for id in (11, 12))
    image = Image.open(folder / "train2017" / "1.png")
    expected = apply_mask(image, target, [other], kind, fill, "train2017/1.png#11")
    assert sample.images[0].tobytes() == expected.tobytes()
    assert sample.question == prompts.free_question(kind, fill)
    assert sample.data["others_visible"] == (kind != "instances")


def test_others_visible_counts_the_class_only(folder):
    samples = task(folder).samples()
    assert samples[2].data["others_visible"] is False  # the other two objects are dogs


def test_a_target_in_sight_is_not_another_instance(folder):
    assert task(folder, mask="random_box").samples()[2].data["others_visible"] is False


def test_samples_index_like_a_sequence(folder):
    samples = task(folder).samples()
    assert samples[-1].id == samples[3].id
    assert [sample.id for sample in samples[1:3]] == [samples[1].id, samples[2].id]
    with pytest.raises(IndexError):
        samples[4]


def test_images_open_when_indexed_only(folder):
    samples = task(folder).samples()
    (folder / "train2017" / "1.png").write_bytes(b"broken")
    assert samples[3].id == "train2017/3.png#17"
    with pytest.raises(ValueError, match=r"cannot read .*train2017/1\.png"):
        samples[0]


def test_without_coco_the_scenes_are_used(folder, monkeypatch):
    scenes = SimpleNamespace(ensure_scenes=lambda: folder)
    monkeypatch.setitem(sys.modules, "mpcc.scenes", SimpleNamespace(folder=scenes))
    monkeypatch.setitem(sys.modules, "mpcc.scenes.folder", scenes)
    assert len(MaskedPrediction(Config()).samples()) == 4


@pytest.mark.parametrize(("options", "match"), [
    ({"mask": "circle"}, "mask = 'circle' is unknown: choose one of box, box_hard, polygon, instances, random_box"),
    ({"fill": "red"}, "fill = 'red' is unknown: choose one of black, mean"),
    ({"reward": "eq4"}, "reward = 'eq4' is unknown: choose one of eq3, scripted"),
    ({"levenshtein": "ratio"}, "levenshtein = 'ratio' is unknown: choose one of distance, indel"),
    ({"without": "length"}, "without = 'length' is unknown"),
    ({"max_bad": 1.0}, "max_bad = 1.0 must be a share"),
    ({"max_bad": float("nan")}, "max_bad = nan must be a share"),
    ({"held_out": -1}, "held_out = -1 must be 0 or more"),
    ({"min_area": 0.6}, "min_area = 0.6 and max_area = 0.5 must be shares"),
    ({"max_area": 1.5}, "0 <= min_area < max_area <= 1"),
    ({"min_area": -0.1}, "0 <= min_area < max_area <= 1"),
    ({"min_area": float("nan")}, "0 <= min_area < max_area <= 1"),
    ({"held_out_split": "train2017"}, "held_out_split = 'train2017' is the training split"),
])
def test_impossible_options_are_refused_before_any_work(options, match):
    with pytest.raises(ValueError, match=match):
        MaskedPrediction(Config(**options))


@pytest.mark.parametrize("name", ["coco", "pairs", "held_out_pairs"])
def test_missing_paths_are_refused_before_any_work(name):
    with pytest.raises(FileNotFoundError, match=f"{name} = 'nowhere': no such file or folder"):
        MaskedPrediction(Config(**{name: "nowhere"}))


def test_held_out_is_the_same_choice_in_every_run(folder):
    chosen = [sample.id for sample in task(folder, held_out=5).held_out()]
    assert len(set(chosen)) == 5
    assert chosen == [sample.id for sample in task(folder, held_out=5).held_out()]
    everything = [sample.id for sample in task(folder).held_out()]
    assert len(everything) == 9
    assert chosen == [id for id in everything if id in chosen]
    assert chosen != everything[:5]


def answers(*texts, **blind):
    """A model that says `texts` of the held-out images, and in a blind view what is given under its name."""

    def answer(samples):
        for view in VIEWS:
            if all(sample.id.endswith(f"/{view}") for sample in samples):
                return [blind.get(view, "").format(sample.data["answer"]) for sample in samples]
        return [text.format(sample.data["answer"]) for text, sample in zip(texts, samples, strict=True)]

    return answer


def test_evaluation_means(folder, tmp_path):
    clue = {"text": "A leash.", "bbox": [60, 40, 20, 20]}
    records = [pair(difficulty="easy", evidence=[clue]), pair(difficulty="easy"),
               pair(difficulty="hard", evidence=[clue]), pair(file_name="2.png")]
    path = pairs_file(tmp_path / "p.json", *(record | {"bbox": [5, 10, 30, 30]} for record in records))
    chosen = task(folder, held_out_pairs=path)
    said = answers(RIGHT, "<answer>{}</answer>", "<think>a</think><answer>doe</answer>", "dog",
                   no_evidence=RIGHT.format("dog"), elsewhere="<answer>cat</answer>", black=RIGHT)
    figures = chosen.evaluate(said)
    assert list(figures)[:7] == ["exact_match", "exact_match_no_evidence", "exact_match_elsewhere",
                                 "exact_match_black", "exact_match_easy", "exact_match_hard", "format"]
    assert figures == pytest.approx({
        "exact_match": 2 / 4,
        "format": 2 / 4,
        "levenshtein": (1 + 1 + 2 / 3 + 0) / 4,
        "reward": (3 + 2 + 1 + 2 / 3 + 0) / 4,
        "exact_match_easy": 1.0,
        "exact_match_hard": 0.0,
        "exact_match_no_evidence": 1.0,
        "exact_match_elsewhere": 0.0,
        "exact_match_black": 1.0,
        "collapsed": 2 / 4,
        "n": 4.0,
    }, abs=1e-12)


def test_evaluation_shows_what_is_right_without_the_image_and_said_by_rote(folder, tmp_path):
    trace = "The long leash on the floor belongs to a pet."
    path = pairs_file(tmp_path / "p.json", pair(cot_data=trace) | {"bbox": [5, 10, 30, 30]})
    chosen = task(folder, pairs=path, held_out_pairs=path, held_out_split="val2017")
    chosen.samples()
    said = "<think> A leash on the floor belongs to a pet. </think><answer>{}</answer>"
    figures = chosen.evaluate(answers(said, black=RIGHT.format("dog")))
    assert (figures["exact_match_black"], figures["collapsed"]) == (1.0, 0.0)
    assert figures.keys().isdisjoint({"exact_match_no_evidence", "exact_match_elsewhere"}), "no evidence, one picture"
    assert figures["rigid"] == pytest.approx(4 / 5), "all but: a leash on the floor"


def test_evaluation_of_the_scripted_reward(folder):
    figures = task(folder, held_out=1, reward="scripted").evaluate(answers(RIGHT))
    assert figures == pytest.approx({"exact_match": 1, "format": 1, "levenshtein": 1, "reward": 1.6, "n": 1,
                                     "exact_match_black": 0, "collapsed": 0}, abs=1e-12)


def test_nothing_held_out_evaluates_nothing(folder):
    chosen = task(folder, held_out=0, held_out_split="none2017")
    assert chosen.evaluate(lambda samples: pytest.fail("must not answer")) == {}
    assert len(chosen.held_out()) == 0


def test_a_wrong_number_of_answers_is_an_error(folder):
    with pytest.raises(ValueError):
        task(folder).evaluate(lambda samples: ["dog"])


def test_reward_and_its_weights(folder):
    hydrant = "<think>a</think><answer>hydrant</answer>"
    for changes, similarity, weights in (
        ({}, 7 / 12, (1, 1, 1)),
        ({"levenshtein": "indel"}, 14 / 19, (1, 1, 1)),
        ({"reward": "scripted"}, 14 / 19, (0.6, 0, 1)),
    ):
        chosen = task(folder, **changes)
        sample = replace(chosen.samples()[0], data={"answer": "fire hydrant"})
        terms = chosen.reward(sample, [Completion(t) for t in (hydrant, "", RIGHT.format("Fire hydrant."))])
        assert terms["format"] == [1, 0, 1]
        assert terms["exact"] == [0, 0, 1]
        assert terms["levenshtein"] == pytest.approx([similarity, 0, 1], abs=1e-12)
        assert tuple(chosen.reward_weights[name] for name in ("format", "exact", "levenshtein")) == weights


def test_every_option_is_documented():
    found = options({"task": Config})
    assert len(found) == 19
    assert all(option.meaning.endswith(".") for option in found.values())
    assert found["task.mask"].choices == ("box", "box_hard", "polygon", "instances", "random_box")
