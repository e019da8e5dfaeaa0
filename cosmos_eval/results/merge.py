"""Merges folders of results, such as those of several machines: each measurement once, conflicts are errors."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.files import current_umask, sync_folder, temporary_folder
from cosmos_core.json_text import read_json
from cosmos_eval.results.class_file import CLASSES, read_classes
from cosmos_eval.results.compare import changed_metrics
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import NOT_RUN, RESULT, SAMPLES, file_digest, read_result, visible_files

SHOWN = 3
"""Conflicts that an error names."""


@dataclass
class Merged:
    """What a merge did."""

    copied: int = 0
    existing: int = 0
    """Results that were in the folder before."""
    repeated: int = 0
    """Further copies with the same identity and numbers, left out."""
    aside: list[Path] = field(default_factory=list)
    """Folders of second results of one model and benchmark, with another protocol, data, precision or limit; their
    names end with the start of the identity."""
    not_run: list[Path] = field(default_factory=list)
    models: int = 0


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Copy the results below several folders to one, `OUT/<model>/<benchmark>/`; existing results in `out` stay.

    Two results of one identity are one measurement: with equal numbers the first is kept, `out` before `sources`.
    Everything is read, checked and staged before anything appears in `out`. A new `out` appears in one move; in an
    existing one each result appears complete, RESULT.json last. A merge that was killed can be run again.

    Raises:
        RequestError: a folder without results, a broken result, samples that do not belong to their result, or
            one identity with different numbers; then nothing is written.
    """
    plan = _Plan(out)
    for folder in sources:
        if not folder.is_dir():
            raise RequestError(f"no folder {folder}; give the --out folder of a run")
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is not a folder; give another --out")
    for folder in ([out] if out.is_dir() else []) + list(sources):
        plan.read(folder, needed=folder is not out)
    plan.refuse_conflicts()
    plan.read_not_run([out, *sources])
    with _stage(out) as (stage, move):
        for target, path, result in plan.to_copy:
            _copy(path, stage / target, result)
        for target, path in plan.not_run.items():
            _copy_file(path, stage / target / NOT_RUN)
        move([target for target, *_ in plan.to_copy], list(plan.not_run))
    for path in plan.resolved:
        path.unlink(missing_ok=True)
    return plan.merged


class _Plan:
    """Decides which result is copied to which folder; writes nothing."""

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.merged = Merged()
        self.to_copy: list[tuple[Path, Path, Result]] = []
        self.not_run: dict[Path, Path] = {}
        self.resolved: list[Path] = []
        """NOT_RUN files in `out` whose benchmark has a result now."""
        self._seen: set[Path] = set()
        self._by_identity: dict[str, tuple[Path, Result]] = {}
        self._taken: dict[Path, str] = {}
        self._folders: dict[str, str] = {}
        self._conflicts: list[str] = []

    def read(self, folder: Path, *, needed: bool) -> None:
        """Read the results of one folder; with `needed`, a folder without results is refused."""
        paths = list(visible_files(folder, RESULT))
        if needed and not paths and not list(visible_files(folder, NOT_RUN)):
            raise RequestError(f"no {RESULT} below {folder}; give the --out folder of a run")
        for path in paths:
            resolved_path = path.parent.resolve() / path.name
            if resolved_path not in self._seen:
                self._seen.add(resolved_path)
                self._add(path, resolved_path, read_result(path))

    def _add(self, path: Path, resolved_path: Path, result: Result) -> None:
        key = result.identity or result.checksum  # a model without a digest equals only itself, in the same record
        if key in self._by_identity:
            first, existing = self._by_identity[key]
            changed = changed_metrics(existing, result)
            if changed:
                metric = changed[0]
                values = " and ".join("nothing" if m is None else repr(m.value) for m in (metric.before, metric.after))
                self._conflicts.append(f"{first} and {path} ({metric.name}: {values})")
            self.merged.repeated += 1
            return
        self._by_identity[key] = (path, result)
        if resolved_path.is_relative_to(self.out):
            target = resolved_path.parent.relative_to(self.out)
            if len(target.parts) > 1:
                self._folders.setdefault(result.model.digest, str(target.parent))
            self._taken[target] = key
            self.merged.existing += 1
        else:
            target = self._free(
                self._model_folder(resolved_path, result), _benchmark_folder(resolved_path, result), key
            )
            self._taken[target] = key
            self.to_copy.append((target, path, result))
            self.merged.copied += 1
        self.merged.models = len({known.model.digest or known.model.spec for _, known in self._by_identity.values()})

    def _model_folder(self, path: Path, result: Result) -> str:
        """One folder for each model: named as in its first source, with the start of its digest."""
        digest = result.model.digest
        name = path.parent.parent.name.lstrip(".") or "model"
        if not digest:
            return name
        if not name.endswith(digest[:8]):
            name = f"{name}-{digest[:8]}"
        return self._folders.setdefault(digest, name)

    def _free(self, model: str, benchmark: str, key: str) -> Path:
        target = Path(model, benchmark)
        if target in self._taken:
            target = Path(model, f"{benchmark}-{key[:8]}")
            self.merged.aside.append(target)
        return target

    def refuse_conflicts(self) -> None:
        """RequestError that names the conflicts, if there are any."""
        if self._conflicts:
            more = len(self._conflicts) - SHOWN
            raise RequestError(
                "two results have the same model, protocol, data and precision but different numbers: "
                + "; ".join(self._conflicts[:SHOWN])
                + (f"; and {more} more" if more > 0 else "")
                + "; compare them with 'cosmos-eval results diff', delete the wrong one and merge again; "
                "nothing was written"
            )

    def read_not_run(self, folders: Sequence[Path]) -> None:
        """Collect benchmarks that were requested and not run, where no folder has their result."""
        by_digest = {digest[:8]: name for digest, name in self._folders.items() if digest}
        targets: dict[Path, Path] = {}
        for folder in folders:
            for path in visible_files(folder, NOT_RUN):
                resolved_path = path.parent.resolve() / path.name
                model = resolved_path.parent.parent.name.lstrip(".") or "model"
                target = Path(by_digest.get(model[-8:], model), resolved_path.parent.name)
                _check_not_run(path)
                is_in_out = resolved_path.is_relative_to(self.out)
                if target in self._taken:
                    self.resolved += [resolved_path] if is_in_out else []
                elif target not in targets:
                    targets[target] = path
                    if not is_in_out:
                        self.not_run[target] = path
        self.merged.not_run = list(targets)


