"""Whether a run fits and how long a step takes, said before it starts: `python -m minigrpo.plan --help`."""
