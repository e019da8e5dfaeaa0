"""lock_torch.py: pip downloads from an index and installs from the file that is printed, hash for hash."""

import importlib.util
import os
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".github" / "actions" / "regress" / "lock_torch.py"
MARK = "+cpu" if sys.platform == "linux" else ""

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this environment has no pip")


def write_index(folder: Path, versions: dict[str, str]) -> str:
    """Write an index with one wheel for each package, of one module; returns its address."""
    for name, version in versions.items():
        wheel = f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "index.html").write_text(f'<a href="{wheel.replace("+", "%2B")}">{wheel}</a>')
        with zipfile.ZipFile(folder / name / wheel, "w") as archive:
            archive.writestr(f"{name}.py", f"version = {version!r}\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
    return folder.as_uri()


@pytest.mark.skipif(sys.platform != "linux", reason="the marked wheels are those of Linux")
def test_the_locked_versions_are_downloaded_and_only_these_files_are_installed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    module = runpy.run_path(str(SCRIPT))
    versions = {name: module["locked_version"](name) + MARK for name in ("torch", "torchvision")}
    index = write_index(tmp_path / "simple", versions)
    monkeypatch.setattr(sys, "argv", ["lock_torch.py", index])
    assert module["main"]() == 0
    printed = capsys.readouterr().out
    first, *requirements = printed.splitlines()
    assert first == f"--index-url {index}"
    assert [line.split(" --hash=sha256:")[0] for line in requirements] == [f"{n}=={v}" for n, v in versions.items()]
    (tmp_path / "torch.txt").write_text(printed)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
    install = [*pip, "--target", str(tmp_path / "installed"), "-r", str(tmp_path / "torch.txt")]
    subprocess.run(install, check=True, env=os.environ)
    assert versions["torch"] in (tmp_path / "installed" / "torch.py").read_text()
    with zipfile.ZipFile(next((tmp_path / "simple" / "torch").glob("*.whl")), "a") as archive:
        archive.writestr("other.py", "")  # another file under the same name
    refused = subprocess.run(install, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr


def test_an_index_without_the_wheels_is_one_line_after_pip_s_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "simple").mkdir()
    monkeypatch.setattr(sys, "argv", ["lock_torch.py", (tmp_path / "simple").as_uri()])
    assert runpy.run_path(str(SCRIPT))["main"]() != 0
    assert capsys.readouterr().err.startswith("lock_torch: pip could not download the wheels from file://")
