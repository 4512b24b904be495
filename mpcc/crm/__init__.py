"""Which region of a picture each step of a model's reasoning rests on: Contrastive Region Masking, without training."""
