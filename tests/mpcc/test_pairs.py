import json

import pytest
from small_coco import pair, pairs_file, task

from minigrpo import Completion
from mpcc.formats import Evidence


def test_the_authors_training_file_is_read_as_it_is(folder, tmp_path):
    path = pairs_file(
        tmp_path / "train.json",
        pair(cot_data=" A leash lies there. "),
        pair(bbox=[71, 50, 20, 20], cot_data=""),
        pair(file_name="2.png", bbox=[1, 1, 3, 3], category_name="cup", supercategory=...),
    )
    first, second, third = task(folder, pairs=path).samples()
    assert first.prior == "<think> A leash lies there. </think><answer>dog</answer>"
    assert (first.id, second.id, third.id) == (
        "train2017/1.png#11", "train2017/1.png#12", "train2017/2.png#1,1,3,3")
    assert second.prior is None
    assert second.data["box"] == (71.0, 50.0, 20.0, 20.0)
    assert (third.data["answer"], third.data["supercategory"]) == ("cup", "")


def test_a_prior_earns_the_full_reward(folder, tmp_path):
    chosen = task(folder, pairs=pairs_file(tmp_path / "p.json", pair(cot_data="A\nleash.")))
    sample = chosen.samples()[0]
    assert chosen.reward(sample, [Completion(sample.prior)]) == {"format": [1.0], "exact": [1.0], "levenshtein": [1.0]}


WRONG = {
    "A leash. It must be a cup.": "its last sentence names another category",
    "A leash lies there, so cups.\n": "its last sentence names another category",
    "A leash lies there. It is not a dog.": "its last sentence denies the answer",
    "A leash. I'm sorry, I cannot help with that.": "it is a refusal",
    "I'm unable to identify what is hidden. It is a dog.": "it is a refusal",
}


@pytest.mark.parametrize(("trace", "reason"), WRONG.items())
def test_a_trace_that_contradicts_its_answer_is_no_prior(folder, tmp_path, trace, reason):
    path = pairs_file(tmp_path / "p.json", pair(cot_data="A leash. It is a dog."), pair(cot_data=trace))
    with pytest.warns(UserWarning, match=rf"p\.json\[1\]: its trace is left out, 1 in all: 1 because {reason}"):
        first, second = task(folder, pairs=path).samples()
    assert first.prior and second.prior is None and second.data["answer"] == "dog"


def test_all_wrong_traces_are_counted_in_one_warning(folder, tmp_path):
    path = own_file(tmp_path / "p.json", *(pair(id=str(i), trace=trace) for i, trace in enumerate(WRONG)))
    with pytest.warns(UserWarning) as caught:
        assert not any(sample.prior for sample in task(folder, pairs=path).samples())
    said = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert len(said) == 1 and "p.json: pair 0: its trace is left out, 5 in all: 2 because" in said[0]


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("trace", [
    "The things around it leave no other choice.", "A leash.", "A cup stands there. It must be a dog.",
    "So a dog sits beside the cup.", "Not a cup. It is a puppy.", "I cannot see the dog itself, but dogs wear leashes.",
    "It isn't a cup but a dog.", "Two dogs, then.", "The child looks sorry for the dog.",
])
def test_other_traces_are_taken_as_they_are(folder, tmp_path, trace):
    path = pairs_file(tmp_path / "p.json", pair(cot_data=trace))
    assert task(folder, pairs=path).samples()[0].prior == f"<think> {trace} </think><answer>dog</answer>"


def test_a_pairs_file_in_the_folder_is_found(folder):
    pairs_file(folder / "pairs_train2017.json", pair(annotation_id=12, bbox=[70, 50, 20, 20], difficulty="hard", id=5))
    samples = task(folder).samples()
    assert [(sample.id, sample.data["difficulty"]) for sample in samples] == [("train2017/1.png#12", "hard")]
    assert len(task(folder).held_out()) == 9


def test_repeated_pairs_keep_unique_ids(folder, tmp_path):
    path = pairs_file(tmp_path / "p.json", pair(), pair(cot_data="A leash."), pair())
    ids = [sample.id for sample in task(folder, pairs=path).samples()]
    assert ids == ["train2017/1.png#11", "train2017/1.png#11~2", "train2017/1.png#11~3"]


