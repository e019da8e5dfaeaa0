"""An attribute of a module is replaced inside a block and never longer."""

from types import SimpleNamespace

import pytest

from cosmos_eval.datasets.substitution import substituted


def test_the_original_is_restored_after_the_block():
    module = SimpleNamespace(load="original")
    with substituted(module, "load", "replacement"):
        assert module.load == "replacement"
    assert module.load == "original"


def test_the_original_is_restored_after_an_error():
    module = SimpleNamespace(load="original")
    with pytest.raises(ZeroDivisionError), substituted(module, "load", "replacement"):
        raise ZeroDivisionError
    assert module.load == "original"


def test_an_attribute_that_the_library_no_longer_has_is_an_error_and_is_not_added():
    module = SimpleNamespace()
    with pytest.raises(AttributeError, match="load"), substituted(module, "load", "replacement"):
        pass
    assert not hasattr(module, "load")
