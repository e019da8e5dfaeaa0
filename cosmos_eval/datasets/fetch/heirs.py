"""Shipped definitions that need no row of their own in the table of sources: they read the data of their `base`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from cosmos_core.yaml_text import read_yaml
from cosmos_eval.datasets.fetch.table import Recipe
from cosmos_eval.datasets.reader_registry import reads_same_data


def inherited_recipes(recipes: Mapping[str, Recipe], definitions: Mapping[str, Path]) -> dict[str, Recipe]:
    """Recipes of the definitions without a row that keep the reader, paths and split of a base with one.

    Args:
        recipes: benchmark -> its row in the table.
        definitions: benchmark -> file of its definition; a base is among them.

    Raises:
        RequestError: a file is not YAML, or has an unknown reader.
    """
    read = cache(lambda name: read_yaml(definitions[name]))
    inherited = {}
    for name in sorted(definitions.keys() - recipes.keys()):
        value = read(name)
        base = str(value.get("base", ""))
        if base in recipes and base in definitions:
            dataset = read(base)["dataset"]
            if reads_same_data({**dataset, **value.get("dataset", {})}, dataset):
                inherited[name] = replace(recipes[base], benchmark=name)
    return inherited
