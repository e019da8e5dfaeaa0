"""How metrics are named, whichever task reports them. Imports nothing."""

SUBSET = "*"
"""Stands for a subset's or class's name while none is known."""


def is_rank(metric: str) -> bool:
    """Whether a metric is a rank, where less is better; all others are fractions, where more is."""
    return metric.endswith("_rank")
