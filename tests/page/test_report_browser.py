"""The HTML report in a real Chromium: it sorts, filters, tells where numbers come from, and runs nothing but itself."""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from cosmos_eval.page.report import write_report
from cosmos_eval.protocol.suite import Average, Suite
from tests.helpers.report_folder import MODELS, PRIMARY, attack, one, write
from tests.page.browser import BOARD, choose, column, models, open_details


def test_nothing_is_said_to_the_console_and_nothing_is_fetched(opened, page):
    for name in ("intervals", "tasks", "curves", "classes", "metrics", "geometry", "images", "models"):
        assert opened.run(f"document.querySelector('#{name} h2').offsetHeight") > 0
    open_details(opened)
    opened.run("Promise.all([...document.images].map(i => (i.loading = 'eager', i.decode())))")
    assert opened.complaints == []
    assert opened.requests == [page.as_uri()]


def test_numbers_are_rounded_as_in_the_other_formats(tab, tmp_path):
    values = [
        0.4425,
        0.4475,
        0.0025,
        0.0015,
        0.6135,
        0.025,
        1.0,
        0.0,
        0.3333,
        0.3125,
        0.12349996,
    ]  # halves of a tenth that a float holds
    for i, value in enumerate(values):
        write(tmp_path, one(f"model {i}", "flowers", value))
    tab.open(write_report(tmp_path).path)
    shown = dict(zip(models(tab), tab.texts(f"{BOARD} td:nth-child(2) .number"), strict=True))
    assert shown == {f"model {i}": f"{100 * value:.1f}" for i, value in enumerate(values)}
    tab.click(f"{BOARD} button[aria-label^='31.2 %, model 9']")
    assert "unrounded 31.25 %" in " ".join(tab.texts("dialog .dialog-body"))


def test_no_name_becomes_markup(opened):
    open_details(opened)
    opened.click(".thumb")
    assert opened.run("window.pwned") is None
    assert opened.run("document.querySelectorAll('script').length") == 2
    outside = "[...document.images].filter(i => !i.src.startsWith('data:image/')).length"
    assert opened.run(outside) == 0
    text = opened.run("document.body.textContent")
    for where in ("label", "warning", "class", "network", "not run", "reason"):
        assert attack(where) in text
    assert "images/</script><img src=x onerror=window.pwned=1>" in text
    assert "<img src=x onerror=window.pwned=2>.png" in text
    assert opened.complaints == []


def test_the_policy_stops_a_script_that_comes_in_all_the_same(opened):
    opened.run("document.body.append(document.createRange().createContextualFragment('<script>pwned = 3</script>'))")
    opened.run("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x.png\">')")
    assert opened.run("window.pwned") is None
    assert any("Content Security Policy" in line for line in opened.complaints)
    assert opened.refused == [request for request in opened.requests if request.startswith("http")] != []


def test_a_press_on_a_head_sorts_and_a_second_one_turns_it_round(opened):
    assert models(opened)[:3] != list(MODELS)[::-1]
    head = f"#leaderboard .heads th:nth-child({column(opened, 'streets mIoU')})"
    opened.click(f"{head} button")
    assert models(opened)[:3] == list(MODELS)
    assert opened.run(f"document.querySelector('{head}').ariaSort") == "descending"
    opened.click(f"{head} button")
    assert models(opened)[:3] == list(MODELS)[::-1]
    assert opened.run(f"document.querySelector('{head}').ariaSort") == "ascending"
    assert models(opened)[-2:] != list(MODELS)[:2]  # who was not measured stays below in both orders
    assert opened.run("document.querySelectorAll('#leaderboard [aria-sort]').length") == 1
    opened.click("#leaderboard .heads th:first-child button")
    assert models(opened)[1:] == sorted(models(opened)[1:])


def test_for_ranks_a_first_press_puts_the_smallest_on_top(opened):
    opened.run(
        "s = document.querySelector('#metrics select'); s.value = [...s.options].find(o => o.text == 'pairs').value"
    )
    opened.run("s.dispatchEvent(new Event('change'))")
    heads = opened.texts("#metrics .heads th")
    place = 1 + next(i for i, head in enumerate(heads) if head.startswith("I→T mean rank"))
    opened.click(f"#metrics .heads th:nth-child({place}) button")
    assert opened.texts("#metrics tbody th") == list(MODELS)
    assert opened.texts(f"#metrics tbody tr:first-child td:nth-child({place})") == ["1.1[1.0, 1.2]"]


