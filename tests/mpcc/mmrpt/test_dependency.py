"""Visual dependency: which row's attention it is, its bounds, and the file of it."""

import json

import pytest
import tiny
import torch

from minigrpo import pack
from minigrpo.layout import Group
from minigrpo.shares import SharesLayout, attention_shares
from minigrpo.task import Sample
from mpcc.mmrpt.captions import Caption, SceneCaptions
from mpcc.mmrpt.dependency import main, over_parts, score_captions, token_dependency
from mpcc.mmrpt.masks import above, masked_by_choice, masked_by_scores
from mpcc.mmrpt.spans import parts_of

TEXTS = ("A dog on a mat.", "A cat near the big sea. It is dark.")


class Noise:
    """Captions of pictures of noise."""

    def shown(self, caption):
        return tiny.image(56, 56, len(caption.text))


CAPTIONS = [Caption(f"c{i}", "image", text, None, str(i)) for i, text in enumerate(TEXTS)]


@pytest.fixture
def vlm():
    return tiny.vlm("qwen2_5_vl", torch.float32)


def test_the_dependency_of_a_token_is_the_share_of_its_row_or_of_the_row_before(vlm):
    own, before = ([d for _, d in token_dependency(vlm, Noise(), CAPTIONS, row)] for row in ("own", "before"))
    for caption, one, other in zip(CAPTIONS, own, before, strict=True):
        tokens = vlm.encode_completion(caption.text)
        prompt = vlm.encode(Sample("x", "Describe the image.", (Noise().shown(caption),)))
        rows = attention_shares(vlm, pack([Group(prompt, [tokens])]))[len(prompt) - 1 :]  # the last of the prompt first
        assert len(one) == len(other) == len(tokens) - 1 == len(rows) - 1
        torch.testing.assert_close(other, rows[:-1])
        torch.testing.assert_close(one, rows[1:])
        assert float(one.min()) > 0 and float(one.max()) < 1


@pytest.mark.parametrize(("on_image", "expected"), [(True, 1.0), (False, 0.0)])
def test_it_is_one_where_attention_is_forced_onto_the_image_and_zero_where_off_it(vlm, monkeypatch, on_image, expected):
    attend = SharesLayout.attend

    def forced(self, layer, query, key, value, scale):
        looked_at = (self.marked > 0) if on_image else (self.marked == 0)
        key = 100.0 * looked_at[:, None] * torch.ones_like(key)
        return attend(self, layer, torch.ones_like(query), key, value, scale)

    monkeypatch.setattr(SharesLayout, "attend", forced)
    for record in score_captions(vlm, Noise(), CAPTIONS, "span", "own"):
        assert record["scores"] == pytest.approx([expected] * len(record["parts"]), abs=1e-6) and record["scores"]


def test_a_part_has_the_mean_of_its_tokens():
    spans = [(0, 2), (2, 5), (5, 9), (9, 9)]
    scores = torch.tensor([0.1, 0.4, 0.8, 0.9])
    assert over_parts([(0, 5), (6, 9), (3, 7)], spans, scores) == pytest.approx([0.25, 0.8, 0.6])


@pytest.mark.parametrize(("scores", "quantile", "expected"), [
    ([0.1, 0.5, 0.3, 0.9], 0.75, [3]), ([0.1, 0.5, 0.3, 0.9], 0.5, [1, 3]), ([0.1, 0.5, 0.3, 0.9], 0.0, [1, 2, 3]),
    ([0.2, 0.2, 0.2], 0.9, [0, 1]), ([0.1, 0.2], 1.0, [1]),
])
def test_one_part_at_least_is_masked_and_not_all(scores, quantile, expected):
    assert above(scores, quantile) == expected


def test_as_many_random_parts_are_masked_the_same_every_time():
    found = masked_by_choice(CAPTIONS, "random", "span", 0.5)
    assert found == masked_by_choice(CAPTIONS, "random", "span", 0.5)
    for caption in CAPTIONS:
        parts = parts_of(caption.text, "span")
        own = [masked for masked in found if masked.caption is caption]
        assert {masked.part for masked in own} <= set(parts) and len(own) == (len(parts) + 1) // 2
    assert found[0].rest.count("___") == 1 and found[0].rest.replace("___", found[0].missing) == TEXTS[0]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A file of scores of three captions of the scenes, and a small model's folder."""
    folder = tmp_path_factory.mktemp("scored")
    tiny.vlm("qwen2_5_vl", torch.float32).save(folder / "model")
    words = ["--model", str(folder / "model"), "--split", "val2017", "--limit", "3", "--granularity", "span"]
    assert main([*words, "--out", str(folder / "masks.json")]) == 0
    return folder / "masks.json"


def test_the_file_holds_every_part_with_its_score(scored):
    captions = SceneCaptions("val2017")
    content = json.loads(scored.read_text())
    assert (content["row"], content["granularity"], content["layers"]) == ("before", "span", [1])
    masked = masked_by_scores(captions, scored, 0.75)
    for caption, record in zip(captions[:3], content["captions"], strict=True):
        assert (record["id"], record["text"]) == (caption.id, caption.text)
        assert [tuple(part) for part in record["parts"]] == parts_of(caption.text, "span")
        own = [m.part for m in masked if m.caption is caption]
        assert own == [tuple(record["parts"][i]) for i in above(record["scores"], 0.75)]


@pytest.mark.parametrize(("change", "said"), [
    (lambda c: c.update(format="x"), "is no file of python -m mpcc.mmrpt.dependency, version 1: write it anew"),
    (lambda c: c.pop("captions"), "has no list named 'captions'"),
    (lambda c: c["captions"][1].update(text="Another."), r"captions\[1\]: .* is of no caption of these: score them"),
    (lambda c: c["captions"][1].update(id=["x"]), r"captions\[1\]: .* is of no caption of these"),
    (lambda c: c["captions"][2]["scores"].pop(), r"captions\[2\]: parts and scores are not two lists of one length"),
    (lambda c: c["captions"][0]["parts"].__setitem__(0, [3, 9999]), r"captions\[0\]: part \[3, 9999\] with score"),
    (lambda c: c["captions"][0]["scores"].__setitem__(0, 2.0), r"with score 2.0 is none; write the file anew"),
])
def test_a_damaged_file_is_refused(scored, tmp_path, change, said):
    content = json.loads(scored.read_text())
    change(content)
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        masked_by_scores(SceneCaptions("val2017"), path, 0.75)


@pytest.mark.parametrize(("words", "said"), [
    (["--model", "nowhere"], "nowhere"), (["--model", "x", "--limit", "-1"], "--limit -1 must be 0 or more captions"),
    (["--model", "x", "--coco", "no/folder"], "no/folder is not a folder: a COCO folder holds annotations/captions_"),
    (["--model", "x", "--split", "test"], "the scenes have no split 'test'"),
])
def test_wrong_options_end_in_one_line(words, said, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "x.json")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("mpcc.mmrpt.dependency: error: ") and said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
