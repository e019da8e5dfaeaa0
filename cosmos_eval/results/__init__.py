"""Results: the record, its schema, reading and writing."""
