"""minigrpo: a minimal, from-scratch GRPO engine for vision-language models.

What the G completions of a prompt share, image included, is computed once: in the rollout, in the reference pass and in
the update. Read `train.py` first, then layout.py, attention.py, rollout.py, policy.py.

A name is loaded when it is first asked for, so that `--help`, or `from minigrpo import Task`, loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minigrpo.advantages import group_advantages
    from minigrpo.batches import micro_batches
    from minigrpo.layout import EncodedPrompt, Group, Packed, pack
    from minigrpo.loading import load_model
    from minigrpo.losses import kl_k3, policy_loss, sft_loss
    from minigrpo.models import VLM
    from minigrpo.policy import Policy
    from minigrpo.priors import insert_prior
    from minigrpo.rollout import generate
    from minigrpo.sampler import Sampler
    from minigrpo.sampling import Sampling
    from minigrpo.task import Completion, Generate, Sample, Stage, Task

_MODULE_OF = {
    "VLM": "models", "Completion": "task", "EncodedPrompt": "layout", "Generate": "task", "Group": "layout",
    "Packed": "layout", "Policy": "policy", "Sample": "task", "Sampler": "sampler", "Sampling": "sampling",
    "Stage": "task", "Task": "task", "generate": "rollout", "group_advantages": "advantages", "insert_prior": "priors",
    "kl_k3": "losses", "load_model": "loading", "micro_batches": "batches", "pack": "layout", "policy_loss": "losses",
    "sft_loss": "losses",
}
__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """The public `name` from its module (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'minigrpo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"minigrpo.{_MODULE_OF[name]}"), name)
