"""The HTML report in a real Chromium: it sorts, filters, tells where numbers come from, and runs nothing but itself."""

import json
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cosmos_eval.page.report import write_report
from cosmos_eval.protocol.suite import Average, Suite
from cosmos_eval.report.board import make_board
from cosmos_eval.report.html_table import board_html
from cosmos_eval.results.class_file import write_classes
from cosmos_eval.show.attention import Maps, PatchMap, ShownWord, TextMaps
from cosmos_eval.show.attention_page import maps_page
from cosmos_eval.tasks.class_table import class_table
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.boards import references_of_toybox, results_of_toybox, suite
from tests.helpers.chromium import CONTRAST, Tab, find_chromium, running
from tests.helpers.report_folder import MODELS, PRIMARY, attack, fill, fingerprint_of, one, write

PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cosmos_eval.page.geometry.shipped_fingerprint", fingerprint_of)
        return write_report(fill(tmp_path_factory.mktemp("report"))).path


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium here; install Debian's package chromium, or name a browser in COSMOS_CHROMIUM")
    with ExitStack() as stack:
        try:
            browser = stack.enter_context(running(program, tmp_path_factory.mktemp("profile")))
        except OSError as error:  # such as a wrapper around a package that is not installed
            pytest.skip(f"{program} does not start: {error}")
        yield browser.new_tab()


@pytest.fixture
def opened(tab, page) -> Tab:
    tab.open(page)
    return tab


BOARD = "#leaderboard tbody tr:not(.apart)"


def column(tab: Tab, title: str) -> int:
    """The place of a leaderboard's column, as nth-child counts."""
    heads = tab.texts("#leaderboard .heads th")
    (index,) = [i for i, head in enumerate(heads) if head.startswith(title)]
    return index + 1


def choose(tab: Tab, selector: str, text: str) -> None:
    """Take an option of a list by its text."""
    tab.run(
        f"one = document.querySelector('{selector}'); one.value = [...one.options].find(o => o.text == '{text}').value"
    )
    tab.run("one.dispatchEvent(new Event('change'))")


def open_details(tab: Tab) -> None:
    """Open everything that opens, and wait until the numbers of curves are there."""
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.wait_for("document.querySelector('#curves table')")


def models(tab: Tab) -> list[str]:
    return tab.texts(f"{BOARD} th")


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
    suite = Suite("mine", benchmarks, (Average("mean of two", ("flowers", "words"), "primary"),))  # type: ignore[arg-type]
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
    tab.click("#leaderboard tbody tr:first-child td:last-child .number")
    assert tab.texts("dialog .statement")[0].startswith("20.0 macro mean of 2")
    assert tab.texts("dialog dt") == ["mean of", "flowers top-1", "words macro_accuracy"]
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


def test_images_open_larger(opened):
    opened.click("#images figure:first-of-type .thumb")
    assert opened.run("document.querySelector('dialog img').naturalWidth") == 400
    opened.key("Escape")
    opened.wait_for("!document.querySelector('dialog').open")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_in_one_direction_only(tab, page, dark):
    tab.open(page, **PHONE, dark=dark)
    wide = "document.documentElement.scrollWidth"
    assert tab.run(wide) <= PHONE["width"]
    open_details(tab)
    assert tab.run(wide) <= PHONE["width"]
    assert tab.run("s = document.querySelector('#leaderboard .scroller'); s.scrollWidth > s.clientWidth") is True
    tab.click("#leaderboard tbody .number")
    assert tab.run(wide) <= PHONE["width"]
    assert tab.run("b = document.querySelector('dialog .dialog-body'); b.scrollWidth <= b.clientWidth") is True
    assert tab.complaints == []


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_in_light_and_dark(tab, page, dark):
    tab.open(page, dark=dark)
    open_details(tab)
    tab.click("#leaderboard tbody .number")
    ratios = tab.run(CONTRAST)
    assert len(ratios) > 15
    assert {name: ratio for name, ratio in ratios.items() if ratio < 4.5} == {}
    background = tab.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") is not dark


def test_the_button_turns_the_theme_round(tab, page):
    tab.open(page)
    before = tab.run("getComputedStyle(document.body).backgroundColor")
    tab.click(".theme")
    assert tab.run("getComputedStyle(document.body).backgroundColor") != before
    assert tab.run("document.querySelector('.theme').ariaLabel") == "Use light colours"
    tab.click(".theme")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == before
    tab.run("localStorage.clear()")


@pytest.fixture(scope="module")
def classes_page(tmp_path_factory) -> Path:
    """Two models on 120 classes, one of them without images and one whose name attacks; and a result of before."""
    folder = tmp_path_factory.mktemp("classes")
    names = [*(f"class {i}" for i in range(118)), attack("class"), "a class with a long name " * 3]
    for shift, label in enumerate(("first", "second")):
        result = one(label, "flowers", 0.5)
        write(folder, result)
        values = [((i + 60 * shift) % 120) / 120 for i in range(120)]
        metrics = [Metric(value, value / 2, (1 + value) / 2, 7) for value in values]
        table = class_table(
            "recall", names, [7] * 119 + [0], [*metrics[:119], None], [f"a photo of a {{c}}, {i}." for i in range(12)]
        )
        write_classes(folder / label / "flowers", table, result.samples.sha256)
    write(folder, one("before", "flowers", 0.4))
    return write_report(folder).path


