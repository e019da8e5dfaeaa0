"""Published figures, and measured results beside them."""
