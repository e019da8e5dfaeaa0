"""`run --profile`: each second counts in one phase, and a sentence names the slowest phase."""

import json
import time

import pytest

from cosmos_eval import profiling
from cosmos_eval.cli.main import run_command
from cosmos_eval.profiling import IMAGE_PHASES, PHASES, Profile, phase, time_items, use_profile
from cosmos_eval.run.evaluate import evaluate
from tests.engine.test_image_tower import Whole
from tests.helpers.worlds import captions_world, classes_world

COLOURS = "python:tests.helpers.tiny_models:Colours"


@pytest.fixture
def clock(monkeypatch):
    """A clock that only `clock(seconds)` advances."""
    now = [100.0]
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_each_second_counts_in_one_phase(clock):
    profile = Profile()
    with use_profile(profile), phase("scoring"):
        clock(1)
        with phase("rows"):
            clock(2)
            for item in time_items(slow_items(clock), "waiting"):
                with phase("images"):
                    clock(item)
        clock(4)
        with pytest.raises(ValueError, match="x"):
            spend_and_fail(clock)
    clock(100)
    assert profile.total().seconds == {"scoring": 5, "rows": 2, "waiting": 60, "images": 12, "store": 8}


def spend_and_fail(clock):
    with phase("store"):
        clock(8)
        raise ValueError("x")


def slow_items(clock):
    for item in (5, 7):
        clock(30)
        yield item


def test_without_a_profile_nothing_is_recorded():
    with phase("scoring"):
        assert profiling.current_profile() is None
    assert list(time_items([1, 2], "waiting")) == [1, 2]


def test_each_benchmark_has_its_own_times(clock):
    profile = Profile()
    with use_profile(profile):
        with phase("model"):
            clock(1)
        for name, seconds in (("a", 2), ("b", 3)):
            with profiling.profile_benchmark(name), phase("scoring"):
                clock(seconds)
    record = profile.as_json()
    assert {name: part["seconds"] for name, part in record["benchmarks"].items()} == {
        "a": {"scoring": 2},
        "b": {"scoring": 3},
    }
    assert record["seconds"] == {"model": 1, "scoring": 5}


def profile_with(**seconds: float) -> Profile:
    profile = Profile(about={"model": "m", "workers": 2})
    part = profile.current_times
    part.seconds = dict(seconds)
    part.encoded = {"images": 100, "texts": 5}
    return profile


def test_rates_count_only_the_phases_of_images():
    profile = profile_with(reading=1, waiting=2, copy=1, images=6, texts=50, scoring=7)
    assert profile.images_per_second == 10
    profile.forward_per_second = 16.0
    assert profile.tower_fraction == 0.625
    assert "Images: 100 at 10 per second, 62% of the image tower alone (16)." in profile.table()


@pytest.mark.parametrize("name", PHASES)
def test_the_sentence_names_the_largest_phase(name):
    profile = profile_with(**{"reading": 1.0, name: 9.0})
    assert profile.describe_bottleneck().startswith(f"Bottleneck: {PHASES[name]}, ")
    assert profile.describe_bottleneck().endswith(".")
    assert "Largest phase: " in profile_with(**{"a": 3.0, "b": 3.0, name: 4.0}).describe_bottleneck()


def test_a_run_without_work_reports_that_nothing_was_measured():
    assert "Nothing was measured" in Profile().table()


def test_the_start_and_the_end_of_a_phase_wait_for_the_device(clock):
    waits = []
    profile = Profile(synchronize=lambda: waits.append(1))
    with use_profile(profile), phase("scoring"):
        pass
    assert len(waits) == 2


