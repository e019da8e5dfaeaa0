"""Definitions of benchmarks, and of suites in `suites`."""
