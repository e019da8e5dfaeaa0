"""Runs of models on benchmarks: `evaluate()`, the plan, the session, several models and ranks, and result folders."""
