"""YAML of a user, bounded: maps, lists, texts, numbers and truth values, each with its line, and nothing else."""

import re
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import DEEPEST, MOST_DIGITS
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import read_text

Keys = tuple[str | int, ...]
LARGEST_YAML = 4 * 2**20
"""Bytes: PyYAML reads about a megabyte in two seconds."""
MOST_REPEATED = 10_000
"""Values that aliases (`*name`) may repeat in all: ten lines of ten aliases each would stand for 10^10 values."""
_MANY_BRACKETS = re.compile(rf"(?:[\[{{]\s*){{{DEEPEST + 1}}}")
_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null")}
_UNREAD = {
    "timestamp": "is read as a date; put it in quotes",
    "binary": "is read as binary data; write it as a text",
}


def parse_yaml(text: str, where: object, lines: dict[Keys, int] | None = None, dates: bool = False) -> Any:
    """The value of one YAML document of maps, lists, texts, numbers (`.inf` and `.nan`, too), truth values and nulls.

    Args:
        text: the document.
        where: what an error calls it, a path for one.
        lines: takes the line of every value, by the keys that lead to it.
        dates: take what YAML reads as a date for the text that it is, in place of refusing it.

    Raises:
        RequestError: not YAML, more than one document, a key given twice or of another type than text or whole number,
            a date, a tag, a number of more than `json_text.MOST_DIGITS` digits, values nested
            deeper than `json_text.DEEPEST`, aliases that repeat more than `MOST_REPEATED` values or hold themselves,
            half a surrogate pair. Names `where` and the line.
    """
    import yaml

    if _MANY_BRACKETS.search(text):  # PyYAML looks a thousand characters ahead of each of them
        raise RequestError(f"{where}: not YAML: nested deeper than {DEEPEST} levels")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return None if node is None else _Builder(loader, where, {} if lines is None else lines, dates).value(node, ())
    except RequestError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}" if mark else f"{where}"
        raise RequestError(f"{place}: not YAML: {' '.join((error.problem or error.context or '').split())}") from error
    except RecursionError as error:
        raise RequestError(f"{where}: not YAML: nested deeper than {DEEPEST} levels") from error
    except Exception as error:  # PyYAML raises whatever Python does for a scalar that is not of its tag
        raise RequestError(f"{where}: not YAML: {' '.join(str(error).split())[:200]}") from error
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: Path | str, lines: dict[Keys, int] | None = None) -> Any:
    """The value in a YAML file; arguments and errors as of `parse_yaml`.

    Raises:
        RequestError: also unreadable, no regular file, not UTF-8, or larger than `LARGEST_YAML` bytes.
    """
    return parse_yaml(read_text(path, LARGEST_YAML), path, lines)


class _Builder:
    """Builds plain values from PyYAML's nodes, and counts what aliases repeat."""

    def __init__(self, loader: Any, where: object, lines: dict[Keys, int], dates: bool) -> None:
        self.loader, self.where, self.lines, self.dates = loader, where, lines, dates
        self.seen: set[int] = set()
        self.open: set[int] = set()
        """Nodes that the present one lies in."""
        self.repeated = 0

    def refuse(self, node: Any, message: str) -> RequestError:
        return RequestError(f"{self.where}:{node.start_mark.line + 1}: {message}")

    def value(self, node: Any, keys: Keys) -> Any:
        import yaml

        self.lines.setdefault(keys, node.start_mark.line + 1)
        self._count(node, keys)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self.open.add(id(node))
        built: Any
        if isinstance(node, yaml.SequenceNode):
            self._plain_tag(node, "seq")
            built = [self.value(item, (*keys, i)) for i, item in enumerate(node.value)]
        else:
            self._plain_tag(node, "map")
            built = self._map(node, keys)
        self.open.discard(id(node))
        return built

    def _count(self, node: Any, keys: Keys) -> None:
        if id(node) in self.open:
            raise self.refuse(node, "an alias stands within the value that it repeats; write the value out")
        if len(keys) > DEEPEST:
            raise self.refuse(node, f"nested deeper than {DEEPEST} levels")
        if id(node) not in self.seen:
            self.seen.add(id(node))
            return
        self.repeated += 1
        if self.repeated > MOST_REPEATED:
            raise self.refuse(node, f"aliases repeat more than {MOST_REPEATED:,} values; write them out")

    def _plain_tag(self, node: Any, kind: str) -> None:
        if node.tag != _TAG + kind:
            raise self.refuse(node, f"the tag {short_repr(node.tag)} is not read; leave it out")

    def _map(self, node: Any, keys: Keys) -> dict[Any, Any]:
        import yaml

        built: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":  # `<<: *base`: its keys, where the map has none of its own
                listed = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for one in listed:
                    if not isinstance(one, yaml.MappingNode):
                        raise self.refuse(key_node, "<< takes a map or a list of maps")
                    merged = {**self.value(one, (*keys, "<<")), **merged}
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            inner = (*keys, key if isinstance(key, int) else str(key))
            if not isinstance(key, str | int) or isinstance(key, bool):
                kind = "a list" if isinstance(key_node, yaml.SequenceNode) else type(key).__name__
                kind = "a map" if isinstance(key_node, yaml.MappingNode) else kind
                shown = short_repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "before the colon"
                raise self.refuse(key_node, f"the key {shown} is read as {_article(kind)}; quote it")
            if key in built:
                raise self.refuse(key_node, f"{short_repr(key)} is given twice")
            self.lines[inner] = line
            built[key] = self.value(value_node, inner)
        return {**merged, **built} if merged else built

    def _scalar(self, node: Any) -> Any:
        text = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind == "timestamp" and self.dates and node.style is None:
            return text
        if kind in _UNREAD:
            raise self.refuse(node, f"{short_repr(text)} {_UNREAD[kind]}")
        if node.tag not in _SCALARS:
            raise self.refuse(node, f"the tag {short_repr(node.tag)} is not read; leave it out")
        if kind in ("int", "float") and len(text) > MOST_DIGITS:
            raise self.refuse(node, f"a number of {len(text):,} digits; at most {MOST_DIGITS} are read")
        try:
            value = self.loader.construct_object(node)
        except Exception as error:  # `!!int x` and the like
            raise self.refuse(node, f"{short_repr(text)} is no {kind} of YAML") from error
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise self.refuse(node, f"half a character (not UTF-8) in {short_repr(value)}; write it in full")
        return value


def _article(kind: str) -> str:
    return kind if kind.startswith("a ") else f"a {kind}"