@pytest.mark.parametrize(("record", "match"), [
    ("text", r"\[1\] is not an object"),
    (pair(file_name=...), r"\[1\] lacks file_name"),
    (pair(category_name=" "), r"\[1\] lacks category_name"),
    (pair(category_name=3), r"\[1\]: category_name = 3 is not a text"),
    (pair(file_name="9.png"), r"\[1\]: .*instances_train2017\.json lists no image '9\.png'"),
    (pair(bbox=...), r"\[1\]: bbox None is not four finite numbers"),
    (pair(bbox=[10, 10, -4, 4]), r"\[1\]: bbox .* negative width or height"),
    (pair(bbox=[10, 10, 0, 4]), r"\[1\]: bbox .* is empty"),
    (pair(bbox=[90, 10, 40, 4]), r"\[1\]: bbox .* lies outside its image 1\.png of 100x80 pixels"),
    (pair(cot_data=["a"]), r"\[1\]: cot_data = \['a'\] is not a text"),
    (pair(cot_data="<think>a</think>"), r"\[1\]: cot_data holds a tag"),
    (pair(annotation_id=14), r"\[1\]: image 1\.png has no annotation 14"),
    (pair(annotation_id="11"), r"\[1\]: image 1\.png has no annotation '11'"),
    (pair(annotation_id=[11]), r"\[1\]: image 1\.png has no annotation \[11\]"),
    (pair(annotation_id=12), r"\[1\]: annotation 12 is of a dog with bbox \[70.0, .*correct annotation_id"),
    (pair(annotation_id=13, bbox=[60, 5, 20, 20]), r"\[1\]: annotation 13 is of a stop sign with bbox"),
    (pair(category_name="zebra"), r"\[1\]: category_name 'zebra' is no category of .*instances_train2017\.json"),
    (pair(category_name="dog</answer>"), r"\[1\]: category_name 'dog</answer>' is no category"),
    (pair(cot_data="A leash.<|im_end|>"), r"\[1\]: cot_data holds the special token or tag '<\|im_end\|>'; remove it"),
    (pair(cot_dta="A leash."), r"\[1\]: field 'cot_dta' is unknown; did you mean 'cot_data'\?"),
    (pair(trace="A leash."), r"\[1\]: field 'trace' is unknown; did you mean 'cot_data'\?"),
    (pair(bboxes=[1]), r"\[1\]: field 'bboxes' is unknown; did you mean 'bbox'\?"),
    (pair(zzz=[1]), r"\[1\]: field 'zzz' is unknown; remove it"),
    (pair(bbox=[100, 10, 1, 4]), r"\[1\]: bbox .* lies outside its image 1\.png of 100x80 pixels"),
])
def test_unusable_records_name_file_place_and_field(folder, tmp_path, record, match):
    path = pairs_file(tmp_path / "p.json", pair(), record)
    with pytest.raises(ValueError, match=r"p\.json" + match) as caught:
        task(folder, pairs=path).samples()
    assert "\n" not in str(caught.value)


def test_one_wrong_record_of_a_hundred_is_left_out_counted_and_listed(folder, tmp_path, cache):
    path = pairs_file(tmp_path / "p.json", pair(category_name="zebra"), *[pair(cot_data="A leash.")] * 99)
    with pytest.warns(UserWarning, match=r"1 of 100 pairs of .*p\.json are wrong and left out, listed in"):
        samples = task(folder, pairs=path).samples()
    assert len(samples) == 99 and samples[0].id == "train2017/1.png#11"
    (listed,) = (cache / "rejected").iterdir()
    assert "p.json[0]: category_name 'zebra' is no category" in listed.read_text()
    with pytest.raises(ValueError, match=r"1 of 100 pairs .* more than task\.max_bad = 0\.005"):
        task(folder, pairs=path, max_bad=0.005).samples()


def own_file(path, *pairs, **head):
    path.write_text(json.dumps({"format": "mpcc-pairs", "version": 1, "split": "train2017", "pairs": pairs} | head))
    return str(path)


def test_our_pairs_file_is_read_too(folder, tmp_path):
    path = own_file(
        tmp_path / "p.json",
        pair(id="one", annotation_id=11, trace="A leash lies there.", difficulty="hard", confusing=["cat"]),
        pair(id="two", bbox=[71, 50, 20, 20], trace=None, rating=4),
    )
    first, second = task(folder, pairs=path).samples()
    assert (first.id, second.id, second.prior) == ("one", "two", None)
    assert first.prior == "<think> A leash lies there. </think><answer>dog</answer>"
    assert first.data["difficulty"] == "hard" and second.data["box"] == (71.0, 50.0, 20.0, 20.0)


CLUE = {"text": "A leash lies there.", "bbox": [52, 30, 20, 8]}


