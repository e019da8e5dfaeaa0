"""Tables about classes: the worst and best of one result for `results show`, all of them for `results classes`."""

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_eval.results.record import Result
from cosmos_eval.tasks.class_table import ClassEntry, ClassTable

EXTREMES = 5
"""Classes at either end that `results show` prints."""
SHOWN_TEMPLATES = 3
CLASS_COLUMNS = ("class", "n", "metric", "value")
NONE = "-"


def extreme_rows(result: Result) -> list[tuple[str, str]]:
    """(field, value) rows about the classes of a result, if it has any: prompts, the worst classes, and the best.

    A damaged table is reported in a row: no number of the result depends on it.
    """
    try:
        table = result.classes
    except RequestError as error:
        return [("classes", str(error))]
    if table is None:
        return []
    ranked = table.from_worst()
    without = len(table.classes) - len(ranked)
    none = f", {without:,} without samples" if without else ""
    rows = [("classes", f"{len(table.classes):,}, {table.metric.replace('_', ' ')} of each{none}")]
    if table.templates:
        first = "; ".join(table.templates[:SHOWN_TEMPLATES])
        more = len(table.templates) - SHOWN_TEMPLATES
        rows.append(("classes.templates", f"{first}; and {more} more" if more > 0 else first))
    elif any(entry.templates for entry in table.classes):
        rows.append(
            ("classes.templates", f"{sum(len(entry.templates) for entry in table.classes):,}, each of one class")
        )
    count = min(EXTREMES, len(ranked) // 2) or len(ranked)  # no class is among the worst and the best
    rows += [("classes.worst", f"{entry.name}: {shown_class(entry)}") for entry in ranked[:count]]
    if len(ranked) > count:
        rows += [("classes.best", f"{entry.name}: {shown_class(entry)}") for entry in reversed(ranked[-count:])]
    return rows


def all_rows(result: Result, where: object) -> list[tuple[str, ...]]:
    """A row for each class under CLASS_COLUMNS: the worst first, those without samples last.

    Raises:
        RequestError: the result has no classes.
    """
    table = require_classes(result, where)
    without = [entry for entry in table.classes if entry.metric is None]
    return [
        (printable(entry.name), f"{entry.n:,}", table.metric, shown_class(entry, with_support=False))
        for entry in (*table.from_worst(), *without)
    ]


def require_classes(result: Result, where: object) -> ClassTable:
    """The classes of a result; RequestError where it has none, with what to do."""
    table = result.classes
    if table is None:
        raise RequestError(
            f"{where} has no classes: its task ({result.benchmark.task}) has none, or an earlier cosmos-eval measured "
            "it; to add them, run the benchmark again with --overwrite, which reads the feature cache"
        )
    return table


def shown_class(entry: ClassEntry, with_support: bool = True) -> str:
    """`20.00 [4.00, 62.00], n 4` in percent; a dash for a class without samples."""
    if entry.metric is None:
        return NONE
    value, low, high = (f"{100 * number:.2f}" for number in (entry.metric.value, entry.metric.low, entry.metric.high))
    return f"{value} [{low}, {high}]" + (f", n {entry.n:,}" if with_support else "")
