"""`evaluate()`: plan, session, many models, and where results go."""
