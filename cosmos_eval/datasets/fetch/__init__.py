"""Fetching datasets: only when asked (`data fetch`, `run --fetch`), from the addresses of one table."""
