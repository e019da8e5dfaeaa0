"""Is a candidate worse than a baseline? Paired tests on the same samples."""
