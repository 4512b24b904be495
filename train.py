"""GRPO, top to bottom: choose samples → sample groups → reward → advantage → update.

    torchrun --nproc_per_node 2 train.py                       the embedded scenes and their tiny model, 2 CPU cores
    python train.py --help                                     every option
    torchrun --nproc_per_node 2 train.py --config mpcc/configs/qwen2.5-vl-3b-rft+prior.toml --task.coco COCO_FOLDER
    torchrun --nproc_per_node 2 train.py --task my_module:MyTask --model.path Qwen/Qwen2.5-VL-3B-Instruct

A step takes `prompts_per_step` prompts and draws G completions of each; a reward scores them; what a completion earned
above its group's mean, in standard deviations, is its advantage; the loss makes tokens with a positive advantage more
probable and the others less. There is no critic and no reward model. Where a sample has an annotated trajectory, that
takes one of the G slots (MPCC, arXiv 2510.21807, prior sampling). Prompt and image are computed once per group.

The parts of a step are functions of `minigrpo/step.py`; what a task may change of it stands in `minigrpo/task.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from minigrpo.config import load_config
from minigrpo.launch import Program, one_line_interrupts
from mpcc import DEFAULT_TASK

if __name__ == "__main__":  # --help and wrong options are answered before torch takes its seconds to load
    one_line_interrupts("train.py")
    load_config(sys.argv[1:], DEFAULT_TASK)

import transformers

from minigrpo.checkpoints import Progress
from minigrpo.cpu import keep_freed_memory
from minigrpo.doors import evaluation_of, load_samples, rounds_of, samples_of, stages_of
from minigrpo.export import export
from minigrpo.log import RunLog, show_warnings
from minigrpo.metrics import StepMetrics
from minigrpo.models import VLM
from minigrpo.progress import figures
from minigrpo.ranks import Ranks
from minigrpo.replica import refresh
from minigrpo.rollout import answer
from minigrpo.sampler import Sampler, outcomes
from minigrpo.sampling import Sampling
from minigrpo.saving import Saves
from minigrpo.sections import Config
from minigrpo.step import compare_groups, prior_groups, reward_groups, sample_groups, update
from minigrpo.stopping import StopSignal
from minigrpo.task import Task
from minigrpo.training import Training, make_sampler

Evaluate = Callable[[VLM], dict[str, float]]


def train(config: Config, task: Task, ranks: Ranks) -> None:
    """Evaluates, trains the stages of the task one after the other, evaluates after each, and exports the model.

    A run that was killed goes on from a checkpoint (`run.resume`), and is then the run that it would have been.
    """
    stages = stages_of(task, config)
    samplers = [make_sampler(config, stage.task or task, stage, ranks) for stage in stages]
    path = config.model.path or task.default_model
    if not path:
        raise ValueError(f"{type(task).__name__} has no default model: name one with --model.path")
    greedy = Sampling(config.rollout.max_new_tokens, temperature=0.0)

    def evaluate(vlm: VLM) -> dict[str, float]:
        limit = config.rollout.max_prompt_tokens
        return evaluation_of(task, lambda asked: answer(vlm, asked, greedy, ranks, limit))

    with StopSignal() as stop, RunLog(config, ranks, sum(stage.steps for stage in stages)) as log:
        stop.hint = f"--run.dir {log.dir} --run.resume auto goes on"
        at = log.beginning.progress or Progress(path)
        if log.beginning.finished:
            return log.say(f"{log.dir} holds a finished run: nothing to do; train on with --model.path {log.dir}/model")
        for number in range(at.stage, len(stages)):
            stage, sampler = stages[number], samplers[number]
            training = Training.begin(at.path, config, stage.task or task, stage, ranks)
            policy, replica, _ = training.roles  # what learns, and its copy that samples, evaluates and is exported
            saves = Saves(training, sampler, at, log, stop)
            if at.step:
                log.say(f"going on from step {at.steps} of {log.steps}, {log.beginning.checkpoint}\n"
                        f"writing to {log.dir}")
            if not at.scores:
                size, trained = (sum(p.numel() for p in policy.parameters() if p.requires_grad or every) / 1e6
                                 for every in (True, False))
                log.say(f"{path}: {size:.1f}M parameters{f', {trained:.1f}M trained' if trained < size else ''}, "
                        f"{len(samples_of(task))} samples, {ranks.size} rank(s) on "
                        f"{ranks.device.type}\nwriting to {log.dir}")
                at.scores.append(evaluate(replica))
                log.say(f"held-out before: {figures(at.scores[0])}")
            with saves.when_it_fails():
                run_stage(training, sampler, at, log, saves, evaluate)
            refresh(replica, policy)
            scores = evaluate(replica)
            log.say(f"held-out after{' ' + stage.name if len(stages) > 1 else ''}:  {figures(scores, at.scores[0])}")
            path = str(log.dir / ("model" if number == len(stages) - 1 else f"model-{stage.name}"))
            if ranks.first:
                log.say(f"model: {export(replica, path, at.path)}")
            at = saves.end(path, scores)
            del training, policy, replica, saves  # the next stage loads its own, from that folder
            ranks.barrier()
        between = {f"after_{stage.name}": score for stage, score in zip(stages[:-1], at.scores[1:-1], strict=True)}
        log.finish({"before": at.scores[0], **between, "after": at.scores[-1], "steps": at.steps,
                    "seconds": at.seconds})


def run_stage(training: Training, sampler: Sampler, at: Progress, log: RunLog, saves: Saves, evaluate: Evaluate
              ) -> None:
    """The loop: trains the policy in place for the steps of a stage. A stage of imitation draws and rewards nothing."""
    config, task, stage, ranks = training.config, training.task, training.stage, training.ranks
    policy, replica, _ = training.roles
    samples, ids = samples_of(task), {}
    for step in range(at.step, stage.steps):
        metrics, began, contexts, imitated = StepMetrics(at.steps + 1), time.monotonic(), [], []
        refresh(replica, policy)  # the replica, which samples, takes over the policy's weights
        for chosen in rounds_of(task, sampler, step):  # one round, unless groups without variance are replaced
            with ranks.together():  # what is wrong with a sample or a reward is said on every rank
                mine = load_samples(task, samples, ranks.share(chosen), ids)
                if stage.policy:
                    with metrics.phase("rollout"):
                        groups = sample_groups(training, mine, step)
                    with metrics.phase("reward"):
                        rewarded = reward_groups(training, mine, groups, step, metrics)
                if stage.sft:
                    imitated += prior_groups(training, mine)
            if stage.policy:
                contexts = [context for context in contexts if context.varied] + rewarded
                if sampler.learns:
                    sampler.learn(ranks.gather(outcomes(ranks.share(chosen), rewarded)))
        contexts = compare_groups(training, contexts, metrics)
        log.groups(at.steps + 1, task, contexts)
        update(training, contexts, imitated, step, metrics)

        # What this step was like. A step whose gradient was not finite changed nothing; too many end the run.
        metrics.max("seconds", time.monotonic() - began)
        found, done = metrics.reduce(ranks), step + 1
        found["tokens_per_second"] = found.pop("tokens") / found["seconds"]
        if config.run.evaluate_every and done % config.run.evaluate_every == 0 and done < stage.steps:
            refresh(replica, policy)
            found |= {f"held_out/{name}": value for name, value in evaluate(replica).items()}
        log.step(at.steps + 1, found)
        saves.count(found)
        log.check(at.steps, found, metrics)
        saves.step()


def main() -> None:
    """Reads the options, joins the ranks, trains. Bad input is one line and exit code 1."""
    config, task_class = load_config(sys.argv[1:], DEFAULT_TASK)
    transformers.logging.disable_progress_bar()  # the run has a progress line of its own
    keep_freed_memory()
    with Program("train.py") as program:
        ranks = program.join(config.run)
        show_warnings(ranks)
        train(config, task_class(config.task), ranks)


if __name__ == "__main__":
    main()
