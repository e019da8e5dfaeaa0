"""What a task tells of itself: the one place that everything outside a task's own module asks.

A task evaluates one family of benchmarks. It is one module with a `TaskInfo`; whatever depends on the task (what a
definition may say, what is reported, how two results are paired, what tables and exchange formats call it) is a field
here, so that nothing else needs to know its name.

Functions and classes may be given as they are, or as `"package.module:name"`, which is imported at its first use: so a
definition is checked without importing torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cosmos_core.plugins import resolve
from cosmos_eval.datasets.kinds import DataKind
from cosmos_eval.metrics.names import SUBSET, is_rank

if TYPE_CHECKING:
    from cosmos_eval.datasets.data import Data
    from cosmos_eval.protocol.benchmark import Benchmark
    from cosmos_eval.protocol.source import Source
    from cosmos_eval.tasks.outcome import Outcome

Refuse = Callable[[tuple[str | int, ...], str], Exception]
"""(keys that lead to a value below `metrics`, what is wrong with it) -> the error to raise, with file and line."""

RESERVED = frozenset(("name", "version", "task", "dataset", "metrics", "prompts", "source", "summary", "published"))
RESERVED |= {"base", "class_names", "templates", "words"}
"""What a task's own section of a definition cannot be called."""


@dataclass(frozen=True)
class TaskInfo:
    """A task. Only the first four fields and `metric_names` are needed; a plug-in names its instance as entry point."""

    name: str
    """As definitions write it (`task: retrieval`)."""
    data: Any
    """What it takes: a `DataKind` (`cosmos_eval.datasets.kinds`), or a subclass of `cosmos_eval.datasets.data.Data`."""
    run: Any
    """`(benchmark, data, engine, seed) -> Outcome`, or its `module:name`."""
    validate: Any
    """`(benchmark, data) -> None`: refuses data that cannot be measured honestly, before any compute."""
    metric_names: Callable[[Mapping[str, Any]], Sequence[str]]
    """From `metrics` of a definition to every metric that may be reported; `*` stands for the name of any subset or
    class, before the last `/`."""

    summary: str = ""
    title: str = ""
    """For people, as model cards call it; empty: the name."""
    headline: tuple[str, ...] = ()
    """The metrics that people look at first; empty: the primary metric of the definition."""
    tested: tuple[str, ...] = ()
    """The metrics that `regress` tests where none is asked for; empty: the primary one of the result."""
    default_metrics: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `metrics`, beside `primary`, with the value where a definition is silent; they enter its fingerprint."""
    metric_options: Mapping[str, type] = field(default_factory=dict)
    """All keys that `metrics` may have beside `primary`, with their types."""
    check_metrics: Callable[[Mapping[str, Any], Refuse], None] | None = None
    """Raises what `refuse` gives for a value of `metrics` that cannot be."""
    prompt_keys: tuple[str, ...] = ()
    """What `prompts` of a definition may hold; none: the task has no prompts."""
    needed_prompts: Mapping[str, str] = field(default_factory=dict)
    """Of these the ones that must be there, each with what to write."""
    settings_key: str = ""
    """The section of a definition with the task's own settings; they enter its fingerprint under this key."""
    read_settings: Any = None
    """`(Source) -> dict`: the settings of a definition, checked and filled in."""
    splits: tuple[str, ...] = ()
    """Splits that it needs beside the one that is evaluated, such as train: definitions say in `dataset.splits` where
    each lies, and `data` is a `SplitData`."""
    windows: bool = False
    """Whether images pass the model as sliding windows (`encode_patches`) rather than whole."""
    scoring_version: int = 1
    """Raised whenever the same features would give other numbers, or more metrics; part of a result's identity."""

    sample_keys: tuple[str, ...] = ("image",)
    """Columns of `samples` that say what a sample is, alike in every model."""
    sample_columns: tuple[str, ...] = ()
    """Further columns that a paired test cannot do without."""
    sample_groups: str = ""
    """What the names of further columns that say what a sample is begin with."""
    comparable_samples: Callable[[Any], Any] | None = None
    """From the samples of a result to those that every model has."""
    paired: Any = None
    """`(metric, results, frames) -> Hits | Areas` (`cosmos_eval.metrics.paired_samples`): what two models did on the
    same samples; None: there is no paired test."""
    unpaired: Callable[[str], bool] = is_rank
    """Whether samples do not hold what a paired test of a metric needs."""
    resampled: bool = False
    """Whether its paired tests are bootstraps, whose smallest p depends on the number of resamples."""
    choices: Callable[[Mapping[str, int]], int] | None = None
    """From the counts of a dataset to the number of candidates of which chance takes one."""

    model_index_task: str = ""
    """Its id in the `model-index` of a Hugging Face model card."""
    clip_benchmark_task: str = ""
    """Its name in clip-benchmark's files."""
    clip_benchmark_metrics: Mapping[str, str] = field(default_factory=dict)
    """Our metrics -> clip-benchmark's; a key that ends in `@` is followed by k."""

    @property
    def data_class(self) -> "type[Data]":
        return self.data.data_class if isinstance(self.data, DataKind) else self.data

    @property
    def kind(self) -> DataKind:
        """The kind of data that readers must give."""
        return self.data if isinstance(self.data, DataKind) else self.data.kind

    def problem(self) -> str:
        """Why it cannot be used, in words, whatever its package wrote; empty where it can."""
        if not isinstance(self.data, DataKind) and not isinstance(getattr(self.data, "kind", None), DataKind):
            return "its data is neither a DataKind nor a data class with one"
        needed = {"run": self.run, "validate": self.validate, "metric_names": self.metric_names}
        for name, function in needed.items():
            if not callable(function) and not (isinstance(function, str) and ":" in function):
                return f"its {name} is neither a function nor module:function"
        if bool(self.settings_key) != (self.read_settings is not None):
            return "settings_key and read_settings belong together, and it has only one of them"
        if self.settings_key in RESERVED:
            return f"its settings_key {self.settings_key} is another key of definitions"
        if not isinstance(self.scoring_version, int) or self.scoring_version < 1:
            return f"its scoring_version is {self.scoring_version!r:.60}, not a whole number from 1 on"
        for name in ("headline", "tested", "prompt_keys", "sample_keys", "sample_columns"):
            if isinstance(getattr(self, name), str):
                return f"its {name} is one text; write a tuple of them"
        return ""

    def filled_metrics(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """`metrics` of a definition with what it leaves out."""
        return {**self.default_metrics, **metrics}

    def reports(self, metric: str, metrics: Mapping[str, Any]) -> bool:
        """Whether a metric may be reported; what stands before the last `/` may be any subset or class."""
        subset, _, rest = metric.rpartition("/")
        return (f"{SUBSET}/{rest}" if subset else metric) in self.metric_names(self.filled_metrics(metrics))

    def headlines(self, primary: str) -> tuple[str, ...]:
        """The metrics of a benchmark that people look at first."""
        return self.headline or (primary,)

    def can_be_paired(self, metric: str) -> bool:
        """Whether a paired test of a metric can be made from samples."""
        return self.paired is not None and not self.unpaired(metric)

    def checked(self, benchmark: "Benchmark", data: "Data") -> None:
        """Refuse data that the task cannot measure; RequestError in one line."""
        resolve(self.validate)(benchmark, data)

    def measured(self, benchmark: "Benchmark", data: "Data", engine: Any, seed: int) -> "Outcome":
        """Metrics and samples of one benchmark."""
        return resolve(self.run)(benchmark, data, engine, seed)

    def settings(self, source: "Source") -> dict[str, Any]:
        """The task's own settings of a definition, checked and filled in; RequestError with file and line."""
        return resolve(self.read_settings)(source) if self.read_settings is not None else {}
