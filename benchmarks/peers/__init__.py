"""Plain implementations for comparison, written from the published formulas without our optimisations."""
