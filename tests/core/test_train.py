"""The training loop: it learns, it repeats itself to the bit, it stops when it must, it leaves whole files."""

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cosmos_core.checkpoint import load_checkpoint, read_file
from cosmos_core.config import TrainConfig
from cosmos_core.data import Sample
from cosmos_core.ema import update_ema
from cosmos_core.errors import RequestError
from cosmos_core.logs import SpeedMeter
from cosmos_core.signals import Interrupted
from cosmos_core.snapshot_checks import is_finished
from cosmos_core.snapshots import Snapshots
from cosmos_core.tokenizer import build_tokenizer
from cosmos_core.train import Callback, Run, Stepper, initial_model, run_length, train, view_loader
from cosmos_core.views import MultiCrop
from tests.core.test_data_loader import shard_folder
from tests.helpers.cosmos_networks import image_logits
from tests.helpers.tiny_runs import TINY, coloured

STILL = MultiCrop(
    local_crops=1,
    global_size=16,
    local_size=8,
    crop_scale=0.5,
    flip=0.0,
    jitter=0.0,
    gray=0.0,
    blur=(0.0, 0.0, 0.0),
    solarise=(0.0, 0.0, 0.0),
)
CONFIG = TrainConfig(
    model=TINY,
    steps=6,
    batch_size=4,
    lr=1e-3,
    warmup=2,
    weight_decay=0.1,
    momentum_teacher=0.9,
    views=STILL,
    captions=3,
    log_every=2,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("objective", ["cosmos", "clip"])
def test_the_loss_falls_and_colours_find_their_names(objective: str):
    config = replace(CONFIG, objective=objective, steps=60, lr=3e-3, momentum_teacher=0.8, batch_size=8)
    result = train(config, coloured(64))
    assert result.metrics[-1]["clip_loss"] < 0.75 * result.metrics[0]["clip_loss"]
    loader = view_loader(replace(config, objective="clip", batch_size=4), result.teacher, coloured(4))
    batch = next(loader.batches())  # one image of each colour
    with torch.no_grad():
        logits = image_logits(result.teacher, batch.images[0], batch.texts[:, 0])
    assert logits.argmax(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("objective", ["cosmos", "clip"])
def test_one_seed_gives_bit_identical_weights_and_another_gives_others(objective: str):
    config = replace(CONFIG, objective=objective)
    first, again, other = (train(c, coloured(16)) for c in (config, config, replace(config, seed=1)))
    for name in ("student", "teacher"):
        a, b, c = (weights(getattr(result, name)) for result in (first, again, other))
        assert same(a, b)
        assert not same(a, c)
    speed = SpeedMeter().lap().keys()
    strip = [[{k: v for k, v in line.items() if k not in speed} for line in r.metrics] for r in (first, again)]
    assert strip[0] == strip[1]


def test_the_state_of_global_generators_neither_matters_nor_changes():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train(CONFIG, coloured(16))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert same(weights(first.student), weights(train(CONFIG, coloured(16)).student))


def test_both_objectives_start_from_the_same_weights_and_see_the_same_images():
    a, b = initial_model(TINY, 0), initial_model(TINY, 0)
    assert same(weights(a), weights(b))
    loaders = [view_loader(replace(CONFIG, objective=o), a, coloured(16)) for o in ("cosmos", "clip")]
    batches = [next(loader.batches()) for loader in loaders]
    assert batches[0].keys == batches[1].keys
    assert [len(batch.images) for batch in batches] == [3, 1]
    assert [batch.texts.shape[1] for batch in batches] == [3, 1]
    assert torch.equal(batches[0].texts[:, 0], batches[1].texts[:, 0])


def test_the_first_loss_of_an_untrained_model_is_about_the_logarithm_of_the_batch():
    first = train(replace(CONFIG, objective="clip", steps=1), coloured(16)).metrics[0]
    # near-constant features at any temperature: every candidate is as likely
    assert first["loss"] == pytest.approx(np.log(4), abs=0.7)
    assert first["distill_loss"] == 0


def test_the_teacher_is_the_average_of_the_student():
    student, teacher = initial_model(TINY, 0), initial_model(TINY, 1)
    before, target = weights(teacher), weights(student)
    update_ema(teacher, student, 0.75)
    for name, value in teacher.state_dict().items():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * target[name])
    update_ema(teacher, student, 1.0)
    torch.testing.assert_close(weights(teacher), {n: 0.75 * before[n] + 0.25 * target[n] for n in before})


def test_the_teacher_lags_one_step_only_when_it_is_averaged_before_the_step():
    results = {}
    for early in (True, False):
        config = replace(CONFIG, steps=1, momentum_teacher=0.0, ema_before_step=early, warmup=0, lr_schedule="const")
        results[early] = train(config, coloured(16))
    start = weights(initial_model(TINY, CONFIG.seed))
    assert same(weights(results[True].teacher), start)
    assert same(weights(results[False].teacher), weights(results[False].student))


class Watch(Callback):
    def __init__(self) -> None:
        self.events: list[tuple] = []

    def on_step(self, run: Run) -> None:
        self.events.append(("step", run.step, run.metrics["loss"] > 0))

    def on_epoch(self, run: Run) -> None:
        self.events.append(("epoch", run.epoch, run.step))

    def on_start(self, run: Run) -> None:
        self.events.append(("start", run.step))

    def on_end(self, run: Run) -> None:
        self.events.append(("end", run.step))


def test_callbacks_see_the_start_every_step_and_epoch_and_the_end():
    watch = Watch()
    train(replace(CONFIG, steps=5), coloured(8), callbacks=[watch])  # two batches an epoch
    steps = [("step", i, True) for i in range(1, 6)]
    assert watch.events == [
        ("start", 0),
        *steps[:2],
        ("epoch", 1, 2),
        *steps[2:4],
        ("epoch", 2, 4),
        steps[4],
        ("end", 5),
    ]


class Bar:
    """A reporter that counts."""

    def __init__(self) -> None:
        self.total, self.done, self.open, self.text = 0, 0, False, ""

    def task(self, description: str, total: int, unit: str = "it"):
        self.total = total
        return self

    def __enter__(self):
        self.open = True
        return self.advance

    def __exit__(self, *exc) -> None:
        self.open = False

    def advance(self, n: int, text: str = "") -> None:
        self.done += n
        self.text = text or self.text

    def note(self, line: str) -> None:
        raise AssertionError(line)


def test_progress_is_reported_step_by_step():
    bar = Bar()
    train(CONFIG, coloured(8), reporter=bar)
    assert (bar.total, bar.done, bar.open) == (6, 6, False)
    assert bar.text.startswith("loss ")
    assert "samples/s" in bar.text


class Notes(Bar):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def test_shards_that_end_with_one_empty_block_are_told_once(tmp_path: Path):
    pattern = shard_folder(tmp_path, [4, 4])
    cut = tmp_path / "s-01.tar"
    content = cut.read_bytes().rstrip(b"\0")
    cut.write_bytes(content.ljust(-(-len(content) // 512) * 512 + 512, b"\0"))
    notes = Notes()
    train(replace(CONFIG, data=pattern, steps=2), reporter=notes)
    told = [line for line in notes.lines if "empty block" in line]
    assert [line.partition(", and")[0] for line in told] == [
        "1 of 2 shards has one empty block at the end where a tar has two"
    ]
    assert told[0].endswith(": s-01.tar")


def test_files_hold_both_networks_their_config_and_a_line_of_metrics_now_and_then(tmp_path: Path):
    result = train(replace(CONFIG, out=str(tmp_path / "run"), seed=3, save_every=2), coloured(8))
    assert result.checkpoint == tmp_path / "run" / "last.pt"
    for name in ("student", "teacher"):
        loaded = load_checkpoint(result.checkpoint, weights=name)
        assert same(weights(loaded), weights(getattr(result, name)))
    content = read_file(result.checkpoint)
    assert (content["epoch"], content["step"], content["training"]["seed"]) == (3, 6, 3)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 4, 6]
    assert lines == result.metrics
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "last.pt",
        "metrics.jsonl",
        "step-00000004.pt",
        "step-00000006.pt",
    ]


def test_the_scaler_of_mixed_precision_is_written_where_there_is_one(tmp_path: Path):
    student = initial_model(TINY, 0)
    run = Run(CONFIG, student, initial_model(TINY, 0), torch.optim.SGD(student.parameters(), lr=0.1), steps=2)
    assert "scaler" not in read_file(Snapshots(tmp_path / "without", CONFIG).save(run, {}))
    run.scaler = torch.amp.GradScaler("cpu", init_scale=4096.0)
    stored = read_file(Snapshots(tmp_path / "with", CONFIG).save(run, {}))["scaler"]
    again = torch.amp.GradScaler("cpu")
    again.load_state_dict(stored)
    assert again.get_scale() == 4096.0


class Explode(Callback):
    """Spoils the weights after some steps, as a learning rate that is too high would."""

    def on_step(self, run: Run) -> None:
        if run.step == 3:
            with torch.no_grad():
                run.student.text_projection.fill_(float("nan"))


def test_a_loss_that_is_not_finite_stops_with_one_line_and_keeps_the_last_checkpoint(tmp_path: Path):
    config = replace(CONFIG, out=str(tmp_path), save_every=2)
    with pytest.raises(RequestError, match=r"stopped at step 3: the loss is nan .* lower lr") as caught:
        train(config, coloured(8), callbacks=[Explode()])
    assert "\n" not in str(caught.value)
    assert read_file(tmp_path / "last.pt")["step"] == 2
    load_checkpoint(tmp_path / "last.pt")


def test_gradients_are_clipped_to_the_norm_that_is_asked():
    config = replace(CONFIG, grad_clip=1e-4)
    student = initial_model(TINY, 0).train()
    run = Run(config, student, initial_model(TINY, 0), torch.optim.SGD(student.parameters(), lr=0.1), steps=2)
    Stepper(run)(next(view_loader(config, student, coloured(8)).batches()))
    norm = torch.stack([p.grad.norm() for p in student.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-4, rel=1e-3)


def test_records_without_words_are_counted_and_the_run_goes_on():
    data = [*coloured(12), ("mute", np.zeros((16, 16, 3), np.uint8), {"raw_caption": []})]
    result = train(CONFIG, data)
    assert list(result.skipped) == ["mute"]
    assert result.steps == 6


def test_of_what_is_left_out_a_thousand_are_named_and_all_are_counted(monkeypatch):
    monkeypatch.setattr("cosmos_core.step.MAX_SKIPPED_SAMPLES", 2)
    mute = [(f"mute {n}", np.zeros((16, 16, 3), np.uint8), {"raw_caption": []}) for n in range(5)]
    config = replace(CONFIG, max_broken=1.0, log_every=1)
    result = train(config, [*coloured(12), *mute])
    assert len(result.skipped) == 2
    counts = [line["skipped"] for line in result.metrics]
    assert counts == sorted(counts)
    assert counts[-1] >= 5  # all of them in the first epoch


def test_a_run_on_a_plain_iterable_does_not_go_on_in_silence(tmp_path: Path):
    config = replace(CONFIG, out=str(tmp_path), save_every=2, samples=8)
    with pytest.raises(RequestError, match="stopped at step 3"):
        train(config, Stream(coloured(8)), callbacks=[Explode()])
    with pytest.raises(RequestError, match="a plain iterable cannot be resumed"):
        train(config, Stream(coloured(8)))


class Stream:
    """An iterable without places."""

    def __init__(self, data: list[Sample]) -> None:
        self.data = data

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.data)


class AskToStopAtTheEnd(Callback):
    def on_end(self, run: Run) -> None:
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_during_what_comes_at_the_end_is_told_and_the_training_is_done(tmp_path: Path):
    config = replace(CONFIG, out=str(tmp_path))
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM after step 6, the last; .*last.pt holds it$"):
        train(config, coloured(8), callbacks=[AskToStopAtTheEnd()])
    assert is_finished(tmp_path)


def test_leaving_out_the_padding_of_texts_changes_no_feature():
    model = initial_model(TINY, 0)
    texts = build_tokenizer(TINY["text_cfg"])(
        ["red", "one two three four five six seven eight", "", "a b", "c", "d e f"]
    )
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    for batch_size in (None, 2):
        features = model(images, texts, batch_size)
        whole = torch.nn.functional.normalize(model.text_tower(texts)[0], dim=-1)
        torch.testing.assert_close(features.text_features, whole, rtol=0, atol=1e-6)


def test_the_length_of_a_run_comes_from_steps_or_from_epochs_of_whole_batches():
    assert run_length(replace(CONFIG, steps=9), 4) == 9
    assert run_length(replace(CONFIG, steps=0, epochs=3), 11) == 6
    assert run_length(replace(CONFIG, steps=0, samples=40), 0) == 10
    assert run_length(replace(CONFIG, steps=0, samples=40), 20) == 5  # the data has less than the preset says
    with pytest.raises(RequestError, match="an unknown number of samples"):
        run_length(replace(CONFIG, steps=0), 0)
    with pytest.raises(RequestError, match="3 samples for a batch_size of 4"):
        run_length(replace(CONFIG, steps=0), 3)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": ""}, "no training data: set data="),
        ({"data": "toybox"}, "pass toybox's records"),
        ({"data": "/no/such-{0..1}.tar"}, "no file"),
        ({"device": "cuda:99"}, "no device cuda:99: torch sees"),
        ({"device": "abacus"}, "device 'abacus'"),
        ({"fsdp": True}, "fsdp=true needs at least two ranks"),
        ({"model": "toyboks"}, "did you mean toybox"),
        ({"model": 3}, "neither a mapping nor a preset's name"),
        ({"views": replace(STILL, local_size=7)}, "views.local_size=7 is below the model's patch of 8 x 8"),
        ({"views": replace(STILL, global_size=4)}, "views.global_size=4 is below .* its images are 16 x 16"),
    ],
)
def test_a_run_that_cannot_start_says_why_in_one_line(change: dict, why: str):
    with pytest.raises(RequestError, match=why) as caught:
        train(replace(CONFIG, **change), coloured(8) if change.keys() & {"model", "views"} else None)
    assert "\n" not in str(caught.value)


def test_mixed_precision_is_left_out_on_a_cpu():
    full, mixed = (train(replace(CONFIG, device="cpu", precision=p), coloured(8)) for p in ("fp32", "amp"))
    assert same(weights(full.student), weights(mixed.student))
