"""MPCC: Masked Prediction via Context and Commonsense (arXiv 2510.21807), the first task on minigrpo."""
