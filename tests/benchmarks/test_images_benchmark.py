"""benchmarks/images.py: arms that keep the pixels of the protocol agree, and all arms are timed."""

from benchmarks import images


def test_all_arms_are_timed_and_the_exact_ones_agree(monkeypatch):
    milliseconds = images.measure(3, 1)
    assert set(milliseconds) == {"peer", "ours", "torchvision", "draft", "resized", "digest"}
    assert all(value > 0 for value in milliseconds.values())


def test_a_worker_takes_cpu_time_in_both_processes(monkeypatch):
    times = iter([(1.0, 0, 0, 0, 9.0), (2.0, 0, 0, 0, 9.0), (2.0, 0, 0, 0, 9.0), (2.5, 0.5, 0.25, 0, 9.0)])
    monkeypatch.setattr(images.os, "times", lambda: next(times))
    assert images.measure_worker_start(2, 1) == 250.0


def test_the_last_line_has_the_figures(monkeypatch, capsys):
    import json
    import sys

    milliseconds = {"peer": 4.0, "ours": 3.2, "torchvision": 3.0, "draft": 2.0, "resized": 0.5, "digest": 0.1}
    monkeypatch.setattr(images, "measure", lambda count, repetitions: milliseconds)
    monkeypatch.setattr(images, "measure_worker_start", lambda count, repetitions: 80.0)
    monkeypatch.setattr(sys, "argv", ["images.py", "--quick"])
    images.main()
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["name"] == "images"
    assert last["figures"] == {**milliseconds, "worker_start": 80.0}
    assert last["ratios"] == {"ours": 1.25, "torchvision": 1.33, "draft": 2.0, "resized": 8.0}