def test_a_profile_of_a_run_adds_up_to_its_time(tmp_path):
    world = captions_world(tmp_path, n=20)
    profile = Profile()
    start = time.perf_counter()
    (result,) = evaluate(Whole(), world, tmp_path, out=tmp_path / "out", profile=profile)
    run_seconds = time.perf_counter() - start
    seconds = profile.total().seconds
    assert set(seconds) >= {*IMAGE_PHASES, "texts", "scoring", "intervals", "writing", "store", "model"}
    assert set(seconds) <= set(PHASES)
    assert sum(profile.by_benchmark["pairs"].seconds.values()) <= run_seconds
    assert profile.by_benchmark["pairs"].encoded == {"images": 20, "texts": 40} == result.timing.encoded
    assert set(profile.total().work) == {"decode", "preprocess"}
    assert profile.forward_per_second is not None
    (path,) = (tmp_path / "out").glob("*/profile.json")
    assert json.loads(path.read_text(encoding="utf-8")) == profile.as_json()
    assert (path.parent / "pairs/RESULT.json").is_file()


def test_a_profile_changes_no_number(tmp_path):
    world = captions_world(tmp_path)
    plain, profiled_result = (evaluate(Whole(), world, tmp_path, profile=profile)[0] for profile in (None, Profile()))
    assert plain.metrics == profiled_result.metrics


def test_the_command_prints_the_table(tmp_path, capsys):
    worlds = [captions_world(tmp_path), classes_world(tmp_path)]
    benchmark_options = [word for world in worlds for word in ("--benchmark", str(world))]
    command = [
        "run",
        "--model",
        COLOURS,
        *benchmark_options,
        "--data-root",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    assert run_command([*command, "--profile", "--batch-size", "auto"]) == 0
    output = capsys.readouterr().out
    assert f"Where the time went: {COLOURS}" in output
    assert "forward pass of images" in output
    assert "in the main process: reading and decoding" in output
    # all results exist already
    assert run_command([*command, "--profile"]) == 0
    assert "Where the time went" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "workers", "stage", "advice"),
    [
        ({"waiting": 8, "images": 2}, 0, "decode", "this process decodes by itself; more --workers"),
        ({"waiting": 8, "images": 2}, 2, "decode", "more --workers"),
        ({"waiting": 1, "images": 9}, 2, "forward", "the image tower is the limit; --compile or a faster device"),
        ({"waiting": 1, "images": 2, "copy": 3, "reading": 4}, 2, "main thread", "a faster disk"),
    ],
)
def test_the_profile_says_what_limits_images_and_what_helps(seconds, workers, stage, advice):
    profile = Profile(about={"workers": workers}, forward_per_second=200)
    times = profile.current_times
    times.seconds, times.work, times.encoded = dict(seconds), {"decode": 4.0, "preprocess": 1.0}, {"images": 500}
    assert profile.limiting_stage == profile.as_json()["images_limited_by"] == stage
    # five seconds of work for 500 images: 100 images per second for each process
    assert profile.decode_per_second == 100 * max(1, workers)
    assert profile.limit_fraction == pytest.approx(500 / sum(seconds.values()) / min(200, 100 * max(1, workers)))
    assert f"limited by {stage} (decoding alone {100 * max(1, workers)} per second, the tower alone 200" in (
        profile.table()
    )
    assert advice in profile.describe_limit()


def test_advice_is_what_a_run_does_not_do_already():
    def advice(phase, **about):
        profile = profile_with(**{phase: 9.0})  # 100 images
        profile.about |= about
        profile.forward_per_second = 20.0
        return profile.describe_bottleneck().rpartition("is the limit; ")[2].removesuffix(" would help.")

    assert advice("images", device="cuda", precision="fp32") == "--precision bf16 or --compile or a faster device"
    assert advice("images", device="cuda", precision="bf16+compile") == "a faster device"
    profile = profile_with(images=60.0)
    profile.about["precision"], profile.forward_per_second = "fp32+compile", 20.0
    assert "most of it compiled the tower" in profile.describe_limit()
    assert advice("windows", device="cuda", precision="fp32") == "--precision bf16 or a faster device"
    assert advice("texts", device="cpu", precision="fp32") == "a faster device"


def test_phases_of_overlapping_batches_do_not_wait_for_the_device():
    waits = []
    profile = Profile(synchronize=lambda: waits.append(1))
    with use_profile(profile), phase("rows"):
        for name in ("waiting", "copy", "images"):
            with phase(name):
                pass
        assert len(waits) == 1
    assert len(waits) == 2
