"""One thread for all tests on the pretended card: its many small operations wait for each other with more."""

import pytest


@pytest.fixture(autouse=True)
def _single_thread(one_thread):
    return one_thread
