"""Plug-ins: found by name, imported only when used, and a broken one is named in one line and stops nothing else."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from cosmos_core.errors import RequestError
from cosmos_core.plugins import Registry

GROUP = "cosmos_core.testing"
OURS = {"plain": "collections:OrderedDict", "other": "decimal:Decimal"}
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution on `sys.path`: its module, and the lines of its entry points in `GROUP`."""

    def put(name: str, source: str, entries: str, version: str = "1.0", group: str = GROUP) -> Path:
        folder = tmp_path / f"{name}-{version}"
        information = folder / f"{name}-{version}.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (information / "entry_points.txt").write_text(f"[{group}]\n{entries}\n")
        (folder / f"{name}_module.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))
        return folder

    return put


def registry(check: Callable[[object], str] = lambda found: "") -> Registry:
    return Registry(GROUP, "thing", OURS, check)


def test_a_plugin_is_found_by_name_and_imported_only_when_used(install: Install):
    install("lazy", "class Thing: pass\n", "extra = lazy_module:Thing")
    things = registry()
    assert things.names() == ["plain", "other", "extra"]
    assert things.load("plain").__name__ == "OrderedDict"
    assert "lazy_module" not in sys.modules
    plugin = things.plugin("extra")
    assert plugin is not None
    assert (plugin.distribution, plugin.version) == ("lazy", "1.0")
    assert "lazy_module" not in sys.modules
    assert things.load("extra").__name__ == "Thing"
    assert list(things.available()) == ["plain", "other", "extra"]


def test_plugins_can_be_turned_off(install: Install, monkeypatch: pytest.MonkeyPatch):
    install("off", "class Thing: pass\n", "extra = off_module:Thing")
    monkeypatch.setenv("COSMOS_EVAL_PLUGINS", "0")
    assert registry().names() == ["plain", "other"]
    with pytest.raises(RequestError, match=r"thing: 'extra' is not one of plain, other \(plug-ins are turned off"):
        registry().load("extra")
    monkeypatch.setenv("COSMOS_EVAL_PLUGINS", "1")
    assert registry().load("extra").__name__ == "Thing"


def test_a_name_of_ours_cannot_be_taken_and_the_others_of_that_plugin_work(install: Install):
    install("thief", "class Thing: pass\n", "plain = thief_module:Thing\nextra = thief_module:Thing")
    with pytest.warns(UserWarning, match="plug-in thief 1.0 is ignored where it provides the thing plain") as told:
        assert registry().load("plain").__name__ == "OrderedDict"
    assert "\n" not in str(told[0].message)
    assert registry().plugin("extra") is not None
    assert registry().load("extra").__name__ == "Thing"


@pytest.mark.parametrize(
    ("source", "entry", "why"),
    [
        ("import no_such_module\n", "bad = NAME_module:Thing", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("class Thing: pass\n", "bad = NAME_module:Other", "AttributeError: module .* has no attribute 'Other'"),
        ("class Thing\n", "bad = NAME_module:Thing", "SyntaxError"),
        ("raise SystemExit(3)\n", "bad = NAME_module:Thing", "SystemExit: 3"),
        ("Thing = 3\n", "bad = NAME_module:Thing", "it is a int"),
        ("raise ValueError('two\\nlines')\n", "bad = NAME_module:Thing", "ValueError: two lines"),
        ("", "bad = !", "not module:attribute"),
        ("", "bad = NAME_absent:Thing", "No module named"),
    ],
)
def test_a_broken_plugin_is_named_in_one_line_and_stops_no_other(install: Install, source: str, entry: str, why: str):
    name = f"broken{abs(hash((source, entry)))}"
    install(name, source, entry.replace("NAME", name))
    install(f"good{name}", "class Thing: pass\n", f"good = good{name}_module:Thing")
    things = registry(lambda found: "" if isinstance(found, type) else f"it is a {type(found).__name__}")
    with pytest.raises(RequestError, match=why) as refused:
        things.load("bad")
    assert "\n" not in str(refused.value)
    assert f"thing bad of plug-in {name} 1.0" in str(refused.value)
    with pytest.warns(UserWarning, match=why) as told:
        assert list(things.available()) == ["plain", "other", "good"]
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert things.load("good").__name__ == "Thing"


def test_a_name_of_two_distributions_is_refused_and_others_work(install: Install):
    install("first", "class Thing: pass\n", "same = first_module:Thing\none = first_module:Thing")
    install("second", "class Thing: pass\n", "same = second_module:Thing")
    with pytest.raises(RequestError, match=r"same is provided by plug-in first 1.0 and plug-in second 1.0; uninstall"):
        registry().load("same")
    with pytest.warns(UserWarning, match="provided by"):
        assert list(registry().available()) == ["plain", "other", "one"]


def test_entry_points_that_cannot_be_read_hide_no_others(install: Install):
    install("good", "class Thing: pass\n", "extra = good_module:Thing")
    folder = install("odd", "", "")
    (folder / "odd-1.0.dist-info" / "entry_points.txt").write_bytes(b"[cosmos_core.testing]\nno equals sign\n\xff\n")
    with pytest.warns(UserWarning, match="entry points of odd 1.0 cannot be read"):
        assert registry().names() == ["plain", "other", "extra"]


def test_an_unknown_name_is_answered_with_those_that_there_are(install: Install):
    install("one", "", "extra = one_module:Thing")
    with pytest.raises(RequestError, match=r"thing: 'nothing' is not one of plain, other, extra$"):
        registry().load("nothing")


def test_our_own_tables_may_grow_while_a_test_runs():
    ours = dict(OURS)
    things = Registry(GROUP, "thing", ours)
    ours["third"] = "fractions:Fraction"
    assert things.load("third").__name__ == "Fraction"
