"""Scores a model on a task's held-out pairs.

    python eval.py                                   the embedded scenes' base model on the scenes
    python eval.py --model runs/001                  the model of a run, on that run's task and options
    torchrun --nproc_per_node 2 eval.py --model FOLDER --task.coco COCO_FOLDER --json scores.json

`--model` takes a model folder, a hub id or a run folder; every option of train.py is taken as well.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import transformers

from minigrpo import Sampling, load_model, parallel
from minigrpo.config import load_config
from minigrpo.rollout import answer
from train import DEFAULT_TASK, figures


def arguments(argv: list[str]) -> tuple[list[str], Path | None]:
    """The words for `load_config`, with `--model` spelled out, and the file that `--json` names."""
    words, json_file = [], None
    pending = iter(argv)
    for word in pending:
        name, equals, value = word.partition("=")
        if name not in ("--model", "--json"):
            words.append(word)
            continue
        value = value if equals else next(pending, None)
        if not value:
            raise SystemExit(f"eval.py: error: {name} takes a value")
        if name == "--json":
            json_file = Path(value)
        elif (Path(value) / "config.toml").is_file():
            # the run's own options come first, so that those of the command line count more
            words = ["--config", f"{value}/config.toml", "--model.path", f"{value}/model", *words]
        else:
            words += ["--model.path", value]
    return words, json_file


def main() -> None:
    """Prints the figures of the task's evaluation, and writes them to the file that `--json` names."""
    words, json_file = arguments(sys.argv[1:])
    config, task_class = load_config(words, DEFAULT_TASK)
    transformers.logging.disable_progress_bar()
    try:
        ranks = parallel.start(config.run.device)
        task = task_class(config.task)
        path = config.model.path or task.default_model
        model = load_model(
            path, dtype=parallel.compute_dtype(config.model.dtype, ranks.device), device=ranks.device,
            attention_kernel=config.model.attention, min_pixels=config.model.min_pixels,
            max_pixels=config.model.max_pixels,
        )  # fmt: skip
        greedy = Sampling(config.rollout.max_new_tokens, temperature=0.0)
        scores = task.evaluate(lambda asked: answer(model, asked, greedy, ranks, config.rollout.max_prompt_tokens))
        if ranks.first:
            print(f"{path}: {figures(scores)}")
            if json_file is not None:
                json_file.write_text(json.dumps({"model": path, **scores}, indent=2) + "\n", encoding="utf-8")
    except (ValueError, OSError) as error:
        raise SystemExit(f"eval.py: error: {error}") from error
    finally:
        parallel.stop()


if __name__ == "__main__":
    main()
