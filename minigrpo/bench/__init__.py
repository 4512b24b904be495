"""The benchmark: what a GRPO step costs in minigrpo, and what it costs elsewhere; `python -m minigrpo.bench --help`.

Every side (ours, plain transformers, TRL) runs in a process of its own on the same model folder, so that its peak
memory is its own and steps can alternate: `worker.py` is that process, `ours.py`, `plain.py`, `trl.py` are the sides.
"""
