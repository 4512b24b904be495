"""Stage 5, traces: a judging model that knows the answer simulates the reasoning, and a second one must follow it."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from mpcc.build.answers import UNANSWERED, Ask, Prompt
from mpcc.build.distractors import spoken_name
from mpcc.build.names import mentioned
from mpcc.build.store import Outcome, PairRecord
from mpcc.rewards import format_reward, normalise, parse_answer
from mpcc.traces import flaw, sentences

QUESTION = (
    "A black rectangle hides one object in this image. The hidden object is: {name}. Write what somebody would think "
    "who has nothing but this image and works out what is hidden: one to three sentences that name the visible clues "
    "around the rectangle, then a last sentence that concludes on the {name} and names no other object. "
    "Nothing in them may show that the answer was known beforehand. "
    "Write the reasoning in <think> </think>, then {name} in <answer> </answer>."
)

CHECK = (
    "A black rectangle hides one object in this image. Somebody who looked at the clues around it began like this: "
    "{reasoning} Judge by the image and by these words, which may be wrong: which object is most likely hidden? "
    "Name it in <answer> </answer>."
)
"""What the second model is asked; it sees the masked image and the trace without its last sentence."""

_SUBJECT = r"(?:i|we|you|it|they)"
_REVEALS = [re.compile(pattern, re.IGNORECASE) for pattern in (
    rf"\b{_SUBJECT}(?:'m|'re|'ve| am| are| was| were| have| had| is| has)?(?: been| already| just)? "
    r"(?:told|informed)\b",
    r"\b(?:was|were|been|is|are|being|already) (?:told|informed|given|provided|supplied|revealed)(?: to (?:me|us))?"
    r"(?: (?:that|as|in|by|here|beforehand)\b|\W*$|[.,;])",
    r"\bas (?:was |is |already |i was |we were |previously |just )*(?:stated|mentioned|told|given|provided|specified|"
    r"instructed)\b",
    r"\bground[ -]truth\b",
    r"\b(?:given|provided|stated|correct|true|known|expected|supplied) (?:answer|label|object|solution)\b",
    r"\b(?:answer|label|solution|hidden object)(?: \w+){0,3}? (?:given|provided|supplied|known|told|revealed|stated)\b",
    r"\b(?:since|because|as|given that|knowing|now that) (?:i|we)(?: already)? (?:know|knew)\b",
    rf"\b{_SUBJECT} already knows?\b|\balready known\b|\bknown beforehand\b|\bknowing (?:that )?(?:the answer|it is)\b",
    r"\b(?:according to|based on|from|per) the (?:prompt|question|instructions?|task|user|hint)\b",
    r"\bthe (?:prompt|question|instructions?|task|user|hint) (?:already )?(?:says|said|states|stated|tells|told|"
    r"mentions|mentioned|specifies|indicates|gives|gave|reveals)\b",
    r"\bwho (?:(?:does|do|did|has|have|had|was|is)(?: not|n't)|never) (?:\w+ )?(?:know|been|told|informed|seen)\b",
    r"(?:\bwithout|\bnot|n't) (?:yet |actually |already )?(?:know|knows|knowing|being told|having seen) "
    r"(?:this|that|it|the (?:answer|object|label|solution))\b",
    r"\bpretend|\bsimulat(?:e|es|ed|ing)\b|\brole-?play|\bas (?:if|though) (?:i|we|one|some(?:one|body)) (?:d|h|w)",
    r"\bthe user (?:wants?|wanted|asks?|asked|is asking|expects?|expected|needs?|would|requests?|requires?|has|had)\b",
    r"\bthe (?:prompt|instructions?|assignment)\b|\b(?:this|the|my) task (?:is|was|asks|wants|requires)\b",
    r"\b(?:wants?|wanted|asks?|asked|expects?|expected|tells?|instructs?|instructed|requests?|requested|requires?) "
    r"(?:me|us)\b",
    r"\b(?:i|we)(?:'m|'re| am| are| was| were) (?:asked|supposed|instructed|required|expected|meant|"
    r"to (?:write|infer|simulate|show|reason|conclude))\b",
    r"\b(?:(?:i|we) (?:need|have|ought|should|must|will)(?: to)?(?: not)?|let me|let's) (?:write|end (?:with|on)|"
    r"arrive at|reveal|mention that|avoid|act|justify|craft)\b",
    r"\b(?:target|desired|intended|required|requested|actual) (?:answer|label|conclusion|object|solution)\b",
    r"\bwork(?:s|ed|ing)? back(?:wards?)?\b|\b(?:in advance|beforehand|ahead of time)\b",
    r"\breveal(?:s|ed|ing)? (?:the|this|that) (?:answer|label|solution)\b",
    rf"\b{_SUBJECT} (?:already )?(?:have|has|had|got) (?:the|an|this) (?:answer|label|solution)\b",
    r"\b(?:is|was) (?:said|stated|specified|declared|labell?ed|described) (?:to be|as)\b",
    r"\b(?:one|two|three|four) (?:short )?sentences\b",
)]


def traces(pairs: Sequence[PairRecord], judge: Ask, verifier: Ask, categories: Collection[str]) -> Outcome:
    """Adds `trace` where the judge's reasoning is usable; a pair without one stays, with a note that says why.

    Usable is what `read_trace` takes and leads the verifier to the answer: told all but its last sentence, it must
    name the answer, a plural or a synonym of it.

    Args:
        categories: All names of the data set.
    """
    replies = judge([Prompt(pair, QUESTION.format(name=pair["category_name"])) for pair in pairs])
    read = [(None, UNANSWERED) if text is None else read_trace(text, pair["category_name"], categories)
            for pair, (text,) in zip(pairs, replies, strict=True)]
    asked = [(pair, trace) for pair, (trace, _) in zip(pairs, read, strict=True) if trace]
    answers = verifier([Prompt(pair, CHECK.format(reasoning=" ".join(sentences(trace)[:-1]))) for pair, trace in asked])
    silent = {pair["id"] for (pair, _), (text,) in zip(asked, answers, strict=True) if text is None}
    followed = {pair["id"] for (pair, _), (text,) in zip(asked, answers, strict=True)
                if finds(text or "", pair["category_name"], categories)}
    kept, notes = [], {}
    for pair, (trace, reason) in zip(pairs, read, strict=True):
        if trace and pair["id"] not in followed:
            reason = ("the verifier did not answer" if pair["id"] in silent
                      else "the verifier, told all but its last sentence, does not find the answer")
        kept.append(pair if reason else pair | {"trace": trace})
        if reason:
            notes[pair["id"]] = f"no trace: {reason}"
    return Outcome(kept, notes=notes)


def read_trace(reply: str, answer: str, categories: Collection[str]) -> tuple[str | None, str | None]:
    """(trace without tags, None), or (None, why there is none).

    The reply must be a whole completion, tags and all, that earns the full reward of MPCC Eq. 3. Its reasoning must
    hold a clue and then a last sentence that names the answer and no other category (`mpcc.traces.flaw`); it must be no
    refusal, and must not show that the answer was told.
    """
    text = reply.strip()
    if not format_reward(text):
        return None, "not in the format"
    if normalise(parse_answer(text) or "") != normalise(answer):
        return None, "it ends in another answer"
    trace = text.partition("<think>")[2].partition("</think>")[0].strip()
    if not trace:
        return None, "it is empty"
    if reveals(trace):
        return None, "it reveals that the answer was told"
    if reason := flaw(trace, answer, categories):
        return None, reason
    return (trace, None) if len(sentences(trace)) > 1 else (None, "it names no clue before its conclusion")


def finds(reply: str, answer: str, categories: Collection[str]) -> bool:
    """Whether a reply gives the answer, or a plural or a synonym of it, as the name of the hidden object."""
    name = spoken_name(reply)
    if name is None:
        return False
    found = mentioned(name, {*categories, answer})
    return name == normalise(answer) or [(category, end) for category, _, end in found] == [(answer, len(name))]


def reveals(trace: str) -> bool:
    """Whether a trace shows that its author was told the answer: "as mentioned", "the ground truth", "I was told", …"""
    plain = " ".join(trace.replace("’", "'").split())
    return any(pattern.search(plain) for pattern in _REVEALS)
