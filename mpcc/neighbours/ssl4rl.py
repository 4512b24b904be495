"""SSL4RL: questions that a picture answers about itself, with no label.

The paper claims that self-supervised tasks, whose answer is made with the input, are verifiable rewards that improve
perception and reasoning, that their difficulty must suit the model, and that mixing them does not add up [S]. Built:
`rotation` by 0, 90, 180 or 270 degrees; `position`, where in the picture a second, smaller one was cut out; `jigsaw`,
in which order its quarters stand; each a choice of four; reward: format and exact match [C; four orders of jigsaw to
choose from are ours: the paper asks for the order itself]. Pictures are cut square first, as a turned oblong one tells
by its shape. Left out: contrastive pairs, which need augmentations. [S]: abstract; [C]: facts of public code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Literal

from PIL import Image, ImageOps

from minigrpo.task import Answer, Completion, Sample, Task
from mpcc.choices import parse_choice
from mpcc.coco import Coco
from mpcc.masks import check_choice
from mpcc.neighbours.limits import check_limits
from mpcc.prompts import SYSTEM_PROMPT
from mpcc.rewards import format_reward

Proxy = Literal["rotation", "jigsaw", "position"]
PLACES = ["top left", "top right", "bottom left", "bottom right"]
ORDERS = ["1 2 3 4", "2 1 4 3", "3 4 1 2", "4 3 2 1"]  # of quarters; no two have the same one in any place
ASKED = {"rotation": "By how many degrees was this picture turned to the left?",
         "jigsaw": "The quarters of this picture may have been exchanged. Which stand there, row by row?",
         "position": "The second picture is a part of the first. Where does it stand?"}


@dataclass(frozen=True)
class Config:
    """Options of the self-supervised questions."""

    proxy: Proxy = "rotation"
    """rotation, jigsaw or position."""
    labels: bool = True
    """Reward the true answer; false: one drawn at random, of which the picture tells nothing (a control)."""
    coco: str = ""
    """COCO folder, of which only the images of train2017 and val2017 count; empty takes the embedded scenes."""
    held_out: int = 200
    """Pictures of the evaluation; 0 evaluates nothing."""


def make(proxy: str, whole: Image.Image, rng: Random) -> tuple[tuple[Image.Image, ...], list[str], int]:
    """Of a square picture those of a question, its four options, and which of them is right."""
    half, right = whole.width // 2, rng.randrange(4)
    if proxy == "rotation":
        return (whole.rotate(90 * right),), ["0", "90", "180", "270"], right
    parts = [whole.crop((x, y, x + half, y + half)) for y in (0, half) for x in (0, half)]
    if proxy == "position":
        return (whole, parts[right]), PLACES, right
    orders, mixed = rng.sample(ORDERS, 4), whole.copy()
    for place, quarter in enumerate(orders[right].split()):
        mixed.paste(parts[int(quarter) - 1], (place % 2 * half, place // 2 * half))
    return (mixed,), orders, right


class Questions(Sequence[Sample]):
    """A question about each of some images of a split; indexing opens it."""

    def __init__(self, config: Config, split: str, most: int | None = None) -> None:
        from mpcc.scenes.folder import ensure_scenes  # drawing them is needed only here
        self.config, self.coco = config, Coco(Path(config.coco) if config.coco else ensure_scenes(), split)
        self.split, self.images = split, list(self.coco.images.values())[:most]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        name = f"{self.split}/{self.images[index].file_name}/{self.config.proxy}"
        picture = self.coco.open(self.images[index]).convert("RGB")
        whole = ImageOps.fit(picture, [min(picture.size) // 2 * 2] * 2)  # its middle, square
        pictures, options, right = make(self.config.proxy, whole, Random(name))
        listed = " ".join(map(".".join, zip("ABCD", options, strict=True)))
        question = f"{ASKED[self.config.proxy]} {listed} Give the letter of your choice in <answer> </answer>."
        paid = right if self.config.labels else Random(f"{name}/drawn").randrange(4)
        return Sample(name, question, pictures, SYSTEM_PROMPT,
                      data={"options": options, "right": "ABCD"[right], "paid": "ABCD"[paid]})


class SSL4RL(Task):
    """Questions about pictures themselves. Raises ValueError or FileNotFoundError for impossible options."""

    Config, default_model = Config, str(Path(__file__).parents[1] / "scenes" / "model")

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        check_choice("proxy", config.proxy, Proxy)
        check_limits(config, held_out=(0, 1e9))

    @cached_property
    def _splits(self) -> tuple[Questions, Questions]:
        return Questions(self.config, "train2017"), Questions(self.config, "val2017", self.config.held_out)

    def samples(self) -> Questions:
        return self._splits[0]

    def reward(self, sample: Sample, completions: list[Completion]) -> dict[str, list[float]]:
        letters = [parse_choice(c.text, sample.data["options"]) for c in completions]
        return {"format": [format_reward(c.text) for c in completions],
                "exact": [float(letter == sample.data["paid"]) for letter in letters]}

    def evaluate(self, answer: Answer) -> dict[str, float]:
        """`exact_match`, the share of true answers, by chance 0.25, and `format`, on held-out pictures."""
        if not (asked := self._splits[1]):
            return {}
        said = answer(asked)
        right = [parse_choice(t, s.data["options"]) == s.data["right"] for s, t in zip(asked, said, strict=True)]
        return {"exact_match": fmean(right), "format": fmean(map(format_reward, said)), "n": float(len(said))}
