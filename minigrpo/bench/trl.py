"""The side "trl": TRL's GRPOTrainer, driven step by step from outside.

It trains as it does for anyone: transformers generates, and settings are TRL's defaults, or ours where both have them.
A subclass times the phases, and a callback waits before each step until it is asked for.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from minigrpo.bench.memory import sequences_that_fit
from minigrpo.bench.meter import Meter
from minigrpo.bench.ours import OPTIM
from minigrpo.bench.untrained import SPECIALS
from minigrpo.bench.workload import Workload

LEFT = {"padding_side": "left", "truncation_side": "left"}


def run(workload: Workload, folder: Path, link) -> None:
    """Trains; every step waits until the other end of `link` asks for it."""
    import trl
    from datasets import Dataset
    from transformers import TrainerCallback

    meter = Meter(workload.device)
    processor, note = load_processor(folder)
    micro_batch = workload.micro_batch or sequences_that_fit(workload)

    class Timed(trl.GRPOTrainer):
        """Times the phases."""

        def _generate(self, *args, **kwargs):
            with meter.phase("rollout"):
                return super()._generate(*args, **kwargs)

        def _get_per_token_logps_and_entropies(self, *args, **kwargs):
            if torch.is_grad_enabled():
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)
            with meter.phase("scoring"):
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)

        def _generate_and_score_completions(self, *args, **kwargs):
            made = super()._generate_and_score_completions(*args, **kwargs)
            if made["completion_ids"].shape != (workload.sequences, workload.completion):
                raise ValueError(f"TRL drew completions of shape {tuple(made['completion_ids'].shape)}")
            meter.start("update")
            return made

    class Turns(TrainerCallback):
        """Waits before a step, answers after it."""

        def on_step_begin(self, args, state, control, **kwargs):
            assert (asked := link.wait()) == "step", asked
            meter.begin()

        def on_step_end(self, args, state, control, **kwargs):
            link.answer(meter.end())

    samples = [sample for number in range(workload.steps + 1) for sample in workload.samples(number)]
    drawn = iter([r for number in range(workload.steps + 1) for i in range(workload.prompts)
                  for r in workload.rewards(number, i)])
    data = Dataset.from_dict({"prompt": [[{"role": "user", "content": s.question}] for s in samples],
                              "image": [s.images[0] for s in samples]})

    def reward(completions, **kwargs) -> list[float]:
        return [next(drawn) for _ in completions]

    trainer = Timed(str(folder), reward, _settings(trl, workload, folder, micro_batch, processor), data,
                    processing_class=processor, callbacks=[Turns()])
    torch.set_num_threads(workload.threads)
    facts = {"micro_batch": micro_batch, "version": trl.__version__}
    link.answer({"facts": facts | ({"note": note} if note else {})})
    trainer.train()


def _settings(trl, workload: Workload, folder: Path, micro_batch: int, processor) -> Any:
    """GRPOConfig, chosen for speed where it has a choice.

    No activations are recomputed unless asked for, though TRL does by default; half precision is that of the weights
    too; the whole step is one forward where memory allows. End tokens are never drawn, so lengths are fixed.
    """
    specials = processor.tokenizer.convert_tokens_to_ids(list(SPECIALS))
    return trl.GRPOConfig(
        output_dir=str(folder / "trl"), max_steps=workload.steps + 1, per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=workload.sequences // micro_batch, num_generations=workload.group_size,
        max_completion_length=workload.completion, beta=workload.beta, temperature=1.0, shuffle_dataset=False,
        generation_kwargs={"suppress_tokens": specials}, gradient_checkpointing=workload.checkpointing,
        learning_rate=OPTIM.lr, lr_scheduler_type="constant", max_grad_norm=OPTIM.max_grad_norm,
        use_cpu=workload.device == "cpu", bf16=workload.dtype == "bfloat16", dataloader_pin_memory=False,
        model_init_kwargs={"dtype": workload.dtype, "attn_implementation": "sdpa"}, report_to="none",
        save_strategy="no", logging_strategy="no", disable_tqdm=True,
    )


def load_processor(folder: Path) -> tuple[Any, str]:
    """The model's processor, and what has to be said about it.

    It pads on the left, as TRL's own does: TRL joins the processor's padded rows with prompts that it pads on the left.
    Without torchvision Qwen's processor does not load, since its part for videos needs it; nothing here is a video, so
    that part is left out, and images go through transformers' PIL backend, as they do in ours.
    """
    from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor

    if find_spec("torchvision") is not None:
        return AutoProcessor.from_pretrained(folder, **LEFT), ""

    class ImagesOnly(Qwen2_5_VLProcessor):
        """Without a video processor: transformers reads the parts from this signature."""

        def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
            super().__init__(image_processor, tokenizer, chat_template=chat_template)

    tokenizer = AutoTokenizer.from_pretrained(folder, **LEFT)
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return ImagesOnly(images, tokenizer, tokenizer.chat_template), "torchvision is not installed: its processor runs " \
        "without its video part, in this process only"
