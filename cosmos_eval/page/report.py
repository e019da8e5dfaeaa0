"""`cosmos-eval report`: a folder of results as one self-contained HTML page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cosmos_eval
from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_eval.page.assembly import assemble, embedded
from cosmos_eval.page.curves import curve_data
from cosmos_eval.page.data import Reported, report_data
from cosmos_eval.page.geometry import geometry_data
from cosmos_eval.page.images import embed
from cosmos_eval.report.board import MEASURED, check_of_suite
from cosmos_eval.results.portable import portable_spec, portable_text
from cosmos_eval.results.store import RESULT, located_results, read_not_run, result_paths

if TYPE_CHECKING:
    import pandas

    from cosmos_eval.protocol.suite import Suite

NAME = "report.html"
LARGEST = 4_900_000
"""Length of a page in characters up to which images are added; a page without images may be longer."""
FOR_IMAGES = 3_000_000
"""Upper bound of the characters of all images in a page."""


@dataclass(frozen=True)
class HtmlReport:
    """What was written."""

    path: Path
    models: int
    """Those that were measured; published rows do not count."""
    benchmarks: int
    images: int
    left_out: list[str]
    """Lines about images and points of curves that the page leaves out."""


def write_report(
    folder: Path,
    out: Path | None = None,
    *,
    title: str | None = None,
    lead: Sequence[str] = (),
    within: Sequence[Path] | None = None,
    references: "pandas.DataFrame | None" = None,
    suite: "Suite | None" = None,
) -> HtmlReport:
    """Write the page about every result, curve and image below `folder`, to `out` or as report.html in it.

    Args:
        title: of the page; by default the name of the folder.
        lead: lines at its beginning, such as which of two models is ahead.
        within: folders below `folder` whose results are shown; by default all of them.
        references: published values for rows of their own, as `make_board` takes them.
        suite: selects the leaderboard's benchmarks, their order, and averages.

    Raises:
        RequestError: no such folder, nothing in it, nothing of the suite, or a result that is broken.
    """
    if not folder.is_dir():
        raise RequestError(f"no folder {folder}; give the --out folder of a run")
    sources = [folder] if within is None else within
    located = [result for source in sources if any(result_paths(source)) for result in located_results(source)]
    reported = [Reported(result, path.relative_to(folder).as_posix()) for path, result in located]
    panels, thinned = curve_data(folder)
    if not reported and not panels:
        raise RequestError(f"no {RESULT} and no evaluations.jsonl below {folder}; give the --out folder of a run")
    if suite is not None and references is None:
        check_of_suite((item.result for item in reported), suite, folder)
    shown = report_data(in_tables(reported), references, suite)
    specs = {item.result.model.spec for item in reported}
    shortened = {portable_spec(spec) for spec in specs if portable_spec(spec) != spec}
    geometry, without_result = geometry_data(folder, shown, shortened)
    data = {
        "title": title or f"Results: {folder.resolve().name}",
        "madeBy": f"cosmos-eval {cosmos_eval.__version__}",
        "lead": list(lead),
        "curves": panels,
        "notRun": [portable_text(line) for line in read_not_run(folder)],
        "geometry": geometry,
        **shown,
    }
    return put_together(folder, data, [*thinned, *without_result], out or folder / NAME)


def put_together(folder: Path, data: dict[str, Any], left_out: Sequence[str], path: Path) -> HtmlReport:
    """Add images up to the length limit, and write the page."""
    room = max(0, min(FOR_IMAGES, LARGEST - len(embedded(data))))
    images, not_embedded = embed(folder, room, with_curves=not data["curves"])
    data = dict(data)
    all_left_out = [*left_out, *data.pop("classesLeftOut", []), *not_embedded]
    page_data = {**data, "images": [vars(image) for image in images], "leftOut": all_left_out}
    atomic_write_text(path, assemble(page_data, data["title"]))
    measured = sum(model["kind"] == MEASURED for model in data["models"])
    return HtmlReport(path, measured, len(data["groups"]), len(images), all_left_out)


def in_tables(reported: Sequence[Reported]) -> list[Reported]:
    """Return the results for the tables: those that are not of checkpoints evaluated during a training.

    If there are none, the last checkpoint of each network of each training.
    """
    not_checkpoints = [item for item in reported if not item.step]
    if not_checkpoints:
        return not_checkpoints
    last: dict[str, str] = {}
    for item in reported:
        last[item.series] = max(last.get(item.series, ""), item.step)
    return [item for item in reported if item.step == last[item.series]]
