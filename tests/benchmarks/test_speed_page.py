"""benchmarks/speed_page.py: a section replaces only the section with its own name and machine."""

import sys

from benchmarks.output import last_line
from benchmarks.speed_page import INTRODUCTION, read_sections, write_section

RECORD = last_line("head", {}, {}, "cpu", 1, 0.25)
CPU = RECORD["environment"]["hardware"]["cpu"]


def record_on_gpu(name):
    return {
        **RECORD,
        "environment": {**RECORD["environment"], "hardware": {"cpu": "x", "gpu": name, "cores": 16, "threads": 8}},
    }


def test_a_section_names_command_machine_and_versions(tmp_path):
    page = tmp_path / "speed.md"
    write_section(page, "Zero-shot head", "| a table |", ["--out", "results/my speed.md"], RECORD)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(INTRODUCTION)
    assert (
        f"\n## Zero-shot head ({CPU})\n\nMade by `python benchmarks/head.py --out 'results/my speed.md'` on 20" in text
    )
    assert ", 1 thread, load before 0.25, Python 3" in text
    assert "clip-benchmark 1." in text
    assert text.endswith(".\n\n| a table |\n")


def test_a_section_replaces_only_its_predecessor(tmp_path, monkeypatch):
    page = tmp_path / "speed.md"
    monkeypatch.setattr(sys, "argv", ["head.py", "--out", "x.md"])
    for title, text in (("One", "first\n\n### inside"), ("Two", "second"), ("One", "again\n\n### inside")):
        write_section(page, title, text, None, RECORD)
    write_section(page, "One", "less", ["--quick", "--out", "x.md", "--precision", "fp16"], RECORD)
    write_section(page, "One", "fast", ["--device", "cuda"], record_on_gpu("a card"))
    sections = read_sections(page.read_text(encoding="utf-8"))
    names = [f"One ({CPU})", f"Two ({CPU})", f"One (--quick --precision fp16 {CPU})", "One (--device cuda a card)"]
    assert list(sections) == names
    assert sections[names[0]].endswith(".\n\nagain\n\n### inside")
    assert "`python benchmarks/head.py --out x.md`" in sections[names[0]]
    assert sections[names[1]].endswith(".\n\nsecond")
    assert ": a card, 16 cores, 8 threads" in sections[names[3]]
    assert page.read_text(encoding="utf-8").count(INTRODUCTION) == 1
