"""How models word a choice: clear answers have their letter, unclear ones none."""

import pytest

from mpcc.choices import parse_choice

NAMES = ("cat", "dog", "fire hydrant", "hot dog")
POINTS = ("Point A", "Point B", "Point C", "Point D")
CLOSER = ("A is closer", "B is closer")
YES_NO = ("yes", "no")

CLEAR = [
    # weighed and set aside
    ("I considered (A), but it is incorrect. Final answer: D.", POINTS, "D"),
    ("The answer is B, not A.", POINTS, "B"),
    ("B, not A", POINTS, "B"),
    ("B (not A)", NAMES, "B"),
    ("not A but B", NAMES, "B"),
    ("It is not A, it is C.", POINTS, "C"),
    ("Not A, B or D. The answer is C.", POINTS, "C"),
    ("Neither A nor B fits, so C.", POINTS, "C"),
    ("A is wrong; the answer is C.", POINTS, "C"),
    ("A and C can be ruled out. D", POINTS, "D"),
    ("A, B and C are incorrect. D is correct.", POINTS, "D"),
    ("Option B is correct. Option A is not.", POINTS, "B"),
    ("A isn't right, B is.", POINTS, "B"),
    ("A is too far to the left, so I choose B.", POINTS, "B"),
    ("B rather than A", POINTS, "B"),
    ("I would pick C instead of D.", POINTS, "C"),
    ("I don't think it is A. The answer is B.", POINTS, "B"),
    ("It can't be A, so it must be B.", POINTS, "B"),
    ("A: no. B: yes.", CLOSER, "B"),
    ("A looks plausible, but C is correct.", POINTS, "C"),
    ("It might be A, but I think B.", POINTS, "B"),
    ("It is not a cat but a dog.", NAMES, "B"),
    ("A dog, not a cat.", NAMES, "B"),
    # the conclusion after an account of the options
    ("A: a cat, B: a dog. The answer is B.", NAMES, "B"),
    ("The options are A, B, C and D. I choose C.", POINTS, "C"),
    ("A. cat\nB. dog\nC. fire hydrant\nD. hot dog\n\nAnswer: C", NAMES, "C"),
    ("Between A and B, I would pick B.", POINTS, "B"),
    ("Comparing A with B, C and D: final answer is (C).", POINTS, "C"),
    ("Which point is closer, A or B? B.", CLOSER, "B"),
    ("Therefore, the correct option is **(D)**.", POINTS, "D"),
    ("The best match is close to D. So the answer is D.", POINTS, "D"),
    ("B is the answer.", POINTS, "B"),
    ("C is my final choice", POINTS, "C"),
    ("I'm going with B.", POINTS, "B"),
    ("The correct answer would be: (A)", POINTS, "A"),
    ("$\\boxed{\\text{C}}$", POINTS, "C"),
    ('{"answer": "A"}', POINTS, "A"),
    ("<b>A</b>", POINTS, "A"),
    ("After looking at A, B, C and D, the best match is C.", POINTS, "C"),
    ("Although A looks similar, B matches exactly.", POINTS, "B"),
    ("Not B. Not C. Not D. A.", POINTS, "A"),
    ("The answer is A (not B, C or D).", POINTS, "A"),
    ("We can exclude A, B and C. The answer: D", POINTS, "D"),
    ("I can't see A in the image. I would guess C", POINTS, "C"),
    # corrected
    ("The answer is A. Wait, B.", POINTS, "B"),
    ("A. No, the answer is C.", POINTS, "C"),
    ("Answer: A\nFinal answer: B", POINTS, "B"),
    ("A... actually, it is D.", POINTS, "D"),
    # with a reason
    ("B, because A is too far away.", CLOSER, "B"),
    ("Because A is small, the answer is B.", CLOSER, "B"),
    ("B. A is in the background.", CLOSER, "B"),
    ("The answer is B. It lies left of a cat.", NAMES, "B"),
    ("B, since the cat looks at it.", NAMES, "B"),
    ("It stands next to a cat, so it is a dog.", NAMES, "B"),
    ("A bowl for the cat stands there. It must be a dog.", NAMES, "B"),
    # depth
    ("B is closer than A.", CLOSER, "B"),
    ("Point B is closer to the camera than point A.", CLOSER, "B"),
    ("A is farther away, so B is closer.", CLOSER, "B"),
    ("A looks close, but B is even closer.", CLOSER, "B"),
    ("(B) B is closer", CLOSER, "B"),
    ("Point A", POINTS, "A"),
    ("The corresponding point is point c.", POINTS, "C"),
    # statements
    ("Yes, there is no doubt about it.", YES_NO, "A"),
    ("(B) no", YES_NO, "B"),
    ("No, the car is not on the left.", YES_NO, "B"),
    ("The answer is yes.", YES_NO, "A"),
    ("(A) yes, there is no other car.", YES_NO, "A"),
]

UNCLEAR = [
    ("The answer is A or B.", POINTS),
    ("The answer is A. Or B.", POINTS),
    ("The answer is A, or maybe B.", POINTS),
    ("It is either A or C.", POINTS),
    ("A (or B)", POINTS),
    ("Answer: A. Alternatively B.", POINTS),
    ("If A is correct then the car is red.", POINTS),
    ("B and C look alike, and so does D.", POINTS),
    ("A and B are both closer.", CLOSER),
    ("Both look equally close, A and B.", CLOSER),
    ("The answer is A. The answer is B.", POINTS),
    ("Final answer: A. Final answer: B.", POINTS),
    ("The answer is B. B is wrong.", POINTS),
    ("Final answer: A or B", POINTS),
    ("It is hard to say whether it is A or B.", POINTS),
    ("I am not sure if it is B.", POINTS),
    ("I don't think it is B.", POINTS),
    ("I would not choose A.", POINTS),
    ("It is not A.", CLOSER),
    ("A is wrong.", CLOSER),
    ("A can be ruled out.", CLOSER),
    ("A, B and C are incorrect.", POINTS),
    ("Neither A nor B", CLOSER),
    ("Anything except A", CLOSER),
    ("A is farther from the camera.", CLOSER),
    ("A is farther than B.", CLOSER),
    ("A is not closer than B.", CLOSER),
    ("A is smaller than B.", POINTS),
    ("It is smaller than a dog.", NAMES),
    ("B?", POINTS),
    ("Is it B? I cannot tell.", POINTS),
    ("A, B, C, D", POINTS),
    ("A\nB", POINTS),
    ("A. cat B. dog", NAMES),
    ("A: 50 %, B: 50 %", CLOSER),
    ("The answer is E.", POINTS),
    ("The answer is B, a cat.", NAMES),
    ("The answer is B. It must be a cat.", NAMES),
    ("It is a dog or a cat.", NAMES),
    ("The dog's owner looks at it.", NAMES),
    ("Yes and no.", YES_NO),
    ("I would not say yes.", YES_NO),
    ("There is no car.", YES_NO),
    ("None of the above.", POINTS),
    ("All of A, B, C and D match.", POINTS),
]


@pytest.mark.parametrize(("said", "options", "letter"), CLEAR)
def test_a_clear_answer_has_its_letter(said, options, letter):
    for completion in (said, f"<think> A or B? </think><answer>{said}</answer>", f"<think> C. </think>\n{said}"):
        assert parse_choice(completion, options) == letter


@pytest.mark.parametrize(("said", "options"), UNCLEAR)
def test_an_unclear_answer_has_none(said, options):
    for completion in (said, f"<answer>{said}</answer>", f"<think> The answer is A. </think>{said}"):
        assert parse_choice(completion, options) is None
