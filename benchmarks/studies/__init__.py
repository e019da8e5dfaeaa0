"""Studies that made a page of results: by hand, out of CI but for a smoke test each."""
