"""`TaskInfo`: the description of a task, through which all code outside the task's own module uses it.

A task evaluates one family of benchmarks. It is one module with a `TaskInfo`. Whatever depends on the task is a field
here: the keys of a definition, the metrics, how the samples of two results are paired, the names in tables and exchange
formats. So no other code contains the name of a task, and a plug-in's task works everywhere.

Functions and classes are given directly, or as `"package.module:name"`, which is imported when it is first used. That
way a definition can be checked without importing torch.
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
RESERVED |= {"embeddings"}
RESERVED |= {"base", "class_names", "templates", "words"}
"""Keys of definitions that a task cannot use for its own settings."""


@dataclass(frozen=True)
class TaskInfo:
    """Description of a task. Only the first five fields are required.

    A plug-in names its instance in the entry points of the group `cosmos_eval.tasks`.
    """

    name: str
    """Name in definitions (`task: retrieval`)."""
    data: Any
    """The data it takes: a `DataKind` (`cosmos_eval.datasets.kinds`), or a subclass of
    `cosmos_eval.datasets.data.Data`."""
    run: Any
    """`(benchmark, data, engine, seed) -> Outcome`: measures a benchmark."""
    validate: Any
    """`(benchmark, data) -> None`: raises RequestError for data that cannot be measured correctly. Called for all
    benchmarks of a run before any compute."""
    metric_names: Callable[[Mapping[str, Any]], Sequence[str]]
    """`metrics` of a definition -> names of all metrics that may be reported. `*` before the last `/` stands for the
    name of any subset or class."""

    summary: str = ""
    """One line for `cosmos-eval list tasks`."""
    title: str = ""
    """Name in model cards; empty: `name`."""
    headline: tuple[str, ...] = ()
    """Metrics that tables show first; empty: the primary metric of the definition."""
    tested: tuple[str, ...] = ()
    """Metrics that `regress` tests by default; empty: the primary metric of the result."""
    default_metrics: Mapping[str, Any] = field(default_factory=dict)
    """Default values of keys in `metrics` of a definition, except `primary`. They enter the fingerprint."""
    metric_options: Mapping[str, type] = field(default_factory=dict)
    """All keys that `metrics` may have except `primary` -> their types."""
    check_metrics: Callable[[Mapping[str, Any], Refuse], None] | None = None
    """`(metrics, refuse)`: raises the error that `refuse` returns for an invalid value in `metrics`."""
    prompt_keys: tuple[str, ...] = ()
    """Keys that `prompts` of a definition may have; empty: the task has no prompts."""
    needed_prompts: Mapping[str, str] = field(default_factory=dict)
    """Those of `prompt_keys` that are required -> advice on what to write, for messages."""
    settings_key: str = ""
    """Key of the section of a definition with the task's own settings, which enter the fingerprint under this key."""
    read_settings: Any = None
    """`(Source) -> dict`: checks the settings of a definition and fills in default values."""
    splits: tuple[str, ...] = ()
    """Splits that the task needs besides the evaluated one, such as train. Definitions give the options of each in
    `dataset.splits`, and the data of a benchmark is a `SplitData`. The evaluated split is `dataset` itself, or what
    `dataset.splits.test` changes of it."""
    optional_splits: tuple[str, ...] = ()
    """Further splits that a definition may give, such as val."""
    windows: bool = False
    """Whether images are encoded as sliding windows (`encode_patches`) instead of whole."""
    transforms: tuple[str, ...] = ()
    """The options of `cosmos_eval.protocol.feature_transforms.FeatureTransforms` that are defined for the task. A task
    that takes all of its numbers from `engine.score` may give OF_EMBEDDINGS of that module; other tasks none."""
    scoring_version: int = 1
    """To be raised when the same features would give other numbers, or further metrics. Part of a result's identity."""

    sample_keys: tuple[str, ...] = ("image",)
    """Columns of `samples` that identify a sample; the same for every model."""
    sample_columns: tuple[str, ...] = ()
    """Further columns that a paired test needs."""
    sample_groups: str = ""
    """Prefix of further columns that identify a sample, whose names depend on the dataset."""
    comparable_samples: Callable[[Any], Any] | None = None
    """Samples of a result -> those samples that the results of all models have."""
    paired: Any = None
    """`(metric, results, frames) -> Hits | PairedBootstrap`: the samples of two models for a paired test
    (`cosmos_eval.metrics.paired_samples`). None: there are no paired tests."""
    unpaired: Callable[[str], bool] = is_rank
    """Whether a metric has no paired test, since its samples do not have what the test needs."""
    class_metric: str = ""
    """`iou` where the metrics of single classes are `<class>/iou`; empty: there are none among the metrics. A task that
    measures classes also returns them as `Outcome.classes`."""
    resampled: bool = False
    """Whether paired tests are bootstraps, whose smallest p-value depends on the number of resamples."""
    choices: Callable[[Mapping[str, int]], int] | None = None
    """Counts of a dataset -> number of candidates from which one is chosen; chance is 1 / that number."""

    model_index_task: str = ""
    """Id of the task in the `model-index` of a Hugging Face model card."""
    clip_benchmark_task: str = ""
    """Name of the task in clip-benchmark's files."""
    clip_benchmark_metrics: Mapping[str, str] = field(default_factory=dict)
    """Our metric -> clip-benchmark's. In names that end in `@`, k follows."""

    @property
    def data_class(self) -> "type[Data]":
        """Class of the data that `run` takes."""
        return self.data.data_class if isinstance(self.data, DataKind) else self.data

    @property
    def kind(self) -> DataKind:
        """Kind of the data that readers must return."""
        return self.data if isinstance(self.data, DataKind) else self.data.kind

    def problem(self) -> str:
        """Return what is wrong with this description, for a message; empty if nothing is.

        It may come from a plug-in, so that any field may have any type.
        """
        if not isinstance(self.data, DataKind) and not isinstance(getattr(self.data, "kind", None), DataKind):
            return "its data is neither a DataKind nor a data class with one"
        functions = {"run": self.run, "validate": self.validate, "metric_names": self.metric_names}
        for name, function in functions.items():
            if not callable(function) and not (isinstance(function, str) and ":" in function):
                return f"its {name} is neither a function nor module:function"
        if bool(self.settings_key) != (self.read_settings is not None):
            return "settings_key and read_settings belong together, but it has only one of them"
        if self.settings_key in RESERVED:
            return f"its settings_key {self.settings_key} has another meaning in definitions"
        if not isinstance(self.scoring_version, int) or self.scoring_version < 1:
            return f"its scoring_version is {self.scoring_version!r:.60}, not a whole number of at least 1"
        for name in ("headline", "tested", "prompt_keys", "sample_keys", "sample_columns", "transforms"):
            if isinstance(getattr(self, name), str):
                return f"its {name} is a text; write a tuple of texts"
        return ""

    def filled_metrics(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Return `metrics` of a definition with default values filled in."""
        return {**self.default_metrics, **metrics}

    def reports(self, metric: str, metrics: Mapping[str, Any]) -> bool:
        """Return whether the task may report a metric; before its last `/` may be any subset or class."""
        subset, _, rest = metric.rpartition("/")
        return (f"{SUBSET}/{rest}" if subset else metric) in self.metric_names(self.filled_metrics(metrics))

    def headlines(self, *primary: str) -> tuple[str, ...]:
        """Return the metrics that tables show first, for a benchmark with this primary metric.

        It is shown alone if it is none of the task's, such as the worst group of a classification.
        """
        return self.headline if self.headline and set(primary) <= set(self.headline) else primary

    def can_be_paired(self, metric: str) -> bool:
        """Return whether there is a paired test of a metric."""
        return self.paired is not None and not self.unpaired(metric)

    def check_data(self, benchmark: "Benchmark", data: "Data") -> None:
        """Check data before any compute.

        Raises:
            RequestError: data that the task cannot measure correctly.
        """
        resolve(self.validate)(benchmark, data)

    def measure(self, benchmark: "Benchmark", data: "Data", engine: Any, seed: int) -> "Outcome":
        """Measure a benchmark: its metrics and samples."""
        return resolve(self.run)(benchmark, data, engine, seed)

    def settings(self, source: "Source") -> dict[str, Any]:
        """Read the task's own settings of a definition, with default values filled in.

        Raises:
            RequestError: an invalid setting; names file and line.
        """
        return resolve(self.read_settings)(source) if self.read_settings is not None else {}
