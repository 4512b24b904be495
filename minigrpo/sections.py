"""The sections of a configuration: every option with its default, its meaning below it, and the values it may have."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Literal

from minigrpo.watch import TROUBLES


@dataclass(frozen=True)
class ModelConfig:
    path: str = ""
    """Hugging Face id or model folder; empty takes the task's own default model."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Computing precision; auto is float32 on a CPU and bfloat16 on a GPU."""
    attention: Literal["auto", "sdpa", "flash"] = "auto"
    """Attention kernel; auto takes flash attention where it is available."""
    graphs: bool = False
    """Replay decode steps from CUDA graphs, so that Python does not set the pace; CUDA only."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    offload: bool = False
    """Keep master weights, gradients and AdamW's averages in host memory; for GPUs too small for their shard."""
    lora_rank: int = 0
    """Train adapters of this rank beside frozen weights (LoRA), 16 say; 0 trains the weights themselves."""
    lora_alpha: float = 32.0
    """An adapter's output is weighed by lora_alpha / lora_rank."""
    lora_targets: str = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
    """Linear layers of the language model that get an adapter, with commas between their names."""
    freeze_vision: bool = False
    """Leave the vision tower as it is; beside LoRA it is so in any case."""
    min_pixels: int = 0
    """Smaller images are enlarged to this area in pixels; 0 keeps the model folder's own bound."""
    max_pixels: int = 0
    """Larger images are shrunk to this area in pixels; 0 keeps the model folder's own bound."""

    @property
    def targets(self) -> list[str]:
        """The names of `lora_targets`."""
        return [name.strip() for name in self.lora_targets.split(",") if name.strip()]


@dataclass(frozen=True)
class RolloutConfig:
    group_size: int = 8
    """Completions per prompt, G; an annotated trajectory takes one of these slots."""
    prompts_per_step: int = 16
    """Prompts per step, over all ranks together."""
    max_new_tokens: int = 64
    """Longest completion, in tokens."""
    temperature: float = 1.0
    """Sampling temperature; log-probabilities are those of the tempered distribution."""
    max_prompt_tokens: int = 4096
    """Longest prompt, image tokens included; a longer one is an error, never cut."""
    resample_rounds: int = 0
    """Times that groups without two different rewards are replaced by other samples within a step (DAPO)."""
    overlong: int = 0
    """Tokens before max_new_tokens over which a penalty grows from 0 to -1, a term of the reward (DAPO); 0: none."""


@dataclass(frozen=True)
class GrpoConfig:
    objective: Literal["grpo", "reinforce", "cispo", "sapo"] = "grpo"
    """grpo: clipped importance ratio times advantage. reinforce: log-probability times advantage, no ratio, no clip.
    cispo: the ratio is a clipped weight of the log-probability. sapo: the ratio goes through a sigmoid, no clip."""
    ratio: Literal["token", "sequence"] = "token"
    """Importance ratio of every token, or one of the completion, the geometric mean of its tokens' (GSPO)."""
    scale: Literal["std", "none", "loo", "batch"] = "std"
    """Advantage: reward minus group mean, over the group's std; none: not divided; loo: mean of the others; batch: over
    the std of all rewards of the step."""
    terms: Literal["sum", "apart"] = "sum"
    """Rewards are compared as a sum of terms; apart: each term is compared by itself first (GDPO, with scale batch)."""
    unbiased: bool = True
    """Sample standard deviation (G - 1 below the line); false takes the population's (G)."""
    beta: float = 0.04
    """Weight of the KL divergence from the frozen start model, the reference; at 0 no reference is kept."""
    beta_schedule: Literal["constant", "cosine"] = "constant"
    """Course of beta over the steps of a stage; cosine: half a cosine, from beta to 0."""
    kl: Literal["k3", "k3_corrected"] = "k3"
    """Its estimate. k3: gradient of KL(reference || policy). k3_corrected: times the ratio, KL(policy || reference)."""
    clip_low: float = 0.2
    """The importance ratio is clipped below at 1 - clip_low."""
    clip_high: float = 0.2
    """The importance ratio is clipped above at 1 + clip_high."""
    clip_max: float = 0.0
    """A second bound above, for negative advantages, which clip_high does not bound, 3 say; 0: none."""
    sampler_cap: float = 0.0
    """Weigh tokens by policy over sampler, whose precisions may differ, up to this weight, 2 say; 0: not at all."""
    drop_cut_off: bool = False
    """Learn nothing from completions that the length limit cut off (DAPO); they are compared with all the same."""
    top_entropy: float = 1.0
    """Learn from this share of the step's tokens, those with the highest entropies, 0.2 say."""
    entropy_bonus: float = 0.0
    """Weight of the mean entropy of the tokens, which is maximised."""
    normalize: Literal["token", "sequence", "constant", "group"] = "token"
    """Mean over tokens of the step; over completions' means; sum over max_new_tokens; mean over groups' sums."""
    updates_per_rollout: int = 1
    """Optimiser steps on each batch of completions."""
    prior: bool = True
    """Replace one completion of a group by the sample's annotated trajectory, where it has one."""
    prior_until: int = 0
    """Step from which trajectories are no longer used; 0 is never."""
    prior_ratio: Literal["one", "shaped"] = "one"
    """Importance ratio of a trajectory: one scores it with the policy at rollout; shaped is LUFFY's p / (p + 0.1)."""

    @property
    def needs_reference(self) -> bool:
        """Whether the start model is kept and scores every completion."""
        return self.beta > 0


