"""Strategies and ablations, compared over seeds: `python -m mpcc.experiments table4|ablations`."""
