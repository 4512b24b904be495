"""MPCC: Masked Prediction via Context and Commonsense (arXiv 2510.21807), the first task on minigrpo."""

DEFAULT_TASK = "mpcc.task:MaskedPrediction"
"""What train.py and eval.py take where no task is named."""
