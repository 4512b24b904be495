"""The shipped tiny model: real classes, small, better than chance; and what it was taught with."""

import json
import re
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoConfig, AutoImageProcessor, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb_vision

from minigrpo import load_model
from mpcc.prompts import QUESTION, SYSTEM_PROMPT
from mpcc.rewards import parse_answer
from mpcc.scenes import sight
from mpcc.scenes.categories import NAMES
from mpcc.scenes.curriculum import (
    CELL,
    NAME,
    SIDES,
    Lesson,
    around,
    contents,
    description,
    framed,
    lesson,
    letters,
    masked,
    options,
)
from mpcc.scenes.evaluation import answers, hidden_samples, measure, questions
from mpcc.scenes.evidence import SET
from mpcc.scenes.folder import VERSION
from mpcc.scenes.sight import learn_to_see
from mpcc.scenes.tiny import write_untrained
from mpcc.scenes.tokenizer import train_tokenizer
from mpcc.scenes.world import generate
from mpcc.task import MaskedPrediction

SHIPPED = Path(MaskedPrediction.default_model)


@pytest.fixture(scope="module")
def vlm():
    return load_model(SHIPPED, dtype=torch.float32)


def test_the_folder_is_a_small_qwen2_5_vl():
    assert AutoConfig.from_pretrained(SHIPPED).model_type == "qwen2_5_vl"
    assert (SHIPPED / "model.safetensors").stat().st_size <= 10_000_000
    assert json.loads((SHIPPED / "preprocessor_config.json").read_text())["image_processor_type"] == (
        "Qwen2VLImageProcessor"
    )


def test_the_classes_are_transformers_own(vlm):
    assert type(vlm.net) is Qwen2_5_VLForConditionalGeneration
    assert 2e6 <= sum(p.numel() for p in vlm.net.parameters()) <= 4.5e6


def test_a_scene_becomes_48_image_tokens():
    processor = AutoImageProcessor.from_pretrained(SHIPPED, backend="pil")
    features = processor(images=[generate(0).image], return_tensors="pt")
    assert features["image_grid_thw"].tolist() == [[1, 12, 16]]


def test_it_is_far_better_than_chance_and_far_from_perfect(vlm):
    figures = measure(vlm, images=30)
    assert figures["naming"] > 0.5 > 10 * figures["chance"]
    assert 0.2 < figures["greedy"]["exact_match"] < 0.6
    assert 0.5 < figures["greedy"]["format"] < 0.95


def test_it_answers_with_letters(vlm):
    lists = [letters(9, index) for index in range(25)]  # a guess is right in a quarter
    said = answers(vlm, [sample for taught in lists for sample in taught.samples])
    taught = [text for taught in lists for text in taught.completions]
    assert sum(parse_answer(a) == parse_answer(b) for a, b in zip(said, taught, strict=True)) > 0.45 * len(taught)
    record = json.loads((SHIPPED / "pretraining.json").read_text())["figures"]
    error = (0.25 * 0.75 / record["pairs"]) ** 0.5  # of a guess among four
    assert record["choice_4"] > 0.25 + 4 * error < record["choice_4_think"] < 0.9


def test_the_recorded_figures_are_those_of_the_shipped_weights(vlm):
    record = json.loads((SHIPPED / "pretraining.json").read_text())
    assert record["world"] == VERSION, "the base was taught another world"
    assert record["minutes"] <= 33 and record["threads"] == 2  # 31.4 on a machine that others shared; meant are 30
    asked = questions("val2017", 3)
    assert answers(vlm, hidden_samples(asked)) == record["figures"]["greedy"]["examples"][: len(asked)]


def test_a_lesson_is_the_same_every_time_and_ends_in_the_questions_of_the_task():
    one, two = lesson(0, 5, 0.5), lesson(0, 5, 0.5)
    assert one.completions == two.completions
    assert one.samples[0].images[0].tobytes() == two.samples[0].images[0].tobytes()
    taught = [lesson(0, i, 1.0) for i in range(60)]
    assert all(isinstance(x, Lesson) and x.completions and all(x.completions) for x in taught)
    systems = [s.system for x in taught for s in x.samples if s.question == QUESTION]
    assert len(systems) > 30 and set(systems) == {None, SYSTEM_PROMPT}


