"""A table that a paper or its repository prints, and its rows of `published.csv`."""

from dataclasses import dataclass

from tests.tools.published_words import RETRIEVAL

Column = tuple[str, str, str, str]
"""Printed benchmark and metric, and ours; ours are empty if none is the same."""
Model = tuple[str, str, str, str]
"""Printed name, spec or empty, architecture, pretraining."""


@dataclass(frozen=True)
class PaperTable:
    """A table of a paper: its columns, and the figures of each model in their order."""

    paper: str
    source: str
    columns: tuple[Column, ...]
    figures: dict[Model, str]
    """Percentages as printed, separated by blanks."""
    secondary: bool = False
    """If it was read in another source than the paper, or the paper has it from others."""

    def rows(self) -> list[tuple[str, ...]]:
        """Rows with the columns of published.csv.

        Raises:
            ValueError: a model has more or fewer figures than the table has columns.
        """
        rows = []
        for (model, spec, arch, pretraining), figures in self.figures.items():
            about = (self.paper, model, spec, arch, pretraining)
            secondary = "yes" if self.secondary else ""
            for (benchmark, printed_metric, ours, metric), printed in zip(self.columns, figures.split(), strict=True):
                rows.append((*about, ours, metric, printed, secondary, benchmark, printed_metric, self.source))
        return rows


def both_ways(printed: str, benchmark: str) -> tuple[Column, Column]:
    """The columns of R@1 from images to texts and back, of a benchmark of ours or of none."""
    i2t, t2i = ((printed, way, benchmark, RETRIEVAL[f"{way} R@1"] if benchmark else "") for way in ("I2T", "T2I"))
    return i2t, t2i
