"""What kept answers belong to: digests of the content of models, pictures and whatever else was asked with.

Names and times say nothing: another model may come to lie under the same name, within the same second.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from minigrpo.checkpoints import is_checkpoint, start_model
from minigrpo.files import naming

_LOADED = {".safetensors", ".bin", ".json", ".jinja", ".txt", ".model"}
"""Endings of the files of a model folder: weights, configuration, tokenizer, chat template, image processor."""

_known: dict[tuple[str, int, int, int, int], str] = {}


def digest(*parts: Any) -> str:
    """16 hexadecimal digits of what JSON can hold, or `str` can tell."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_digest(path: str | Path) -> str:
    """16 hexadecimal digits of a file's content, which is read once in a process while the file stays as it is.

    Raises:
        OSError: it cannot be read; names it.
    """
    with naming(path), open(path, "rb") as file:
        stat = Path(path).stat()
        key = (str(Path(path).resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        if key not in _known:
            _known[key] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return _known[key]


def model_digest(model: str) -> str:
    """16 hexadecimal digits of all files that a model is loaded from; its name does not count.

    Args:
        model: A folder, a hub id whose files were downloaded, or a run's checkpoint: then those of the model that the
            run began with count, too.

    Raises:
        OSError: a file that cannot be read, or a hub id without files here.
    """
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download  # a folder needs none of this

        folder = Path(snapshot_download(model, local_files_only=True))
    files = sorted(path for path in folder.rglob("*") if path.suffix in _LOADED and path.is_file())
    begun = model_digest(start_model(model)) if is_checkpoint(folder) else ""  # its weights count by digests.json
    return digest(begun, [[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])