def test_a_lesson_asks_about_one_picture_and_its_letters_name_the_truth():
    chosen = []
    for x in (lesson(1, i, 1.0) for i in range(120)):
        assert len({id(s.images[0]) for s in x.samples}) == 1 == len({s.system for s in x.samples})
        answer = dict(zip((s.question for s in x.samples), x.completions, strict=True))
        if NAME not in answer:
            continue
        for sample, said in zip(x.samples, x.completions, strict=True):
            if found := re.findall(r"\b([A-G])\.([a-z ]+?)(?= [A-G]\.| Give)", sample.question):
                assert dict(found)[parse_answer(said)] == answer[NAME]
                chosen.append(parse_answer(said))
            elif sample.question.startswith("Is the object"):
                assert parse_answer(said) == ("yes" if f" a {answer[NAME]}?" in sample.question else "no")
    assert len(chosen) > 5 and len(set(chosen)) > 2


def test_a_plain_base_is_taught_no_trace_and_no_tag():
    taught = [lesson(2, i, progress, plain=True) for i in range(60) for progress in (0.2, 1.0)]
    taught += [letters(2, i, plain=True) for i in range(5)]
    assert not any("<" in text for x in taught for text in x.completions)
    assert not any("So it is likely" in text or "It must be" in text for x in taught for text in x.completions)
    assert {s.system for x in taught for s in x.samples} == {None}
    guesses = [text for x in taught for s, text in zip(x.samples, x.completions, strict=True) if s.question == QUESTION]
    assert len(guesses) > 20 and set(guesses) <= set(NAMES)


def test_the_sides_of_a_mask_are_named_from_the_clues():
    asked = {}
    for x in (lesson(3, i, 0.1) for i in range(80)):
        for sample, said in zip(x.samples, x.completions, strict=True):
            if sample.question in SIDES.values():
                asked.setdefault(sample.question, []).append(said)
    assert asked.keys() == set(SIDES.values()) and min(map(len, asked.values())) > 20
    told = [said for answers in asked.values() for said in answers]
    assert 0.2 < told.count("nothing") / len(told) < 0.8 and len(set(told)) > 20


def test_the_mask_covers_the_object_and_the_frame_does_not():
    scene = generate("val2017/1")
    pair = scene.pick(1)[0]
    x, y, w, h = scene.items[pair.index].box
    inside = round(x), round(y), round(x + w), round(y + h)
    assert masked(scene, pair.index).crop(inside).getextrema() == ((0, 0),) * 3
    assert framed(scene, (x, y, w, h)).crop(inside).tobytes() == scene.image.crop(inside).tobytes()


def test_texts_about_a_masked_picture_do_not_name_what_is_hidden():
    asked = [(scene, pair) for scene in (generate(i, "kitchen") for i in range(40)) for pair in scene.pairs]
    scene, index = next((scene, pair.index) for scene, pair in asked if pair.name == "refrigerator" and
                        sum(item.category == "refrigerator" for item in scene.items) == 1 and pair.reason != SET)
    assert "refrigerator" in description(scene) and "refrigerator" not in description(scene, index)
    assert "black box" in description(scene, index) and "refrigerator" not in around(scene, index)


def test_options_hold_the_truth_once_and_no_name_twice():
    scene = generate("val2017/2")
    pair = scene.pick(1)[0]
    names = options(scene, pair.name, Random(0), 4, 2)
    assert len(names) == 7 == len(set(names)) and names.count(pair.name) == 1


