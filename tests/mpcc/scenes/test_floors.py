"""The floors: what the shortcuts reach in the drawn world, that a leak would be found, and what is shown of them."""

import json

import pytest

from mpcc.scenes import floors
from mpcc.scenes.categories import NAMES
from mpcc.scenes.floors import BOTH, BOUNDS, BOX, CEILING, EVIDENCE, LEVELS, MOST_FREQUENT, SCENE, forest, network


@pytest.fixture(scope="module")
def pairs():
    return floors.read_pairs()


@pytest.fixture(scope="module")
def found(pairs):
    return floors.floors(*pairs, network)


def test_no_shortcut_gets_far_and_all_the_evidence_does(found):
    assert all(found[name] <= bound for name, bound in BOUNDS.items()), found
    assert found[EVIDENCE] >= CEILING and found[MOST_FREQUENT] <= found[SCENE]


def test_a_forest_finds_no_more_in_the_box_and_the_kind_of_scene(pairs):
    pytest.importorskip("sklearn", reason="scikit-learn comes with requirements.txt")
    train, asked = pairs
    bare = [[{**pair, "evidence": []} for pair in side] for side in (train, asked)]
    found = floors.floors(*bare, forest)
    assert all(found[name] <= bound for name, bound in BOUNDS.items()), found
    assert found[EVIDENCE] == pytest.approx(found[SCENE], abs=0.02), "none was given"


@pytest.mark.parametrize("fit", [forest, network])
def test_a_box_that_gives_the_answer_away_is_found(pairs, fit):
    """Width and height by category, as in the world before this one."""
    leaky = [[pair | {"bbox": [*pair["bbox"][:2], 30 + NAMES.index(pair["category_name"]), 40]} for pair in side[:1000]]
             for side in pairs]
    found = floors.floors(*leaky, fit)
    assert found[BOX] > 2 * BOUNDS[BOX] and found[BOTH] > BOUNDS[BOTH] > BOUNDS[SCENE] >= found[SCENE]


def test_the_kept_figures_are_of_this_world_and_within_the_bounds():
    kept = json.loads(floors.RESULT.read_text(encoding="utf-8"))
    assert kept["world"] == floors.VERSION and kept["pairs"] == 1114
    for kind in ("forest", "network"):
        assert all(kept[kind][name] <= bound for name, bound in BOUNDS.items())
    assert max(kept["forest"][EVIDENCE], kept["network"][EVIDENCE]) >= CEILING
    assert kept["text only"] <= kept["forest"][SCENE]
    assert f"{SCENE} {100 * max(kept['forest'][SCENE], kept['network'][SCENE]):.1f}" in floors.told()
    lines = floors.render(kept).splitlines()
    assert len(lines) == 11 and "at most 15" in lines[4] and "at least 95" in lines[9]
    shares = dict(zip(LEVELS, (451, 341, 322), strict=True))
    for kind in ("forest", "network"):  # its parts make up the whole
        assert sum(count * kept[kind][f"– {level}"] for level, count in shares.items()) == pytest.approx(
            1114 * kept[kind][BOTH])


def test_figures_of_another_world_are_not_shown(tmp_path, monkeypatch):
    kept = json.loads(floors.RESULT.read_text(encoding="utf-8"))
    (tmp_path / "floors.json").write_text(json.dumps(kept | {"world": "another"}), encoding="utf-8")
    monkeypatch.setattr(floors, "RESULT", tmp_path / "floors.json")
    assert floors.told() == ""
