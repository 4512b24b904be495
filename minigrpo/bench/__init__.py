"""The benchmark: what a GRPO step costs in minigrpo and in others; `python -m minigrpo.bench --help`.

minigrpo, plain transformers and TRL are its sides. Each runs in a process of its own (`worker.py`) on the same model
folder, so that its peak memory is its own and steps can take turns; `ours.py`, `plain.py` and `trl.py` make the steps.
"""
