"""The parser: every kind of answer that models give, with its one right reading."""

import pytest

from mpcc.choices import parse_choice
from mpcc.parsing import parse_free, parse_yes_no

OPTIONS = ("cat", "dog", "fire hydrant", "hot dog")
SEVEN = (*OPTIONS, "umbrella", "bus", "wine glass")


@pytest.mark.parametrize(("completion", "letter"), [
    # a letter and its marks
    ("<answer>B</answer>", "B"),
    ("<answer> b </answer>", "B"),
    ("<answer>a</answer>", "A"),
    ("<answer>(B)</answer>", "B"),
    ("<answer>(a) cat</answer>", "A"),
    ("<answer>B.</answer>", "B"),
    ("<answer>B)</answer>", "B"),
    ("<answer>[B]</answer>", "B"),
    ("<answer>**B**</answer>", "B"),
    ("<answer>\nB\n</answer>", "B"),
    ("<answer>'B'</answer>", "B"),
    ("<answer>Ｂ</answer>", "B"),
    ("<answer>\\boxed{B}</answer>", "B"),
    ("<answer>𝐁</answer>", "B"),
    # letter and text
    ("<answer>B) dog</answer>", "B"),
    ("<answer>B.dog</answer>", "B"),
    ("<answer>A.cat</answer>", "A"),
    ("<answer>a. Cat</answer>", "A"),
    ("<answer>A - cat</answer>", "A"),
    ("<answer>B: a dog.</answer>", "B"),
    ("<answer>dog (B)</answer>", "B"),
    ("<answer>B, because there is no leash on the cushion</answer>", "B"),
    ("B. dog\n\nIt sits beside a cat.", "B"),
    # a letter inside a sentence
    ("<answer>The answer is B</answer>", "B"),
    ("<answer>The answer is a.</answer>", "A"),
    ("<answer>The correct option is (D).</answer>", "D"),
    ("<answer>Option A seems right</answer>", "A"),
    ("<answer>I would choose C here.</answer>", "C"),
    ("<answer>A is the most likely one</answer>", "A"),
    ("<answer>I think b</answer>", "B"),
    ("<answer>Answer: B</answer>", "B"),
    ("The hidden object is small.\nB", "B"),
    ("It's most likely A", "A"),
    # an option's text
    ("<answer>dog</answer>", "B"),
    ("<answer> A  Dog. </answer>", "B"),
    ("<answer>a cat</answer>", "A"),
    ("<answer>The Fire Hydrant</answer>", "C"),
    ("<answer>hot dog</answer>", "D"),
    ("<answer>**hot  dog**</answer>", "D"),
    ("<answer>It is a hot  dog</answer>", "D"),
    ("<answer>I think it is a cat</answer>", "A"),
    ("It must be a fire hydrant.", "C"),
    ("A leash ends there. It must be a dog.", "B"),
    ("Dog. The leash ends there.", "B"),
    # where it stands
    ("<think>A or C?</think><answer>B</answer>", "B"),
    ("<answer>A</answer> no, <answer>B</answer>", "B"),
    ("<answer>A</answer> no, <answer>B", "A"),
    ("<think> The answer is C. </think> B", "B"),
    ("<think> It is a cat.</think>\n\nThe answer is **B**.", "B"),
    ("reasoning </think> dog", "B"),
    # other languages
    ("<answer>答案是B</answer>", "B"),
    ("答案：B。", "B"),
    ("<answer>（B）</answer>", "B"),
    ("<answer>La réponse est B</answer>", "B"),
    ("<answer>La respuesta es: B y nada</answer>", "B"),
    ("<answer>Die Antwort ist „B“</answer>", "B"),
])
def test_one_choice(completion, letter):
    assert parse_choice(completion, OPTIONS) == letter


