"""A page of the HTML report, and a tab of a real Chromium."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from cosmos_eval.page.report import write_report
from tests.helpers.chromium import Tab, find_chromium, running
from tests.helpers.report_folder import fill, fingerprint_of


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="package")
def page(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cosmos_eval.page.geometry.shipped_fingerprint", fingerprint_of)
        return write_report(fill(tmp_path_factory.mktemp("report"))).path


@pytest.fixture(scope="package")
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
