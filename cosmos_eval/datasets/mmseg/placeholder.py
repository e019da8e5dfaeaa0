"""Import `mmseg.datasets` without a compiler: a placeholder for mmcv's compiled operators if they are not installed.

mmsegmentation's datasets, transforms and metrics need no compiled code, but importing them fails with mmcv-lite: a
helper for mask classification (`mmseg/utils/mask_classification.py`) imports `mmcv.ops`, and each module of `mmcv.ops`
looks up its operators in the compiled module `mmcv._ext` when it is imported. The two builds of mmcv differ in this
module:

- **mmcv-lite** (pinned in requirements.lock) has the Python files of `mmcv.ops` but no `mmcv._ext`. `import_mmseg` puts
  a module into `sys.modules["mmcv._ext"]` that has every operator and raises an error when one is called. This project
  calls none; for a model of mmsegmentation that needs one, the error says what to install.
- **mmcv** (full) has the real `mmcv._ext`, which is used; no placeholder is installed. This project does not pin it and
  CI does not install it: each of its wheels is built for one version of torch and CUDA, none for torch 2.11, so it must
  be compiled (its CUDA operators need the CUDA toolkit). To use it, with a compiler installed: `pip uninstall
  mmcv-lite`, then `pip install "mmcv==2.1.0" --no-build-isolation`. Both packages install the same folder `mmcv`, so
  only one can be installed. A test checks with another module that an existing `mmcv._ext` is not replaced; the real
  one has not been tried with torch 2.11.

Both must be older than 2.2.0: `mmseg/__init__.py` of mmsegmentation 1.2.2 asserts `mmcv < 2.2.0`. (Newer versions were
built for newer torch only; what datasets use did not change.)

The import takes two to three seconds, most of it for torch, so it is done only when a segmentation dataset is read.
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

COMPILED_MODULE = "mmcv._ext"


class Placeholder(ModuleType):
    """A module that has every operator; calling one raises RequestError with what to install."""

    def __init__(self) -> None:
        super().__init__(COMPILED_MODULE, f"Placeholder for mmcv's compiled operators; see {__name__}.")
        # `mmcv.utils.ext_loader.check_ops_exist` looks for the loader: without one it returns False, which is right
        self.__spec__ = importlib.machinery.ModuleSpec(COMPILED_MODULE, None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def refuse_call(*_: Any, **__: Any) -> None:
            raise RequestError(
                f"the compiled operator {name} of mmcv is not installed; install mmcv==2.1.0 in place of mmcv-lite"
            )

        return refuse_call


@lru_cache
def import_mmseg() -> Any:
    """Import and return the module `mmseg.datasets`, with mmcv-lite or mmcv; prints nothing.

    The environment and the state of `random` are as before.

    Raises:
        RequestError: mmcv or mmsegmentation is missing or damaged, or their versions do not fit together.
    """
    environment, random_state = dict(os.environ), random.getstate()
    try:
        if COMPILED_MODULE not in sys.modules and importlib.util.find_spec(COMPILED_MODULE) is None:
            sys.modules[COMPILED_MODULE] = Placeholder()
        return importlib.import_module("mmseg.datasets")
    except Exception as error:  # versions that do not fit together fail with any error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RequestError(
            f"cannot import mmsegmentation: {reason}; install requirements.lock, which has mmsegmentation 1.2.2 and "
            "mmcv-lite 2.1.0 (mmcv must be older than 2.2)"
        ) from error
    finally:
        # OpenCV and tokenizers set environment variables, which child processes would inherit, and an imported module
        # draws random numbers
        random.setstate(random_state)
        for name in os.environ.keys() - environment.keys():
            del os.environ[name]
        os.environ.update(environment)
