"""A text file for each image: Urban-1k (Zhang et al., Long-CLIP, ECCV 2024)."""

from pathlib import Path
from typing import Any

from cosmos_core.printable import plural
from cosmos_core.text_files import read_lines
from cosmos_eval.datasets.data import Data
from cosmos_eval.datasets.dataset_checks import IMAGE_SUFFIXES, DatasetChecker
from cosmos_eval.datasets.long_captions.captioned import build_retrieval


def read_caption_folder(benchmark: Any, data_root: Path) -> Data:
    """Read images with the caption in the text file of the same name, in alphabetical order.

    The caption is the first line of the file, as in Long-CLIP's `eval/retrieval/Urban1k.py`, without blanks around it.

    Options: `images` (folder), `captions` (folder of `<name>.txt`).

    Raises:
        DataProblems: folders missing, a text without an image, an image without a text, or an empty text.
    """
    checker = DatasetChecker(benchmark, data_root)
    folder, captions = checker.find_path("images", "folder"), checker.find_path("captions", "folder")
    folder, captions = checker.require(folder, captions)
    names = {path.stem: path.name for path in sorted(folder.iterdir()) if path.suffix.lower() in IMAGE_SUFFIXES}
    paths = {path.stem: path for path in sorted(captions.glob("*.txt"))}
    for stems, of, lacks in (
        (sorted(names.keys() - paths.keys()), folder, captions),
        (sorted(paths.keys() - names.keys()), captions, folder),
    ):
        if stems:
            checker.add_problem(
                f"has {plural(len(stems), 'file')} in {of} without a partner in {lacks}: {', '.join(stems[:3])}"
            )
    checker.raise_if_problems()
    captioned = []
    for stem in sorted(paths):
        lines = read_lines(paths[stem])
        caption = lines[0].strip() if lines else ""
        if not caption:
            checker.refuse(f"has no caption in the first line of {paths[stem]}")
        captioned.append((names[stem], [caption]))
    return checker.finish(build_retrieval(checker, folder, captioned))
