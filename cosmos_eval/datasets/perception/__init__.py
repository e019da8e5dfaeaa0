"""Readers of perception and compositional benchmarks; each reads the files that its authors publish."""