def test_every_image_token_is_told_what_it_covers():
    scene = generate("x", "street")
    names = contents(scene)
    assert len(names) == 48 and "" in names
    for item in scene.items:
        x, y = item.box[0] + item.box[2] / 2, item.box[1] + item.box[3] / 2
        if min(item.box[2:]) > 25:
            assert names[int(y) // CELL * 8 + int(x) // CELL] == item.category
    assert {prop.name for prop, _ in scene.props} & set(names) and not any(name.startswith("a ") for name in names)
    assert "box" in contents(scene, scene.pairs[0].index) and "box" not in names


def test_sight_is_learned_from_tokens_that_show_something(vlm, monkeypatch):
    told = []
    monkeypatch.setattr(sight, "contents", lambda *given: told.append(contents(*given)) or told[-1])
    seen = sight._look(vlm, 0, 0)
    assert len(seen.grid) == len(told) == sight.PICTURES and len(seen.pixels) == 192 * sight.PICTURES
    shown = [name for names in told for name in names]
    assert seen.tokens.tolist() == [i for i, name in enumerate(shown) if name]
    assert torch.allclose(seen.names.sum(1), torch.ones(len(seen.tokens)))
    for token, names in zip(seen.tokens.tolist(), seen.names, strict=True):
        within, first = vlm.tokenizer.encode(f" {shown[token]}"), vlm.tokenizer.encode(shown[token])[0]
        assert names.nonzero()[:, 0].tolist() == sorted({*within, first})
    marked = ["box" in names for names in told]
    assert 0.6 < sum(marked) / len(marked) < 0.9 and any(name.endswith(" frame") for name in shown)
    assert {"left", "right", "above", "below"} <= {name.split()[-1] for name in shown if name}


def test_a_step_of_learning_to_see_is_the_same_every_time(tmp_path):
    """Pictures are drawn by another process, and steps, not the clock, end the training."""
    found = []
    for name in ("one", "two"):
        write_untrained(tmp_path / name, train_tokenizer(), seed=0)
        made = load_model(tmp_path / name, dtype=torch.float32)
        learn_to_see(made, tmp_path / name, 2, seed=0)
        found.append(made.net.state_dict())
    assert all(torch.equal(one, two) for one, two in zip(found[0].values(), found[1].values(), strict=True))
    untrained = load_model(tmp_path / "one", dtype=torch.float32).net.state_dict()
    changed = {name for name, weights in found[0].items() if not torch.equal(weights, untrained[name])}
    assert any("visual" in name for name in changed) and not any("self_attn" in name for name in changed)


def test_untrained_heads_look_at_the_token_before(tmp_path):
    tokenizer = train_tokenizer()
    write_untrained(tmp_path, tokenizer, seed=0)
    net = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    ids = torch.tensor([tokenizer.encode("Which object is in the pink frame? A.dog B.cat C.fox Give the letter.")])
    with torch.no_grad():
        attention = net(input_ids=ids, output_attentions=True).attentions
    before = [layer[0].diagonal(-1, dim1=-2, dim2=-1).mean(-1) for layer in attention]  # [heads] of every layer
    assert all(layer[0] > 0.6 for layer in before[:2])
    assert all((layer[1:] < 0.4).all() for layer in before[:2]) and all((layer < 0.4).all() for layer in before[2:])


def test_untrained_heads_of_the_tower_look_at_a_neighbour(tmp_path):
    write_untrained(tmp_path, train_tokenizer(), seed=0)
    visual = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path).model.visual
    given, attention = {}, visual.blocks[0].attn
    attention.register_forward_pre_hook(lambda _, x, kw: given.update(kw, hidden=x[0] if x else kw["hidden_states"]),
                                        with_kwargs=True)
    with torch.no_grad():
        visual(torch.randn(192, 1176), torch.tensor([[1, 12, 16]]))
        queries, keys, _ = attention.qkv(given["hidden"]).view(192, 3, 4, 32).unbind(1)
        rotated = apply_rotary_pos_emb_vision(queries, keys, *given["position_embeddings"])
        looked_at = torch.einsum("qhd,khd->hqk", *rotated).argmax(-1)  # [heads, patches]
    cos, sin = given["position_embeddings"]
    place = torch.atan2(sin, cos)[:, [2, 10]] / 0.1  # row and column, from the third rotation of either axis
    moved = (place[looked_at] - place).round()
    for head, direction in zip(moved, ((-1, 0), (1, 0), (0, -1), (0, 1)), strict=True):
        assert (head == torch.tensor(direction)).all(1).float().mean() > 0.85  # at an edge there is no neighbour


def test_an_option_and_every_name_are_whole_tokens():
    tokenizer = train_tokenizer()
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode(" A.dog B.wine glass Give")]
    assert pieces == [" A.", "dog", " B.", "wine", " glass", " Give"]
    for name in NAMES:
        assert len(tokenizer.encode(name)) == len(tokenizer.encode(f" {name}")) == len(name.split())
