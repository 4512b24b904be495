"""Export in HF format: what transformers, and this engine, load again."""

from __future__ import annotations

from pathlib import Path

from minigrpo.files import replacing
from minigrpo.models import VLM


def export(vlm: VLM, folder: str | Path) -> Path:
    """Writes config, safetensors, tokenizer and image processor; the folder appears whole or not at all.

    Args:
        vlm: Full weights, the replica of a sharded policy say.
        folder: Where to; an existing model there is replaced.
    """
    folder = Path(folder)
    with replacing(folder) as part:
        vlm.save(part)
    return folder
