"""What a task says at its doors is checked where it says it: one line that names task, door and sample."""

import contextlib
import math
import re
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from running import lines

from minigrpo import Completion, Generate, Sample, Sampler, Stage, Task, group_advantages
from minigrpo.checks import DoorError, check_attributes, checked_request, checked_sample
from minigrpo.doors import gathered, metrics_of, rounds_of, slots_of, stages_of, views_of
from minigrpo.metrics import OWN, OWN_PARTS, StepMetrics
from minigrpo.ranks import Ranks, SharedError
from minigrpo.reward import weigh
from minigrpo.task import GroupContext

PICTURE = Image.new("RGB", (56, 56))
SAMPLE = Sample("s7", "what?", (PICTURE,))


def saying(**answers) -> Task:
    """A task whose doors say these things."""
    return type("Mine", (Task,), {door: lambda self, *_, said=said: said for door, said in answers.items()})(None)


@pytest.mark.parametrize(("views", "said"), [
    (None, "a dict of name and images"), ({"blind": PICTURE}, "a tuple of PIL images"),
    ({"blind": None}, "a tuple of PIL images"), ({"blind": ["x.png"]}, "PIL images"), ({3: [PICTURE]}, "text as names"),
    ({"prior": [PICTURE]}, "not 'policy' and 'prior'"), ({"policy": [PICTURE]}, "not 'policy' and 'prior'"),
])
def test_views(views, said):
    with pytest.raises(DoorError, match=rf"^Mine\.views, sample s7: gave .*{re.escape(said)}"):
        views_of(saying(views=views), SAMPLE, 0)


def test_a_view_may_have_no_picture_or_several():
    assert views_of(saying(views={"text": [], "crop": [PICTURE, PICTURE]}), SAMPLE, 0)[0].keys() == {"text", "crop"}


@pytest.mark.parametrize(("counts", "said"), [
    ({"blind": -1}, "whole number, 0 or more"), ({"blind": 1.0}, "whole number"),
    ({"other": 1}, r"names of its views \(blind\)"),
])
def test_draw_from(counts, said):
    with pytest.raises(DoorError, match=rf"^Mine\.draw_from, sample s7: gave .*{said}"):
        views_of(saying(views={"blind": [PICTURE]}, draw_from=counts), SAMPLE, 0)


@pytest.mark.parametrize("texts", ["hello", None, [3], {"a"}])
def test_slots(texts):
    with pytest.raises(DoorError, match=r"^Mine\.slots, sample s7: gave .*a list of texts"):
        slots_of(saying(slots=texts), SAMPLE)


@pytest.mark.parametrize("images", [PICTURE, None, "x.png", [PICTURE, None]])
def test_images_of_a_sample(images):
    with pytest.raises(DoorError, match=r"^Mine\.samples, sample s7: gave .*PIL images"):
        checked_sample(saying(), "samples", Sample("s7", "what?", images))


@pytest.mark.parametrize(("request_", "said"), [
    (Generate(s for s in [SAMPLE]), "a list of Sample"), (Generate(None), "a list of Sample"),
    (Generate("hello"), "a list of Sample"), (Generate(SAMPLE), "a list of Sample"), (Generate([3]), "a Sample"),
    (Generate([SAMPLE, SAMPLE]), "an id of its own"), (Generate([SAMPLE], -1), "group_size"),
    (Generate([SAMPLE], 1.5), "group_size"), (Generate([SAMPLE], temperature=-1), "temperature"),
    (Generate([SAMPLE], temperature=float("nan")), "temperature"),
    (Generate([SAMPLE], max_new_tokens="8"), "max_new_tokens"), (Generate([SAMPLE], learn=True), "2 or more"),
])
def test_requests_of_a_reward(request_, said):
    with pytest.raises(DoorError, match=rf"^Mine\.reward.*: gave .*{said}"):
        checked_request(saying(), SAMPLE, request_)


@pytest.mark.parametrize(("stages", "said"), [
    ([], "a list of Stage"), ([Stage("a/../../b", 1)], "a name of letters"), ([Stage(3, 1)], "a name of letters"),
    ([Stage("a", -1)], "as steps of 'a'"), ([Stage("a", 1.5)], "as steps of 'a'"),
    ([Stage("a", 1, policy=float("nan"))], "weights policy and sft"), ([Stage("a", 1, policy=0.0)], "not both 0"),
    ([Stage("a", 1, policy="1")], "weights policy and sft"), ([Stage("a", 1, task="x:Y")], "a Task, or None"),
    ([Stage("a", 1), Stage("a", 2)], "a name of its own"),
])
def test_stages(stages, said):
    with pytest.raises(DoorError, match=rf"^Mine\.stages: gave .*{said}"):
        stages_of(saying(stages=stages), None)


