r"""The export is read by transformers 4.57 as by 5: equal logits, a tied head, the image processor as it was.

Its folder is named by the environment variable TRANSFORMERS_4, and made by
    pip install --target FOLDER --no-deps "transformers==4.57.*" "tokenizers<0.23" "huggingface_hub<1" \
        requests urllib3 idna certifi charset-normalizer
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from transformers import AutoModelForImageTextToText

from minigrpo import load_model
from minigrpo.export import export

FOLDER = os.environ.get("TRANSFORMERS_4", "")
SCENES = Path(__file__).resolve().parents[2] / "mpcc/scenes/model"
pytestmark = pytest.mark.skipif(not FOLDER, reason="TRANSFORMERS_4 names no folder of transformers 4.57")
READ = """
import json, sys, torch, transformers
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
folder, inputs, out = sys.argv[1:]
assert transformers.__version__.startswith("4.57"), transformers.__version__
net, report = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
inputs = torch.load(inputs)
text = inputs.pop("text")
tokens = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False)["input_ids"]
assert tokens == inputs["input_ids"][0].tolist()
with torch.no_grad():
    torch.save(net.eval()(**inputs).logits, out)
processor = AutoImageProcessor.from_pretrained(folder, use_fast=False)
print(json.dumps({"lacking": report["missing_keys"], "too many": report["unexpected_keys"],
                  "tied": net.lm_head.weight is net.get_input_embeddings().weight,
                  "max_pixels": processor.size["longest_edge"]}))
"""


def as_on_the_hub(folder):
    """Rewrites what transformers 5 has saved as the models of the hub have it, with a limit on pixels of its own."""
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    config |= {key: value for key, value in text.items() if key not in ("model_type", "architectures")}
    config |= {"rope_theta": rope["rope_theta"], "torch_dtype": config.pop("dtype", "float32"),
               "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    images = json.loads((folder / "preprocessor_config.json").read_text())
    images |= {"min_pixels": 28 * 28, "max_pixels": 7 * 28 * 28}
    images.pop("size")
    for name, content in (("tokenizer_config", tokenizer), ("config", config), ("preprocessor_config", images)):
        (folder / f"{name}.json").write_text(json.dumps(content))


def test_a_trained_export_is_read_by_transformers_4(tmp_path):
    source, vlm = tmp_path / "source", load_model(SCENES)
    export(vlm, source, SCENES)
    as_on_the_hub(source)
    vlm = load_model(source)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in vlm.net.parameters():
            weight += 0.01 * torch.randn_like(weight)
    folder = export(vlm, tmp_path / "model", source)
    loaded = load_model(folder)
    inputs = tiny.plain_inputs(loaded, loaded.encode(tiny.samples(True)[0]))
    text = loaded.tokenizer.decode(inputs["input_ids"][0], clean_up_tokenization_spaces=False)
    torch.save(inputs | {"text": text}, tmp_path / "inputs.pt")
    done = subprocess.run([sys.executable, "-c", READ, folder, tmp_path / "inputs.pt", tmp_path / "logits.pt"],
                          env=os.environ | {"PYTHONPATH": FOLDER}, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == {"lacking": [], "too many": [], "tied": True,
                                                         "max_pixels": 7 * 28 * 28}
    with torch.no_grad():
        ours = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()(**inputs).logits
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), ours, rtol=1e-4, atol=1e-4)
