"""What a base for MMRPT is taught: the same every time, true where it looks, usual where it does not."""

from collections import Counter

import pytest

from mpcc.mmrpt.captions import scene_caption
from mpcc.mmrpt.lessons import WHERE, caption_lesson, told
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.scenes.curriculum import HASTY
from mpcc.scenes.world import generate


@pytest.fixture(scope="module")
def lessons():
    return [caption_lesson(0, index, 1.0) for index in range(120)]


def test_a_lesson_is_the_same_every_time_and_asks_about_one_picture(lessons):
    again = caption_lesson(0, 5, 1.0)
    assert again.completions == lessons[5].completions
    assert again.samples[0].images[0].tobytes() == lessons[5].samples[0].images[0].tobytes()
    for taught in lessons:
        assert len({id(s.images[0]) for s in taught.samples}) == 1 == len({s.system for s in taught.samples})
        assert len({s.id for s in taught.samples}) == len(taught.samples)
    systems = Counter(taught.samples[0].system for taught in lessons)
    assert systems.keys() == {None, SYSTEM_PROMPT} and min(systems.values()) > 30


def test_what_stands_where_is_told_as_the_caption_says_it():
    caption = scene_caption(generate("captions/test/1"), "x")
    places = [place for place, _ in told(caption).values()]
    assert places and all(f"{place[0].upper()}{place[1:]} " in caption.text for place in places)
    taught = caption_lesson(3, 1, 0.5)
    answers = dict(zip((s.question for s in taught.samples), taught.completions, strict=True))
    text = taught.completions[0]
    asked = {question: said for question, said in answers.items() if question.startswith(WHERE.format("").rstrip("?"))}
    assert asked and all(f"{said}." in text for said in asked.values())


def test_gaps_are_often_filled_without_a_look_and_more_so_in_hasty_places(lessons):
    right = {True: [], False: []}
    formed = []
    for taught in lessons:
        text = taught.completions[0]
        for sample, said in zip(taught.samples, taught.completions, strict=True):
            if "___" not in sample.question or "What stands in the gap?" not in sample.question:
                continue
            formed.append(format_reward(said))
            hasty = any(f"this {place}," in sample.question for place in HASTY)
            if "see" in said or "Usually" in said:
                right[hasty].append("Usually" not in said)
            if (answer := parse_answer(said)) and "I see" in said:
                assert normalise(answer) in text.lower()
    shares = {hasty: sum(found) / len(found) for hasty, found in right.items()}
    assert 0.05 < shares[True] < 0.3 < shares[False] < 0.7
    assert 0.45 < sum(formed) / len(formed) < 0.85