def _benchmark_folder(path: Path, result: Result) -> str:
    """The name of the benchmark, as `run` names the folder; the name in a record may not be a valid folder name."""
    name = result.benchmark.name
    plain = all(c.isalnum() or c in "-_." for c in name) and name[0] not in "-."
    return f"{name}{result.transforms.folder_suffix}" if plain else path.parent.name.lstrip(".") or "benchmark"


def _check_not_run(path: Path) -> None:
    try:
        record = read_json(path)
        if all(isinstance(record[key], str) for key in ("model", "benchmark", "reason")):
            return
    except (ValueError, KeyError, TypeError):
        pass
    raise RequestError(f"{path} is not readable; delete it and merge again")


def _copy(path: Path, folder: Path, result: Result) -> None:
    """Copy a result and its samples; each copy is checked against the record."""
    samples = path.parent / SAMPLES
    if not samples.is_file():
        raise RequestError(f"{samples} is missing; copy it with its {RESULT}, or delete that file and run again")
    _copy_file(samples, folder / SAMPLES)
    if file_digest(folder / SAMPLES) != result.samples.sha256:
        raise RequestError(
            f"{samples} is not the file that {RESULT} was written with: truncated or altered; copy it again with its "
            f"{RESULT}, or delete both and run again"
        )
    if (classes := path.parent / CLASSES).is_file():
        read_classes(path.parent, result.samples.sha256)  # raises for one that is damaged
        _copy_file(classes, folder / CLASSES)
    _copy_file(path, folder / RESULT)
    if read_result(folder / RESULT) != result:
        raise RequestError(f"{path} changed while it was copied; merge again when nothing writes there")


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb+") as copied:
        os.fsync(copied.fileno())


@contextmanager
def _stage(out: Path) -> Iterator[tuple[Path, "_Mover"]]:
    """A hidden folder on the disk of `out`, and a function that moves its content to `out`; removed at the end."""
    is_new = not out.exists()
    with temporary_folder(out if is_new else out / out.name) as stage:
        yield stage, _Mover(stage, out, is_new)


@dataclass(frozen=True)
class _Mover:
    stage: Path
    out: Path
    is_new: bool

    def __call__(self, results: Sequence[Path], not_run: Sequence[Path]) -> None:
        """Move the staged files to `out`: in one move, or each result with RESULT.json last."""
        if self.is_new:
            self.stage.chmod(0o777 & ~current_umask())  # mkdtemp makes a private folder
            for target in {folder for moved in (*results, *not_run) for folder in (moved, *moved.parents)}:
                sync_folder(self.stage / target)
            self.stage.replace(self.out)
            sync_folder(self.out.parent)
            return
        for target, names in [
            *((source, (SAMPLES, CLASSES, RESULT)) for source in results),
            *((source, (NOT_RUN,)) for source in not_run),
        ]:
            folder = self.out / target
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                if name == CLASSES and not (self.stage / target / name).exists():
                    continue  # an older result, or a task without classes
                (self.stage / target / name).replace(folder / name)
            if RESULT in names:
                (folder / NOT_RUN).unlink(missing_ok=True)
            sync_folder(folder)
