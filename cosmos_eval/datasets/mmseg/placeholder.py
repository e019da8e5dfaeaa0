"""`import mmseg.datasets` without a compiler: a stand-in for mmcv's compiled operators where there are none.

mmsegmentation's datasets, transforms and metrics need nothing compiled, yet importing them fails on mmcv-lite: a helper
for mask classification (`mmseg/utils/mask_classification.py`) imports `mmcv.ops`, and every module of `mmcv.ops` looks
its operators up in the compiled module `mmcv._ext` as it is imported. That module is what distinguishes the two
builds:

- **mmcv-lite** (what requirements.lock pins) has the Python files of `mmcv.ops` but no `mmcv._ext`. `import_mmseg` puts
  a module into `sys.modules["mmcv._ext"]` in which every operator exists and refuses to be called. None is called by
  what this project uses; a model of mmsegmentation that needs one ends with an error that says what to install.
- **mmcv** (full) has the real `mmcv._ext`; it is found and nothing is put in its place. Everything here works with it
  unchanged. It is not what we pin, and not installed in CI: its wheels are built for single pairs of torch and CUDA,
  none of them torch 2.11, so that it must be compiled, with the CUDA toolkit for its CUDA operators. To use it:
  `pip uninstall mmcv-lite`, then `pip install "mmcv==2.1.0" --no-build-isolation` beside a compiler. Both packages
  install the same folder `mmcv`, so only one may be there. A test puts another module in the compiled one's place to
  see that it stays; the real one has not been tried with torch 2.11.

Either one must be older than 2.2.0: `mmseg/__init__.py` of mmsegmentation 1.2.2 asserts `mmcv < 2.2.0` (newer ones have
only been built for newer torch, not changed in what datasets use).

The import takes two to three seconds, most of it torch, so it waits until a segmentation dataset is read.
"""

import importlib
import importlib.machinery
import importlib.util
import os
import random
import sys
from functools import lru_cache
from types import ModuleType
from typing import Any

from cosmos_core.errors import RequestError

COMPILED = "mmcv._ext"


class Placeholder(ModuleType):
    """A module that has every operator; calling one says that it is not there."""

    def __init__(self) -> None:
        super().__init__(COMPILED, f"Stands in for mmcv's compiled operators; see {__name__}.")
        # Without a loader `mmcv.utils.ext_loader.check_ops_exist` answers, truly, that there are no operators.
        self.__spec__ = importlib.machinery.ModuleSpec(COMPILED, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def absent(*_: Any, **__: Any) -> None:
            raise RequestError(
                f"the compiled operator {name} of mmcv is not installed; install mmcv==2.1.0 in place of mmcv-lite"
            )

        return absent


@lru_cache
def import_mmseg() -> Any:
    """The module `mmseg.datasets`, imported with whichever mmcv is installed; says nothing on the terminal.

    Raises:
        RequestError: mmcv or mmsegmentation is missing, broken, or of versions that do not go together.
    """
    environment, dice = dict(os.environ), random.getstate()
    try:
        if COMPILED not in sys.modules and importlib.util.find_spec(COMPILED) is None:
            sys.modules[COMPILED] = Placeholder()
        return importlib.import_module("mmseg.datasets")
    except Exception as error:  # versions that do not go together fail in any way: assertions, names taken, no file
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise RequestError(
            f"cannot import mmsegmentation: {said}; install requirements.lock, which has mmsegmentation 1.2.2 and "
            "mmcv-lite 2.1.0 (mmcv must be older than 2.2)"
        ) from error
    finally:
        # OpenCV and tokenizers leave settings behind for child processes, and something draws random numbers.
        random.setstate(dice)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
