"""The pretraining script: what a base for captions is taught beside, and the early model that is kept."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minigrpo import load_model
from mpcc.scenes import pretrain
from mpcc.task import MaskedPrediction

SHIPPED = Path(MaskedPrediction.default_model)


@pytest.fixture
def vlm(monkeypatch):
    monkeypatch.setattr(pretrain, "PICTURES", 4)
    monkeypatch.setattr(pretrain, "LISTS", 1)
    return load_model(SHIPPED, dtype=torch.float32)


def test_every_other_picture_has_a_caption_where_captions_are_taught(vlm):
    plain, captions = (pretrain._draw_lessons(vlm, 1, 10, 0, False, taught)[0] for taught in (False, True))
    questions = [[vlm.tokenizer.decode(packed.input_ids[0, span.prompt_end : span.end]) for span in packed.spans]
                 for packed in (plain, captions)]
    assert [one == other for one, other in zip(*questions, strict=True)] == [True, False, True, False, True]
    assert ["with a gap" in text for text in questions[1]] == [False, True, False, True, False]


def test_the_early_model_is_kept_after_half_of_the_steps_and_learning_goes_on_as_without(vlm, tmp_path):
    found = []
    for early in (tmp_path / "early", None):
        learned = load_model(SHIPPED, dtype=torch.float32)
        lessons = (pretrain._draw_lessons(vlm, step, 2, 0, False, True) for step in range(2))
        pretrain.learn_to_answer("test", learned, lessons, 2, 0.5, early)
        found.append(learned.net.state_dict())
    assert all(torch.equal(one, two) for one, two in zip(found[0].values(), found[1].values(), strict=True))
    kept, name = load_file(tmp_path / "early" / "model.safetensors"), "model.language_model.layers.0.mlp.up_proj.weight"
    kept = next(w for key, w in kept.items() if key.endswith("layers.0.mlp.up_proj.weight") and "visual" not in key)
    assert kept.dtype == torch.bfloat16
    after, before = found[0][name], vlm.net.state_dict()[name]
    assert not torch.equal(kept, before.bfloat16()) and not torch.equal(kept, after.bfloat16())
    load_model(tmp_path / "early")


def test_two_bases_at_once_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pretrain", "--plain", "--captions"])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert "--plain and --captions are two different bases: take one" in capsys.readouterr().err
