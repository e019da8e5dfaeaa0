"""The sections of RESULT.json as typed objects: `result.benchmark.fingerprint`, not
`record["benchmark"]["fingerprint"]`.

The attributes of a section are the fields that schema.json names for it (a test compares the two); every other field,
such as those that an adapter adds to `model`, is in the mapping `extra`. The annotations say what this package writes:
schema.json leaves the types of `environment` and of most fields of `timing` open, and so does reading.
"""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

_SECTION = "section"
"""Key in the metadata of an attribute whose value is a section, too: the class of that section."""


@dataclass(frozen=True)
class Section:
    """A JSON object of the record. Subclasses declare its fields, in the order in which new results write them.

    A field without a default is in every valid record. A field with a default is optional: the default stands for a
    record that does not have the field, and a new section does not write a field that has its default.

    `from_record` followed by `record` changes nothing: the keys, their order and their values stay, `null` stays
    `null`, and what was absent stays absent. Nothing is checked here (`cosmos_eval.results.record` checks): a required
    field that is absent is None.
    """

    extra: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    """Fields without an attribute, as they are in the record; always empty where schema.json allows no other fields."""
    key_order: tuple[str, ...] = field(default=(), kw_only=True, repr=False, compare=False)
    """Keys of the JSON object that this was read from, in order; empty for a new section. Without them a section could
    not tell `"label": null` from a record without `label`, which have different checksums."""

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Return the section that a JSON object describes."""
        values: dict[str, Any] = {}
        for name, attribute in cls.attributes().items():
            if name in record:
                values[name] = _read_value(attribute, record[name])
            elif _is_required(attribute):
                values[name] = None
        extra = {key: value for key, value in record.items() if key not in values}
        return cls(**values, extra=extra, key_order=tuple(record))

    def record(self) -> dict[str, Any]:
        """Return the JSON object: the keys that were read, in their order, then the fields that were set since."""
        values: dict[str, Any] = {}
        for name, attribute in self.attributes().items():
            value = getattr(self, name)
            if self._is_present(attribute, value):
                values[name] = value.record() if isinstance(value, Section) else value
        values |= self.extra
        return {key: values[key] for key in dict.fromkeys([*self.key_order, *values]) if key in values}

    @classmethod
    def attributes(cls) -> dict[str, "Field[Any]"]:
        """Name -> field, of the fields that the subclass declares."""
        base_names = {attribute.name for attribute in fields(Section)}
        return {attribute.name: attribute for attribute in fields(cls) if attribute.name not in base_names}

    def _is_present(self, attribute: "Field[Any]", value: Any) -> bool:
        """Whether the JSON object has this field."""
        if attribute.name in self.key_order:
            return True
        if _is_required(attribute):
            return not self.key_order or value is not None  # None: absent in the JSON object that this was read from
        return bool(value != _default(attribute))


def _is_required(attribute: "Field[Any]") -> bool:
    return attribute.default is MISSING and attribute.default_factory is MISSING


def _default(attribute: "Field[Any]") -> Any:
    return attribute.default if attribute.default_factory is MISSING else attribute.default_factory()


def _read_value(attribute: "Field[Any]", value: Any) -> Any:
    section = attribute.metadata.get(_SECTION)
    return section.from_record(value) if section is not None and isinstance(value, Mapping) else value


@dataclass(frozen=True)
class BenchmarkSection(Section):
    """The protocol."""

    name: str
    version: int
    task: str
    fingerprint: str
    """Digest of everything in the definition that decides a number."""
    scoring_version: int = 1
    """Version of what the task computes; 1 where the record has none. Part of the identity from 2 on."""
    plugins: Mapping[str, str] = field(default_factory=dict)
    """`task` or `reader` -> distribution and version of the plug-in that provides it; empty if
    cosmos-eval provides both. Part of the identity."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Digests of the parts of the definition (`cosmos_eval.protocol.definition_changes`); empty in older results."""


