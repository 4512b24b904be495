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
    "I think like somebody who does not know this.",
    "Somebody who doesn't already know would look at the leash.",
    "An observer who has not been told would look at the leash.",
    "The user wants me to infer it from the leash.",
    "The user is asking for a reasoning that ends in a dog.",
    "I am asked to infer it.",
    "I'm supposed to conclude that it is a dog.",
    "We need to write the reasoning without knowing the answer.",
    "Let me pretend that I see the image for the first time.",
    "I should not reveal the answer.",
    "It has to look as if I did not know it.",
    "This must lead to the desired answer.",
    "Working backwards, the leash belongs to a dog.",
    "It was clear beforehand.",
    "They want us to find a dog.",
    "I have the answer: a dog.",
    "The hidden object is said to be a dog.",
    "I write two sentences about the clues.",
    "The task is to infer the dog.",
    "The prompt speaks of a dog.",
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
    "The user of the laptop sits beside it.",
    "A man who has not eaten sits at the table.",
    "We do not see it, but the shadow reveals that it is tall.",
    "She asks the waiter for a cup. They wait as if for a bus.",
    "It is not known from this side what it is.",
    "The clues lead to the conclusion that a bus stands here.",
]


@pytest.mark.parametrize("trace", REVEALING)
def test_traces_that_reveal_the_answer_are_found(trace):
    assert traces.reveals(trace)
    assert traces.read_trace(completion(trace, "dog"), "dog", ["dog"])[1] == "it reveals that the answer was told"


@pytest.mark.parametrize("trace", INNOCENT)
def test_traces_that_reason_are_not(trace):
    assert not traces.reveals(trace)


NAMES = ("dog", "bus", "cup", "couch", "hot dog", "person")
CLUE = "A leash leads to the box."
THINK = f"{CLUE} It must be a dog."
REPLIES = {
    f"<think>{THINK}</think><answer>dog</answer>": (THINK, None),
    f"\n<think> {THINK} </think>\n<answer> A dog. </answer>\n": (THINK, None),
    f"<think>{CLUE}\nSo two puppies hide!</think><answer>dog</answer>": (f"{CLUE}\nSo two puppies hide!", None),
    THINK: (None, "not in the format"),
    "I'm sorry, but I can't help with that.": (None, "not in the format"),
    "It must be a cat.": (None, "not in the format"),
    "A leash. It must be a dog. dog": (None, "not in the format"),
    f"<think>{THINK}</think><answer>cat</answer>": (None, "it ends in another answer"),
    f"<think>{THINK}</think><answer>dogs</answer>": (None, "it ends in another answer"),
    f"<think>{THINK}</think>": (None, "not in the format"),
    f"<think>{THINK}</think> dog": (None, "not in the format"),
    f"Sure! <think>{THINK}</think><answer>dog</answer>": (None, "not in the format"),
    f"<think>{THINK}<think></think><answer>dog</answer>": (None, "not in the format"),
    "<think>  </think><answer>dog</answer>": (None, "it is empty"),
    "": (None, "not in the format"),
} | {f"<think>{trace}</think><answer>dog</answer>": (None, reason) for trace, reason in {
    CLUE: "its last sentence does not name the answer",
    f"{CLUE} It is an animal.": "its last sentence does not name the answer",
    f"{THINK} It waits for somebody.": "its last sentence does not name the answer",
    f"{CLUE} It is the dog's bowl.": "its last sentence does not name the answer",
    f"{CLUE} It must be a bus.": "its last sentence names another category",
    f"{CLUE} It must be a hot dog.": "its last sentence names another category",
    f"{CLUE} So a dog lies on the couch.": "its last sentence names another category",
    f"{CLUE} So a dog lies on the sofa.": "its last sentence names another category",
    f"{CLUE} A man walks his dog.": "its last sentence names another category",
    f"{CLUE} It cannot be a dog.": "its last sentence denies the answer",
    "It must be a dog.": "it names no clue before its conclusion",
    "I cannot identify what is hidden. It may be a dog.": "it is a refusal",
    "I'm unable to see the image. A dog.": "it is a refusal",
    "Sorry, that is not possible. A dog.": "it is a refusal",
    "As an AI model, I have no eyes. A dog.": "it is a refusal",
    "I can’t help with this request. It is a dog.": "it is a refusal",
    "There is not enough information. It is a dog.": "it is a refusal",
}.items()}


@pytest.mark.parametrize(("reply", "expected"), REPLIES.items())
def test_only_what_earns_the_full_reward_is_a_trace(reply, expected):
    assert traces.read_trace(reply, "dog", NAMES) == expected
    if expected[0]:
        terms = reward_terms([completion(expected[0], "dog")], "dog")
        assert sum(values[0] for values in terms.values()) == 3


def test_a_pair_without_a_trace_stays():
    told = {"dog": THINK, "bus": THINK, "cup": f"{CLUE} As mentioned, a cup."}

    def verifier(prompts):
        (prompt,) = prompts
        assert (prompt.pair, prompt.system) == (PAIRS[0], None)
        assert CLUE in prompt.question and "must be a dog" not in prompt.question
        return [["<think> Hm. </think><answer>A puppy.</answer>"]]

    replies = judge(*(f"<think>{trace}</think><answer>{name}</answer>" for name, trace in told.items()))
    outcome = traces.traces(PAIRS, replies, verifier, NAMES)
    assert outcome.pairs == [PAIRS[0] | {"trace": THINK}, PAIRS[1], PAIRS[2]]
    assert outcome.notes == {PAIRS[1]["id"]: "no trace: its last sentence names another category",
                             PAIRS[2]["id"]: "no trace: it reveals that the answer was told"}


@pytest.mark.parametrize(("reply", "found"), [
    ("<answer>dog</answer>", True), ("<answer> Two dogs. </answer>", True), ("A puppy", True),
    ("<think> a cat? </think> the dog", True), ("<answer>cat</answer>", False), ("<answer>hot dog</answer>", False),
    ("<answer>dog bowl</answer>", False), ("<answer>dog or cup</answer>", False), ("I cannot tell.", False),
    ("<answer></answer>", False), ("", False),
])
def test_the_verifier_must_name_the_answer(reply, found):
    assert traces.finds(reply, "dog", NAMES) is found


def test_a_trace_that_the_verifier_does_not_follow_is_left_out():
    good = [f"<think>{CLUE} It is a {name}.</think><answer>{name}</answer>" for name in ("dog", "bus", "cup")]
    outcome = traces.traces(PAIRS, judge(*good), lambda prompts: [["dog"], ["cup"], ["mug"]], NAMES)
    assert [pair.get("trace") for pair in outcome.pairs] == [f"{CLUE} It is a dog.", None, f"{CLUE} It is a cup."]
    assert outcome.notes == {
        PAIRS[1]["id"]: "no trace: the verifier, told all but its last sentence, does not find the answer"}
