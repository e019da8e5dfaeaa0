"""The kinds of model spec that are built in, one a file. Imports neither torch nor model libraries."""
