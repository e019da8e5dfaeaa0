"""Feature cache: features on disk, found by content, so that a later run reads them instead of encoding again."""
