"""YAML with the line of everything in it, so that a mistake in a definition is named with its place."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cosmos_core.errors import RequestError

Keys = tuple[str | int, ...]


class Source:
    """A YAML file read into plain values. `lines` gives the line of each value by the keys that lead to it."""

    def __init__(self, path: Path, value: Any, lines: dict[Keys, int], base: "Source | None" = None) -> None:
        self.path = path
        self.value = value
        self.lines = lines
        self.base = base
        """What it was laid over: values whose keys are not in this file may come from there."""

    def refuse(self, keys: Keys, message: str) -> RequestError:
        """The error that names file and line of the value at `keys` (or of the nearest thing around it)."""
        if self.base is not None and keys not in self.lines and keys in self.base.lines:
            message += f" (from its base {self.base.path.stem})"
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return RequestError(f"{self.path}:{self.lines.get(keys, 1)}: {message}")


def read_source(path: Path) -> Source:
    """Read one YAML document of maps, lists, texts, numbers and truth values.

    Raises:
        RequestError: no such file, not YAML, more than one document, a key given twice; names file and line.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not a text file in UTF-8; save it as UTF-8") from error
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        lines: dict[Keys, int] = {}
        source = Source(path, None, lines)
        if node is not None:
            source.value = _plain(loader, node, (), source)
        return source
    except RequestError:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}: " if mark else f"{path}: "
        raise RequestError(f"{place}not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RequestError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _plain(loader: Any, node: Any, keys: Keys, source: Source) -> Any:
    import yaml

    source.lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, item, (*keys, i), source) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            inner = (*keys, key if isinstance(key, int) else str(key))
            if not isinstance(key, str | int) or isinstance(key, bool):
                source.lines[inner] = key_node.start_mark.line + 1
                raise source.refuse(inner, f"the key {key_node.value!r} is read as a {type(key).__name__}; quote it")
            if key in values:
                source.lines[inner] = key_node.start_mark.line + 1
                raise source.refuse(inner, f"{key!r} is given twice")
            source.lines[inner] = key_node.start_mark.line + 1
            values[key] = _plain(loader, value_node, inner, source)
        return values
    value = loader.construct_object(node)
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise source.refuse(keys, f"half a character (not UTF-8) in {value!r}; write it in full")
    return value


def close(word: str, known: Any) -> str:
    """`; did you mean ...?` where a known word is close, else nothing."""
    found = get_close_matches(str(word), [str(name) for name in known], n=3, cutoff=0.6)
    return "; did you mean " + " or ".join(found) + "?" if found else ""


def near(word: str, known: Any) -> str:
    """`; did you mean ...?` where a known word is close, else the list of known ones."""
    known = [str(name) for name in known]
    if found := close(word, known):
        return found
    return "; known: " + ", ".join(known) if len(known) <= 12 else ""
