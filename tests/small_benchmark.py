"""A benchmark without images, of the paper's sizes, and runs of scripted answerers on it."""

from random import Random

from mpcc.benchmark import Item
from mpcc.questions import KINDS, ask, record

SIZES = {"hard": 322, "moderate": 341, "easy": 451}
EVIDENCE = [{"text": "A leash lies beside the box.", "bbox": [52, 30, 20, 8]},
            {"text": "A bowl stands below it.", "bbox": [20.5, 45, 12, 9]}]


def our_pair(**changes):
    pair = {
        "id": "val2017/1.png#11", "file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog",
        "supercategory": "animal", "annotation_id": 11, "others_visible": True, "rating": 4, "rating_text": "A leash.",
        "difficulty": "hard", "reason": "scene understanding", "confusing": ["cat", "fox", "wolf", "sheep"],
        "filled": ["sheep"], "irrelevant": ["pizza", "toilet"], "trace": "A leash lies there.",
        "scene": "street", "evidence": EVIDENCE,
    }
    return {key: value for key, value in (pair | changes).items() if value is not ...}


def their_pair(**changes):
    """A record of the authors' evaluation file."""
    pair = {
        "file_name": "1.png", "bbox": [10, 10, 40, 30], "category_name": "dog",
        "judgement_negtive_confusion": ["wolf", "sheep"], "choose_negtive_confusion": ["cat", "fox"],
        "irrelevant_negtive": ["pizza", "toilet", "kite"],
    }
    return {key: value for key, value in (pair | changes).items() if value is not ...}


def items(sizes=SIZES):
    levels = [level for level, count in sizes.items() for _ in range(count)]
    names = ("dog", "cat", "bus", "cup", "bed", "kite", "tv")
    return [
        Item(f"item {i}", f"{i}.jpg", (1.0, 2.0, 30.0, 40.0), names[i % 7], level,
             ("fox", "wolf", "lynx", "puma"), ("pizza", "toilet", "spoon"), supercategory=f"group {i % 3}")
        for i, level in enumerate(levels)
    ]


def run(answer, kinds=KINDS, sizes=SIZES, seed=0):
    """Records of an answerer: question → what goes between the answer tags."""
    return [
        record(question, f"<think> so </think><answer>{answer(question)}</answer>", "reasoning")
        for item in items(sizes) for question in ask(item, kinds, seed)
    ]


def uniform(seed):
    """An answerer that draws uniformly among what can be said."""
    rng = Random(seed)

    def answer(question):
        if question.kind == "true_false":
            return rng.choice(("yes", "no"))
        return rng.choice("ABCDEFG"[: len(question.options)] or ["dog", "fox"])

    return answer


def oracle(question):
    return question.truth
