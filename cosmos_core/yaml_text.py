"""Parsing YAML of users, with limits: maps, lists, texts, numbers and booleans only, each with its line."""

import re
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.json_text import MAX_DEPTH, MAX_DIGITS
from cosmos_core.short_repr import short_repr
from cosmos_core.text_files import read_text

Keys = tuple[str | int, ...]
LARGEST_YAML = 4 * 2**20
"""Most bytes; PyYAML reads about a megabyte in two seconds."""
MAX_REPEATED = 10_000
"""Most values that aliases (`*name`) may repeat in total: ten lines of ten aliases each would expand to 10^10
values."""
_MANY_BRACKETS = re.compile(rf"(?:[\[{{]\s*){{{MAX_DEPTH + 1}}}")
_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null")}
_UNREAD = {
    "timestamp": "is read as a date; put it in quotes",
    "binary": "is read as binary data; write it as a text",
}


def parse_yaml(text: str, where: object, lines: dict[Keys, int] | None = None, dates: bool = False) -> Any:
    """The value of one YAML document of maps, lists, texts, numbers (also `.inf` and `.nan`), booleans and nulls.

    Args:
        text: the document.
        where: the name of the text in errors, such as its path.
        lines: filled with the line of every value, by the keys that lead to it.
        dates: return dates as text instead of refusing them.

    Raises:
        RequestError: not YAML, more than one document, a key given twice or of another type than text or whole number,
            a date, a tag, a number of more than `json_text.MAX_DIGITS` digits, values nested
            deeper than `json_text.MAX_DEPTH`, aliases that repeat more than `MAX_REPEATED` values or hold themselves,
            half a surrogate pair. Names `where` and the line.
    """
    import yaml

    if _MANY_BRACKETS.search(text):  # PyYAML would take very long: it looks ahead a thousand characters at each bracket
        raise RequestError(f"{where}: not YAML: nested deeper than {MAX_DEPTH} levels")
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        return None if node is None else _Builder(loader, where, {} if lines is None else lines, dates).value(node, ())
    except RequestError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        location = f"{where}:{mark.line + 1}" if mark else f"{where}"
        raise RequestError(
            f"{location}: not YAML: {' '.join((error.problem or error.context or '').split())}"
        ) from error
    except RecursionError as error:
        raise RequestError(f"{where}: not YAML: nested deeper than {MAX_DEPTH} levels") from error
    except Exception as error:  # PyYAML raises anything for a scalar that does not match its tag
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
        """Nodes that contain the current one, to detect cycles."""
        self.repeated = 0

    def error_at(self, node: Any, message: str) -> RequestError:
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
            raise self.error_at(node, "an alias is inside the value that it repeats; write the value out")
        if len(keys) > MAX_DEPTH:
            raise self.error_at(node, f"nested deeper than {MAX_DEPTH} levels")
        if id(node) not in self.seen:
            self.seen.add(id(node))
            return
        self.repeated += 1
        if self.repeated > MAX_REPEATED:
            raise self.error_at(node, f"aliases repeat more than {MAX_REPEATED:,} values; write them out")

    def _plain_tag(self, node: Any, kind: str) -> None:
        if node.tag != _TAG + kind:
            raise self.error_at(node, f"the tag {short_repr(node.tag)} is not read; leave it out")

    def _map(self, node: Any, keys: Keys) -> dict[Any, Any]:
        import yaml

        built: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":  # `<<: *base` adds the keys that the map does not have
                listed = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for base in listed:
                    if not isinstance(base, yaml.MappingNode):
                        raise self.error_at(key_node, "<< takes a map or a list of maps")
                    merged = {**self.value(base, (*keys, "<<")), **merged}
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            inner = (*keys, key if isinstance(key, int) else str(key))
            if not isinstance(key, str | int) or isinstance(key, bool):
                kind = "a list" if isinstance(key_node, yaml.SequenceNode) else type(key).__name__
                kind = "a map" if isinstance(key_node, yaml.MappingNode) else kind
                shown = short_repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "before the colon"
                raise self.error_at(key_node, f"the key {shown} is read as {_with_article(kind)}; quote it")
            if key in built:
                raise self.error_at(key_node, f"{short_repr(key)} is given twice")
            self.lines[inner] = line
            built[key] = self.value(value_node, inner)
        return {**merged, **built} if merged else built

    def _scalar(self, node: Any) -> Any:
        text = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind == "timestamp" and self.dates and node.style is None:
            return text
        if kind in _UNREAD:
            raise self.error_at(node, f"{short_repr(text)} {_UNREAD[kind]}")
        if node.tag not in _SCALARS:
            raise self.error_at(node, f"the tag {short_repr(node.tag)} is not read; leave it out")
        if kind in ("int", "float") and len(text) > MAX_DIGITS:
            raise self.error_at(node, f"a number of {len(text):,} digits; at most {MAX_DIGITS} are read")
        try:
            value = self.loader.construct_object(node)
        except Exception as error:  # `!!int x` and the like
            raise self.error_at(node, f"{short_repr(text)} is not a YAML {kind}") from error
        if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise self.error_at(node, f"half a character (not UTF-8) in {short_repr(value)}; write it in full")
        return value


def _with_article(kind: str) -> str:
    return kind if kind.startswith("a ") else f"a {kind}"