@dataclass(frozen=True)
class DatasetSection(Section):
    """The data that was read."""

    fingerprint: str
    """Digest of the items, their labels and texts."""
    n: Mapping[str, int]
    """What the data class counts (images, texts, items, classes, left_out, ...) -> how many were read."""
    n_expected: Mapping[str, int]
    """Counts that the definition expects of the whole dataset."""


@dataclass(frozen=True)
class ModelSection(Section):
    """The model that was measured. `extra` has the other fields of the adapter's `describe()`, whatever they are."""

    spec: str
    """As it was given."""
    digest: str
    """Of weights, architecture, tokenizer and preprocessing; empty where they cannot be known."""
    arch: str | None
    activation: str | None
    label: str | None = None
    """Its name in tables; None: its spec."""
    plugin: str | None = None
    """Distribution and version of the plug-in that provides this kind of spec; None for our own kinds."""


@dataclass(frozen=True)
class EnvironmentSection(Section):
    """Software and hardware, and options that change how images are prepared.

    schema.json requires none of these fields, so that an older result may lack any.
    """

    python: str | None = None
    system: str | None = None
    packages: Mapping[str, str] = field(default_factory=dict)
    """Name of a distribution -> version, of those that decide numbers and are installed."""
    hardware: Mapping[str, Any] = field(default_factory=dict)
    """`cpu`, `cores`, `threads`; with CUDA also `gpu` and `cuda` (its version)."""
    memory_format: str | None = None
    """"channels_last" where the image tower ran in it."""
    compiled: str | None = None
    """What `torch.compile` made; None: nothing."""
    resized: str | None = None
    """Digest of the resized images that were read in place of the files; None: the files were read."""
    decoder: Mapping[str, Any] | None = None
    """`name` of the JPEG decoder and its `drift` from Pillow; None: Pillow decoded."""
    fetched: Mapping[str, Any] = field(default_factory=dict)
    """Artifact -> where its files were fetched, as the manifest of the data root says, or streamed (`streamed`); empty
    where nothing was fetched by us. Files may have been changed since: what was read is in `dataset.fingerprint`."""


@dataclass(frozen=True)
class TextsSection(Section):
    """What the model read of the texts."""

    read: int
    truncated: int | None
    """How many are longer than the model's context and were cut; None where the model does not say."""
    context_length: int | None
    """In tokens; None where it is not known."""

    @property
    def truncated_share(self) -> float | None:
        """Share of the texts that were cut; None where there were none, or the model does not say."""
        return self.truncated / self.read if self.read and self.truncated is not None else None


@dataclass(frozen=True)
class TimingSection(Section):
    """How long it took, and with which settings that decide no number. None: an older result that does not have it."""

    seconds: float
    """Wall time of the evaluation."""
    started: str
    """ISO 8601, UTC."""
    batch_size: int | None = None
    """Images of a batch as planned; batches of texts follow from it."""
    batch_size_auto: bool | None = None
    """Whether it was determined on the device."""
    batch_size_used: Mapping[str, int] | None = None
    """`images` (`pictures` in older results), `texts`, `windows` -> how many passed the model together in the end."""
    workers: int | None = None
    """Processes that read images; of each rank."""
    workers_auto: bool | None = None
    """Whether `workers` is the largest number that was chosen, not one that the user gave."""
    ranks: int | None = None
    """Processes that shared the encoding."""
    seed: int | None = None
    """Of the resampling behind the intervals."""
    encoded: Mapping[str, int] | None = None
    """`images` (`pictures` in older results), `texts` -> how many passed the model; the others were in the cache."""
    texts: TextsSection | None = field(default=None, metadata={_SECTION: TextsSection})


@dataclass(frozen=True)
class SamplesSection(Section):
    """The table beside RESULT.json with the outcome of each sample."""

    file: str
    rows: int
    sha256: str
    """Of the file's bytes."""
