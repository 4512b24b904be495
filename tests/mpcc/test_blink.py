"""BLINK: reading, asking, scoring, on made-up items of all four subtasks and on the real Relative Depth."""

import json
from pathlib import Path

import pytest
import tiny
import torch
from PIL import Image

from minigrpo import Sampling, generate
from mpcc.blink import SUBTASKS, Samples, figures, pictures, read_blink, score
from mpcc.blink_table import PAPER, render
from mpcc.prompts import SYSTEM_PROMPT

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "blink"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the shared BLINK items are not here")


def item(subtask, number, **changes):
    two = subtask == "Semantic_Correspondence"
    choices = ["Point A", "Point B", "Point C", "Point D"] if two else ["yes", "no"]
    listed = "".join(f"\n({letter}) {text}" for letter, text in zip("ABCD", choices, strict=False))
    made = {
        "idx": f"val_{subtask}_{number}", "sub_task": subtask, "question": "Which?", "choices": choices,
        "answer": "(B)", "prompt": f"Which?\nSelect from the following choices.{listed}",
        "image_1": f"images/{number}_1.png", "image_2": f"images/{number}_2.png" if two else None,
        "image_3": None, "image_4": None,
    }
    return made | changes


def write(folder, subtask, items, image=True):
    (folder / subtask / "images").mkdir(parents=True, exist_ok=True)
    lines = [given if isinstance(given, str) else json.dumps(given) for given in items]
    (folder / subtask / "val.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for given in items if image else []:
        for place, name in enumerate((given["image_1"], given["image_2"]), start=1):
            if name:
                Image.new("RGB", (20 * place, 30), (100 * place, 0, 0)).save(folder / subtask / name)


@pytest.fixture
def blink(tmp_path):
    for subtask in SUBTASKS:
        write(tmp_path, subtask, [item(subtask, 1), item(subtask, 2, answer="(A)")])
    return tmp_path


def test_items_are_read_in_the_order_of_the_table(blink):
    items = read_blink(blink)
    assert [found.subtask for found in items] == [name for name in SUBTASKS for _ in range(2)]
    assert [found.truth for found in items[:2]] == ["B", "A"]
    first, other = items[0], items[2]
    assert [path.name for path in first.images] == ["1_1.png", "1_2.png"]
    assert [path.name for path in other.images] == ["1_1.png"]


def test_the_records_name_the_subtask_whatever_the_folder_is_called(tmp_path):
    write(tmp_path, "b", [item("Relative_Depth", 1, sub_task="Relative Depth"), item("Jigsaw", 1)])
    write(tmp_path, "a", [item("Spatial_Relation", 1), item("Relative_Depth", 2)])
    assert [(found.subtask, found.id) for found in read_blink(tmp_path)] == [
        ("Relative_Depth", "val_Relative_Depth_2"), ("Relative_Depth", "val_Relative_Depth_1"),
        ("Spatial_Relation", "val_Spatial_Relation_1")]
    inside = read_blink(tmp_path / "a")
    assert [found.subtask for found in inside] == ["Relative_Depth", "Spatial_Relation"]
    assert inside[0].images == (tmp_path / "a/images/2_1.png",)
    records, _ = score(lambda samples: ["B"] * len(samples), tmp_path / "a", system=False)
    assert records[0]["images"] == ["images/2_1.png"] and pictures(tmp_path / "a")(records[0]).size == (20, 30)


def test_an_item_that_two_files_hold_is_named(tmp_path):
    for name in "ab":
        write(tmp_path, name, [item("Relative_Depth", 1)])
    with pytest.raises(ValueError, match="b/val.jsonl, line 1: idx 'val_Relative_Depth_1' occurs more than once"):
        read_blink(tmp_path)


def test_other_subtasks_alone_are_no_benchmark(tmp_path):
    write(tmp_path, "Jigsaw", [item("Jigsaw", 1)])
    with pytest.raises(FileNotFoundError, match="with an item whose sub_task is one of Semantic_Correspondence"):
        read_blink(tmp_path)


def test_a_sample_holds_prompt_and_images(blink):
    items = read_blink(blink)
    two, one = Samples(items, system=True)[0], Samples(items, system=False)[2:][0]
    assert [image.size for image in two.images] == [(20, 30), (40, 30)]
    assert two.question == items[0].prompt and two.system == SYSTEM_PROMPT
    assert len(one.images) == 1 and one.system is None
    assert len({sample.id for sample in Samples(items, True)}) == len(items)


def test_scores_follow_the_letter(blink):
    said = {"Semantic_Correspondence": "<think> the (A) one </think><answer>(B)</answer>", "Relative_Depth": "B",
            "Object_Localization": "It is hard to say.", "Spatial_Relation": "no"}
    records, found = score(lambda samples: [said[item.subtask] for item in samples.items], blink, system=False)
    assert [record["parsed"] for record in records] == ["B", "B", "B", "B", None, None, "B", "B"]
    assert {name: found[name]["percent"] for name in SUBTASKS} == dict(zip(SUBTASKS, (50, 50, 0, 50), strict=True))
    assert [found[name]["chance"] for name in SUBTASKS] == [25, 50, 50, 50]
    assert found["mean"] == 37.5
    assert found["Object_Localization"]["unparsed"] == 100
    assert found["Relative_Depth"]["low"] == pytest.approx(9.453, abs=1e-3), "Wilson, 1 of 2"
    record = records[1]
    assert (record["kind"], record["truth"], record["answer"], record["right"]) == ("blink", "A", "Point A", False)
    assert record["images"] == [f"Semantic_Correspondence/images/2_{k}.png" for k in (1, 2)]
    assert json.loads(json.dumps(records)) == records


def test_a_record_has_one_picture(blink):
    records, _ = score(lambda samples: ["A"] * len(samples), blink, system=False)
    joined = pictures(blink)(records[0])
    assert joined.size == (70, 30)
    assert (joined.getpixel((5, 5)), joined.getpixel((25, 5)), joined.getpixel((35, 5))) == (
        (100, 0, 0), (255, 255, 255), (200, 0, 0)
    )
    assert pictures(blink)(records[2]).size == (20, 30)


def test_the_table_marks_the_papers_rows_and_computes_differences(blink):
    _, base = score(lambda samples: ["A"] * len(samples), blink, system=False)
    _, other = score(lambda samples: ["B" if i == 0 else "A" for i in range(len(samples))], blink, system=False)
    lines = render({"base model": base, "rft": other}).splitlines()
    rows = {line[:22].strip(): line[22:].split() for line in lines[2:]}
    assert rows["paper: base"] == ["29.89", "50.81", "53.28", "78.32", "53.08"]
    assert rows["paper: rft+prior"][:2] == ["40.29", "(+10.40)"]
    assert rows["paper: prompt"][6:8] == ["74.83", "(-3.49)"]
    assert rows["base model"] == ["50.00"] * 5
    assert rows["rft"] == ["100.00", "(+50.00)", *["50.00", "(+0.00)"] * 3, "62.50", "(+12.50)"]
    assert "2 of 124" in lines[13]
    assert max(map(len, lines)) <= 120


def test_every_row_of_the_paper_is_marked():
    lines = render({}).splitlines()
    assert [line.split()[1] for line in lines if line.startswith("paper: ")] == list(PAPER)


def test_a_missing_subtask_leaves_no_mean(tmp_path):
    write(tmp_path, "Relative_Depth", [item("Relative_Depth", 1)])
    records, found = score(lambda samples: ["(B)"], tmp_path, system=True)
    assert found.keys() == {"Relative_Depth", "mean"} and found["mean"] is None
    assert figures(records) == found
    assert render({"one": found}).splitlines()[8].split()[1:] == ["-", "100.00", "-", "-", "-"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"idx": 3}, "idx = 3 is not a text"),
        ({"prompt": " "}, "prompt = ' ' is not a text"),
        ({"sub_task": "Relative_Width"}, "sub_task 'Relative_Width' is none of BLINK's"),
        ({"choices": "yes"}, "is not a list of texts"),
        ({"choices": ["yes"]}, "choices holds 1 texts, not 2"),
        ({"choices": [*"ABCDE"]}, "choices holds 5 texts, not 2"),
        ({"answer": "(C)"}, "answer '\\(C\\)' is not the letter of one of its choices"),
        ({"answer": "hidden"}, "answer 'hidden' is not the letter"),
        ({"image_1": None}, "image_1 = None is not the path of an image"),
        ({"image_1": "images/none.png"}, "image_1: .*none.png is missing"),
        ({"image_2": "images/1_1.png"}, "image_2 is one image too many"),
        ({"idx": "val_Relative_Depth_1"}, "idx 'val_Relative_Depth_1' occurs more than once"),
    ],
)
def test_a_bad_item_is_named(tmp_path, change, message):
    write(tmp_path, "Relative_Depth", [item("Relative_Depth", 1)])
    write(tmp_path, "Relative_Depth", [item("Relative_Depth", 1), item("Relative_Depth", 1, idx="b") | change], False)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        read_blink(tmp_path)
    assert "Relative_Depth/val.jsonl, line 2" in str(caught.value) and "\n" not in str(caught.value)