def test_filters_leave_what_they_say_in_table_and_charts(opened):
    everybody = len(models(opened))
    opened.type("#leaderboard input[type=search]", "GOOD mod")
    assert models(opened) == ["Good model"]
    assert set(opened.texts("#tasks .row-label")) == {"Good model"}
    assert opened.texts("#intervals .row-label") == ["Good model"]
    assert opened.texts("#leaderboard [role=status]")[0].startswith(f"1 of {everybody} rows")
    opened.type("#leaderboard input[type=search]", "nobody")
    assert models(opened) == []
    assert "Nothing is left" in opened.texts("#leaderboard")[0]
    opened.type("#leaderboard input[type=search]", "")
    assert len(models(opened)) == everybody
    choose(opened, "#leaderboard select", "retrieval")
    assert [head.split(" ")[0] for head in opened.texts("#leaderboard .heads th")] == ["Model", "pairs", "pairs"]
    assert opened.complaints == []


def test_keys_reach_and_work_everything(opened):
    opened.key("Tab")
    assert opened.run("document.activeElement.textContent") == "To the content"
    for _ in range(60):
        opened.key("Tab")
        if opened.run("document.activeElement.closest('thead') !== null"):
            break
    assert opened.run("document.activeElement.textContent").startswith("Model")
    shadow = "s = getComputedStyle(document.activeElement); [s.outlineStyle, parseFloat(s.outlineWidth)]"
    style, width = opened.run(shadow)
    assert (style, width >= 2) == ("solid", True)
    opened.key("Enter")
    assert opened.run("document.querySelector('#leaderboard .heads th').ariaSort") == "ascending"
    assert opened.run("document.activeElement.textContent").startswith("Model")  # the focus has not gone with the rows
    opened.key("Space")
    assert opened.run("document.querySelector('#leaderboard .heads th').ariaSort") == "descending"
    for _ in range(20):
        opened.key("Tab")
        if opened.run("document.activeElement.matches('tbody .number')"):
            break
    name = opened.run("document.activeElement.ariaLabel")
    opened.key("Enter")
    assert opened.run("document.querySelector('dialog').open") is True
    assert opened.run("document.querySelector('dialog').contains(document.activeElement)") is True
    opened.key("Escape")
    opened.wait_for("!document.querySelector('dialog').open")
    opened.wait_for(f"document.activeElement.ariaLabel === {json.dumps(name)}")


def test_details_close_with_escape(opened):
    opened.click("#models summary")
    opened.wait_for("document.querySelector('#models details').open")
    opened.key("Escape")
    opened.wait_for("!document.querySelector('#models details').open")


def test_every_number_tells_where_it_comes_from(opened):
    place = column(opened, "streets mIoU")
    opened.click(f"{BOARD}:first-child td:nth-child({place}) button")
    assert opened.texts("dialog h2") == ["Good model, streets"]
    body = " ".join(opened.texts("dialog .dialog-body"))
    assert "90.0 % mIoU, 95 % interval [88.0, 92.0], from 400 samples; unrounded 90 %" in body
    said = dict(zip(opened.texts("dialog dl > dt"), opened.texts("dialog dl > dd"), strict=True))
    assert said["spec"] == "cosmos:Good model"
    assert said["digest"] == b"Good model".hex()
    assert said["version"] == "3"
    assert said["precision"] == "fp32"
    assert said["started"] == "2026-11-22T02:20:36+00:00"
    assert said["seconds"] == "12.5"
    assert said["torch"] == "2.11.0"
    assert said["cpu"] == "a processor"
    assert said["result"] == "Goodmodel/streets/RESULT.json"
    prints = [
        value
        for name, value in zip(opened.texts("dialog dt"), opened.texts("dialog dd"), strict=True)
        if name == "fingerprint"
    ]
    assert prints == [b"streets".hex() * 4, "b" * 64]
    opened.click("dialog .close")
    buttons = opened.run("document.querySelectorAll('#leaderboard tbody td small').length")
    assert opened.run("document.querySelectorAll('#leaderboard tbody td .number').length") == buttons


def test_points_of_a_curve_and_classes_tell_it_too(opened):
    opened.click("#curves summary")
    opened.wait_for("document.querySelector('#curves table')")
    assert opened.texts("#curves tbody th") == ["100", "200", "300"]
    opened.click("#curves tbody tr:last-child .number")
    assert opened.texts("dialog .statement")[0].startswith("75.0 % top1, 95 % interval [60.0, 100.0]")
    opened.key("Escape")
    opened.wait_for("!document.querySelector('dialog').open")
    opened.click("#classes tbody .number")
    assert opened.texts("dialog .statement")[0].startswith("90.0 %")


