"""The figures of CRM in words: a table, and what it says about a model to somebody who has not read how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcc.crm.figures import COLLAPSED, HALLUCINATED
from mpcc.render import grid

ROWS = {
    "what is said once a clue is masked": {
        "dropped": "clues that the reasoning names, and drops once they are masked",
        "dropped, control": "… once a control of the same size is masked instead",
        HALLUCINATED: HALLUCINATED,
        COLLAPSED: COLLAPSED,
        "unaligned": "steps without a partner, a named clue masked",
        "unaligned, sampled": "… in sampled traces",
        "unaligned, sampled unmasked": "… in sampled traces, nothing masked",
    },
    "what each step rests on": {
        "hit@1, name": "a name loses most with its own region masked (hit@1)",
        "hit@1, step": "… a whole step does",
        "hit@1, controls": "… with controls in the regions' places",
        "chance": "… by chance",
        "auroc, name": "AUROC, named region against others, on names",
        "auroc, step": "… on steps",
        "over control": "a step loses more with its region masked than with its control",
    },
    "what the answer rests on": {
        "answer over control": "it loses more with a relevant region masked than with its control",
        "right": "right answers with nothing masked",
        "stays right": "right answers that stay right with a control masked",
        "answer changes": "right answers lost with a relevant region masked",
    },
}
"""Figures in the order of the table, by what they tell, and what each is called there."""

HALF = 50.0
"""Percent of the masked clues: a grounded model drops more than that, a hallucinating one goes on naming more."""


def summary(found: Mapping[str, Any], name: str, other: str = "") -> str:
    """The table of an evaluation's figures, its differences where another was compared, and a closing in words."""
    shares, gaps = found["figures"], found.get("compared", {})
    rows = []
    for title, group in ROWS.items():
        if present := [key for key in group if key in shares]:
            rows += [[f"{title}:"], *(["  " + group[key], *_cells(key, shares, gaps)] for key in present)]
    head = ["", "percent", "95 %", "cases", *([f"minus {other}"] if gaps else [])]
    title = f"{name}: masking regions one at a time, {found['items']:,} pictures of {found['source']}"
    lines = [grid(title, head, rows)]
    if found["without_control"]:
        lines.append(f"regions without a control, as there is no room for one: {found['without_control']:,}")
    return "\n".join([*lines, "", *verdict(found, name, other)])


def verdict(found: Mapping[str, Any], name: str, other: str = "") -> list[str]:
    """One word on the model, then a sentence each: why, beside another model, its steps, its answers, its collapse."""
    shares, gaps = found["figures"], found.get("compared", {})
    told = [f"{name}: {_word(shares)}"]
    if dropped := shares.get("dropped"):
        told.append(f"- of {dropped['n']:,.0f} clues that its reasoning names it drops {_percent(dropped)} once they "
                    f"are masked, and goes on naming {100 - round(dropped['percent'])} %")
        if elsewhere := shares.get("dropped, control"):
            told.append(f"- with as much of the picture masked elsewhere it drops {_percent(elsewhere)}")
        if gap := gaps.get("dropped"):
            told.append(f"- it drops masked clues {_more(gap)} {other}: {_gap(gap)} points on the same pictures")
    if "hit@1, name" in shares:
        hit, chance = shares["hit@1, name"], shares["chance"]
        how = ("more often than" if hit["low"] > chance["percent"] else
               "less often than" if hit["high"] < chance["percent"] else "as often as")
        told.append(f"- while a clue is in sight, its name rests on the region that shows it {how} by chance: in "
                    f"{_percent(hit)} of {_cases(hit)}, by chance {_percent(chance)}")
    if "answer changes" in shares and "stays right" in shares:
        lost, stays = shares["answer changes"], shares["stays right"]
        told.append(f"- its right answers are lost in {_percent(lost)} of {_cases(lost)} with a relevant region "
                    f"masked, in {100 - round(stays['percent'])} % with a control masked")
    if collapsed := shares.get(COLLAPSED):
        told.append(f"- its reasoning falls apart in {_percent(collapsed)} of {_cases(collapsed)} with a clue masked "
                    "that it names")
    return told


def _word(shares: Mapping[str, Any]) -> str:
    if "dropped" not in shares:
        return "no verdict, as its own reasoning names no region"
    dropped, elsewhere = shares["dropped"], shares.get("dropped, control")
    if elsewhere and elsewhere["percent"] >= HALF:
        return "UNSTABLE, it drops most clues whatever is masked"
    if dropped["low"] > HALF:
        return "GROUNDED, it mostly stops naming a clue that is no longer in the picture"
    if dropped["high"] < HALF:
        return "HALLUCINATING, it mostly goes on naming a clue that is no longer in the picture"
    return "UNDECIDED, the interval of the clues that it drops holds one half"


def _cells(key: str, shares: Mapping[str, Any], gaps: Mapping[str, Any]) -> list[str]:
    """Percent, interval, cases and difference of a figure; chance is no estimate, and has neither of the two."""
    share, measured = shares[key], key != "chance"
    return [f"{share['percent']:.1f}", f"[{share['low']:.1f}, {share['high']:.1f}]" if measured else "",
            f"{share['n']:,.0f}", *([_gap(gaps.get(key)) if measured else ""] if gaps else [])]


def _percent(share: Mapping[str, float]) -> str:
    return f"{share['percent']:.0f} %"


def _cases(share: Mapping[str, float]) -> str:
    return f"{share['n']:,.0f} case{'s' * (share['n'] != 1)}"


def _more(gap: Mapping[str, float]) -> str:
    return "more often than" if gap["low"] > 0 else "less often than" if gap["high"] < 0 else "as often as"


def _gap(gap: Mapping[str, float] | None) -> str:
    return f"{gap['difference']:+.1f} [{gap['low']:+.1f}, {gap['high']:+.1f}]" if gap else "-"