def test_other_bad_input_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no NAME/val.jsonl"):
        read_blink(tmp_path)
    write(tmp_path, "Spatial_Relation", ['{"idx": "val_Spa'], False)
    with pytest.raises(ValueError, match="val.jsonl, line 1 is not whole JSON"):
        read_blink(tmp_path)
    write(tmp_path, "Spatial_Relation", [], False)
    with pytest.raises(ValueError, match="holds no item"):
        read_blink(tmp_path)
    write(tmp_path, "Spatial_Relation", [item("Spatial_Relation", 1)])
    (tmp_path / "Spatial_Relation/images/1_1.png").write_text("no image")
    with pytest.raises(ValueError, match="item val_Spatial_Relation_1: cannot read .*1_1.png as an image"):
        Samples(read_blink(tmp_path), system=False)[0]
    with pytest.raises(ValueError, match="2 completions for the 1 BLINK items"):
        score(lambda samples: ["A", "B"], tmp_path, system=False)


@needs_real
def test_the_real_items_score_as_their_key_says():
    def always(letter):
        return score(lambda samples: [f"({letter})"] * len(samples), REAL, system=True)[1]["Relative_Depth"]

    assert always("A")["n"] == SUBTASKS["Relative_Depth"]
    assert (always("A")["percent"], always("B")["percent"]) == (100 * 64 / 124, 100 * 60 / 124)
    records, found = score(lambda samples: [f"({item.truth}) {item.choices[ord(item.truth) - 65]}"
                                            for item in samples.items], REAL, system=False)
    assert found["Relative_Depth"]["percent"] == 100
    assert all(record["right"] for record in records)
    assert Samples(read_blink(REAL), system=True)[0].images[0].size == (500, 375)


@needs_real
def test_a_model_answers_real_items(one_thread):
    vlm = tiny.vlm(dtype=torch.float32)

    def answer(samples):
        prompts = [vlm.encode(sample) for sample in samples[:4]]
        groups = generate(vlm, prompts, 1, Sampling(max_new_tokens=4, temperature=0))
        return [vlm.decode(group.completions[0]) for group in groups] + ["A"] * (len(samples) - 4)

    records, found = score(answer, REAL, system=True)
    assert found["Relative_Depth"]["n"] == len(records) == 124
    assert all(record["completion"] for record in records[:4])
