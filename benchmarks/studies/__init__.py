"""Studies with a page in results/. They are run by hand; CI runs only a smoke test of each."""
