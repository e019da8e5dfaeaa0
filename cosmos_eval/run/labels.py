"""Labels: the names that users give models in tables. A label never decides which result is meant or kept."""

from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.printable import printable
from cosmos_core.run_lock import one_writer
from cosmos_core.short_repr import short_repr
from cosmos_eval.results.record import Result, renamed
from cosmos_eval.results.store import RESULT, find_finished, write_result
from cosmos_eval.results.versions import SCHEMA
from cosmos_eval.run.result_folders import read_stored_result

LONGEST_LABEL = 200
"""Characters; longer ones would make every table unreadable."""


def check_label(label: object) -> None:
    """Check that a label can be shown in a table.

    Raises:
        RequestError: it is not a text, is empty or too long, begins or ends with a space, or has a control character.
    """
    if not isinstance(label, str):
        raise RequestError(f"the label must be text, got {short_repr(label)}")
    if not label.strip():
        raise RequestError("the label is empty; give the name that tables show, or none for the model's spec")
    if printable(label) != label:
        raise RequestError(
            f"the label '{printable(label[:LONGEST_LABEL])}' has a control character, or one that is not shown; leave "
            "it out"
        )
    if label != label.strip():
        raise RequestError(f"the label {label!r} begins or ends with a space, which tables do not show; leave it out")
    if len(label) > LONGEST_LABEL:
        raise RequestError(
            f"the label {short_repr(label)} has {len(label):,} characters, and {LONGEST_LABEL} are possible"
        )


def find_namesake(out: Path, label: str, model_folder: str) -> Path | None:
    """Find a result of another model that has the same name in tables.

    Args:
        out: the folder for results.
        model_folder: name of the folder of the model that is labelled.

    Returns:
        The other model's folder. Only the first result of each model is read: a run gives all of them one label.
    """
    for folder in sorted(out.iterdir()) if out.is_dir() else ():
        if folder.name == model_folder or folder.name.startswith(".") or not folder.is_dir():
            continue
        path = next(iter(sorted(folder.glob(f"*/{RESULT}"))), None)
        result = read_stored_result(path.parent) if path is not None else None
        if result is not None and result.label == label:
            return folder
    return None


def relabel(finished: Result, folder: Path, label: str) -> tuple[Result, str]:
    """Give a finished result another label, in its file too; nothing is measured.

    Args:
        finished: the result in `folder`.

    Returns:
        The result, and a note for the user. A file of an older schema is left as it is.
    """
    former = finished.label
    if finished.file_version != SCHEMA:
        return finished, f"its file has an older schema, so its label stays {former}; --overwrite measures it again"
    with one_writer(folder):
        current = find_finished(folder, finished.identity)  # another run may have replaced it
        if current is None or current.file_version != SCHEMA:
            return finished, f"its label stays {former}: another run is writing it"
        labelled = renamed(current, label)
        write_result(folder, labelled)
    return labelled, f"labelled {label}, formerly {former}"
