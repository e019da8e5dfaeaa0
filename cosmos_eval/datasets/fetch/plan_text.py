"""A fetch plan for people: what `--dry-run` and the question before fetching print."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from cosmos_eval.datasets.fetch.plan import Amount, ByHand, FetchPlan, Planned
from cosmos_eval.datasets.fetch.table import Source

FULL_COMMIT = 40


def describe_plan(plan: FetchPlan) -> list[str]:
    """The lines that say what is fetched, from where, how large, under which terms, and what is left to a person."""
    lines: list[str] = []
    if plan.fetched:
        lines.append(f"to fetch into {plan.data_root}:")
        for planned in plan.fetched:
            lines += _describe_planned(planned)
        lines.append(f"download: {amount_text(plan.download)} in {len(plan.fetched)} {_parts(len(plan.fetched))}")
        lines.append(
            f"disk needed: up to {amount_text(plan.disk_needed)} while unpacking, {amount_text(plan.kept)} afterwards"
        )
    if plan.there:
        lines.append(f"already there: {', '.join(artifact.name for artifact in plan.there)}")
    for step in plan.prepare:
        lines.append(f"then made: masks, by 'data prepare {step}'")
    for by_hand in plan.by_hand:
        lines += _describe_by_hand(by_hand, plan.data_root)
    if plan.by_hand:
        lines.append("once that is done, give the same command again: it does what is left and checks the data")
    for name, needs in plan.without_source:
        lines.append(f"{name}: nothing to fetch, since no source is known{f'; it needs: {needs}' if needs else ''}")
    for name, instead in plan.instead:
        lines.append(f"note on {name}: consider {instead}")
    if not (plan.fetched or plan.by_hand or plan.without_source):
        lines.append("nothing to fetch")
    return lines


def _describe_planned(planned: Planned) -> Iterator[str]:
    artifact, first = planned.artifact, planned.first
    gated = ", gated" if first.access == "token" else ""
    yield f"  {artifact.name}: {source_size_text(planned)} from {first.name} ({first.page}){gated}"
    yield f"    for {', '.join(planned.benchmarks)}; gives {', '.join(artifact.provides)}"
    if first.kind == "hub" and planned.download_size is None:
        yield f"    files: {' '.join(first.files)}; how many and how large is known once the hub is asked"
    yield f"    terms: {artifact.terms}"
    if len(planned.sources) > 1:
        others = ", ".join(f"{source.name} ({source.page})" for source in planned.sources[1:])
        yield f"    if that fails, from {others}"
    if first.access == "token" and artifact.manual:
        yield f"    or by hand, from {artifact.manual[0].page}: --source {artifact.manual[0].name} lists the steps"
    for source in planned.sources:
        for remark in source_remarks(source):
            yield f"    {source.name}: {remark}"
        if source.restricted_copy:
            yield (
                f"    {source.name}: a copy by others; the publisher's own way: {artifact.manual[0].page} "
                f"({artifact.manual[0].access}); terms accepted for {', '.join(planned.accepted_terms)}"
            )


def _describe_by_hand(by_hand: ByHand, data_root: Path) -> Iterator[str]:
    artifact = by_hand.artifact
    yield f"by hand, {artifact.name} for {', '.join(by_hand.benchmarks)} (terms: {artifact.terms}):"
    number = 0
    for source in artifact.manual:
        asks = "" if source.access == "open" else f" ({source.access})"
        if "://" in source.address:
            yield f"  {source.address}{asks}"
        for step in manual_steps(source, data_root):
            number += 1
            yield f"  {number}. {step}"
    for source in artifact.sources:
        if source.restricted_copy:
            yield (
                f"  or, only if you accept the terms above, a copy by others, {source.page}: "
                f"--source {source.name} --accept-terms {by_hand.benchmarks[0]}"
            )
            for remark in source_remarks(source):
                yield f"    {source.name}: {remark}"


def manual_steps(source: Source, data_root: Path) -> list[str]:
    """What a person does, with the folder of the datasets written as a shell takes it.

    In the table commands are between backquotes, for Markdown; a terminal shows them without.
    """
    return [step.replace("{data_root}", shlex.quote(str(data_root))).replace("`", "") for step in source.steps]


def source_remarks(source: Source) -> list[str]:
    """What a user should know of a source before it is fetched."""
    remarks = []
    if source.kind == "hub" and not source.revision:
        guard = "; its checksum is known" if source.checksums else ", and the commit goes into the manifest"
        remarks.append(f"not pinned: the newest version is fetched{guard}")
    elif source.kind == "hub" and source.revision and len(source.revision) < FULL_COMMIT:
        remarks.append(f"revision {source.revision} is short: it is looked up first and must be unique")
    if source.kind in ("http", "drive") and not source.checksums:
        plain = "over plain http, " if source.address.startswith("http:") else ""
        remarks.append(f"{plain}no checksum is known: nothing proves the content; its sha256 goes into the manifest")
    if source.kind == "drive":
        remarks.append("Google Drive refuses a file for a day once many people fetched it")
    if source.kind == "addresses":
        remarks.append("single addresses of others, without checksums; many are dead, some forbid it; they are counted")
    if source.access == "token":
        remarks.append(
            f"gated: accept its terms at {source.page} with an account of the hub, then set HF_TOKEN to a token of it"
        )
    return remarks


def source_size_text(planned: Planned) -> str:
    """The size of a download, exact where it is."""
    exact = planned.first.size
    if exact is not None:
        return size_text(exact)
    return "size not known" if planned.download_size is None else f"about {size_text(planned.download_size)}"


def amount_text(amount: Amount) -> str:
    """Bytes as people read them, with what is not known of them: `about 1.1 GB and 2 of unknown size`."""
    text = size_text(amount.size) if amount.is_exact and not amount.unknown else f"about {size_text(amount.size)}"
    if not amount.unknown:
        return text
    return f"{text} and {amount.unknown} of unknown size" if amount.size else "unknown size"


def size_text(size: int) -> str:
    """Bytes in decimal units, three digits: `816 MB`, `1.65 MB`."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit * 0.9995:
            value = size / unit
            return (
                f"{value:.0f} {name}"
                if value >= 99.95
                else f"{value:.1f} {name}"
                if value >= 9.995
                else f"{value:.2f} {name}"
            )
    return f"{size} bytes"


def _parts(count: int) -> str:
    return "part" if count == 1 else "parts"
