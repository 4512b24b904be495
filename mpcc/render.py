"""The figures of `mpcc.tables` as plain text, at most 120 columns wide, beside chance and the paper's rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mpcc.benchmark import DIFFICULTIES
from mpcc.tables import CHOICES, ROWS
from mpcc.views import BLIND_KINDS

PAPER = "paper, COCO: "
_NOTE = (
    f"Rows marked {PAPER.strip(': ')!r} are as printed in arXiv 2510.21807, for its own 1,114 pairs of COCO. Another\n"
    "benchmark, the drawn scenes say, is another task: those rows are then no comparison."
)
NAMES = {"cho_e": "Cho.E", "cho_h": "Cho.H", "true_false": "true/false", "free": "free-form",
         "free_no_evidence": "free, no evidence", "free_elsewhere": "free, elsewhere", "free_black": "free, all black",
         "score": "Score"}
_ROW_NAMES = {"truth": "ground truth", "confusing": "confusing", "irrelevant": "irrelevant", "all": "All"}

# MPCC Table 2: Hard, Moderate, Easy, Ave., each Cho.E then Cho.H, and Score
_TABLE_2 = {
    "Human": (97.82, 96.27, 98.53, 98.24, 99.56, 98.67, 98.64, 97.73, 589.09),
    "Qwen2.5-VL-3B": (48.14, 21.43, 63.05, 27.57, 66.08, 41.46, 59.09, 30.15, 267.73),
    "Qwen2.5-VL-7B": (58.39, 21.12, 73.02, 33.43, 75.83, 42.79, 69.08, 32.45, 304.58),
    "GPT-4o": (57.45, 46.58, 73.31, 56.01, 83.15, 72.50, 71.30, 58.36, 389.00),
}
# MPCC Table 4: ID Cho.E, ID Cho.H, OOD Cho.E, OOD Cho.H
TABLE_4 = {
    "base": (59.09, 30.15, 61.74, 32.17),
    "prompt": (59.91, 33.24, 64.35, 43.48),
    "sft": (74.10, 58.85, 71.88, 55.65),
    "rft": (66.42, 37.18, 74.20, 55.36),
    "sft+rft": (74.93, 58.18, 72.41, 52.46),
    "rft+prior": (72.59, 51.50, 74.20, 56.23),
}


def render(figures: Mapping[str, Any], name: str = "this model") -> str:
    """All tables of a run, ready to quote; `name` is that of its row, cut after 40 characters."""
    name = name if len(name) <= 40 else f"…{name[-39:]}"
    parts = [_choices(figures, name), _true_false(figures), _subsets(figures), _biases(figures), _halves(figures)]
    counts = figures["items"]
    subsets = ", ".join(f"{counts[level]:,} {level}" for level in DIFFICULTIES)
    head = f"{name} on {counts['pooled']:,} pairs: {subsets}\nin percent, with [95 % Wilson intervals]"
    return "\n\n".join([head, *(part for part in parts if part), _NOTE]) + "\n"


def render_differences(found: Mapping[str, Mapping[str, float]], ours: str, theirs: str) -> str:
    """The table of `mpcc.statistics.differences`."""
    rows = [
        [NAMES[kind], f"{gap['difference']:+.2f}", f"[{gap['low']:+.2f}, {gap['high']:+.2f}]"]
        for kind, gap in found.items()
    ]
    title = f"{ours} minus {theirs}, in points (paired bootstrap over pairs)"
    return grid(title, ["", "difference", "95 % interval"], rows) + "\n"


def _choices(figures: Mapping[str, Any], name: str) -> str:
    """Table 2."""
    if not any(kind in figures for kind in CHOICES):
        return ""
    columns = [(level, kind) for level in (*DIFFICULTIES, "macro") for kind in CHOICES]
    ours = [_percent(figures.get(kind, {}).get(level)) for level, kind in columns]
    chance = [100 / 4, 100 / 7] * 4
    rows = [
        [name, *ours, _percent(figures.get("score"))],
        ["chance", *map(_percent, chance), _percent(sum(chance[:6]))],
        *([PAPER + model, *map(_percent, values)] for model, values in _TABLE_2.items()),
    ]
    head = ["", *(f"{_short(level)} {NAMES[kind][-1]}" for level, kind in columns), "Score"]
    title = "Single choice of 4 (Cho.E) and of 7 (Cho.H); Score is the sum of the six subset columns, at most 600"
    return grid(title, head, rows)


def _true_false(figures: Mapping[str, Any]) -> str:
    """Table 3, and the share of yes answers beside it."""
    found = figures.get("true_false")
    if not found:
        return ""
    rows = [[_ROW_NAMES[row], *_cells(found[row])] for row in ROWS if row in found]
    rows.append(["chance", *["50.00"] * 5])
    rows.append(["said yes", *_cells(found["yes"])])
    note = f"{found['yes_truths']:.2f} % of the statements are true; {found['unparsed']:.2f} % of the answers unparsed"
    return grid("True/false, accuracy by the name asked about; All is 5 statements a pair", _HEAD, rows) + "\n" + note


def _subsets(figures: Mapping[str, Any]) -> str:
    """The same rates with their intervals, pooled ones too, and the free-form answers, in the blind views too."""
    rows = [[NAMES[kind], *_cells(figures[kind])] for kind in CHOICES if kind in figures]
    if "free" in figures:
        rows.append(["free-form, exact", *_cells(figures["free"])])
        similarity = figures["free"]["similarity"]
        rows.append(["  similarity", *(_percent(similarity.get(key)) for key in _COLUMNS)])
    rows += [[f"{NAMES[kind]}, n = {figures[kind]['pooled']['n']}", *_cells(figures[kind])]
             for kind in BLIND_KINDS if kind in figures]
    return grid("Accuracy per subset, macro (mean of the three) and pooled", _HEAD, rows) if rows else ""


def _biases(figures: Mapping[str, Any]) -> str:
    """How often each letter was said beside how often it was right: a parrot shows here."""
    kinds = [kind for kind in CHOICES if kind in figures]
    rows = []
    for kind in kinds:
        said, right = figures[kind]["letters"], figures[kind]["truths"]
        rows.append([f"{NAMES[kind]} said", *map(_percent, said.values()), *[""] * (7 - len(said)),
                     *_lost(figures[kind])])
        rows.append([f"{NAMES[kind]} right", *map(_percent, right.values())])
    rows += [[NAMES[kind], *[""] * 7, *_lost(figures[kind])] for kind in ("true_false", "free") if kind in figures]
    title = "Letters said, letters that were right, answers unparsed, and those that the limit of new tokens cut off"
    return grid(title, ["", *"ABCDEFG", "unparsed", "cut off"], rows)


def _halves(figures: Mapping[str, Any]) -> str:
    """Table 4, its pooled and macro averages both."""
    if "halves" not in figures:
        return ""
    halves = figures["halves"]
    found = [halves[half].get(kind, {}) for half in ("id", "ood") for kind in CHOICES]
    rows = [
        ["pooled", *(_interval(rates.get("pooled")) for rates in found)],
        ["macro", *(_percent(rates.get("macro")) for rates in found)],
        ["  questions", *(str(rates.get("n", 0)) for rates in found)],
        *([PAPER + strategy, *map(_percent, values)] for strategy, values in TABLE_4.items()),
    ]
    head = ["", *(f"{half} {NAMES[kind]}" for half in ("ID", "OOD") for kind in CHOICES)]
    return grid("Categories seen in training (ID) and unseen (OOD)", head, rows)


_COLUMNS = (*DIFFICULTIES, "macro", "pooled")
_HEAD = ["", *_COLUMNS]


def _short(level: str) -> str:
    return {"moderate": "Mod.", "macro": "Ave."}.get(level, level.capitalize())


def _cells(rates: Mapping[str, Any]) -> Iterable[str]:
    return (_percent(rates["macro"]) if key == "macro" else _interval(rates.get(key)) for key in _COLUMNS)


def _lost(figures: Mapping[str, Any]) -> tuple[str, str]:
    return _percent(figures["unparsed"]), _percent(figures["cut_off"])


def _percent(value: Any) -> str:
    """A number, or that of a rate; a dash where there is none."""
    value = value["percent"] if isinstance(value, Mapping) else value
    return "-" if value is None else f"{value:.2f}"


def _interval(rate: Mapping[str, float] | None) -> str:
    return "-" if rate is None else f"{rate['percent']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"


def grid(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """First column to the left, the others to the right; short rows are filled up."""
    lines = [[*row, *[""] * (len(head) - len(row))] for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    table = [
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                  for i, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
        for line in lines
    ]
    return "\n".join([title, table[0], "-" * max(map(len, table)), *table[1:]])
