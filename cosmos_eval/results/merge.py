"""One folder of results from several, such as those of several machines: each measurement once, or a conflict."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_core.errors import RequestError
from cosmos_core.files import current_umask, sync_folder, temporary_folder
from cosmos_core.json_text import read_json
from cosmos_eval.results.compare import moved_metrics
from cosmos_eval.results.record import Result
from cosmos_eval.results.store import NOT_RUN, RESULT, SAMPLES, file_digest, read_result, visible

SHOWN = 3
"""How many conflicts are named."""


@dataclass
class Merged:
    """What a merge did."""

    copied: int = 0
    there: int = 0
    """Results that stood in the folder before."""
    repeated: int = 0
    """Results that were found once more with the same numbers, and left out."""
    aside: list[Path] = field(default_factory=list)
    """Results of a model and benchmark that stand twice, under other protocols, data, precisions or limits: the second
    one's folder is named after its identity."""
    not_run: list[Path] = field(default_factory=list)
    models: int = 0


def merge(sources: Sequence[Path], out: Path) -> Merged:
    """Bring the results below several folders into one, `OUT/<model>/<benchmark>/`; what is in `out` stays.

    Two results of one identity are one measurement: with equal numbers the first is kept, `out` before `sources`.
    Everything is read and checked, and every table of samples copied and checked, before anything appears in `out`. An
    `out` that was absent appears whole. One that was there gets each result whole, RESULT.json last; a merge that was
    killed goes on when it is run again.

    Raises:
        RequestError: a folder without results, a broken result, samples that are not those of their result, or one
            identity with different numbers; then nothing is written.
    """
    plan = _Plan(out)
    for folder in sources:
        if not folder.is_dir():
            raise RequestError(f"no folder {folder}; give the --out folder of a run")
    if out.exists() and not out.is_dir():
        raise RequestError(f"{out} is no folder; give another --out")
    for folder in ([out] if out.is_dir() else []) + list(sources):
        plan.read(folder, needed=folder is not out)
    plan.refuse_conflicts()
    plan.read_not_run([out, *sources])
    with _stage(out) as (stage, place):
        for target, path, result in plan.to_copy:
            _copy(path, stage / target, result)
        for target, path in plan.not_run.items():
            _copy_file(path, stage / target / NOT_RUN)
        place([target for target, *_ in plan.to_copy], list(plan.not_run))
    for path in plan.resolved:
        path.unlink(missing_ok=True)
    return plan.merged


class _Plan:
    """What goes where; nothing is written here."""

    def __init__(self, out: Path) -> None:
        self.out = out.resolve()
        self.merged = Merged()
        self.to_copy: list[tuple[Path, Path, Result]] = []
        self.not_run: dict[Path, Path] = {}
        self.resolved: list[Path] = []
        """NOT_RUN files in `out` whose result is there now."""
        self._seen: set[Path] = set()
        self._known: dict[str, tuple[Path, Result]] = {}
        self._taken: dict[Path, str] = {}
        self._folders: dict[str, str] = {}
        self._conflicts: list[str] = []

    def read(self, folder: Path, *, needed: bool) -> None:
        """The results of one folder; `needed`: an empty one is refused."""
        paths = list(visible(folder, RESULT))
        if needed and not paths and not list(visible(folder, NOT_RUN)):
            raise RequestError(f"no {RESULT} below {folder}; give the --out folder of a run")
        for path in paths:
            whole = path.parent.resolve() / path.name
            if whole not in self._seen:
                self._seen.add(whole)
                self._add(path, whole, read_result(path))

    def _add(self, path: Path, whole: Path, result: Result) -> None:
        key = result.identity or result.checksum  # a model without a digest is the same only in the same record
        if key in self._known:
            first, there = self._known[key]
            moved = moved_metrics(there, result)
            if moved:
                one = moved[0]
                values = " and ".join("nothing" if m is None else repr(m.value) for m in (one.before, one.after))
                self._conflicts.append(f"{first} and {path} ({one.name}: {values})")
            self.merged.repeated += 1
            return
        self._known[key] = (path, result)
        if whole.is_relative_to(self.out):
            target = whole.parent.relative_to(self.out)
            if len(target.parts) > 1:
                self._folders.setdefault(result.model["digest"], str(target.parent))
            self._taken[target] = key
            self.merged.there += 1
        else:
            target = self._free(self._model_folder(whole, result), _benchmark_folder(whole, result), key)
            self._taken[target] = key
            self.to_copy.append((target, path, result))
            self.merged.copied += 1
        self.merged.models = len({one.model["digest"] or one.model["spec"] for _, one in self._known.values()})

    def _model_folder(self, path: Path, result: Result) -> str:
        """One folder a model: as its first source calls it, with the start of its digest."""
        digest = result.model["digest"]
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
        """Everything that differs in one refusal."""
        if self._conflicts:
            more = len(self._conflicts) - SHOWN
            raise RequestError(
                "the same model, protocol, data and precision with different numbers: "
                + "; ".join(self._conflicts[:SHOWN])
                + (f"; and {more} more" if more > 0 else "")
                + "; see 'cosmos-eval results diff', delete the wrong one and merge again; nothing was written"
            )

    def read_not_run(self, folders: Sequence[Path]) -> None:
        """Benchmarks that were asked for and not run: kept where no folder has their result."""
        by_digest = {digest[:8]: name for digest, name in self._folders.items() if digest}
        targets: dict[Path, Path] = {}
        for folder in folders:
            for path in visible(folder, NOT_RUN):
                whole = path.parent.resolve() / path.name
                model = whole.parent.parent.name.lstrip(".") or "model"
                target = Path(by_digest.get(model[-8:], model), whole.parent.name)
                _check_not_run(path)
                inside = whole.is_relative_to(self.out)
                if target in self._taken:
                    self.resolved += [whole] if inside else []
                elif target not in targets:
                    targets[target] = path
                    if not inside:
                        self.not_run[target] = path
        self.merged.not_run = list(targets)


