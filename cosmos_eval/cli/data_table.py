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
        Way.by_hand: f"by hand; `{command} --dry-run` tells the steps",
        Way.none: "no source is known; `cosmos-eval data check NAME` tells what is needed",
    }
    width = max((len(one.benchmark.name) for one in states), default=0)
    if ready := [one for one in states if one.state is State.ready]:
        yield ""
        yield f"ready ({len(ready)}):"
        for one in ready:
            yield _line(one, width, _counts_text(one))
    for state in (State.incomplete, State.not_there):
        for way, heading in headings.items():
            group = [one for one in states if one.state is state and one.way is way]
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
    for one in group:
        together.setdefault(one.missing, []).append(one)
    for missing, same in together.items():
        for one in same:
            text = missing if one is same[0] else f"as {same[0].benchmark.name}"
            yield _line(one, width, text, _fetch_text(one))


def _line(one: "DataState", width: int, text: str, how: str = "") -> str:
    return f"  {one.state:10}  {one.benchmark.name:{width}}  {text}{f'  ({how})' if how else ''}".rstrip()


def _counts_text(one: "DataState") -> str:
    counts = one.counts if "images" not in one.counts else {"images": one.counts["images"]}
    text = list_counts(counts)
    return f"{text}; {plural(one.left_out, 'item')} left out" if one.left_out else text


def _fetch_text(one: "DataState") -> str:
    """How large the download is, and whether a person has to do something."""
    from cosmos_eval.datasets.fetch.plan_text import amount_text
    from cosmos_eval.run.data_overview import Way

    if one.plan is None or one.way is Way.none:
        return ""
    size = amount_text(one.plan.download) if one.plan.fetched else ""
    if one.way is Way.by_hand:
        return f"by hand, and {size} by data fetch" if size else "by hand"
    made = f"makes masks: {', '.join(one.plan.prepare)}" if one.plan.prepare and not size else ""
    return f"data fetch: {size or made}"


def describe_totals(states: "Sequence[DataState]", data_root: Path | None) -> Iterator[str]:
    """How many benchmarks are ready, how much could be fetched, and commands to go on with."""
    from cosmos_eval.datasets.fetch.plan import make_fetch_plan
    from cosmos_eval.datasets.fetch.plan_text import amount_text
    from cosmos_eval.run.data_overview import State, Way
    from cosmos_eval.run.plan import DEFAULT_DATA_ROOT

    counts = ", ".join(f"{sum(one.state is state for one in states)} {state}" for state in State)
    yield f"{plural(len(states), 'benchmark')}: {counts}"
    fetched = [one for one in states if one.way in (Way.automatic, Way.token)]
    if fetched:
        plan = make_fetch_plan([one.benchmark for one in fetched], data_root or DEFAULT_DATA_ROOT)
        yield f"{len(fetched)} of them can be fetched, {amount_text(plan.download)} together"
    if name := _next_to_fetch(states):
        yield f"next: cosmos-eval data fetch {name}{_root_option(data_root)}"
    ready = [one.benchmark for one in states if one.state is State.ready]
    on_disk = [benchmark.name for benchmark in ready if benchmark.dataset["reader"] != "toybox"]
    if on_disk:
        yield f"run:  cosmos-eval run --model SPEC --benchmark {on_disk[0]}{_root_option(data_root)}"


def _next_to_fetch(states: "Sequence[DataState]") -> str:
    """What is begun comes first, then what is fetched fastest; a size that is not known comes last."""
    from cosmos_eval.run.data_overview import State, Way

    candidates = [one for one in states if one.way is Way.automatic and one.plan is not None]

    def cost(one: "DataState") -> tuple[bool, int, int]:
        download = one.plan.download if one.plan is not None else None
        return (
            one.state is not State.incomplete,
            download.unknown if download else 0,
            download.size if download else 0,
        )

    return min(candidates, key=cost).benchmark.name if candidates else ""


def _root_option(data_root: Path | None) -> str:
    return "" if data_root is None else f" --data-root {shlex.quote(str(data_root))}"
