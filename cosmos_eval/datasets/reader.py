'''What a dataset reader is: the options that a definition may give it, and the function that reads.

A reader of another package is an entry point of the group `cosmos_eval.readers`: a `ReaderInfo`, or a class like

    class Parquet:
        """Images and labels in a Parquet file."""

        kinds = ("classification",)
        required = {"path": PLACE}
        optional = {"column": TEXT}

        def load(self, benchmark, data_root):  # -> ClassificationData
            survey = Survey(benchmark, data_root)
            ...
            return survey.finish(data)

`load` raises `DataProblems` with everything that it finds missing (`Survey` collects it), and `data check` calls it, so
that the two can never disagree. A class may also have `check(benchmark, data_root)`, which is called before `load` and
returns a list of problems.
'''

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cosmos_core.errors import RequestError
from cosmos_core.plugins import first_sentence, resolve
from cosmos_eval.datasets.kinds import DataKind

PLACE = "a path inside the data root, or a list of paths of which the first that has the data is read"
TEXT = "a text"
NUMBER = "a whole number"
NAMES = "a list of texts"
SWITCH = "true or false"
APPLY = "apply"
ALLOW = "allow"
"""Kinds whose one value is the word itself: the option is left out where it does not hold."""


@dataclass(frozen=True)
class ReaderInfo:
    """One reader. Options are name -> kind; a PLACE says where things lie and never enters a protocol's fingerprint."""

    where: Any
    """`(benchmark, data root) -> Data`, or its `module:function`; raises DataProblems for what is missing."""
    kinds: tuple[Any, ...]
    """The kinds of data that it can give: names, `DataKind` or data classes; a task takes one."""
    required: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    needs_root: bool = True
    only_with: Mapping[str, str] = field(default_factory=dict)
    """Option -> the other option without which it does nothing."""
    check: Any = None
    """`(benchmark, data root) -> problems`: what else is looked at before `where` is called."""
    summary: str = ""

    def kind(self, option: str) -> str | None:
        return self.required.get(option) or self.optional.get(option)

    def read(self, benchmark: Any, data_root: Any) -> Any:
        """The data of a benchmark.

        Raises:
            DataProblems: data that are missing or do not fit together.
        """
        from cosmos_eval.datasets.data.base import Data

        problems = list(self.check(benchmark, data_root)) if self.check is not None else []
        if problems:
            from cosmos_eval.datasets.dataset_checks import DataProblems

            raise DataProblems([f"{benchmark.name} {problem}" for problem in problems], {}, {})
        data = resolve(self.where)(benchmark, data_root)
        if not isinstance(data, Data):
            reader = f"the reader {benchmark.dataset['reader']} returned a {type(data).__name__}"
            raise RequestError(f"{benchmark.name}: {reader}; return data of cosmos_eval.datasets.data")
        return data


KINDS_OF_OPTION = (PLACE, TEXT, NUMBER, NAMES, SWITCH, APPLY, ALLOW)


def as_reader(found: Any) -> ReaderInfo:
    """What an entry point names as a `ReaderInfo`; `reader_problem` has found nothing wrong with it."""
    if isinstance(found, ReaderInfo):
        return replace(found, kinds=tuple(_kind_name(kind) for kind in found.kinds))
    reader = found() if isinstance(found, type) else found
    return ReaderInfo(
        reader.load,
        kinds=tuple(_kind_name(kind) for kind in reader.kinds),
        required=dict(getattr(reader, "required", {})),
        optional=dict(getattr(reader, "optional", {})),
        needs_root=bool(getattr(reader, "needs_root", True)),
        only_with=dict(getattr(reader, "only_with", {})),
        check=getattr(reader, "check", None),
        summary=first_sentence(reader),
    )


def reader_problem(found: Any) -> str:
    """Why an object is no reader, in words; empty where it is one."""
    if not isinstance(found, ReaderInfo) and not callable(getattr(found, "load", None)):
        return f"it is a {type(found).__name__} without load(benchmark, data_root)"
    if isinstance(getattr(found, "kinds", ""), str) or not found.kinds:
        return "its kinds are not a list of the kinds of data that it gives"
    reader = as_reader(found)
    for option, kind in {**reader.required, **reader.optional}.items():
        if kind not in KINDS_OF_OPTION:
            return f"its option {option} is of the kind {kind!r:.60}; take one of cosmos_eval.datasets.reader"
    return ""


def _kind_name(kind: Any) -> str:
    own = kind if isinstance(kind, str | DataKind) else kind.kind  # a data class has its kind
    return own.name if isinstance(own, DataKind) else str(own)
