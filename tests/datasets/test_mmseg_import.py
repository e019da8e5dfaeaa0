"""The import of mmsegmentation: silent, without a trace in the process, refused where versions do not fit."""

import subprocess
import sys


def test_the_import_prints_nothing_and_leaves_the_process_as_before():
    code = (
        "import os, random, sys, warnings\n"
        "import torch\n"
        "environment, random_state = dict(os.environ), random.getstate()\n"
        "from cosmos_eval.datasets.mmseg.dataset_classes import find_dataset_class\n"
        "from cosmos_eval.datasets.mmseg.placeholder import Placeholder\n"
        "from cosmos_core.errors import RequestError\n"
        "assert dict(os.environ) == environment and random.getstate() == random_state\n"
        "assert find_dataset_class('PascalVOC20Dataset') and find_dataset_class('ADE20KDataset')\n"
        "import mmcv.ops\n"
        "from mmcv.utils.ext_loader import check_ops_exist\n"
        "assert isinstance(sys.modules['mmcv._ext'], Placeholder) and not check_ops_exist()\n"
        "try: mmcv.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)\n"
        "except RequestError as error: assert 'install mmcv==2.1.0' in str(error)\n"
        "else: raise AssertionError('no refusal')\n"
        "assert 'mmseg.models' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""


def test_a_real_compiled_module_is_not_replaced():
    code = (
        "import sys, types\n"
        "from cosmos_eval.datasets.mmseg.placeholder import Placeholder, import_mmseg\n"
        "class Real(Placeholder): pass\n"
        "real = sys.modules['mmcv._ext'] = Real()\n"
        "import_mmseg()\n"
        "assert sys.modules['mmcv._ext'] is real\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_versions_that_do_not_fit_together_are_refused_in_one_line():
    code = (
        "import mmcv\n"
        "mmcv.__version__ = '2.2.0'\n"
        "from cosmos_core.errors import RequestError\n"
        "from cosmos_eval.datasets.mmseg.placeholder import import_mmseg\n"
        "try: import_mmseg()\n"
        "except RequestError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    (message,) = done.stdout.splitlines()
    assert "MMCV==2.2.0 is used but incompatible" in message
    assert "mmcv must be older than 2.2" in message