def _benchmark_folder(path: Path, result: Result) -> str:
    """The benchmark's name, as a run calls the folder; a record's own words are no path."""
    name = result.benchmark["name"]
    plain = all(c.isalnum() or c in "-_." for c in name) and name[0] not in "-."
    return name if plain else path.parent.name.lstrip(".") or "benchmark"


def _check_not_run(path: Path) -> None:
    try:
        record = read_json(path)
        if all(isinstance(record[key], str) for key in ("model", "benchmark", "reason")):
            return
    except (ValueError, KeyError, TypeError):
        pass
    raise RequestError(f"{path} is not readable; delete it and merge again")


def _copy(path: Path, folder: Path, result: Result) -> None:
    """A result and its samples, each copy checked against the record."""
    samples = path.parent / SAMPLES
    if not samples.is_file():
        raise RequestError(f"{samples} is not there; copy it with its {RESULT}, or delete that file and run again")
    _copy_file(samples, folder / SAMPLES)
    if file_digest(folder / SAMPLES) != result.samples["sha256"]:
        raise RequestError(
            f"{samples} is not what {RESULT} was written with: truncated or altered; copy it again with its {RESULT}, "
            "or delete both and run again"
        )
    _copy_file(path, folder / RESULT)
    if read_result(folder / RESULT) != result:
        raise RequestError(f"{path} changed while it was copied; merge again when nothing writes there")


def _copy_file(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    with target.open("rb+") as copied:
        os.fsync(copied.fileno())


@contextmanager
def _stage(out: Path) -> Iterator[tuple[Path, "_Place"]]:
    """A hidden folder on the disk of `out`, and what brings its content there; gone when the block ends."""
    whole = not out.exists()
    with temporary_folder(out if whole else out / out.name) as stage:
        yield stage, _Place(stage, out, whole)


@dataclass(frozen=True)
class _Place:
    stage: Path
    out: Path
    whole: bool

    def __call__(self, results: Sequence[Path], not_run: Sequence[Path]) -> None:
        """Bring what was staged to its place: in one move, or each result with RESULT.json last."""
        if self.whole:
            self.stage.chmod(0o777 & ~current_umask())  # mkdtemp makes a private folder
            for target in {one for place in (*results, *not_run) for one in (place, *place.parents)}:
                sync_folder(self.stage / target)
            self.stage.replace(self.out)
            sync_folder(self.out.parent)
            return
        for target, names in [*((one, (SAMPLES, RESULT)) for one in results), *((one, (NOT_RUN,)) for one in not_run)]:
            folder = self.out / target
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (self.stage / target / name).replace(folder / name)
            if RESULT in names:
                (folder / NOT_RUN).unlink(missing_ok=True)
            sync_folder(folder)
