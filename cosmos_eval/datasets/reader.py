'''What a dataset reader is: a function that reads one layout, and the options that a definition may give it.

A reader of another package is an entry point of the group `cosmos_eval.readers`: a `ReaderInfo`, or a class like

    class Table:
        """Images and labels in a table."""

        kinds = ("classification",)
        required = {"path": PATH}
        optional = {"column": TEXT}

        def load(self, benchmark, data_root):  # -> ClassificationData
            checker = DatasetChecker(benchmark, data_root)
            ...
            return checker.finish(data)

`load` raises `DataProblems` with everything that is missing, which `DatasetChecker` collects. `data check` calls
`load` too, so the check and the evaluation always agree. A class may also have `check(benchmark, data_root)`, which is
called before `load` and returns a list of problems; and `needed_files(benchmark)`, with which `data fetch` fetches a
dataset of the hub that the options name.
'''

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import first_sentence, resolve
from cosmos_eval.datasets.kinds import DataKind

# Kinds of values that an option may have. The texts are shown in messages.
PATH = "a path inside the data root, or a list of paths of which the first that has the data is read"
TEXT = "a text"
NUMBER = "a whole number"
NAMES = "a list of texts"
SWITCH = "true or false"
NAMES_OR_FILE = "a list of texts, or a .txt or .json file of them beside the definition"
COLOURS = "a list of colours"
COLOUR_MAP = "a map from colour to text"
APPLY = "apply"
ALLOW = "allow"
"""An option of kind APPLY or ALLOW has this word as its only value; to turn it off, leave the option out."""

OPTION_KINDS = (PATH, TEXT, NUMBER, NAMES, SWITCH, NAMES_OR_FILE, COLOURS, COLOUR_MAP, APPLY, ALLOW)


@dataclass(frozen=True)
class ReaderInfo:
    """One reader. Its options are given as name -> kind of value.

    An option of kind PATH says where files are on this machine; it is never part of a protocol's fingerprint.
    """

    load: Any
    """`(benchmark, data root) -> Data`, or its `module:function`; raises DataProblems for what is missing."""
    kinds: tuple[Any, ...]
    """Kinds of data that it can return: names, `DataKind` or data classes. The task of a definition decides which."""
    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    needs_root: bool = True
    only_with: Mapping[str, str] = field(default_factory=dict)
    """Option -> the other option without which it has no effect."""
    check: Any = None
    """`(benchmark, data root) -> problems`, called before `load`."""
    stream: Any = None
    """`(benchmark, folder) -> StreamedReading` (`cosmos_eval.datasets.stream.reading`), or its `module:function`; None
    where the data must be on disk as a whole."""
    summary: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    """Option -> what it means, in one line, for `list readers NAME`."""
    needed_files: Any = None
    """`(benchmark) -> NeededFiles` (`cosmos_eval.datasets.hf_dataset`), or its `module:function`, of a reader whose
    options name a dataset of the hub: what `data fetch` fetches."""

    def kind(self, option: str) -> str | None:
        """Return the kind of an option's value; None if there is no such option."""
        return self.required.get(option) or self.optional.get(option)

    def read(self, benchmark: Any, data_root: Any) -> Any:
        """Return the data of a benchmark.

        Raises:
            DataProblems: data that are missing or inconsistent.
            RequestError: the reader of a plug-in returned no `Data`.
        """
        from cosmos_eval.datasets.data.base import Data

        problems = list(self.check(benchmark, data_root)) if self.check is not None else []
        if problems:
            from cosmos_eval.datasets.dataset_checks import DataProblems

            raise DataProblems([f"{benchmark.name} {problem}" for problem in problems], {}, {})
        data = resolve(self.load)(benchmark, data_root)
        if not isinstance(data, Data):
            reader = f"the reader {benchmark.dataset['reader']} returned a {type(data).__name__}"
            raise RequestError(f"{benchmark.name}: {reader}; return data of cosmos_eval.datasets.data")
        return data


def to_reader_info(reader: Any) -> ReaderInfo:
    """Return a `ReaderInfo` for the target of an entry point, in which `find_reader_problem` found no problem."""
    if isinstance(reader, ReaderInfo):
        return replace(reader, kinds=tuple(_kind_name(kind) for kind in reader.kinds))
    if isinstance(reader, type):
        reader = reader()
    return ReaderInfo(
        reader.load,
        kinds=tuple(_kind_name(kind) for kind in reader.kinds),
        required=dict(getattr(reader, "required", {})),
        optional=dict(getattr(reader, "optional", {})),
        needs_root=bool(getattr(reader, "needs_root", True)),
        only_with=dict(getattr(reader, "only_with", {})),
        check=getattr(reader, "check", None),
        stream=getattr(reader, "stream", None),
        summary=first_sentence(reader),
        needed_files=getattr(reader, "needed_files", None),
        about=dict(getattr(reader, "about", {})),
    )


def find_reader_problem(candidate: Any) -> str:
    """Return what is wrong with an object that should be a reader, in words; empty if nothing is."""
    if not isinstance(candidate, ReaderInfo) and not callable(getattr(candidate, "load", None)):
        return f"it is a {type(candidate).__name__} without load(benchmark, data_root)"
    if isinstance(getattr(candidate, "kinds", ""), str) or not candidate.kinds:
        return "its kinds are not a list of kinds of data"
    reader = to_reader_info(candidate)
    for option, kind in {**reader.required, **reader.optional}.items():
        if kind not in OPTION_KINDS:
            return f"its option {option} is of kind {kind!r:.60}; use a constant of cosmos_eval.datasets.reader"
    return ""


def _kind_name(kind: Any) -> str:
    """Return the name of a kind that is given as a name, a `DataKind` or a data class."""
    named = kind if isinstance(kind, str | DataKind) else kind.kind
    return named.name if isinstance(named, DataKind) else str(named)
