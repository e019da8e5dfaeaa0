"""The HTML report in a real Chromium: themes, narrow windows, images, classes, geometry."""

from pathlib import Path

import numpy as np
import pytest

from cosmos_eval.page.report import write_report
from cosmos_eval.report.board import make_board
from cosmos_eval.report.html_table import board_html
from cosmos_eval.results.class_file import write_classes
from cosmos_eval.show.attention import Maps, PatchMap, ShownWord, TextMaps
from cosmos_eval.show.attention_page import maps_page
from cosmos_eval.tasks.class_table import class_table
from cosmos_eval.tasks.outcome import Metric
from tests.helpers.boards import references_of_toybox, results_of_toybox, suite
from tests.helpers.chromium import CONTRAST
from tests.helpers.report_folder import attack, one, write
from tests.page.browser import PHONE, choose, open_details


def test_images_open_larger(opened):
    opened.click("#images figure:first-of-type .thumb")
    opened.wait_for("document.querySelector('dialog img').naturalWidth === 400")  # decoded after the click
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
    shown = ["0.813 [0.750, 0.875]", "1.500", "12.5 [6.2, 18.8]", "100.0"]
    assert opened.texts("#geometry table:first-of-type tbody tr td")[:4] == shown
    chart = opened.run("document.querySelector('#geometry .reliability').getAttribute('aria-label')")
    assert chart == "Reliability of Good model: accuracy by confidence, ECE 12.5 [6.2, 18.8] %; the numbers follow"
    assert opened.run("document.querySelectorAll('#geometry .reliability rect').length") == 1
    assert opened.run("document.querySelectorAll('#geometry .reliability .whisker').length") == 1
    opened.run("document.querySelectorAll('#geometry details').forEach(d => d.open = true)")
    numbers = "#geometry .panel details tbody tr"
    assert opened.texts(f"{numbers} th") == ["0.0 to 50.0", "50.0 to 100.0"]
    assert opened.texts(f"{numbers}:last-child td") == ["400", "75.0", "62.5 [50.0, 75.0]"]
    assert opened.texts("#geometry .panel > .scroller tbody td") == ["rose", "7.5 [3.5, 13.5]"]
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
