"""Results: the record, its schema and versions, reading and writing, comparing and merging."""