@pytest.mark.parametrize("completion", [
    # two letters, or a letter against a text
    "<answer>A or B</answer>",
    "<answer>A/B</answer>",
    "<answer>A, B</answer>",
    "<answer>Both A and B</answer>",
    "<answer>A.cat B.dog C.fire hydrant D.hot dog</answer>",
    "<answer>A) dog</answer>",
    "<answer>B cat</answer>",
    "<answer>cat or dog</answer>",
    "<answer>B and E</answer>",
    "<answer>AB</answer>",
    "<answer>A B C D</answer>",
    "<answer>a is a cat, b is a dog</answer>",
    # nothing
    "",
    "   ",
    "<answer></answer>",
    "<answer>none</answer>",
    "<answer>None of the above</answer>",
    "<answer>?</answer>",
    "<answer>I don't know</answer>",
    "<answer>I cannot tell, e.g. because it is dark</answer>",
    "<answer>It is a dachshund</answer>",
    "<answer>A zebra</answer>",
    "<answer>a</answer><answer></answer>",
    "This is a street. The box is a",
    "This is a street. A",
    # beyond the options
    "<answer>E</answer>",
    "<answer>(G)</answer>",
    "<answer>1</answer>",
    # only in the reasoning, or in a broken tag
    "<think> The answer is B. </think>",
    "<think> The answer is B. </think><answer></answer>",
    "<think> The answer is B.",
    "<think> B </think><answer>",
    "<answer>B",
    "B</answer>",
    # denied
    "<answer>not B</answer>",
    "<answer>It isn't a dog</answer>",
    "<answer>There is no dog</answer>",
    # evidence, not the choice
    "A red leash runs from the dog to the box. It must be a person.",
    "<answer>hot dogs</answer>",
    "<answer>bulldog</answer>",
    # other languages and signs
    "<answer>狗</answer>",
    "<answer>собака</answer>",
    "<answer>ответ В</answer>",
    "<answer>Il y a un chien</answer>",
    "<answer>T-shirt</answer>",
    "<answer>vitamin-B12</answer>",
    "<answer>It's Bob's</answer>",
])
def test_no_clear_choice(completion):
    assert parse_choice(completion, OPTIONS) is None


@pytest.mark.parametrize(("completion", "letter"), [
    ("<answer>G</answer>", "G"),
    ("<answer>H</answer>", None),
    ("<answer>e</answer>", "E"),
    ("<answer>un cane e un gatto</answer>", None),
    ("<answer>an umbrella</answer>", "E"),
    ("<answer>wine  glass</answer>", "G"),
    ("<answer>glass</answer>", None),
    ("<answer>It is a bus, an umbrella or so</answer>", None),
])
def test_seven_options(completion, letter):
    assert parse_choice(completion, SEVEN) == letter


def test_an_option_that_is_a_sentence_of_its_own_language():
    assert parse_choice("<answer>狗</answer>", ("猫", "狗", "牛", "羊")) == "B"


def test_the_pronoun_is_no_option_among_many():
    many = tuple(f"thing {n}" for n in range(10))
    assert parse_choice("<answer>I think so</answer>", many) is None
    assert parse_choice("<answer>I</answer>", many) == "I"
    assert parse_choice("<answer>(I) thing 8</answer>", many) == "I"


@pytest.mark.parametrize(("completion", "said"), [
    ("<answer>yes</answer>", "yes"),
    ("<answer>Yes.</answer>", "yes"),
    ("<answer> NO </answer>", "no"),
    ("<answer>**No**</answer>", "no"),
    ("<answer>Yes, it is a dog</answer>", "yes"),
    ("<answer>No, it is not a dog.</answer>", "no"),
    ("<answer>The answer is no because it is too small</answer>", "no"),
    ("<answer>Yes, no other object fits</answer>", "yes"),
    ("<answer>答案是 no</answer>", "no"),
    ("<think> No leash, so no. </think><answer>yes</answer>", "yes"),
    ("<think> no </think> Yes", "yes"),
    ("No", "no"),
    ("<answer>no</answer> wait <answer>yes</answer>", "yes"),
    ("<answer>yes or no</answer>", None),
    ("<answer>yes/no</answer>", None),
    ("<answer>No. Yes.</answer>", None),
    ("<answer>There is no dog</answer>", None),
    ("<answer>Not yes.</answer>", None),
    ("<answer>I do not know</answer>", None),
    ("<answer>maybe</answer>", None),
    ("<answer>true</answer>", None),
    ("<answer>eyes</answer>", None),
    ("<answer>none</answer>", None),
    ("<answer>是</answer>", None),
    ("<answer></answer>", None),
    ("<think> yes </think>", None),
    ("<think> yes", None),
    ("<answer>yes", None),
    ("", None),
])
def test_yes_or_no(completion, said):
    assert parse_yes_no(completion) == said


@pytest.mark.parametrize(("completion", "letter"), [
    ("<answer>(B)</answer>", "B"),
    ("<answer>A is closer</answer>", "A"),
    ("<answer>Point A is closer.</answer>", "A"),
    ("It is B, because the circle is closer to the lens.", "B"),
    ("<answer>closer</answer>", None),
])
def test_options_that_begin_with_their_own_letter(completion, letter):
    assert parse_choice(completion, ("A is closer", "B is closer")) == letter


@pytest.mark.parametrize(("completion", "text"), [
    ("<think> a </think><answer> A dog. </answer>", "A dog."),
    ("<answer>cat</answer><answer>dog</answer>", "dog"),
    ("dog", None),
    ("<answer> </answer>", None),
    ("<answer>dog", None),
])
def test_a_free_answer_stands_in_its_tags(completion, text):
    assert parse_free(completion) == text
