"""Definitions of benchmarks and suites: reading, checking and hashing; and the registry of tasks, which they name."""
