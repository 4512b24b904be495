"""Writes tests/trl_losses.json: what TRL's own GRPOTrainer makes of random tokens, loss and gradient in float64.

    python tests/trl_losses.py        in an environment that has trl 1.16; the project itself needs none

The trainer's `_compute_loss` is called as it stands; the model is replaced by the log-probabilities themselves, so that
the gradient is that by each of them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import trl
from trl import GRPOTrainer

FILE = Path(__file__).with_suffix(".json")
LENGTHS = [3, 7, 1, 5]
COMMON = {"epsilon": 0.2, "epsilon_high": 0.28, "beta": 0.0, "level": "token", "loss_type": "dapo"}
CASES = {
    "grpo": {"loss_type": "grpo"},
    "dapo": {},
    "dr_grpo": {"loss_type": "dr_grpo"},
    "kl": {"beta": 0.1},
    "kl corrected": {"beta": 0.1, "bias_correction": True},
    "two-sided clip": {"delta": 1.6},
    "gspo": {"level": "sequence", "loss_type": "grpo"},
    "gspo, kl corrected": {"level": "sequence", "loss_type": "grpo", "beta": 0.1, "bias_correction": True},
    "cispo": {"loss_type": "cispo", "epsilon_high": 1.5},
    "sapo": {"loss_type": "sapo"},
    "truncated importance": {"vllm": True},
}


def compute(case: dict, data: dict[str, torch.Tensor]) -> dict:
    """Loss, and gradient [N] by the log-probabilities of all completion tokens, as TRL computes them."""
    options = COMMON | case
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    logps = data["logps"].clone().requires_grad_()

    def padded(values: torch.Tensor) -> torch.Tensor:
        return values.new_zeros(mask.shape).masked_scatter(mask, values)

    ratio = (data["old"] - data["sampler"]).exp().clamp(max=2.0)
    inputs = {
        "prompt_ids": torch.zeros(4, 1), "prompt_mask": torch.ones(4, 1), "completion_ids": mask.long(),
        "completion_mask": mask.long(), "advantages": data["advantages"], "old_per_token_logps": padded(data["old"]),
        "ref_per_token_logps": padded(data["ref"]), "num_items_in_batch": torch.tensor(float(sum(LENGTHS))),
        "importance_sampling_ratio": padded(ratio),
    }
    accelerator = SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x)
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (padded(logps), torch.zeros(mask.shape), None),
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, beta=options["beta"],
        importance_sampling_level=options["level"], loss_type=options["loss_type"], epsilon_low=options["epsilon"],
        epsilon_high=options["epsilon_high"], use_vllm=options.get("vllm", False), accelerator=accelerator,
        vllm_importance_sampling_correction=True, model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1, max_completion_length=max(LENGTHS), _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)}, num_generations=4,
        args=SimpleNamespace(delta=options.get("delta"), use_bias_correction_kl=options.get("bias_correction", False),
                             sapo_temperature_pos=1.0, sapo_temperature_neg=1.05, steps_per_generation=1),
    )
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return {"loss": loss.item(), "gradient": logps.grad.tolist(), "options": options}


def main() -> None:
    torch.manual_seed(0)
    count = sum(LENGTHS)
    logps = -torch.rand(count, dtype=torch.float64) * 3
    data = {
        "logps": logps, "old": logps - 0.5 * torch.randn(count, dtype=torch.float64),
        "ref": logps - 0.3 * torch.randn(count, dtype=torch.float64),
        "advantages": torch.tensor([1.2, -0.7, -1.0, 0.5], dtype=torch.float64),
    }
    data["sampler"] = data["old"] - 0.5 * torch.randn(count, dtype=torch.float64)
    found = {name: compute(case, data) for name, case in CASES.items()}
    tokens = {name: values.tolist() for name, values in data.items()}
    kept = {"trl": trl.__version__, "lengths": LENGTHS, **tokens, "cases": found}
    FILE.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