@dataclass(frozen=True)
class OptimConfig:
    lr: float = 2e-4
    """Peak learning rate; this default suits the tiny embedded model, a model of billions wants about 1e-6."""
    beta1: float = 0.9
    """AdamW's decay of the gradient's mean."""
    beta2: float = 0.99
    """AdamW's decay of the squared gradient's mean."""
    weight_decay: float = 0.1
    """AdamW's decoupled weight decay."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises linearly to its peak."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after warm-up; cosine and linear end at 0."""
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this norm."""
    tokens_per_micro_batch: int = 8192
    """Tokens in one forward pass of the update, prompts counted once; lower it to save memory."""


@dataclass(frozen=True)
class RunConfig:
    stages: Literal["rft", "sft", "sft+rft"] = "rft"
    """rft: reinforcement (GRPO). sft: annotated trajectories are imitated. sft+rft: one after the other."""
    steps: int = 120
    """Steps of reinforcement; 0 only evaluates."""
    seed: int = 0
    """Seed of every random number."""
    dir: str = ""
    """Run folder; empty takes the next free one of runs/001, runs/002, …"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    save_every: int = 20
    """Steps between checkpoints, from which a run can go on; 0 saves only where it is stopped or ends badly."""
    keep: int = 2
    """Checkpoints that are kept: the last ones, and beside them the best by the first held-out figure."""
    resume: str = ""
    """Go on with a run: its folder, or one of its checkpoints. auto: with that of run.dir, or begin it."""
    evaluate_every: int = 0
    """Steps of reinforcement between evaluations on held-out data, beside those before and after; 0 makes none."""
    rank_timeout: float = 60
    """Seconds beyond the longest step so far after which a rank that does not come forward ends the run; 0: never."""
    max_bad_steps: int = 5
    """Steps with a non-finite loss or gradient, among the last twice as many, after which the run stops."""
    stop_on: str = "reward"
    """Troubles that end a run, saved, instead of being named only, with commas between them: idle, kl, entropy,
    entropy_lost, cut_off, sampler, skipped, reward. Without reward, groups whose reward is not finite are left out."""
    log_completions: int = 2
    """Prompts per step of which prior, best and worst go to completions.jsonl; ten times a run they are shown."""


    @property
    def stopping(self) -> list[str]:
        """The names of `stop_on`."""
        return [name.strip() for name in self.stop_on.split(",") if name.strip()]


@dataclass(frozen=True)
class SftConfig:
    steps: int = 60
    """Steps of the supervised stage."""
    prompts_per_step: int = 32
    """Samples per step, over all ranks together; those without a trajectory teach nothing."""
    lr: float = 3e-4
    """Learning rate of the supervised stage at its peak; everything else is as in optim."""


