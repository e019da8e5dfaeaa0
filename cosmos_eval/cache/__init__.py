"""Features on disk, keyed by content: what an earlier run encoded is read, not encoded again."""
