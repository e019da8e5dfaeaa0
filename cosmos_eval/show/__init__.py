"""Images of what a model does: attention, label maps, retrieval, perception."""
