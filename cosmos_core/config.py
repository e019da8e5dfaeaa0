"""The configuration of a training run: a dataclass, read from a preset or a YAML file, changed by `key=value`."""

import dataclasses
import difflib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cosmos_core.configs import changed, checked
from cosmos_core.errors import RequestError
from cosmos_core.file_checks import user_path
from cosmos_core.objectives import REGISTRY, Views, objective_class
from cosmos_core.objectives.options import checked_options
from cosmos_core.overrides import nested, updated
from cosmos_core.parts import parse_parts
from cosmos_core.schedule import SCHEDULES
from cosmos_core.short_repr import LONGEST, short_repr
from cosmos_core.views import MultiCrop
from cosmos_core.yaml_text import parse_yaml, read_yaml

PRESETS = Path(__file__).parent / "presets"
NON_FINITE = ("stop", "skip")
NETWORKS = ("teacher", "student", "both")
MAX_VALUES = {
    **dict.fromkeys(("steps", "warmup", "lr_cooldown_steps", "log_every", "save_every", "eval_every"), 10**9),
    **dict.fromkeys(("keep", "keep_every", "eval_limit", "save_minutes"), 10**9),
    **dict.fromkeys(("samples", "epochs", "shuffle"), 10**12),
    **dict.fromkeys(("batch_size", "accumulate", "lanes"), 2**20),
    **dict.fromkeys(("workers", "threads", "captions"), 1024),
    **dict.fromkeys(("lr", "lr_cooldown_end", "lr_cooldown_power", "weight_decay", "eps"), 1e6),
}
"""Largest values: far above any real training, and low enough for loops, memory and schedules."""
PRECISIONS = ("auto", "fp32", "amp", "amp_bf16")
AUGMENT = ("auto", "cpu", "device")


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Lengths are in optimizer steps unless a field says otherwise; 0 switches an option off."""

    name: str = "run"
    """Name of the run in its files."""
    out: str = ""
    """Folder for checkpoints and metrics; empty writes nothing."""
    seed: int = 0
    """Seed of initial weights, order, views and captions."""

    data: str = ""
    """Sources joined by `::`, each one of: shards (path, glob, `{000..011}` range, URL, `pipe:COMMAND`), a `.csv` or
    `.tsv` file, `coco:ANNOTATIONS.json,IMAGES_FOLDER`, or `toybox`, whose records the caller passes to `train`."""
    data_weights: str = ""
    """How often each source is drawn from, as `2::1`; `2::1,1::1@20000` changes that after 20,000 steps. Empty: all
    sources are merged, every sample once an epoch."""
    samples: int = 0
    """Samples in an epoch; for toybox the scenes to render. 0: all of the data (counted for local shards)."""
    workers: int = 0
    """Worker processes of each rank that read samples and make views; 0: the training process does it. Changes no
    batch."""
    lanes: int = 0
    """Streams that a batch is drawn from in turn; ranks and their workers share them. 0: the largest divisor of
    batch_size up to 16. Another number gives other batches."""
    shuffle: int = 512
    """Size of a lane's shuffle buffer, in samples."""
    max_broken: float = 0.1
    """Share of unusable samples (no words, no image) above which the run stops, once 200 were read."""
    csv_image: str = "filepath"
    """Column of a CSV file that holds the image's path, absolute or relative to the file."""
    csv_caption: str = "title"
    """Column that holds the caption."""

    model: Any = "toybox"
    """Name of a model configuration, or the configuration itself; change one value by `model.text_cfg.layers=6`.
    If empty, the architecture of `init`."""
    init: str = ""
    """Weights to start from, as a model spec (`open_clip:ARCH/TAG`, `hf:FOLDER`, `cosmos:FILE#student`); both networks
    start from them. Empty: random weights."""
    objective: str = "cosmos"
    """`clip`, `slip`, `silc` or `cosmos`, as the COSMOS paper compares them; `multiview` and `distill` are rows of its
    ablation; `siglip`; or an objective of a plug-in. `cosmos-eval list objectives` lists all."""
    objective_options: dict[str, Any] = field(default_factory=dict)
    """The objective's own settings, by `objective_options.KEY=VALUE`; `{}` removes those of a preset."""

    steps: int = 0
    """Length of the run; 0: `epochs` times the number of whole batches of an epoch."""
    epochs: int = 1
    """Passes over the data when `steps` is 0."""
    batch_size: int = 1024
    """Samples in a step, over all ranks."""
    accumulate: int = 1
    """Number of parts in which a rank's share of the batch passes the towers; the loss is that of the whole batch."""

    lr: float = 5e-4
    """Peak learning rate of AdamW."""
    lr_schedule: str = "cosine"
    """`cosine`, `const` or `const-cooldown`."""
    warmup: int = 2000
    """Steps of linear warm-up of the learning rate."""
    lr_cooldown_steps: int = 0
    """Length of the decay at the end of `const-cooldown`."""
    lr_cooldown_power: float = 1.0
    """Exponent of that decay."""
    lr_cooldown_end: float = 0.0
    """Learning rate at the end of that decay."""
    weight_decay: float = 0.5
    """Weight decay of matrices and embeddings; gains, biases and temperatures have none."""
    freeze: str = ""
    """Parts of the student that are not trained, separated by commas: `image`, `text` (whole towers),
    `image.embeddings`, `image.blocks.0-5`, `text.blocks.3`, `image.head`, `poolers`, `temperatures`."""
    layer_decay: float = 1.0
    """Factor of the learning rate from each block of a tower to the one below it; the head has the full rate, the
    embeddings the lowest. 1: one rate for all."""
    beta1: float = 0.9
    """AdamW's beta1."""
    beta2: float = 0.98
    """AdamW's beta2."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    grad_clip: float = 0.0
    """Largest norm of the whole gradient; 0: no clipping."""
    non_finite: str = "stop"
    """A loss or gradient that is not finite: `stop` the run, or `skip` the step and stop after ten in a row."""

    momentum_teacher: float = 0.999
    """Momentum of the EMA teacher: share of it that is kept in each step (published: 0.999 at batch 1,024, 0.99 at
    4,096)."""
    fix_momentum: bool = True
    """Keep the momentum constant; otherwise it rises to 1 along half a cosine."""
    ema_before_step: bool = True
    """Average the student into the teacher before the optimizer step, as the original does; false: after it."""

    views: MultiCrop = field(default_factory=MultiCrop)
    """Image views; set one of their values by `views.flip=0`."""
    augment: str = "auto"
    """Where views get their colour jitter, blur and the like: `cpu`, in the workers, or `device`, a whole batch at
    once, with the same random numbers. auto: the device on CUDA, else the CPU; a resumed run keeps its own."""
    captions: int = 8
    """Captions of a sample: 2 global ones and the rest local."""
    caption_mode: str = "textcrop"
    """How captions are drawn: textcrop, random, short, long or raw. PixelProse records have the first two and
    raw only; there the original's name textcrop_pixelprose means the same as textcrop."""

    precision: str = "auto"
    """`fp32`, `amp` (float16 with loss scaling) or `amp_bf16`; a CPU always uses float32. auto: on CUDA bfloat16, or
    `amp` on GPUs that do not compute in it."""
    grad_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    fsdp: bool = False
    """Split both networks, their gradients and the optimizer's state over the ranks (FSDP2), for towers beyond one
    card; false: each rank has all of them (DDP)."""
    compile: bool = False
    """torch.compile both networks: takes minutes at the start (on a CPU it needs a C++ compiler), faster steps on a
    GPU."""
    device: str = "auto"
    """A torch device; auto: CUDA where there is one. Under torchrun each rank uses the GPU of its local rank."""
    threads: int = 0
    """CPU threads of torch; 0: torch's own number. Results are bit-identical only for the same number of threads."""
    log_every: int = 10
    """Steps between two lines of metrics."""
    tensorboard: bool = False
    """Write metrics for TensorBoard too, to OUT/tensorboard; needs the tensorboard package."""
    wandb: str = ""
    """Project of Weights & Biases to log to; needs the wandb package."""
    save_every: int = 0
    """Steps between two checkpoints; 0: none by steps. One is always written at the end."""
    save_minutes: float = 0.0
    """Minutes between two checkpoints; 0: none by time."""
    keep: int = 2
    """Number of newest checkpoints that are kept; 0: all."""
    keep_every: int = 0
    """Checkpoints at multiples of this many steps are never pruned; 0: all may be."""
    eval_every: int = 0
    """Steps between two evaluations while training; 0: none. If set, the end is evaluated too."""
    eval_suite: str = "toybox"
    """Suites or benchmarks to evaluate, separated by commas."""
    eval_data_root: str = "data"
    """Folder of their datasets."""
    eval_networks: str = "teacher"
    """`teacher`, `student` or `both`."""
    eval_limit: int = 0
    """Evaluate only this many samples of each benchmark; 0: all."""

    def __post_init__(self) -> None:
        if not isinstance(self.objective, str) or self.objective not in REGISTRY.names():
            raise REGISTRY.unknown(self.objective)
        require_one_of("lr_schedule", self.lr_schedule, SCHEDULES)
        require_one_of("precision", self.precision, PRECISIONS)
        require_one_of("augment", self.augment, AUGMENT)
        require_one_of("non_finite", self.non_finite, NON_FINITE)
        require_one_of("eval_networks", self.eval_networks, NETWORKS)
        for key in ("batch_size", "epochs", "captions", "log_every", "accumulate", "shuffle"):
            require_at_least(key, getattr(self, key), 1)
        for key in ("steps", "samples", "warmup", "lr", "weight_decay", "grad_clip", "threads", "save_every"):
            require_at_least(key, getattr(self, key), 0)
        for key in ("workers", "lanes", "save_minutes", "keep", "keep_every", "eval_every", "eval_limit", "max_broken"):
            require_at_least(key, getattr(self, key), 0)
        for key in ("eps", "lr_cooldown_steps", "lr_cooldown_power", "lr_cooldown_end"):
            require_at_least(key, getattr(self, key), 0)
        for key, largest in MAX_VALUES.items():
            if getattr(self, key) > largest:
                raise RequestError(f"{key} must be at most {largest:,}, got {short_repr(getattr(self, key))}")
        if not abs(self.seed) < 2**63:
            raise RequestError(f"seed must be a whole number of at most 63 bits, got {short_repr(self.seed)}")
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, str) and "\0" in value:
                raise RequestError(f"{item.name} holds a zero byte, which no name or path can have")
        for key in ("beta1", "beta2"):
            if not 0 <= getattr(self, key) < 1:
                raise RequestError(f"{key} must be at least 0 and below 1, got {getattr(self, key)}")
        if not 0 < self.layer_decay <= 1:
            raise RequestError(f"layer_decay must be above 0 and at most 1, got {self.layer_decay}")
        parse_parts(self.freeze)
        if not 0 <= self.momentum_teacher <= 1:
            raise RequestError(f"momentum_teacher must be from 0 to 1, got {self.momentum_teacher}")

    def required_views(self) -> Views:
        """The views that the loader makes of a sample: those of the configured ones that the objective needs.

        Raises:
            RequestError: the objective needs other views.
        """
        return objective_class(self.objective).views(self.views, self.captions)

    def resolved(self) -> "TrainConfig":
        """The same configuration, checked as a whole, with `objective_options` converted to the objective's types.

        Raises:
            RequestError: the objective does not take these options or needs other views. `__post_init__` does not
                check this, since settings that depend on each other are changed one after the other.
        """
        if not self.model and not self.init:
            raise RequestError("model is empty, which takes the architecture of init, and init is empty too")
        self.required_views()
        options = checked_options(self.objective, objective_class(self.objective), self.objective_options)
        return replace(self, objective_options=options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; `cosmos_core.overrides.updated` reads them back."""
        return dataclasses.asdict(self)


def require_one_of(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{key}: {short_repr(value)} is not one of {', '.join(choices)}")


def require_at_least(key: str, value: float, smallest: float) -> None:
    if not smallest <= value < math.inf:  # NaN is not
        raise RequestError(f"{key} must be at least {smallest} and finite, got {short_repr(value)}")


def require_preset_name(name: Any, path: Path) -> str:
    """`name` if it is a built-in preset. A file cannot build on a user's file, so that there are no cycles."""
    if not isinstance(name, str) or name not in list_presets():
        raise RequestError(f"{path}: preset {short_repr(name)} is not one of {', '.join(list_presets())}")
    return str(name)


def list_presets() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load_preset(name_or_yaml: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """The configuration of a preset, or of a YAML file with the same keys, with `key=value` changes applied in order.

    A YAML file may build on a preset by `preset: NAME`; its run is named after the file unless it has a `name`.

    Raises:
        RequestError: no such preset or file, an unknown key (names the nearest), or a value of the wrong type.
    """
    config = _load(str(name_or_yaml))
    related = []
    for change in overrides or []:
        change_text = f"--set {change if len(change) <= LONGEST else short_repr(change)}"
        key, separator, text = change.partition("=")
        if not separator or not key.strip():
            raise RequestError(f"--set takes key=value, got {short_repr(change)}")
        value = _value_of(text)
        key = key.strip()
        if key.split(".")[0] in ("objective", "objective_options", "views", "captions"):
            related.append(change_text)
        if key.startswith("model."):
            values = {"model": changed(config.model, key.removeprefix("model."), value, change_text)}
        else:
            values = nested(key, value)
        config = updated(config, values, change_text)
    if any(change.startswith("model.") for change in overrides or []):
        checked(
            config.model, "the model with --set model..."
        )  # checked after the last change: some are valid together only
    try:
        config = config.resolved()
    except RequestError as error:
        raise RequestError(f"{' '.join(related) or name_or_yaml}: {error}") from error
    return replace(config, out=str(user_path(config.out))) if config.out.startswith("~") else config


def _value_of(text: str) -> Any:
    """The value after `key=`, parsed as YAML; text if it is not YAML, or a date, or a number of 400 digits."""
    try:
        return parse_yaml(text, "--set", dates=True) if text else ""
    except RequestError:
        return text


def _load(name_or_yaml: str) -> TrainConfig:
    path = user_path(name_or_yaml)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{name_or_yaml}.yaml"
        if not path.is_file():
            near = difflib.get_close_matches(name_or_yaml, list_presets(), n=1)
            hint = f"did you mean {near[0]}" if near else f"there are: {', '.join(list_presets())}"
            raise RequestError(f"no training preset {name_or_yaml!r}; {hint}; a file of your own ends in .yaml")
    values = read_yaml(path)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise RequestError(f"{path} must hold key: value pairs")
    given = set(values)
    base = _load(require_preset_name(values.pop("preset"), path)) if "preset" in values else TrainConfig()
    # named after the file, so that its run is not written to the preset's folder
    if values.get("init") and "preset" not in given and "model" not in values:
        values["model"] = ""  # without a preset nobody has chosen an architecture
    return updated(base, {"name": path.stem, **values}, str(path))
