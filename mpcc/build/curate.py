"""Curation by hand: a page that shows every pair, and the decisions that it saves, read back and applied.

A decisions file is one JSON object: `format` "mpcc-decisions", `version` 1, and `decisions`, an object from a pair's id
to an object with

- `action`: "keep", "drop" or "relabel"
- `difficulty`: with relabel, "easy", "moderate" or "hard"
- `answer`: with relabel, the right name of the hidden object
- `note`: any text, optional

Relabelling sets one of the two fields or both. A pair without a decision stays as it is.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mpcc import pages
from mpcc.benchmark import DIFFICULTIES
from mpcc.progress import counted
from mpcc.reading import read_json
from mpcc.rewards import normalise

ACTIONS = ("keep", "drop", "relabel")
_FIELDS = ("action", "difficulty", "answer", "note")
_SIDE = 640  # the longer side of a COCO image
_SHOWN = ("id", "category_name", "supercategory", "difficulty", "reason", "confusing", "filled", "irrelevant", "rating",
          "rating_text", "trace", "others_visible")


def write_page(
    pairs: Sequence[Mapping[str, Any]], image_of: Callable[[Mapping[str, Any]], Image.Image], path: str | Path
) -> None:
    """Writes a page to keep, drop and relabel the pairs in, with the keyboard; it needs no network.

    Decisions stay in the browser under a key made from the pairs, until they are saved as decisions.json.

    Args:
        pairs: Objects of our pairs file (`mpcc.benchmark`).
        image_of: Gives a pair's masked image. Called once a pair, in their order.
        path: HTML file; appears whole or not at all.

    Raises:
        ValueError: no pairs, or two with the same id.
    """
    if not pairs:
        raise ValueError(f"{path}: there is no pair to curate")
    _by_id(pairs)
    shown = [{field: pair[field] for field in _SHOWN if field in pair} for pair in pairs]
    key = hashlib.sha256(pages.inert_json(shown).encode("utf-8")).hexdigest()[:16]
    data = {"pairs": shown, "key": f"mpcc-curate-{key}"}
    pages.write(path, "curate", f"Curate {len(pairs)} pairs", data, map(image_of, counted("curate", pairs)), _SIDE)


def read_decisions(path: str | Path, pairs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """The decisions of a file about `pairs`, checked: pair id → its fields that are set.

    Raises:
        FileNotFoundError: no such file.
        ValueError: broken JSON, another format, or an impossible decision. One line: file, pair, field.
    """
    content = read_json(Path(path), "save it from the page that the stage curate wrote")
    if not isinstance(content, dict) or content.get("format") != "mpcc-decisions":
        raise ValueError(f"{path} is no decisions file: its format must be 'mpcc-decisions'")
    if content.get("version") != 1:
        raise ValueError(f"{path}: version {content.get('version')!r} is unknown; it must be 1")
    decisions = content.get("decisions")
    if not isinstance(decisions, dict):
        raise ValueError(f"{path}: decisions must be an object from pair ids to decisions")
    known = _by_id(pairs)
    return {name: _decision(decisions[name], known.get(name), f"{path}: decision on {name}") for name in decisions}


def apply_decisions(
    pairs: Sequence[Mapping[str, Any]], decisions: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """New pairs, in their order: dropped ones left out, relabelled ones changed, all others as they are.

    Another difficulty removes `reason`, which names a kind of reasoning of the former level. Another answer
    removes `trace` and `annotation_id`, which are of the former one, and takes the supercategory that the name has in
    other pairs.

    Args:
        decisions: From `read_decisions`, about the same pairs.
    """
    supercategories = {pair["category_name"]: pair.get("supercategory", "") for pair in pairs}
    changed = []
    for pair in pairs:
        decision = decisions.get(pair["id"], {})
        if decision.get("action") != "drop":
            changed.append(_relabelled(pair, decision, supercategories))
    return changed


def _relabelled(
    pair: Mapping[str, Any], decision: Mapping[str, str], supercategories: Mapping[str, str]
) -> dict[str, Any]:
    pair = dict(pair)
    level, answer = decision.get("difficulty"), decision.get("answer")
    if level and level != pair.get("difficulty"):
        pair["difficulty"] = level
        pair.pop("reason", None)
    if answer and answer != pair["category_name"]:
        pair |= {"category_name": answer, "supercategory": supercategories.get(answer, "")}
        for field in ("trace", "annotation_id"):
            pair.pop(field, None)
    return pair


def _by_id(pairs: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    repeated = [name for name, count in Counter(pair["id"] for pair in pairs).items() if count > 1]
    if repeated:
        raise ValueError(f"pair {repeated[0]} occurs more than once: decisions need an id of its own for every pair")
    return {pair["id"]: pair for pair in pairs}


def _decision(given: Any, pair: Mapping[str, Any] | None, where: str) -> dict[str, str]:
    """The fields of one decision that are set. Raises ValueError for an impossible one."""
    if pair is None:
        raise ValueError(f"{where}: there is no such pair; the file belongs to other pairs")
    if not isinstance(given, dict):
        raise ValueError(f"{where} must be an object with an action")
    if unknown := sorted(set(given) - set(_FIELDS)):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; fields are {', '.join(_FIELDS)}")
    decision = {}
    for field, value in given.items():
        if value is not None and not isinstance(value, str):
            raise ValueError(f"{where}: {field} = {value!r} is not a text")
        if value and value.strip():
            decision[field] = value.strip()
    action = decision.get("action")
    if action not in ACTIONS:
        raise ValueError(f"{where}: action {action!r} is unknown; it must be one of {', '.join(ACTIONS)}")
    labels = [field for field in ("difficulty", "answer") if field in decision]
    if action != "relabel" and labels:
        raise ValueError(f"{where}: {labels[0]} goes with the action relabel, not with {action}")
    if action == "relabel" and not labels:
        raise ValueError(f"{where}: relabel needs a difficulty or an answer")
    _check_labels(decision, pair, where)
    return decision


def _check_labels(decision: Mapping[str, str], pair: Mapping[str, Any], where: str) -> None:
    level, answer = decision.get("difficulty"), decision.get("answer")
    if level is not None and level not in DIFFICULTIES:
        raise ValueError(f"{where}: difficulty {level!r} is unknown; it must be one of {', '.join(DIFFICULTIES)}")
    for field in ("confusing", "irrelevant"):
        if answer and normalise(answer) in map(normalise, pair.get(field) or ()):
            raise ValueError(f"{where}: answer {answer!r} is one of the pair's {field} names")
