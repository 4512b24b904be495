"""What the property tests share: how many cases each runs, and which ran.

`HYPOTHESIS_PROFILE=long python -m pytest tests/test_properties.py tests/test_properties_mpcc.py` runs `LONG` times as
many, other ones each time; as a rule they are the same each time.
"""

import functools
import os
from collections import Counter

from hypothesis import HealthCheck, given, settings

LONG = 20
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
DECLARED: dict[str, int] = {}
"""Name of a property → cases that it is to run."""
RAN: Counter[str] = Counter()
"""Name of a property → cases that it ran."""


def holds(cases: int, **strategies):
    """Decorates a property, which takes a value of each strategy by name; `cases` are those of the short profile."""
    count = cases * (LONG if PROFILE == "long" else 1)

    def decorate(check):
        DECLARED[check.__name__] = count

        @functools.wraps(check)
        def counted(*args, **kwargs):
            RAN[check.__name__] += 1
            return check(*args, **kwargs)

        quiet = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
        return settings(max_examples=count, suppress_health_check=quiet)(given(**strategies)(counted))

    return decorate


def one_line(error: Exception) -> str:
    """The message of an error, which must be one line that says something."""
    text = str(error)
    assert text.strip() and "\n" not in text, f"no line: {text!r}"
    return text
