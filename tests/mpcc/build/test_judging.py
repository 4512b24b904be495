"""Stages 2, 3 and 5: what is read from a judge's replies, and what is not."""

import pytest

from mpcc.build import difficulty, screen, traces
from mpcc.prompts import completion
from mpcc.rewards import reward_terms
from mpcc.scenes.world import DIFFICULTY

PAIRS = [{"id": f"val2017/{i}.jpg#{i}", "file_name": f"{i}.jpg", "bbox": [1, 2, 3, 4], "category_name": name}
         for i, name in enumerate(("dog", "bus", "cup"))]


def judge(*replies):
    def ask(prompts):
        assert [prompt.pair["id"] for prompt in prompts] == [pair["id"] for pair in PAIRS]
        # the judge is told what is hidden
        assert all(f"The hidden object is: {p.pair['category_name']}." in p.question for p in prompts)
        return [[reply] for reply in replies]

    return ask


RATINGS = {
    "Rating: 4": 4,
    "It is likely.\nRating: 5": 5,
    "It is likely.\n\n**Rating:** 2": 2,
    "**Rating: 3**": 3,
    "rating = 1.": 1,
    "Rating: 4/5": 4,
    "Rating: 4 out of 5": 4,
    "Rating: 4.0": 4,
    "- Rating: 3\n": 3,
    "3": 3,
    " 5.\n": 5,
    "Rating: 0": None,
    "Rating: 6": None,
    "Rating: 45": None,
    "Rating: 4.5": None,
    "Rating: four": None,
    "Rating: 3 or 4": None,
    "Rating: 3\nRating: 4": None,
    "Rating: 3\nOn reflection:\nRating: 3": 3,
    "I would give it a 4, as the scene suggests it.": None,
    "There are 3 cups.": None,
    "33": None,
    "Rating:": None,
    "": None,
}


@pytest.mark.parametrize(("text", "rating"), RATINGS.items())
def test_ratings_are_read_strictly(text, rating):
    assert screen.parse_rating(text) == rating


def test_screening_keeps_strong_pairs_with_rating_and_text():
    outcome = screen.screen(PAIRS, judge("A leash.\nRating: 4 ", "Who knows.\nRating: 2", "No idea"), threshold=3)
    assert outcome.pairs == [PAIRS[0] | {"rating": 4, "rating_text": "A leash.\nRating: 4"}]
    assert outcome.dropped == {PAIRS[1]["id"]: "rated below 3", PAIRS[2]["id"]: "rating unreadable"}


def test_the_threshold_itself_stays():
    assert len(screen.screen(PAIRS, judge("1", "2", "3"), threshold=2).pairs) == 2


KINDS = {
    "Kind: scene understanding": "scene understanding",
    "Kind: simple scene": "simple scene",
    "Kind: simple scene understanding": "simple scene",
    "The dog's tail is seen.\n**Kind:** recognition from local features.": "local features",
    "kind - Object Relationship": "object relationship",
    "object analogy": "object analogy",
    "Contextual details.": "contextual details",
    "Kind: scene analogy\nKind: scene analogy": "scene analogy",
    "Kind: scene analogy\nKind: object analogy": None,
    "Kind: scene analogy\nKind: something else": None,
    "Kind: scene analogy or object analogy": None,
    "Kind: hard": None,
    "It needs scene understanding.": None,
    "Kind:": None,
    "": None,
}


@pytest.mark.parametrize(("text", "kind"), KINDS.items())
def test_kinds_are_read_strictly(text, kind):
    assert difficulty.parse_kind(text) == kind


def test_kinds_and_levels_are_those_of_the_scenes():
    assert {kind: level for kind, (level, _) in difficulty.KINDS.items()} == DIFFICULTY
    assert all(f"{kind}: " in difficulty.QUESTION for kind in DIFFICULTY)


def test_labels_are_stored_and_missing_ones_noted():
    outcome = difficulty.label(PAIRS, judge("Kind: scene analogy", "Kind: local features", "?"))
    assert [(p["difficulty"], p["reason"]) for p in outcome.pairs] == [
        ("moderate", "scene analogy"), ("easy", "local features"), (None, None)]
    assert outcome.notes == {PAIRS[2]["id"]: difficulty.UNREADABLE} and not outcome.dropped