@dataclass(frozen=True)
class Config:
    """Every option of a run. `task` is an instance of the task class's own `Config`."""

    task_class: str
    task: Any
    model: ModelConfig = ModelConfig()
    rollout: RolloutConfig = RolloutConfig()
    grpo: GrpoConfig = GrpoConfig()
    optim: OptimConfig = OptimConfig()
    run: RunConfig = RunConfig()
    sft: SftConfig = SftConfig()

    def __post_init__(self) -> None:
        """Raises ValueError for a value that cannot be, or two that do not go together."""
        for words, holds, bound, names in _LIMITS:
            for name in names.split():
                value = operator.attrgetter(name)(self)
                if not holds(value, bound):
                    raise ValueError(f"{name} must be {words} {bound:,}, not {value}")
        model = self.model
        if model.lora_rank and model.freeze_vision:
            raise ValueError("model.freeze_vision changes nothing beside model.lora_rank, which freezes all weights: "
                             "leave it out")
        for name in ("lora_alpha", "lora_targets") if not model.lora_rank else ():
            if (value := getattr(model, name)) != getattr(ModelConfig, name):
                raise ValueError(f"model.{name} {value} changes nothing without model.lora_rank: give that, 16 say, or "
                                 "leave it out")
        grpo, low, high = self.grpo, self.model.min_pixels, self.model.max_pixels
        if self.rollout.group_size == 1 and grpo.scale != "none":
            raise ValueError(f"rollout.group_size 1 has no other completion to compare with, as grpo.scale "
                             f"{grpo.scale!r} must; take at least 2, or grpo.scale none")
        if grpo.beta_schedule != "constant" and not grpo.beta:
            raise ValueError(f"grpo.beta_schedule {grpo.beta_schedule} changes nothing at grpo.beta 0: leave it out")
        for name in _IDLE[grpo.objective].split():
            if (value := getattr(grpo, name)) != getattr(GrpoConfig, name):
                raise ValueError(f"grpo.{name} {value} changes nothing under grpo.objective {grpo.objective}: leave it "
                                 "out, or take grpo.objective grpo")
        if 0 < grpo.clip_max <= 1 + grpo.clip_high:
            raise ValueError(f"grpo.clip_max {grpo.clip_max} would bound what 1 + grpo.clip_high = "
                             f"{1 + grpo.clip_high:g} bounds already: take more, or 0 for none")
        if self.rollout.overlong > self.rollout.max_new_tokens:
            raise ValueError(f"rollout.overlong {self.rollout.overlong} is more than rollout.max_new_tokens "
                             f"{self.rollout.max_new_tokens}: take less")
        if unknown := [name for name in self.run.stopping if name not in TROUBLES]:
            raise ValueError(f"run.stop_on: there is no trouble {unknown[0]!r}, but {', '.join(TROUBLES)}")
        if 0 < high < low:
            raise ValueError(f"model.min_pixels {low} is above model.max_pixels {high}")


STRATEGIES = {
    "sft": {"run.stages": "sft"},
    "rft": {"run.stages": "rft", "grpo.prior": "false"},
    "rft+prior": {"run.stages": "rft", "grpo.prior": "true"},
    "sft+rft": {"run.stages": "sft+rft", "grpo.prior": "false"},
}
"""What `--strategy` stands for: the trained rows of MPCC Table 4; its base and prompt are modes of eval.py."""

_IDLE = {"grpo": "", "reinforce": "clip_low clip_high clip_max ratio prior_ratio",
         "cispo": "clip_low clip_max prior_ratio", "sapo": "clip_low clip_high clip_max prior_ratio"}
"""Options of `grpo` that change nothing under an objective."""

_LIMITS = (
    ("at least", operator.ge, 0, "model.lora_rank model.min_pixels model.max_pixels rollout.resample_rounds "
     "rollout.overlong grpo.clip_max grpo.sampler_cap grpo.entropy_bonus grpo.beta grpo.clip_low "
     "grpo.clip_high grpo.prior_until optim.beta1 optim.beta2 optim.weight_decay optim.warmup run.steps run.seed "
     "run.evaluate_every run.save_every run.rank_timeout run.log_completions sft.steps"),
    ("at least", operator.ge, 1, "rollout.group_size rollout.prompts_per_step rollout.max_new_tokens "
     "rollout.max_prompt_tokens grpo.updates_per_rollout optim.tokens_per_micro_batch run.max_bad_steps run.keep "
     "sft.prompts_per_step"),
    ("above", operator.gt, 0, "model.lora_alpha grpo.top_entropy rollout.temperature optim.lr optim.max_grad_norm "
     "sft.lr"),
    ("below", operator.lt, 1, "optim.beta1 optim.beta2"),
    ("at most", operator.le, 1, "grpo.clip_low grpo.top_entropy optim.warmup"),
    ("at most", operator.le, 100, "rollout.resample_rounds"),
    ("at most", operator.le, 4096, "rollout.group_size grpo.updates_per_rollout"),
    ("at most", operator.le, 2**20, "rollout.prompts_per_step rollout.max_new_tokens rollout.max_prompt_tokens "
     "sft.prompts_per_step"),
    ("at most", operator.le, 2**28, "model.min_pixels model.max_pixels"),
)
