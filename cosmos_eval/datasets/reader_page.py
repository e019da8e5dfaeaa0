"""The part of `docs/definitions.md` on readers, written from the registry:

python -m cosmos_eval.datasets.reader_page docs/definitions.md
"""

import sys
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.files import atomic_write_text
from cosmos_eval.datasets.option_texts import describe_options
from cosmos_eval.datasets.reader_registry import BUILT_IN, reader_info

BEGIN = "<!-- Up to the next comment: written by `python -m cosmos_eval.datasets.reader_page docs/definitions.md`. -->"
END = "<!-- End of the written part. -->"


def write_tables() -> str:
    """Return a heading, a sentence and a table of options in Markdown for every built-in reader."""
    parts = []
    for name in BUILT_IN:
        info = reader_info(name)
        is_name = info.summary[1:2].isupper()  # iNaturalist
        summary = info.summary if is_name else info.summary[:1].upper() + info.summary[1:]
        parts.append(f"### {name}\n\n{summary}. Tasks: {', '.join(info.kinds)}.\n")
        lines = ["| option | value | what it is |", "|---|---|---|"]
        for option in describe_options(info):
            shown = f"**`{option.name}`**" if option.required else f"`{option.name}`"
            lines.append(f"| {shown} | {option.kind} | {option.text} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def replace_tables(page: str) -> str:
    """Return the page with its written part as it would be written now.

    Raises:
        RequestError: the page lacks the comments that enclose this part.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RequestError(f"the page lacks the comments around its written part: {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{write_tables()}\n{END}{after}"


def main() -> None:
    """Write the page again."""
    path = Path(sys.argv[1])
    atomic_write_text(path, replace_tables(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
