"""The table of `data check` without names: one line for each benchmark, in groups, with totals and the next command."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_core.printable import list_counts, plural

if TYPE_CHECKING:
    from cosmos_eval.run.data_overview import DataState


def describe_states(states: "Sequence[DataState]", data_root: Path | None) -> Iterator[str]:
    """The lines of the table.

    A path that several benchmarks lack is written for the first of them; the others refer to it by its name.
    """
    from cosmos_eval.run.data_overview import State, Way
    from cosmos_eval.run.plan import DEFAULT_DATA_ROOT

    root = data_root or DEFAULT_DATA_ROOT
    note = "" if root.is_dir() else ", which is not a folder" if root.exists() else ", which does not exist"
    yield f"data in {root}{note}"
    command = f"cosmos-eval data fetch NAME{_root_option(data_root)}"
    headings = {
        Way.automatic: f"by `{command}`",
        Way.token: f"by `{command}` with HF_TOKEN set, once the terms are accepted on the Hugging Face hub",
        Way.by_hand: f"by hand; `{command} --dry-run` lists the steps",
        Way.none: "no source is known; `cosmos-eval data check NAME` says what is needed",
    }
    width = max((len(data.benchmark.name) for data in states), default=0)
    if ready := [data for data in states if data.state is State.ready]:
        yield ""
        yield f"ready ({len(ready)}):"
        for data in ready:
            yield _line(data, width, _counts_text(data))
    for state in (State.incomplete, State.not_there):
        for way, heading in headings.items():
            group = [data for data in states if data.state is state and data.way is way]
            if not group:
                continue
            if state is State.incomplete and way is Way.none:
                heading = "`cosmos-eval data check NAME` prints all that is wrong"
            yield ""
            yield f"{state} ({len(group)}), {heading}:"
            yield from _lines_of_group(group, width)
    yield ""
    yield from describe_totals(states, data_root)


def _lines_of_group(group: "Sequence[DataState]", width: int) -> Iterator[str]:
    """Benchmarks that lack the same are together, in the order of the first of each."""
    together: dict[str, list[DataState]] = {}
    for data in group:
        together.setdefault(data.missing, []).append(data)
    for missing, same in together.items():
        for data in same:
            text = missing if data is same[0] else f"as {same[0].benchmark.name}"
            yield _line(data, width, text, _fetch_text(data))


def _line(data: "DataState", width: int, text: str, how: str = "") -> str:
    return f"  {data.state:10}  {data.benchmark.name:{width}}  {text}{f'  ({how})' if how else ''}".rstrip()


def _counts_text(data: "DataState") -> str:
    counts = data.counts if "images" not in data.counts else {"images": data.counts["images"]}
    text = list_counts(counts)
    return f"{text}; {plural(data.left_out, 'item')} left out" if data.left_out else text


def _fetch_text(data: "DataState") -> str:
    """How large the download is, and whether a person has to do something."""
    from cosmos_eval.datasets.fetch.plan_text import amount_text
    from cosmos_eval.run.data_overview import Way

    if data.plan is None or data.way is Way.none:
        return ""
    size = amount_text(data.plan.download) if data.plan.fetched else ""
    if data.way is Way.by_hand:
        return f"by hand, and {size} by data fetch" if size else "by hand"
    made = f"makes masks: {', '.join(data.plan.prepare)}" if data.plan.prepare and not size else ""
    return f"data fetch: {size or made}"


def describe_totals(states: "Sequence[DataState]", data_root: Path | None) -> Iterator[str]:
    """How many benchmarks are ready, how much could be fetched, and commands to go on with."""
    from cosmos_eval.datasets.fetch.plan import make_fetch_plan
    from cosmos_eval.datasets.fetch.plan_text import amount_text
    from cosmos_eval.run.data_overview import State, Way
    from cosmos_eval.run.plan import DEFAULT_DATA_ROOT

    counts = ", ".join(f"{sum(data.state is state for data in states)} {state}" for state in State)
    yield f"{plural(len(states), 'benchmark')}: {counts}"
    fetched = [data for data in states if data.way in (Way.automatic, Way.token)]
    if fetched:
        plan = make_fetch_plan([data.benchmark for data in fetched], data_root or DEFAULT_DATA_ROOT)
        yield f"{len(fetched)} of them can be fetched, {amount_text(plan.download)} together"
    if name := _next_to_fetch(states):
        yield f"next: cosmos-eval data fetch {name}{_root_option(data_root)}"
    ready = [data.benchmark for data in states if data.state is State.ready]
    on_disk = [benchmark.name for benchmark in ready if benchmark.dataset["reader"] != "toybox"]
    if on_disk:
        yield f"run:  cosmos-eval run --model SPEC --benchmark {on_disk[0]}{_root_option(data_root)}"


def _next_to_fetch(states: "Sequence[DataState]") -> str:
    """The benchmark to fetch next: one that is incomplete, else the smallest download; an unknown size comes last."""
    from cosmos_eval.run.data_overview import State, Way

    candidates = [data for data in states if data.way is Way.automatic and data.plan is not None]

    def cost(data: "DataState") -> tuple[bool, int, int]:
        download = data.plan.download if data.plan is not None else None
        return (
            data.state is not State.incomplete,
            download.unknown if download else 0,
            download.size if download else 0,
        )

    return min(candidates, key=cost).benchmark.name if candidates else ""


def _root_option(data_root: Path | None) -> str:
    return "" if data_root is None else f" --data-root {shlex.quote(str(data_root))}"