@pytest.fixture(scope="module")
def with_references(tmp_path_factory) -> Path:
    """A page of a suite with an average over two tasks, and a published row."""
    folder = tmp_path_factory.mktemp("references")
    results = [
        one(label, name, value) for label, value in (("low", 0.2), ("high", 0.4)) for name in ("flowers", "words")
    ]
    for result in results:
        write(folder, result)
    prints = {result.benchmark.name: result.benchmark for result in results}
    benchmarks = tuple(
        SimpleNamespace(**known.record(), metrics={"primary": PRIMARY[known.task]}) for known in prints.values()
    )
    average = Average("mean of two", ("flowers", "words"), "primary", weights={"words": 3.0})
    suite = Suite("mine", benchmarks, (average,))  # type: ignore[arg-type]
    row = {
        "paper": attack("paper"), "model": attack("model"), "benchmark": "flowers", "metric": "top1", "value": 0.3123,
        "decimals": 2, "source": attack("source"), "fingerprint": prints["flowers"].fingerprint,
    }  # fmt: skip
    return write_report(folder, references=pd.DataFrame([row]), suite=suite).path


def test_published_rows_stay_apart_below_and_averages_say_of_what(tab, with_references):
    tab.open(with_references)
    assert tab.texts("#leaderboard thead .task") == ["classification", "perception", "all tasks"]
    for order in (["high", "low"], ["low", "high"]):
        tab.click("#leaderboard .heads th:nth-child(2) button")
        heads = ["Published elsewhere, not measured here", attack("model")]
        assert tab.texts("#leaderboard tbody th") == [*order, *heads]
    tab.click("#leaderboard tbody:last-child .number")
    assert tab.texts("dialog .statement") == ["31.23 as published, not measured here"]
    assert attack("source") in tab.texts("dialog dd")[0]
    tab.key("Escape")
    tab.wait_for("!document.querySelector('dialog').open")
    tab.click("#leaderboard tbody tr:first-child td:last-child .number")
    assert tab.texts("dialog .statement")[0].startswith("20.0 macro mean of 2")
    assert tab.texts("dialog .statement")[0].endswith("with their weights")
    assert tab.texts("dialog dt") == ["mean of", "flowers top-1", "words macro_accuracy"]
    assert tab.texts("dialog dd")[0] == "flowers (top1; weight 1), words (macro_accuracy; weight 3)"
    assert attack("model") not in tab.texts("#tasks .row-label")
    assert (tab.run("window.pwned"), tab.complaints) == (None, [])


def test_limited_results_stand_apart_and_protocols_have_their_own_columns(opened):
    assert "Quick look" not in models(opened)
    assert opened.texts("#partial tbody th") == ["Quick look"]
    assert "first 10" in opened.texts("#partial tbody td")[0]
    assert "Quick look" not in " ".join(opened.texts("#intervals .row-label") + opened.texts("#tasks .row-label"))
    heads = [head for head in opened.texts("#leaderboard .heads th") if head.startswith("flowers")]
    assert len(heads) == 2
    other = next(row for row in opened.texts(BOARD) if row.startswith("Other protocol"))
    assert other.count("–") == len(opened.texts("#leaderboard .heads th")) - 2


def test_pages_of_little_have_the_sections_that_they_can_fill(tab, tmp_path):
    write(tmp_path / "limited", one("quick", "flowers", 0.5, limit=3))
    write(tmp_path / "one", one("alone", "flowers", 0.0001))
    for name, sections in (
        ("limited", ["Partial results", "Models"]),
        ("one", ["Leaderboard", "Intervals", "By task", "Every metric", "Embeddings", "Models"]),
    ):
        tab.open(write_report(tmp_path / name).path)
        assert tab.texts("section h2") == sections
        tab.run("document.querySelectorAll('#leaderboard input[type=search]').forEach(i => i.value = 'nothing')")
        boxes = "[...document.querySelectorAll('#leaderboard input[type=search]')]"
        tab.run(f"{boxes}.forEach(i => i.dispatchEvent(new Event('input')))")
        assert tab.complaints == []


def test_the_best_is_bold_and_the_second_underlined(opened):
    place = column(opened, "streets mIoU")
    good, fair = (f"{BOARD}:nth-child({row}) td:nth-child({place}) button" for row in (1, 2))
    assert opened.run(f"getComputedStyle(document.querySelector('{good}')).fontWeight") == "700"
    assert opened.run(f"getComputedStyle(document.querySelector('{fair}')).textDecorationStyle") == "solid"
    line = "getComputedStyle(document.querySelector('{}')).textDecorationColor"
    assert opened.run(line.format(fair)) != "rgba(0, 0, 0, 0)" == opened.run(line.format(good))
