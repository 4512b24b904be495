"""Export in HF format: what transformers, and this engine, load again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from minigrpo.models import VLM


def export(vlm: VLM, folder: str | Path) -> Path:
    """Writes config, safetensors, tokenizer and image processor; the folder appears whole or not at all.

    Args:
        vlm: Full weights, the replica of a sharded policy say.
        folder: Where to; an existing model there is replaced.
    """
    folder = Path(folder)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    vlm.save(part)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)  # aside, not away: at every moment one whole model is on disk
    os.replace(part, folder)
    shutil.rmtree(old, ignore_errors=True)
    return folder
