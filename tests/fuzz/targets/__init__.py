"""Readers by name: each module has a TARGETS of its own."""

from tests.fuzz.running import Target
from tests.fuzz.targets import (
    annotations,
    author_files,
    cache,
    checkpoints,
    definitions,
    embeddings,
    fetching,
    images,
    model_folders,
    own_masks,
    published_tables,
    results,
    segmentation,
    shards,
    training_files,
)

MODULES = (
    annotations, author_files, cache, checkpoints, definitions, embeddings, fetching, images, model_folders, own_masks,
    published_tables, results, segmentation, shards, training_files,
)  # fmt: skip
TARGETS: dict[str, Target] = {target.name: target for module in MODULES for target in module.TARGETS}
