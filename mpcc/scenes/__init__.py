"""The embedded default: a procedural world in COCO format, and a tiny Qwen2.5-VL pretrained on it."""
