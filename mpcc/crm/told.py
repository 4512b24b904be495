"""The figures of CRM in words: a table, and what it says about a model to somebody who has not read how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mpcc.crm.figures import COLLAPSED, HALLUCINATED
from mpcc.render import grid

ROWS = {
    "hit@1, name": "the region of the largest effect on a name is the one named",
    "hit@1, step": "… of the largest effect on a step",
    "hit@1, controls": "… among control regions",
    "chance": "… of a random region",
    "auroc, name": "AUROC, named region against others, on names",
    "auroc, step": "… on steps",
    "over control": "a named region matters more to its step than its control",
    "answer over control": "a relevant region matters more to the answer",
    "stays right": "right answers that stay right with a control masked",
    "answer changes": "right answers lost with a relevant region masked",
    HALLUCINATED: HALLUCINATED,
    COLLAPSED: COLLAPSED,
    "unaligned": "steps without a partner, a named region masked",
    "unaligned, sampled": "… in sampled traces",
    "unaligned, sampled unmasked": "… in sampled traces, nothing masked",
}
"""Figures in the order of the table, and what each is called there."""


def summary(found: Mapping[str, Any], name: str, other: str = "") -> str:
    """The table of an evaluation's figures, its differences where another was compared, and a closing in words."""
    shares, gaps = found["figures"], found.get("compared", {})
    rows = [[text, f"{shares[key]['percent']:.1f}", _interval(shares[key]) if key != "chance" else "",
             f"{shares[key]['n']:.0f}", *([_gap(gaps.get(key) if key != "chance" else None)] if gaps else [])]
            for key, text in ROWS.items() if key in shares]
    head = ["", "percent", "95 %", "cases", *([f"minus {other}"] if gaps else [])]
    title = f"{name}: masking regions one at a time, {found['items']:,} pictures of {found['source']}"
    lines = [grid(title, head, rows)]
    if found["without_control"]:
        lines.append(f"{found['without_control']} regions have no control: there is no room for one")
    return "\n".join([*lines, *_verdict(shares)])


def _interval(share: Mapping[str, float]) -> str:
    return f"[{share['low']:.1f}, {share['high']:.1f}]"


def _verdict(shares: Mapping[str, Any]) -> list[str]:
    """One sentence on each: fidelity, robustness, failure."""
    told = []
    if "hit@1, name" in shares:
        hit, chance = shares["hit@1, name"], shares["chance"]["percent"]
        how = "more often than" if hit["low"] > chance else "less often than" if hit["high"] < chance else "as often as"
        told.append(f"fidelity: what a step names depends on the region that shows it {how} chance has it "
                    f"({hit['percent']:.0f} against {chance:.0f} %)")
    if "answer changes" in shares and "stays right" in shares:
        told.append(f"robustness: without a relevant region {shares['answer changes']['percent']:.0f} % of the right "
                    f"answers are lost, without a control {100 - shares['stays right']['percent']:.0f} %")
    if HALLUCINATED in shares:
        told.append(f"failures: a clue that was taken out of the picture is still named in "
                    f"{shares[HALLUCINATED]['percent']:.0f} % of the cases, and the reasoning falls apart in "
                    f"{shares[COLLAPSED]['percent']:.0f} %")
    return told


def _gap(gap: Mapping[str, float] | None) -> str:
    return f"{gap['difference']:+.1f} [{gap['low']:+.1f}, {gap['high']:+.1f}]" if gap else "-"
