"""Print a requirements file with PyTorch's CPU wheels of torch and torchvision and their hashes, for this platform.

The versions are those of requirements.lock. INDEX is the address after `--index-url` in the command for CPU that
PyTorch's website shows. Run it with the Python version of the workflow, on the platform of its runner:

    python .github/actions/regress/lock_torch.py INDEX > cosmos-eval-torch.txt
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).resolve().parents[3] / "requirements.lock"
PACKAGES = ("torch", "torchvision")


def locked_version(package: str) -> str:
    """The version of a package in requirements.lock."""
    (version,) = re.findall(rf"^{package}==(\S+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return version


def lock_torch(index: str, folder: Path) -> str:
    """Download the wheels to `folder` and return the requirements file.

    Raises:
        subprocess.CalledProcessError: pip failed; it has printed why.
    """
    # +cpu: the version with which this index marks its builds; without it, another index that pip is configured with
    # could give a build for GPUs, which has the higher version. macOS has one build and no mark.
    mark = "+cpu" if sys.platform == "linux" else ""
    wanted = [f"{package}=={locked_version(package)}{mark}" for package in PACKAGES]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), "--index-url", index, *wanted], check=True)
    lines = [f"--index-url {index}"]
    for requirement in wanted:
        package, version = requirement.split("==")
        (wheel,) = folder.glob(f"{package}-{version}-*.whl")
        with wheel.open("rb") as file:
            lines.append(f"{requirement} --hash=sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", metavar="INDEX")
    index = parser.parse_args().index
    with tempfile.TemporaryDirectory() as folder:
        try:
            print(lock_torch(index, Path(folder)), end="")
        except subprocess.CalledProcessError as error:
            print(f"lock_torch: pip could not download the wheels from {index} (see above)", file=sys.stderr)
            return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
