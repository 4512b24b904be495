"""minigrpo: a minimal, from-scratch GRPO engine for vision-language models.

What the G completions of a prompt share, image included, is computed once: in the rollout, in the reference pass and in
the update. Read `train.py` first, then layout.py, attention.py, rollout.py, policy.py.
"""

from minigrpo.advantages import group_advantages
from minigrpo.layout import EncodedPrompt, Group, Packed, micro_batches, pack
from minigrpo.loading import load_model
from minigrpo.losses import kl_k3, policy_loss, sft_loss
from minigrpo.models import VLM
from minigrpo.policy import Policy
from minigrpo.priors import insert_prior
from minigrpo.rollout import generate
from minigrpo.sampling import Sampling
from minigrpo.task import Completion, Sample, Task

__all__ = [
    "VLM",
    "Completion",
    "EncodedPrompt",
    "Group",
    "Packed",
    "Policy",
    "Sample",
    "Sampling",
    "Task",
    "generate",
    "group_advantages",
    "insert_prior",
    "kl_k3",
    "load_model",
    "micro_batches",
    "pack",
    "policy_loss",
    "sft_loss",
]
