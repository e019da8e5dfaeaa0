"""How commands show progress: see `cosmos_eval.progress_display`."""

from cosmos_eval.progress_display import LineReporter, RichReporter, duration, make_reporter

__all__ = ["LineReporter", "RichReporter", "duration", "make_reporter"]
