"""Rules on the names of metrics that hold for every task. Imports nothing, so that anything may import it."""

SUBSET = "*"
"""Stands in a metric's name (`*/accuracy`) for the name of any subset or class."""


def is_rank(metric: str) -> bool:
    """Return whether a metric is a rank (lower is better); all others are fractions (higher is better)."""
    return metric.endswith("_rank")