def test_the_classes_of_a_model_are_listed_from_the_worst_and_found_by_name(tab, classes_page):
    tab.open(classes_page)
    rows = "#classes tbody tr"
    assert len(tab.texts(rows)) == 50
    assert tab.texts("#classes thead button") == ["Class", "n", "first", "second", "before"]
    assert tab.texts(f"{rows} th")[:3] == ["class 0", "class 1", "class 2"]
    assert tab.texts(f"{rows}:nth-child(2) td") == ["7", "0.8", "50.8", "–"]
    assert tab.texts("#classes .status")[0].startswith("50 of 120 classes")
    tab.click("#classes thead th:nth-child(4) button")
    assert tab.texts(f"{rows} th")[0] == "class 60"
    choose(tab, "#classes .field:last-child select", "all")
    assert len(tab.texts(rows)) == 120
    assert tab.texts(f"{rows}:last-child td") == ["0", "–", "–", "–"]
    tab.run("i = document.querySelector('#classes input[type=search]'); i.value = 'class 7'")
    tab.run("document.querySelector('#classes input[type=search]').dispatchEvent(new Event('input'))")
    assert len(tab.texts(rows)) == 21  # 70 to 79, and the eleven others that end with a 7
    tab.click(f"{rows}:first-child .number")
    said = tab.texts("dialog .statement")[0]
    assert said.startswith("55.8 % recall of class 67, 95 % interval [27.9, 77.9], ")
    assert "from 7 samples" in said
    facts = dict(zip(tab.texts("dialog dt"), tab.texts("dialog dd"), strict=True))
    assert facts["templates"].endswith("a photo of a {c}, 9.; and 2 more")
    assert tab.run("window.pwned === undefined")
    assert tab.complaints == []


def test_geometry_has_a_table_a_chart_with_its_numbers_and_the_commands_for_the_rest(opened):
    assert opened.texts("#geometry .panel h3") == ["Good model accuracy by confidence, %"]
    assert opened.texts("#geometry table:first-of-type tbody tr td")[:4] == ["0.813", "1.500", "12.5", "100.0"]
    chart = opened.run("document.querySelector('#geometry .reliability').getAttribute('aria-label')")
    assert chart == "Reliability of Good model: accuracy by confidence, ECE 12.5 %; the numbers follow"
    assert opened.run("document.querySelectorAll('#geometry .reliability rect').length") == 1
    opened.run("document.querySelectorAll('#geometry details').forEach(d => d.open = true)")
    numbers = "#geometry .panel details tbody tr"
    assert opened.texts(f"{numbers} th") == ["0.0 to 50.0", "50.0 to 100.0"]
    assert opened.texts(f"{numbers}:last-child td") == ["400", "75.0", "62.5"]
    assert opened.texts("#geometry .panel > .scroller tbody td") == ["rose", "7.5"]
    assert len(opened.texts("#geometry .lines code")) == 6
    assert opened.run("window.pwned === undefined")


CUT_OFF = "[...document.querySelectorAll('.scroller, .wide')].filter(s => s.scrollWidth > s.clientWidth).length"


@pytest.fixture(scope="module")
def table_page(tmp_path_factory) -> Path:
    """`leaderboard --format html`, with every metric of five benchmarks."""
    path = tmp_path_factory.mktemp("table") / "leaderboard.html"
    path.write_text(board_html(make_board(results_of_toybox(), references_of_toybox(), suite())), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def attention_page(tmp_path_factory) -> Path:
    """Maps of a text with a word that is wider than a phone."""
    path = tmp_path_factory.mktemp("attention") / "attention.html"
    seen = PatchMap("similarity", np.zeros((2, 2)), np.zeros((2, 2)))
    text = TextMaps("w" * 80, (seen,), (ShownWord("w" * 80, 0.5, 1.0, 9),))
    maps = Maps("cosmos:" + "long-" * 30, "image", np.zeros((64, 64, 3), np.uint8), (text,))
    path.write_text(maps_page(maps), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["page", "classes_page", "table_page", "attention_page"])
def test_pages_fit_a_laptop_and_a_phone(tab, request, name):
    path = request.getfixturevalue(name)
    tab.open(path, width=1280)
    assert tab.run("document.documentElement.scrollWidth") <= 1280
    assert tab.run(CUT_OFF) == 0
    tab.open(path, width=390)
    assert tab.run("document.documentElement.scrollWidth") <= 390
    assert tab.run("document.querySelector('meta[name=viewport]') !== null")
