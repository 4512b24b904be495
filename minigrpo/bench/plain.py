"""The side "plain": the same step in plain transformers, every completion with its own copy of the prompt.

Sampling is one `generate` with a KV cache over all completions of the step; scoring and update are forwards over whole
sequences, in as few micro-batches as memory allows, the LM head on completion positions only.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoImageProcessor, AutoTokenizer, GenerationConfig, Qwen2_5_VLForConditionalGeneration

from minigrpo import group_advantages, policy_loss
from minigrpo.bench.memory import sequences_that_fit
from minigrpo.bench.meter import Meter
from minigrpo.bench.ours import OPTIM
from minigrpo.bench.untrained import SPECIALS
from minigrpo.bench.workload import Workload
from minigrpo.optim import clip_and_step, make_optimizer


class Plain:
    """A policy and, where beta > 0, a reference, as `from_pretrained` gives them."""

    def __init__(self, workload: Workload, folder: Path) -> None:
        self.workload, self.meter = workload, Meter(workload.device)
        self.micro_batch = workload.micro_batch or sequences_that_fit(workload)
        self.policy = load(workload, folder).train()
        if workload.checkpointing:
            self.policy.gradient_checkpointing_enable({"use_reentrant": False})
        self.reference = load(workload, folder).requires_grad_(False) if workload.beta else None
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.images = AutoImageProcessor.from_pretrained(folder, backend="pil")
        self.optimizer = make_optimizer(self.policy, OPTIM)

    def facts(self) -> dict[str, Any]:
        """How the update is cut up."""
        return {"micro_batch": self.micro_batch}

    def step(self, number: int) -> dict[str, dict[str, float]]:
        """One whole step; what `Meter.end` gives."""
        w, samples = self.workload, self.workload.samples(number)
        self.meter.begin()
        with self.meter.phase("rollout"):
            inputs, pixels = self.encode(samples)
            inputs = self.sample(inputs, pixels)
        self.tokenizer.batch_decode(inputs["input_ids"][:, -w.completion :])  # what a reward would read
        rewards = torch.tensor([w.rewards(number, i) for i in range(w.prompts)])
        advantages = group_advantages(rewards).flatten().to(w.device)
        parts = torch.arange(w.sequences).split(self.micro_batch)
        refs: list[Tensor | None] = [None] * len(parts)
        if self.reference is not None:
            with self.meter.phase("scoring"), torch.no_grad():
                refs = [self.logps(self.reference, inputs, pixels, rows) for rows in parts]
        with self.meter.phase("update"):
            for rows, ref in zip(parts, refs, strict=True):
                logps = self.logps(self.policy, inputs, pixels, rows).flatten()
                spread = advantages[rows].repeat_interleave(w.completion)
                weights = torch.full_like(logps, 1 / w.tokens)
                ref = None if ref is None else ref.flatten()
                policy_loss(logps, logps.detach(), spread, weights, ref_logps=ref, beta=w.beta).loss.backward()
            clip_and_step(self.optimizer, self.policy, OPTIM.lr, OPTIM.max_grad_norm)
        return self.meter.end()

    def encode(self, samples) -> tuple[dict[str, Tensor], list[tuple[Tensor, Tensor]]]:
        """Inputs [N · G, P] of all completions, padded on the left, and each prompt's patches and grid."""
        ids, pixels = [], []
        for sample in samples:
            seen = self.images(images=list(sample.images), return_tensors="pt").to(self.workload.device)
            pixels.append((seen["pixel_values"], seen["image_grid_thw"]))
            content = [{"type": "image"}, {"type": "text", "text": sample.question}]
            text = self.tokenizer.apply_chat_template([{"role": "user", "content": content}], tokenize=False,
                                                      add_generation_prompt=True)
            tokens = int(seen["image_grid_thw"].prod()) // self.images.merge_size**2
            text = text.replace("<|image_pad|>", "<|image_pad|>" * tokens)
            ids.append(torch.tensor(self.tokenizer(text, add_special_tokens=False)["input_ids"]))
        image = self.policy.config.image_token_id
        columns = {"input_ids": (ids, self.tokenizer.pad_token_id),
                   "attention_mask": ([torch.ones_like(row) for row in ids], 0),
                   "mm_token_type_ids": ([(row == image).long() for row in ids], 0)}
        inputs = {}
        for name, (rows, pad) in columns.items():
            padded = pad_sequence(rows, batch_first=True, padding_value=pad, padding_side="left")
            inputs[name] = padded.repeat_interleave(self.workload.group_size, dim=0).to(self.workload.device)
        return inputs, pixels

    @torch.no_grad()
    def sample(self, inputs: dict[str, Tensor], pixels: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """The same inputs, [N · G, P + C], with what was drawn."""
        w = self.workload
        self.policy.eval()
        specials = self.tokenizer.convert_tokens_to_ids(list(SPECIALS))
        sampling = GenerationConfig(
            max_new_tokens=w.completion, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, use_cache=True,
            pad_token_id=self.tokenizer.pad_token_id, suppress_tokens=specials,
        )
        ids = self.policy.generate(**inputs, **self._images(pixels, torch.arange(w.sequences)),
                                   generation_config=sampling)
        self.policy.train()
        if ids.shape[1] != inputs["input_ids"].shape[1] + w.completion:
            raise ValueError(f"generate gave {ids.shape[1]} tokens instead of prompt and {w.completion}")
        drawn = ids.new_zeros(len(ids), w.completion)
        return {
            "input_ids": ids,
            "attention_mask": torch.cat([inputs["attention_mask"], drawn + 1], dim=1),
            "mm_token_type_ids": torch.cat([inputs["mm_token_type_ids"], drawn], dim=1),
        }

    def logps(self, net, inputs: dict[str, Tensor], pixels: list[tuple[Tensor, Tensor]], rows: Tensor) -> Tensor:
        """Log-probabilities [rows, C] of the completions that `rows` names."""
        completion = self.workload.completion
        logits = net(**{name: value[rows] for name, value in inputs.items()}, **self._images(pixels, rows),
                     use_cache=False, logits_to_keep=completion + 1).logits[:, :-1]
        targets = inputs["input_ids"][rows, -completion:]
        return logits.float().log_softmax(-1).gather(-1, targets[..., None])[..., 0]

    def _images(self, pixels: list[tuple[Tensor, Tensor]], rows: Tensor) -> dict[str, Tensor]:
        """Patches and grids of these completions, each with its own copy."""
        own = [pixels[row // self.workload.group_size] for row in rows.tolist()]
        values = torch.cat([patches for patches, _ in own]).to(self.policy.dtype)
        return {"pixel_values": values, "image_grid_thw": torch.cat([grid for _, grid in own])}


def load(workload: Workload, folder: Path):
    """The model in the workload's precision, on its device."""
    dtype = getattr(torch, workload.dtype)
    net = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
    return net.to(workload.device)


def run(workload: Workload, folder: Path, link) -> None:
    """Makes a step whenever the other end of `link`, a `worker.Link`, asks for one."""
    side = Plain(workload, folder)
    link.answer({"facts": side.facts()})
    for number in itertools.count():
        assert (asked := link.wait()) == "step", asked
        link.answer(side.step(number))