@pytest.mark.parametrize("chosen", [None, [], [0, 0], [0, -1], [0, 9], [0.0, 1.0], "01"])
def test_what_a_sampler_chooses(chosen):
    sampler = type("Odd", (Sampler,), {"choose": lambda self, step: chosen})(9, 2, 0)
    with pytest.raises(SharedError, match=r"^Mine\.sampler: gave .*different whole numbers below 9"):
        list(rounds_of(saying(), sampler, 0))


def test_rewards_whose_spread_is_no_number_are_not_called_equal():
    completions = [Completion("a"), Completion("b")]
    with pytest.raises(ValueError, match=r"^Mine\.reward, sample s7: sums .* are not finite or beyond 1e\+150"):
        weigh(saying(), SAMPLE, completions, {"len": [1e300, -1e300]})
    assert weigh(saying(), SAMPLE, completions, {"len": [1e300, 1.0]}, strict=False)[0].tolist() == [math.inf, 1.0]
    rewards, _ = weigh(saying(), SAMPLE, completions, {"len": [1e149, -1e149]})
    assert group_advantages(rewards).tolist() == pytest.approx([0.7071, -0.7071], abs=1e-4)


@pytest.mark.parametrize(("figures", "said"), [
    (None, "a dict of name and number"), ({1: 2.0}, "a dict of name and number"), ({"length": 2.0}, "names of its own"),
    ({"reward/x": 2.0}, "names of its own"), ({"x": None}, "a number as 'x'"), ({"x": "much"}, "a number as 'x'"),
    ({"x": torch.zeros(2)}, "a number as 'x'"),
])
def test_own_figures(figures, said):
    context = SimpleNamespace(sample=SAMPLE)
    with pytest.raises(DoorError, match=rf"^Mine\.metrics, sample s7: gave .*{said}"):
        metrics_of(saying(metrics=figures), context)
    assert metrics_of(saying(metrics={"x": torch.tensor(2.0), "y": True}), context) == {"x": 2.0, "y": 1.0}


def test_the_engines_own_figures_are_known(run):
    for record in lines(run(grpo__beta=0.1, task__priors=True, run__evaluate_every=1)):
        assert [name for name in record if name not in OWN and not name.startswith(OWN_PARTS)] == []


@pytest.mark.parametrize(("name", "value"), [
    ("scored_by", "Reference"), ("needs_scores", "yes"), ("default_model", 3), ("reward_weights", ["right"]),
    ("reward_weights", {"right": "2"}), ("reward_weights", {"right": float("nan")}),
])
def test_attributes_of_a_task(name, value):
    with pytest.raises(DoorError, match=rf"^Mine\.{name}: gave "):
        check_attributes(type("Mine", (Task,), {name: value})(None))


def test_a_misspelt_door_is_named():
    with pytest.warns(UserWarning, match=r"Mine\.token_weight is no door of a task; is 'token_weights' meant\?"):
        check_attributes(saying(token_weight=None))


@pytest.mark.parametrize("parts", [[1.0, float("nan")], [float("nan"), 1.0]])
def test_a_largest_value_that_is_no_number_on_one_rank_is_none_on_all(parts):
    """A reduction over ranks may pass a NaN over, as the one here does."""
    seen = []
    for value in parts:
        metrics = StepMetrics()
        metrics.max("a", value)
        metrics.reduce(SimpleNamespace(gather=list, sum=lambda v: v, max=lambda v: (seen.append(v), v)[1]))
    largest = [max(column) for column in zip(*seen, strict=True)]
    last = StepMetrics()
    last.max("a", parts[0])
    found = last.reduce(SimpleNamespace(gather=list, sum=lambda v: v, max=lambda _: largest))
    assert str(found["a"]) == "nan"
    alone = StepMetrics()
    alone.max("a", 2.0)
    assert alone.reduce(Ranks())["a"] == 2.0


def test_what_is_gathered_is_of_all_ranks_and_ascending():
    class Two:
        together = staticmethod(contextlib.nullcontext)

        def gather(self, own):
            return [*own, [{"m": [1.0], "other": [7]}]]

    class Gathers(Task):
        def gather(self, context):
            return {"m": [3, 2.0]}

    contexts = [GroupContext(0, SAMPLE, None, [], {}, torch.zeros(2), torch.ones(2, 1), bad=bad)
                for bad in (False, True)]
    found = gathered(Gathers(None), contexts, Two())
    assert [c.gathered for c in found] == [{"m": [1.0, 2.0, 3.0], "other": [7.0]}] * 2, "a bad group says nothing"
