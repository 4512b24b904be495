"""Export in HF format: what transformers, and this engine, load again. Of a checkpoint, too:

    python -m minigrpo.export runs/001/checkpoints/000040 FOLDER
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import transformers

from minigrpo.checkpoints import absolute, files_of, is_checkpoint, read_progress, start_model
from minigrpo.files import replacing
from minigrpo.loading import load_model
from minigrpo.lora import adapters, merged_state, save_adapter
from minigrpo.models import VLM
from minigrpo.replica import DTYPES

_WEIGHTS = (".safetensors", ".bin", ".index.json", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
"""How the files end that an export does not take over."""


def export(vlm: VLM, folder: str | Path, source: str | Path = "") -> Path:
    """Writes a model folder, which appears whole or not at all; a model that is there already is replaced.

    Adapters are added to the weights, and stand apart in its folder `adapter`, in peft's format.

    Args:
        vlm: Full weights, the replica of a sharded policy say.
        folder: Where to.
        source: The folder or hub id that the model came from: its configuration, tokenizer and processor files are
            taken over byte for byte, so that whatever could read them still can. Empty: as this transformers writes
            them.

    Raises:
        OSError: it cannot be written, a full disk say; names the folder.
    """
    folder = Path(folder)
    with replacing(folder) as part:
        if not source:
            vlm.save(part)
            return folder
        written = part / ".written"
        state = {"state_dict": merged_state(vlm.net)} if adapters(vlm.net) else {}
        vlm.net.save_pretrained(written, **state)  # its own configuration goes again
        for file in sorted(written.iterdir()):
            if file.name.endswith((".safetensors", ".safetensors.index.json")):
                file.rename(part / file.name)
        shutil.rmtree(written)
        for file in files_of(start_model(source)):
            if file.is_file() and not file.name.startswith(".") and not file.name.endswith(_WEIGHTS):
                shutil.copyfile(file, part / file.name)
        if adapters(vlm.net):
            save_adapter(vlm.net, part / "adapter", absolute(str(source)))
    return folder


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser("python -m minigrpo.export", description="Makes a model folder of a checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="RUN/checkpoints/STEP")
    parser.add_argument("folder", type=Path, help="where to; it must not exist yet")
    options = parser.parse_args()
    transformers.logging.disable_progress_bar()
    try:
        if not is_checkpoint(options.checkpoint):
            raise ValueError(f"{options.checkpoint} is no checkpoint; those of a run are in RUN/checkpoints")
        if options.folder.exists():
            raise ValueError(f"{options.folder} exists already: name another folder")
        progress = read_progress(options.checkpoint)
        vlm = load_model(options.checkpoint, dtype=DTYPES[progress.dtype])
        print(export(vlm, options.folder, progress.path))
    except (ValueError, OSError) as error:
        sys.exit(f"minigrpo.export: error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
