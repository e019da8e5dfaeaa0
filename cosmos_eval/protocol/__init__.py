"""Definitions of benchmarks and suites: read, checked, hashed. The tasks by name, too, since a definition names one."""