REVEALING = [
    "I was told that it is a dog.",
    "We are told it's a dog.",
    "The answer is given, so it must be a dog.",
    "The answer was provided: a dog.",
    "As stated, the hidden object is a dog.",
    "The black rectangle hides a dog as mentioned.",
    "As was mentioned before, it is a dog.",
    "The ground truth is a dog.",
    "This fits the ground-truth label.",
    "The correct answer is provided.",
    "Since we know it is a dog, the leash makes sense.",
    "Because I already know that a dog is hidden, I look for a leash.",
    "Knowing it is a dog, I look at the leash.",
    "The hidden object is known to be a dog.",
    "According to the prompt, a dog is hidden.",
    "From the question it follows that a dog is hidden.",
    "The question says that it is a dog.",
    "The user already mentioned a dog.",
    "I've been told it is a dog.",
    "The given answer, a dog, fits.",
    "It is already known that this is a dog.",
    "The object has been revealed as a dog.",
    "Based on the instructions, it is a dog.",
]
INNOCENT = [
    "A leash leads to the box, so it is likely a dog.",
    "The man looks down at something on a leash. It must be a dog.",
    "The table is set for a meal. Given the fork on the left, the hidden object is a knife.",
    "The rails tell that a train runs here.",
    "People at a stop usually wait for a bus. I know of nothing else of this size here.",
    "The sign says STOP, and cars wait. The hidden object is likely a car.",
    "The provided seats face a screen.",
    "Given that the room has a desk and a keyboard, a mouse is most likely.",
    "The correct size for a cup. The scene is a kitchen.",
    "As the shadow indicates, it is tall.",
]


@pytest.mark.parametrize("trace", REVEALING)
def test_traces_that_reveal_the_answer_are_found(trace):
    assert traces.reveals(trace)
    assert traces.read_trace(completion(trace, "dog"), "dog")[1] == "it reveals that the answer was told"


@pytest.mark.parametrize("trace", INNOCENT)
def test_traces_that_reason_are_not(trace):
    assert not traces.reveals(trace)


THINK = "A leash leads to the box."
REPLIES = {
    f"<think>{THINK}</think><answer>dog</answer>": (THINK, None),
    f"\n<think> {THINK} </think>\n<answer> A dog. </answer>\n": (THINK, None),
    THINK: (THINK, None),
    f"<think>{THINK}</think><answer>cat</answer>": (None, "it ends in another answer"),
    f"<think>{THINK}</think><answer>dogs</answer>": (None, "it ends in another answer"),
    f"<think>{THINK}</think>": (None, "not in the format"),
    f"<think>{THINK}</think> dog": (None, "not in the format"),
    f"Sure! <think>{THINK}</think><answer>dog</answer>": (None, "not in the format"),
    f"<think>{THINK}<think></think><answer>dog</answer>": (None, "not in the format"),
    "<think>  </think><answer>dog</answer>": (None, "it is empty"),
    "": (None, "it is empty"),
}


@pytest.mark.parametrize(("reply", "expected"), REPLIES.items())
def test_only_what_earns_the_full_reward_is_a_trace(reply, expected):
    assert traces.read_trace(reply, "dog") == expected
    if expected[0]:
        terms = reward_terms([completion(expected[0], "dog")], "dog")
        assert sum(values[0] for values in terms.values()) == 3


def test_a_pair_without_a_trace_stays():
    good = f"<think>{THINK}</think><answer>dog</answer>"
    outcome = traces.traces(PAIRS, judge(good, good, "<think>As mentioned.</think><answer>cup</answer>"))
    assert outcome.pairs == [PAIRS[0] | {"trace": THINK}, PAIRS[1], PAIRS[2]]
    assert outcome.notes == {PAIRS[1]["id"]: "no trace: it ends in another answer",
                             PAIRS[2]["id"]: "no trace: it reveals that the answer was told"}
