"""MMRPT: reinforcement pre-training on captions whose visual parts are masked (arXiv 2512.07203)."""
