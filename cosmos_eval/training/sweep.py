"""A folder of checkpoints as one request: `cosmos:runs/x/*.pt` is each of its checkpoints once, by step."""

import filecmp
import glob
import os
import re
from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_eval.models.spec import model_kind, parse_spec

ENDINGS = (".pt", ".pth", ".bin", ".safetensors")
UNTRAINED = "untrained-"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint file, and its step in the run."""

    path: Path
    step: int
    """As recorded in the file; else the last number in its name, else the recorded epochs, else 0."""
    steps: int | None = None
    """Length of the run, where the file records it."""

    @property
    def finished(self) -> bool:
        """Whether the run ends with it."""
        return self.steps is not None and self.step >= self.steps


@dataclass(frozen=True)
class Swept:
    """One model of a sweep."""

    spec: str
    checkpoint: Checkpoint
    network: str
    run: str = ""
    """Relative folder of the checkpoint, where a sweep covers several folders; else empty."""
    pattern: str = ""
    """The spec that the user gave."""

    @property
    def series(self) -> str:
        """Name of its curve."""
        return f"{self.run} {self.network}".strip()


def is_sweep(spec: str) -> bool:
    """Whether a spec is a `cosmos:` pattern over files; a file whose name contains brackets is not a pattern."""
    parsed = parse_spec(spec)
    return (
        model_kind(parsed.kind).expands_patterns
        and not parsed.name.startswith(UNTRAINED)
        and glob.has_magic(parsed.name)
        and not user_path(parsed.name).exists()
    )


def expand_all(
    specs: Sequence[str], problems: MutableMapping[str, str] | None = None
) -> tuple[list[str], dict[str, Swept]]:
    """Specs with every pattern replaced by its models, each once, and those that came from patterns.

    Args:
        problems: takes the specs and files of patterns that cannot be read, and why; they are left out of the answer.

    Raises:
        RequestError: an invalid spec, or the errors of `expand`, where `problems` is None.
    """
    models: dict[str, None] = {}
    swept: dict[str, Swept] = {}
    for spec in specs:
        try:
            sweep = is_sweep(spec)
            expanded = {model.spec: model for model in expand(spec, problems)} if sweep else {}
            if sweep and not expanded:
                continue  # each of its files is among the problems
        except (RequestError, OSError) as error:
            if problems is None:
                raise
            problems[spec] = str(error) if isinstance(error, RequestError) else f"{spec}: {error.strerror or error}"
            continue
        swept.update(expanded)
        models.update(dict.fromkeys(expanded or [spec]))
    return list(models), swept


def expand(spec: str, problems: MutableMapping[str, str] | None = None) -> list[Swept]:
    """The models of a pattern, by run and then by step.

    Args:
        problems: takes the files that match and are not checkpoints, and why; they are left out of the answer.

    Raises:
        RequestError: nothing matches, or a file that matches is not a checkpoint, where `problems` is None.
    """
    parsed = parse_spec(spec)
    # Path.glob takes no pattern that starts at the root
    matches = [Path(name) for name in sorted(glob.glob(str(user_path(parsed.name)), recursive=True))]  # noqa: PTH207
    files = [path for path in matches if path.suffix in ENDINGS and path.is_file()]
    if not files:
        matched = f"{len(matches)} names that are not checkpoints ({', '.join(ENDINGS)})" if matches else "no file"
        raise RequestError(f"{spec} matches {matched}; give the folder of a training, as cosmos:runs/x/*.pt")
    read = []
    for path in files:
        try:
            read.append(read_checkpoint(path))
        except RequestError as error:
            if problems is None:
                raise
            problems[f"cosmos:{path}"] = str(error)
    checkpoints = distinct(read)
    if not checkpoints:
        return []
    folders = {checkpoint.path.parent for checkpoint in checkpoints}
    parent = os.path.commonpath(folders)
    selector = "#student" if parsed.selector == "student" else ""
    selector += "".join(f"?{key}={value}" for key, value in parsed.options.items())
    swept = []
    for checkpoint in checkpoints:
        folder = checkpoint.path.parent
        run = "" if len(folders) == 1 else os.path.relpath(folder, parent)
        swept.append(Swept(f"cosmos:{checkpoint.path}{selector}", checkpoint, parsed.selector, run, spec))
    return sorted(swept, key=lambda model: model.run)  # stable: by step within a run


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the step of a checkpoint. A torch file is mapped: its weights are read and checked when it is loaded.

    Raises:
        RequestError: not a checkpoint.
    """
    from cosmos_core.layouts import read_file

    content = read_file(path, check=False)
    step, numbers = content.get("step"), re.findall(r"\d+", path.stem)
    if not isinstance(step, int):
        step = int(numbers[-1]) if numbers else content.get("epoch")
    training = content.get("training")
    steps = content.get("steps") or (training.get("steps") if isinstance(training, dict) else None)
    return Checkpoint(path, step if isinstance(step, int) else 0, steps if isinstance(steps, int) and steps else None)


def distinct(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Each file once, by step: `last.pt` is another name, or a copy, of the newest. A name with a number wins."""
    unique: list[Checkpoint] = []
    for checkpoint in sorted(
        checkpoints, key=lambda checkpoint: (not re.search(r"\d", checkpoint.path.stem), str(checkpoint.path))
    ):
        if not any(is_same_file(checkpoint, other) for other in unique):
            unique.append(checkpoint)
    return sorted(unique, key=lambda checkpoint: (checkpoint.step, str(checkpoint.path)))


def is_same_file(first: Checkpoint, second: Checkpoint) -> bool:
    """Whether two names are of one file, or in one folder of two files with equal bytes."""
    if first.step != second.step:
        return False  # not the same file; saves comparing bytes
    if first.path.samefile(second.path):
        return True
    return first.path.parent == second.path.parent and filecmp.cmp(first.path, second.path, shallow=False)
