"""Checks the options of the tasks beside it."""

from __future__ import annotations

from typing import Any


def check_limits(config: Any, **limits: tuple[float, float]) -> None:
    """Raises ValueError for an option below the first or above the second of its two limits; both are allowed."""
    for name, (least, most) in limits.items():
        if not least <= (value := getattr(config, name)) <= most:
            raise ValueError(f"{name} = {value} must be between {least:g} and {most:g}")