@pytest.mark.parametrize("own", [False, True])
def test_scene_and_evidence_are_read_from_both_forms(folder, tmp_path, own):
    records = [pair(id="a", scene="street", evidence=[CLUE]), pair(id="b", scene=None, evidence=[])]
    path = own_file(tmp_path / "p.json", *records) if own else pairs_file(tmp_path / "p.json", *records)
    first, second = task(folder, pairs=path).samples().pairs
    assert (first.scene, first.evidence) == ("street", (Evidence("A leash lies there.", (52.0, 30.0, 20.0, 8.0)),))
    assert (second.scene, second.evidence) == (None, ())


BAD_CONTEXT = [
    ({"scene": 3}, "scene = 3 is not a text"),
    ({"evidence": "a leash"}, "evidence = 'a leash' is not a list of clues, each with text and bbox"),
    ({"evidence": {}}, "evidence = {} is not a list of clues"),
    ({"evidence": [CLUE, "a leash"]}, r"evidence\[1\] is not an object with text and bbox"),
    ({"evidence": [{"bbox": [1, 2, 3, 4]}]}, r"evidence\[0\] lacks text"),
    ({"evidence": [CLUE | {"text": " "}]}, r"evidence\[0\] lacks text"),
    ({"evidence": [CLUE | {"text": 7}]}, r"evidence\[0\]: text = 7 is not a text"),
    ({"evidence": [{"text": "A leash."}]}, r"evidence\[0\] lacks bbox"),
    ({"evidence": [CLUE | {"bbox": [1, 2]}]}, r"evidence\[0\]: bbox \[1, 2\] is not four finite numbers"),
    ({"evidence": [CLUE | {"bbox": [1, 2, 0, 4]}]}, r"evidence\[0\]: bbox .* is empty"),
    ({"evidence": [CLUE, CLUE | {"bbox": [90, 10, 40, 4]}]}, r"evidence\[1\]: bbox .* outside its image 1\.png"),
]


@pytest.mark.parametrize(("changes", "match"), BAD_CONTEXT)
@pytest.mark.parametrize("own", [False, True])
def test_unusable_evidence_is_one_line_with_its_place(folder, tmp_path, changes, match, own):
    records = [pair(id="one"), pair(id="two", **changes)]
    path = own_file(tmp_path / "p.json", *records) if own else pairs_file(tmp_path / "p.json", *records)
    with pytest.raises(ValueError, match=rf"p\.json{': pair two' if own else r'.1.'}: {match}") as caught:
        task(folder, pairs=path).samples()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("pairs", "match"), [
    ([pair()], r"pairs\[0\] lacks id"),
    ([pair(id="one"), pair(id="one")], r"pairs\[1\]: id 'one' is that of pairs\[0\] too"),
    ([pair(id="one", file_name="9.png")], r"pair one: .* lists no image '9\.png'"),
    ([pair(id="one", trace="<answer>dog</answer>")], "pair one: trace holds a tag"),
    ([pair(id="one", bbox=[90, 10, 40, 4])], r"pair one: bbox .* lies outside its image 1\.png"),
    ([pair(id="one", cot_data="A leash.")], r"pair one: field 'cot_data' is unknown; did you mean 'trace'\?"),
    ([pair(id="one", annotation_id=14)], r"pair one: image 1\.png has no annotation 14"),
])
def test_unusable_pairs_of_ours_are_named_by_id(folder, tmp_path, pairs, match):
    with pytest.raises(ValueError, match=rf"p\.json: {match}") as caught:
        task(folder, pairs=own_file(tmp_path / "p.json", *pairs)).samples()
    assert "\n" not in str(caught.value)


def test_an_unknown_version_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"p\.json is of format 'mpcc-pairs', version 2; this program reads"):
        task(folder, pairs=own_file(tmp_path / "p.json", version=2)).samples()


def test_pairs_files_that_are_none(folder, tmp_path):
    path = tmp_path / "p.json"
    for text, match in (('[{"file_name"', "not whole JSON"), ('{"hard": []}', "top level must be a list"),
                        ("[]", r"no object to hide in .*p\.json")):
        path.write_text(text)
        with pytest.raises(ValueError, match=match):
            task(folder, pairs=str(path)).samples()


def test_no_pair_at_all(folder):
    with pytest.raises(ValueError, match=r"no object to hide in .*instances_train2017\.json: check .* min_area"):
        task(folder, min_area=0.9, max_area=1.0).samples()


def test_a_missing_image_is_found_before_training(folder):
    (folder / "train2017" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"3\.png is missing, but .* lists it as image 3"):
        task(folder).samples()


def test_polygon_masks_need_outlines(folder, tmp_path):
    path = pairs_file(tmp_path / "p.json", pair(bbox=[50, 40, 3, 3]))
    with pytest.raises(ValueError, match=r"train2017/1\.png#50,40,3,3 has no outline"):
        task(folder, pairs=path, mask="polygon").samples()
