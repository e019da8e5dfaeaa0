"""Images of what a model does (attention, label maps, retrieval, perception), and how it is read."""
