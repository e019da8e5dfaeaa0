"""Datasets in shards that are evaluated while they are downloaded, and are never on disk as a whole."""
