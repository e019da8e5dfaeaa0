"""cosmos_eval/README.md: its table lists all packages, and every file that it names exists."""

import re
from pathlib import Path

import cosmos_eval
from tests.helpers.documents import block

PACKAGE = Path(cosmos_eval.__file__).parent
README = (PACKAGE / "README.md").read_text(encoding="utf-8")


def test_every_package_has_a_line_and_every_line_a_package():
    packages = {f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert sorted(re.findall(r"^\| `(\w+/)` \|", README, re.M)) == sorted(packages)
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert modules == set(re.findall(r"`(\w+\.py)`", README))


def test_every_named_file_exists():
    names = re.findall(r"`((?:\w+/)+(?:\w+\.py)?)`", README)
    assert len(names) > 30
    for name in names:
        base = PACKAGE.parent if name.startswith("cosmos_core/") else PACKAGE
        assert (base / name).exists(), name


def test_all_exports_can_be_imported():
    names: dict = {}
    exec(block(README, "python", "from cosmos_eval"), names)
    for name in cosmos_eval.__all__:
        assert getattr(cosmos_eval, name) is not None
