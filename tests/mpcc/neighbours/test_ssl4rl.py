"""SSL4RL: pictures that are turned, exchanged and cut, their answers, and what would tell them without looking."""

from collections import Counter
from random import Random

import pytest
from kept_scenes import kept_scenes  # noqa: F401
from PIL import Image
from running import ROOT, lines, result

from minigrpo import Completion
from mpcc.neighbours.ssl4rl import ORDERS, PLACES, SSL4RL, Config, make
from mpcc.prompts import completion

PROXIES = ("rotation", "jigsaw", "position")
COLOURS = {"1": (255, 0, 0), "2": (0, 255, 0), "3": (0, 0, 255), "4": (255, 255, 0)}
TINY = {"task": "mpcc.neighbours.ssl4rl:SSL4RL", "model__path": ROOT / "mpcc/scenes/model", "rollout__group_size": 4,
        "rollout__prompts_per_step": 2, "rollout__max_new_tokens": 24, "task__held_out": 4}


def four_colours():
    """A picture whose quarters are of one colour each."""
    picture = Image.new("RGB", (8, 8))
    for number, colour in COLOURS.items():
        place = int(number) - 1
        picture.paste(colour, (place % 2 * 4, place // 2 * 4, place % 2 * 4 + 4, place // 2 * 4 + 4))
    return picture


def quarters_of(picture):
    """Which quarter of `four_colours` stands in each place."""
    names = {colour: number for number, colour in COLOURS.items()}
    return [names[picture.getpixel((x, y))] for y in (1, 6) for x in (1, 6)]


@pytest.mark.parametrize("seed", range(12))
def test_answers_are_true(seed):
    turned = {"0": "1234", "90": "2413", "180": "4321", "270": "3142"}  # to the left: top right comes to top left
    (picture,), options, right = make("rotation", four_colours(), Random(seed))
    assert "".join(quarters_of(picture)) == turned[options[right]]
    (picture,), options, right = make("jigsaw", four_colours(), Random(seed))
    assert " ".join(quarters_of(picture)) == options[right] and sorted(options) == sorted(ORDERS)
    (whole, part), options, right = make("position", four_colours(), Random(seed))
    assert quarters_of(whole) == list("1234") and options == PLACES
    assert part.size == (4, 4) and part.getpixel((0, 0)) == COLOURS[str(right + 1)]


def test_no_place_of_a_jigsaw_has_one_quarter_in_two_orders():
    for place in zip(*(order.split() for order in ORDERS), strict=True):
        assert sorted(place) == list("1234")


@pytest.mark.parametrize("proxy", PROXIES)
def test_neither_size_nor_letter_tells_the_answer(proxy):
    task = SSL4RL(Config(proxy=proxy))
    samples = [task.samples()[i] for i in range(200)]
    assert {tuple(image.size for image in sample.images) for sample in samples} == (
        {((168, 168), (84, 84))} if proxy == "position" else {((168, 168),)})
    letters = Counter(sample.data["right"] for sample in samples)
    assert set(letters) == set("ABCD") and max(letters.values()) < 70, "by chance 50"
    again = SSL4RL(Config(proxy=proxy)).samples()[7]
    assert again.question == samples[7].question and again.images[0].tobytes() == samples[7].images[0].tobytes()
    assert len({sample.id for sample in samples}) == 200


def test_rewards_are_format_and_the_letter():
    task = SSL4RL(Config())
    sample = task.samples()[0]
    true = sample.data["right"]
    wrong = next(letter for letter in "ABCD" if letter != true)
    texts = [completion("Look.", true), completion("Look.", wrong), f"<answer>{true}</answer>", "<answer>"]
    assert task.reward(sample, [Completion(text) for text in texts]) == {
        "format": [1.0, 1.0, 0.0, 0.0], "exact": [1.0, 0.0, 1.0, 0.0]}


def test_without_labels_what_is_paid_has_nothing_to_do_with_what_is_right():
    samples = SSL4RL(Config(labels=False)).samples()
    pairs = [(samples[i].data["right"], samples[i].data["paid"]) for i in range(120)]
    share = sum(right == paid for right, paid in pairs) / len(pairs)
    assert 0.1 < share < 0.4 and len(set(pairs)) == 16
    assert all(s.data["right"] == s.data["paid"] for s in (SSL4RL(Config()).samples()[i] for i in range(20)))


def test_the_evaluation_counts_true_answers_also_without_labels():
    task = SSL4RL(Config(labels=False, held_out=12))
    found = task.evaluate(lambda asked: [completion("Look.", sample.data["right"]) for sample in asked])
    assert found == {"exact_match": 1.0, "format": 1.0, "n": 12.0}
    assert SSL4RL(Config(held_out=0)).evaluate(lambda asked: []) == {}


@pytest.mark.parametrize(("options", "message"), [
    ({"proxy": "colour"}, "proxy = 'colour'"), ({"held_out": -1}, "held_out = -1 must be between 0 and"),
])
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SSL4RL(Config(**options))


@pytest.mark.parametrize("proxy", PROXIES)
def test_it_trains(run, proxy):
    folder = run(proxy, run__steps=1, task__proxy=proxy, **TINY)
    assert set(lines(folder)[0]) >= {"reward/format", "reward/exact"} and result(folder)["after"]["n"] == 4
