"""benchmarks/train_throughput.py: a run on the CPU with a tiny model, and its arithmetic checked by hand."""

import json
from pathlib import Path

import pytest

from benchmarks import train_throughput
from benchmarks.train_throughput import GPU, Case, append_to_state, main, mfu, read_state, record, table
from cosmos_core.errors import RequestError

STAMP = {"hardware": "a card", "torch": "2"}
EAGER, COMPILED = Case("amp_bf16", 64), Case("amp_bf16", 64, compiled=True)
MEASURED = {
    "seconds": 0.5,
    "quartiles": [0.4, 0.6],
    "images_per_second": 128.0,
    "flops": 1e14,
    "planned_bytes": 2**30,
    "peak_bytes": 2**31,
}


pytestmark = pytest.mark.usefixtures("one_thread")


def test_on_a_cpu_the_script_runs_and_writes_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(train_throughput, "CPU_QUICK", (Case("fp32", 2, checkpointing=True),))
    out, state = tmp_path / "table.md", tmp_path / "state.jsonl"
    options = ["--quick", "--steps", "2", "--device", "cpu", "--out", str(out), "--state", str(state)]
    assert main(options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("Measured on: CPU") for line in lines)
    record_line = json.loads(lines[-1])
    assert set(record_line) == {"name", "ratios", "figures", "environment"}
    assert record_line["ratios"] == {}
    figures = record_line["figures"]["fp32, batch 2, eager, checkpointing"]
    assert figures["images_per_second"] == pytest.approx(2 / figures["seconds"])
    assert figures["peak_bytes"] is None
    assert "mfu" not in figures
    assert "gpu" not in record_line["environment"]["hardware"]
    assert not out.exists()
    assert not state.exists()


def test_the_table_is_refused_without_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--device", "cpu", "--out", str(tmp_path / "table.md")]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "needs a GPU" in printed.err
    assert printed.err.count("\n") == 1


def test_mfu_is_operations_per_second_divided_by_the_peak():
    assert mfu(MEASURED, peak=1000.0) == pytest.approx(0.2)  # 1e14 in half a second, of 1e15 a second
    assert mfu(MEASURED, peak=0.0) is None
    assert mfu({"failed": "out of memory"}, peak=1000.0) is None


def test_a_case_that_ran_out_of_memory_is_a_row_with_the_reason():
    text = table([(EAGER, MEASURED), (COMPILED, {"failed": "out of memory"})], 1000.0, "a card")
    first, second = text.splitlines()[-2:]
    assert "| 128.0 | 500.0 [400.0, 600.0] | 20.0 % | 2.0 | 1.0 |" in first
    assert "| out of memory |" in second
    assert first.count("|") == second.count("|")


def test_compiled_is_compared_only_with_the_same_case_in_eager_mode():
    faster = {**MEASURED, "seconds": 0.25}
    others = [
        (Case("amp", 64, compiled=True), {**MEASURED, "seconds": 0.1}),
        (Case("amp", 64), {"failed": "no memory"}),
    ]
    assert record([(EAGER, MEASURED), (COMPILED, faster), *others], 0.0, {})["ratios"] == {"compiled": 2.0}


def test_finished_cases_are_read_back_and_not_mixed_with_another_machine(tmp_path: Path):
    path = tmp_path / "runs" / "state.jsonl"
    assert read_state(path, STAMP) == {}
    append_to_state(path, STAMP, EAGER, MEASURED)
    append_to_state(path, STAMP, COMPILED, {"failed": "out of memory"})
    assert read_state(path, STAMP) == {EAGER: MEASURED, COMPILED: {"failed": "out of memory"}}
    with pytest.raises(RequestError, match="another card"):
        read_state(path, {**STAMP, "hardware": "another card"})


def test_every_case_is_both_eager_and_compiled():
    assert len(set(GPU)) == len(GPU)
    eager = {(case.precision, case.batch, case.checkpointing) for case in GPU if not case.compiled}
    assert eager == {(case.precision, case.batch, case.checkpointing) for case in GPU if case.compiled}
