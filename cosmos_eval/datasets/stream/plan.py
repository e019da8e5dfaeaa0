"""Which benchmarks can be streamed, and from where: by the table of sources and the definition, without network."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_core.errors import RequestError
from cosmos_eval.datasets.fetch import plan as fetch_plan
from cosmos_eval.datasets.fetch.table import Artifact, Source
from cosmos_eval.datasets.reader_registry import READERS, reader_info
from cosmos_eval.datasets.stream.source import StreamSource, is_address, is_pinned, parse_address

if TYPE_CHECKING:
    from cosmos_eval.protocol.benchmark import Benchmark


@dataclass(frozen=True)
class StreamPlan:
    """The sources of a benchmark's data, in the order to try them."""

    sources: tuple[StreamSource, ...]

    def describe(self) -> str:
        """Return from where, how much and under which terms, in one line."""
        first = self.sources[0]
        facts = [first.page]
        if first.about_size is not None:
            facts.append(f"about {first.about_size / 1e6:,.1f} MB")
        if first.kind == "hub" and not is_pinned(first) and not first.name:
            facts.append("not pinned to a commit")
        if first.address.startswith("http:"):
            facts.append("plain http, and no checksum is known")
        elif first.kind == "http":
            facts.append("no checksum is known")
        if first.terms:
            facts.append(f"terms: {first.terms}")
        return "; ".join(facts)


def is_streamable(benchmark: "Benchmark") -> bool:
    """Whether the benchmark's reader reads shards one at a time."""
    reader = benchmark.dataset["reader"]
    return reader in READERS.names() and reader_info(reader).stream is not None


def addresses_of(benchmark: "Benchmark") -> list[str]:
    """Return the addresses among the paths of a definition."""
    return [
        path for alternatives in fetch_plan.read_paths(benchmark.dataset) for path in alternatives if is_address(path)
    ]


def plan_stream(benchmark: "Benchmark", data_root: Path, *, asked: bool) -> StreamPlan | None:
    """Return from where a benchmark whose data are not on disk is streamed.

    Args:
        asked: whether the user asked for streaming (`--stream`); otherwise only an address in the definition counts.

    Returns:
        None if it is not streamed: nobody asked.

    Raises:
        RequestError: it was asked for and cannot be streamed; one line with the reason and another way.
    """
    addresses = addresses_of(benchmark)
    if not asked and not addresses:
        return None
    if not is_streamable(benchmark):
        if addresses:
            raise RequestError(
                f"{benchmark.name}: dataset has the address {addresses[0]}, but the reader "
                f"{benchmark.dataset['reader']} reads files on disk only; give a path inside the data root"
            )
        raise RequestError(
            f"{benchmark.name} cannot be streamed: only WebDataset shards can (reader: {', '.join(streamed_readers())})"
        )
    if benchmark.dataset.get("splits"):
        raise RequestError(f"{benchmark.name} cannot be streamed: it has several splits (dataset.splits)")
    if addresses:
        return StreamPlan(tuple(parse_address(address, benchmark.name) for address in addresses))
    return StreamPlan(_table_sources(benchmark, data_root))


def streamed_readers() -> list[str]:
    """Return the names of the readers whose data can be streamed."""
    return [name for name in READERS.names() if reader_info(name).stream is not None]


def _table_sources(benchmark: "Benchmark", data_root: Path) -> tuple[StreamSource, ...]:
    recipe = fetch_plan.load_table().recipe_of(benchmark)
    if recipe is None:
        raise RequestError(
            f"{benchmark.name} cannot be streamed: no source of its data is known; write their address as a path of "
            "its definition"
        )
    needed = [artifact for artifact in recipe.artifacts if not fetch_plan.is_there(artifact, benchmark, data_root)]
    artifacts = needed or list(recipe.artifacts)
    if len(artifacts) != 1 or artifacts[0].unpack is not None:
        raise RequestError(f"{benchmark.name} cannot be streamed: its data are not one set of shards")
    sources = tuple(
        _stream_source(artifacts[0], source)
        for source in artifacts[0].automatic
        if source.kind == "hub" and not source.convert
    )
    if not sources:
        raise RequestError(
            f"{benchmark.name} cannot be streamed: its publisher gives the data only to people who ask for them; "
            f"`cosmos-eval data fetch {benchmark.name} --dry-run` lists the steps"
        )
    return sources


def _stream_source(artifact: Artifact, source: Source) -> StreamSource:
    return StreamSource(
        source.kind,
        source.address,
        name=source.name,
        revision=source.revision,
        artifact=artifact.name,
        terms=artifact.terms,
        about_size=source.known_size,
    )


def stream_record(source: StreamSource, commit: str | None, date: str, files: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what results say of where the data were streamed from, in the form of an entry of the manifest."""
    return {
        "source": source.name or "definition",
        "address": f"{source.address}/{source.folder}" if source.folder else source.address,
        "revision": commit or source.revision,
        "date": date,
        "terms": source.terms,
        "files": files,
    }
